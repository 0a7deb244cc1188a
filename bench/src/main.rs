//! `vogeler-blowout`: parses flags, wires, prints what went wrong once and exits.

use std::process::ExitCode;

use anyhow::Context as _;
use vogeler_blowout::act::act;
use vogeler_blowout::cli::Cli;
use vogeler_process::exit;

fn main() -> ExitCode {
    match exit::parse_flags::<Cli>() {
        Ok(cli) => exit::report("vogeler-blowout", start(cli)),
        Err(status) => status,
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(Box::pin(act(cli)))
}
