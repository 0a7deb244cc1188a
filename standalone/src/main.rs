//! `vogeler`: parses flags, wires, prints what went wrong once and exits.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use vogeler_process::{exit, logging};
use vogeler_runner::ask::Ask;
use vogeler_runner::run::INTERRUPTED;
use vogeler_runner::{act, output};
use vogeler_standalone::cli::{Action, Cli};
use vogeler_standalone::home::Home;
use vogeler_standalone::house::{self, Folders, House};
use vogeler_standalone::{bundle, first_look, residents};

/// How long plugins may go on after a run: what nobody waits for any more.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match exit::parsed(Cli::read()) {
        Ok(cli) => exit::report("vogeler", start(&cli)),
        Err(status) => status,
    }
}

fn start(cli: &Cli) -> anyhow::Result<ExitCode> {
    cli.check()?;
    logging::start(cli.loglevel);
    output::set_program("vogeler");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(Box::pin(act(cli))).map(ExitCode::from)
}

async fn act(cli: &Cli) -> anyhow::Result<u8> {
    let home = Home::of(&cli.database);
    let asked = match &cli.action {
        None => return look(cli, &home).await,
        Some(asked) => asked,
    };
    if !home.database.exists() {
        bail!("there are no records in {} yet; vogeler alone collects some", home.database.display());
    }
    let parts = house::parts(&home.database);
    match asked {
        Action::Status(asked) => act::look_back(|| Ok(parts), Some(&home.runs()), asked).await,
        Action::Ask(asked) => {
            if matches!(**asked, Ask::Nodes(_)) {
                output::notice("nodes are part of this process while a command runs; between runs none has a queue");
            }
            act::answer(&parts, asked, &act::issuer()).await
        }
    }
}

/// What needs nodes: a run, or the first look.
async fn look(cli: &Cli, home: &Home) -> anyhow::Result<u8> {
    bundle::unpack(&home.bundle()).with_context(|| format!("cannot write {}", home.bundle().display()))?;
    // Plugins start elsewhere.
    let folder = |given: &Option<PathBuf>, ours: &str| {
        std::path::absolute(given.clone().unwrap_or_else(|| home.bundle().join(ours)))
    };
    let folders = Folders {
        plugins: folder(&cli.plugins, "plugins").context("--plugins")?,
        design_docs: folder(&cli.design_docs, "design-docs").context("--design-docs")?,
    };
    let residents = residents::of(cli.fleet)?;
    let request = first_look::request(cli, home, &residents)?;
    let mut house = House::open(home, &residents, &folders).await?;
    let status = house.attend(async |parts| first_look::take(parts, &request, cli, &residents).await).await;
    let patience = if matches!(status, Ok(INTERRUPTED)) { Duration::ZERO } else { PATIENCE };
    house.close(patience).await;
    status
}
