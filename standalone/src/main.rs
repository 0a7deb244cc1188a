//! `vogeler`: parses flags, wires, prints what went wrong once and exits.

use std::process::ExitCode;

use anyhow::Context as _;
use vogeler_process::logging::LogLevel;
use vogeler_process::{exit, logging};
use vogeler_runner::output;
use vogeler_standalone::cli::Cli;
use vogeler_standalone::run::run;

fn main() -> ExitCode {
    match exit::parsed(Cli::read()) {
        Ok(cli) => exit::report("vogeler", start(&cli)),
        Err(status) => status,
    }
}

fn start(cli: &Cli) -> anyhow::Result<ExitCode> {
    cli.check()?;
    match cli.loglevel {
        Some(level) => logging::start(level),
        None => logging::start_but(LogLevel::Warn, &[("vogeler_client", LogLevel::Error)]),
    }
    output::set_program("vogeler");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(Box::pin(run(cli))).map(ExitCode::from)
}
