//! `vogeler-server`: parses flags, wires, prints what went wrong once and exits.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use tracing::warn;
use vogeler_messaging::Topology;
use vogeler_messaging::amqp::{Frames, deepen_stacks};
use vogeler_process::{exit, logging, print_findings};
use vogeler_server::cli::{Action, Cli, Loaded};
use vogeler_server::run::Parts;
use vogeler_server::{check, dead, rehearse, serve, setup};
use vogeler_store::design_docs;

fn main() -> ExitCode {
    match exit::parse_flags::<Cli>() {
        Ok(cli) => exit::report("vogeler-server", start(cli)),
        Err(status) => status,
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    // SAFETY: main has started no thread yet.
    #[allow(unsafe_code, reason = "see there")]
    unsafe {
        deepen_stacks(Frames::Large);
    }
    let loaded = cli.flags.load()?;
    logging::start(loaded.server.loglevel);
    for notice in loaded.settings.notices() {
        warn!("{notice}");
    }
    let action = match (cli.action, cli.load) {
        (_, Some(dir)) => Action::Load { dir },
        (action, None) => action.unwrap_or(Action::Run),
    };
    // Its threads, too: they take deliveries apart, and drop tables within tables by recursion.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(act(action, loaded))
}

#[allow(clippy::print_stdout, reason = "what a person asked to see")]
async fn act(action: Action, loaded: Loaded) -> anyhow::Result<ExitCode> {
    let Loaded { settings, broker, store, server } = loaded;
    let (results_max_bytes, queues) = (server.queue_max_bytes, server.queues);
    let topology = Topology { results_max_bytes, queues, ..broker.topology() };
    let broker = || broker.amqp("vogeler-server", Frames::Large);
    let say = |line: String| println!("{line}");
    match action {
        Action::Config => print!("{}", settings.describe()),
        Action::Load { dir } => setup::sync(&store.open()?, &read(&dir)?, |_, line| say(line)).await?,
        Action::Setup => {
            let parts = Parts::new(broker()?, store.open()?, topology, server);
            Box::pin(setup::run(&parts, say)).await?;
        }
        Action::Check { design_docs: Some(dir), samples } => {
            return Ok(print_findings(&rehearse::rehearse(&dir, samples.as_deref())?));
        }
        Action::Check { design_docs: None, samples: _ } => {
            return Ok(print_findings(&check::check(&broker()?, &topology, &store.open()?, &server).await));
        }
        Action::Dead(asked) => {
            let mut stdout = std::io::stdout();
            // A pipe that nobody reads any more is no reason to stop half-way.
            let print = |text: &[u8]| drop(stdout.write_all(text));
            return dead::act(&broker()?, &topology, asked, print).await;
        }
        Action::Run => serve::serve(broker()?, store.open()?, topology, server).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(dir: &Path) -> anyhow::Result<Vec<design_docs::DesignDoc>> {
    design_docs::read_all(dir).context("nothing was loaded")
}
