//! What the command line asks for, done and printed.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use vogeler_server::config::ServerSection;

use crate::cli::{Action, Cli, Loaded, Output, Part as Which, Showing};
use crate::fleet::blow;
use crate::ingest::ingest;
use crate::meter;
use crate::part::{Part, nodes, server};
use crate::plot;
use crate::programs::programs;
use crate::progress::Progress;
use crate::report::{Moment, Report};
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
    /// What was seen of the present measurement.
    pub moments: RefCell<Vec<Moment>>,
}

impl Context {
    /// The same with a database of its own.
    ///
    /// # Errors
    /// The configuration names none.
    pub fn elsewhere(&self) -> anyhow::Result<Self> {
        let (flags, progress) = (self.flags.clone(), self.progress.clone());
        Ok(Self { site: self.site.renamed()?, flags, progress, moments: RefCell::default() })
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
    let Loaded { broker, store, server } = cli.flags.load()?;
    let (fleet, showing) = match cli.action {
        Some(Action::Part { which }) => {
            return part(which, Site { broker, store, queues: server.queues, versions: String::new() }, server).await;
        }
        None => (cli.fleet.fleet()?, cli.showing),
        Some(action) => {
            let context = context(&cli.flags, Site::take(broker, store, server.queues).await?);
            let (report, showing) = measure(&context, action).await?;
            return show(&context, &report, &showing, true);
        }
    };
    let context = context(&cli.flags, Site::take(broker, store, server.queues).await?);
    let report = Box::pin(blow(&context, &fleet)).await?;
    show(&context, &report, &showing, false)
}

fn context(flags: &crate::cli::Flags, site: Site) -> Context {
    Context { site, flags: flags.again(), progress: Progress::new(), moments: RefCell::default() }
}

async fn measure(context: &Context, action: Action) -> anyhow::Result<(Report, Showing)> {
    match action {
        Action::Part { .. } => unreachable!("a part is none of these"),
        Action::Ingest { ingest: wanted, showing } => {
            Ok((Box::pin(ingest(context, &wanted.ingest()?)).await?, showing))
        }
        Action::Scale { sizes, fleet, showing } => {
            let report = Box::pin(scale(context, &sizes, &fleet.fleet()?, showing.svg.as_deref())).await?;
            Ok((report, showing))
        }
        Action::Programs { dir, plugins, showing } => {
            let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
            let dir: PathBuf =
                dir.or_else(beside).context("cannot tell where the programs are; name them with --dir")?;
            Ok((Box::pin(programs(context, &dir, plugins.as_deref())).await?, showing))
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
fn show(context: &Context, report: &Report, showing: &Showing, drawn: bool) -> anyhow::Result<ExitCode> {
    context.progress.done();
    match showing.output {
        Output::Table => print!("{}", report.table()),
        Output::Json => println!("{}", serde_json::to_string_pretty(report)?),
    }
    let svg: Option<&Path> = showing.svg.as_deref().filter(|_| !drawn && !report.moments.is_empty());
    if let Some(path) = svg {
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
