//! `vogeler-runner`: parses flags, wires, prints what went wrong once and exits.

use std::process::ExitCode;

use anyhow::Context as _;
use tracing::warn;
use vogeler_messaging::amqp::Frames;
use vogeler_process::signals::StopSignals;
use vogeler_process::{exit, logging};
use vogeler_protocol::{Clock, Random};
use vogeler_runner::cli::{Action, Cli, Loaded};
use vogeler_runner::progress::Progress;
use vogeler_runner::run::{self, Parts, Request};

fn main() -> ExitCode {
    match exit::parse_flags::<Cli>() {
        Ok(cli) => exit::report("vogeler-runner", start(cli)),
        Err(status) => status,
    }
}

#[allow(clippy::print_stdout, reason = "what a person asked to see")]
fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    let loaded = cli.load()?;
    logging::start(loaded.runner.loglevel);
    for notice in loaded.settings.notices() {
        warn!("{notice}");
    }
    if let Some(Action::Config) = cli.action {
        print!("{}", loaded.settings.describe());
        return Ok(ExitCode::SUCCESS);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(ask(cli, loaded)).map(ExitCode::from)
}

async fn ask(cli: Cli, loaded: Loaded) -> anyhow::Result<u8> {
    let Loaded { broker, store, runner, .. } = loaded;
    let (Some(command), Some(target)) = (cli.command, cli.target) else {
        anyhow::bail!("say what to run with -c ALIAS and where with -n TARGET");
    };
    let request = Request {
        command,
        target,
        timeout: runner.timeout,
        quiet: runner.quiet,
        ttl: runner.ttl,
        splay: cli.splay.unwrap_or_default(),
        detach: cli.detach,
        strict: cli.strict,
        issuer: issuer(),
    };
    let parts = Parts {
        topology: broker.topology(),
        broker: broker.amqp("vogeler-runner", Frames::Large)?,
        store: store.couch()?,
        clock: Clock::system(),
        random: Random::from_system(),
    };
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    let progress = Progress::new(cli.output);
    run::run(&parts, &request, &progress, async move { signals.recv().await }).await
}

/// Who asks, for the nodes' logs: `user@host`.
fn issuer() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| "?".to_owned(), |user| user.name);
    let host = nix::unistd::gethostname().map_or_else(|_| "?".to_owned(), |host| host.to_string_lossy().into_owned());
    format!("{user}@{host}")
}
