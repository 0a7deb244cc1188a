//! `vogeler-runner`: parses flags, wires, prints what went wrong once and exits.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use tracing::warn;
use vogeler_messaging::amqp::Frames;
use vogeler_process::{exit, logging};
use vogeler_protocol::{Clock, Random};
use vogeler_runner::cli::{Action, Cli, Loaded};
use vogeler_runner::run::Parts;
use vogeler_runner::{act, history, output, tally};

fn main() -> ExitCode {
    CompleteEnv::with_factory(Cli::command).complete();
    match exit::parse_flags::<Cli>() {
        Ok(cli) => exit::report("vogeler-runner", start(&cli)),
        Err(status) => status,
    }
}

fn start(cli: &Cli) -> anyhow::Result<ExitCode> {
    if cli.action.is_some() {
        cli.run.refuse()?;
    }
    let loaded = cli.load()?;
    logging::start(loaded.runner.loglevel);
    for notice in loaded.settings.notices() {
        warn!("{notice}");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(Box::pin(act(cli, loaded))).map(ExitCode::from)
}

async fn act(cli: &Cli, loaded: Loaded) -> anyhow::Result<u8> {
    let Loaded { settings, broker, store, runner } = loaded;
    let parts = || -> anyhow::Result<_> {
        Ok(Parts {
            topology: broker.topology(),
            broker: broker.amqp("vogeler-runner", Frames::Small)?,
            store: store.open()?,
            clock: Clock::system(),
            random: Random::from_system(),
        })
    };
    let folder = history::folder();
    match &cli.action {
        None => {
            let request = cli.run.request(&runner, act::issuer(), folder)?;
            act::ask_nodes(&parts()?, &request, &cli.run).await
        }
        Some(Action::Status(asked)) => act::look_back(parts, folder.as_deref(), asked, true).await,
        Some(Action::Ask(asked)) => act::answer(&parts()?, asked, &act::issuer()).await,
        Some(Action::Config) => {
            output::print(&settings.describe())?;
            Ok(tally::GOOD)
        }
    }
}
