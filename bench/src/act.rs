//! What the command line asks for, done and printed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, ensure};
use tracing::warn;
use vogeler_process::signals::StopSignals;
use vogeler_server::cli::Loaded;
use vogeler_server::config::ServerSection;

use crate::cli::{Action, Cli, FleetFlags, Measure, Output, Part as Which, Showing};
use crate::fleet::{Fleet, blow};
use crate::ingest::{Ingest, ingest};
use crate::meter;
use crate::part::{Part, nodes, server};
use crate::plot;
use crate::programs::programs;
use crate::progress::Progress;
use crate::report::Report;
use crate::scale::scale;
use crate::site::Site;

/// Thresholds that were not met.
const MISSED: u8 = 2;

/// What every measurement has at hand.
#[derive(Debug)]
pub struct Context {
    /// Where it takes place.
    pub site: Site,
    /// The flags that lead a part there.
    pub flags: Vec<String>,
    /// What a person is told meanwhile.
    pub progress: Progress,
}

impl Context {
    /// The same with a database of its own.
    ///
    /// # Errors
    /// The configuration names none.
    pub fn elsewhere(&self) -> anyhow::Result<Self> {
        let (flags, progress) = (self.flags.clone(), self.progress.clone());
        Ok(Self { site: self.site.renamed()?, flags, progress })
    }

    /// The processes that take part, as far as they are on this machine.
    pub fn processes(&self, servers: &[Option<i32>], nodes: Option<&Part>) -> Vec<(&'static str, Option<i32>)> {
        let broker = self.site.login().ok().and_then(|(url, ..)| meter::listener(&url, 5672));
        let database = self.site.store.url.parse().ok().and_then(|url| meter::listener(&url, 80));
        let others = [("nodes", nodes.and_then(Part::pid)), ("broker", broker), ("database", database)];
        servers.iter().map(|pid| ("server", *pid)).chain(others).collect()
    }

    /// What it is measured on.
    pub fn on(&self) -> String {
        format!("{}; {}", self.site.versions, machine())
    }
}

/// Processors and memory of this machine.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<f64>().ok());
    format!("{cores} cores, {:.0} GB", total.unwrap_or(0.0) / 1e6)
}

/// Does what was asked for.
///
/// # Errors
/// It cannot be done.
pub async fn act(cli: Cli) -> anyhow::Result<ExitCode> {
    let Loaded { broker, store, server, .. } = cli.load()?;
    let flags = cli.again();
    let action = match cli.action {
        Some(Action::Part { which }) => {
            return part(which, Site::new(broker, store, server.queues), server).await;
        }
        Some(Action::Measure(measure)) => Some(measure),
        None => None,
    };
    let plan = Plan::of(&cli.fleet, cli.showing, cli.svg, action, server.queues)?;
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    let site = Site::take(broker, store, server.queues).await?;
    let context = Context { site, flags, progress: Progress::new() };
    let found = tokio::select! {
        biased;
        () = signals.recv() => Err(anyhow!("interrupted; nothing was measured")),
        found = plan.measure(&context) => found,
    };
    if found.is_err() {
        context.progress.step("taking away what was made");
        tokio::select! {
            biased;
            () = signals.recv() => warn!("interrupted once more; queues and databases of this blowout are left"),
            cleared = context.site.clear() => if let Err(reason) = cleared {
                warn!("queues and databases of this blowout are left: {reason:#}");
            }
        }
        context.progress.done();
    }
    show(&context, &found?, &plan)
}

/// What is measured and shown, once it is known to make sense.
struct Plan {
    what: What,
    showing: Showing,
    svg: Option<PathBuf>,
}

enum What {
    Fleet(Fleet),
    Ingest(Ingest),
    Scale(Vec<usize>, Fleet),
    Programs(PathBuf, Option<PathBuf>),
}

impl Plan {
    /// Everything that can be wrong is told now, and not after half an hour.
    fn of(
        fleet: &FleetFlags,
        showing: Showing,
        svg: Option<PathBuf>,
        action: Option<Measure>,
        queues: u32,
    ) -> anyhow::Result<Self> {
        let (what, showing, svg) = match action {
            None => (What::Fleet(fleet.fleet()?), showing, svg),
            Some(Measure::Ingest { ingest, showing }) => (What::Ingest(ingest.ingest(queues)?), showing, None),
            Some(Measure::Scale { sizes, fleet, showing, svg }) => {
                ensure!(sizes.iter().all(|nodes| *nodes > 0), "a fleet of --sizes is 0; it has to be 1 or more");
                (What::Scale(sizes, fleet.fleet()?), showing, svg)
            }
            Some(Measure::Programs { dir, plugins, showing }) => {
                let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
                let dir = dir.or_else(beside).context("cannot tell where the programs are; name them with --dir")?;
                (What::Programs(dir, plugins), showing, None)
            }
        };
        let limits = match &what {
            What::Fleet(fleet) => fleet.limits,
            What::Ingest(_) => true,
            What::Scale(..) | What::Programs(..) => false,
        };
        for threshold in showing.require.iter().filter(|threshold| threshold.is_of_limit()) {
            ensure!(limits, "--require {threshold}: this measures no limit that anything could be a part of");
        }
        if let Some(path) = &svg {
            plot::try_out(path)?;
        }
        Ok(Self { what, showing, svg })
    }

    async fn measure(&self, context: &Context) -> anyhow::Result<Report> {
        match &self.what {
            What::Fleet(fleet) => Box::pin(blow(context, fleet)).await,
            What::Ingest(wanted) => Box::pin(ingest(context, wanted)).await,
            What::Scale(sizes, fleet) => Box::pin(scale(context, sizes, fleet, self.svg.as_deref())).await,
            What::Programs(dir, plugins) => Box::pin(programs(context, dir, plugins.as_deref())).await,
        }
    }
}

async fn part(which: Which, site: Site, server: ServerSection) -> anyhow::Result<ExitCode> {
    match which {
        Which::Server => Box::pin(server::serve(site, server)).await?,
        Which::Nodes => Box::pin(nodes::live(site)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "what a person asked to see")]
fn show(context: &Context, report: &Report, plan: &Plan) -> anyhow::Result<ExitCode> {
    let Plan { showing, svg, .. } = plan;
    context.progress.done();
    match showing.output {
        Output::Table => print!("{}", report.table()),
        Output::Json => println!("{}", serde_json::to_string_pretty(report)?),
    }
    if let Some(path) = svg.as_deref().filter(|_| !report.moments.is_empty()) {
        plot::moments(path, &report.title, &report.moments)?;
    }
    let mut status = ExitCode::SUCCESS;
    for threshold in &showing.require {
        if let Some(missed) = threshold.missed(report)? {
            eprintln!("vogeler-blowout: {missed}");
            status = ExitCode::from(MISSED);
        }
    }
    Ok(status)
}
