//! What the command line asks for, done: a question to the records, or a run with everything that it needs.

use std::time::Duration;

use anyhow::{Context as _, bail};
use vogeler_runner::ask::Ask;
use vogeler_runner::run::INTERRUPTED;
use vogeler_runner::{act, output};
use vogeler_store::Store as _;

use crate::cli::{Action, Cli};
use crate::home::Home;
use crate::house::{self, House};
use crate::{bundle, first_look, plugins, residents, views};

/// How long plugins may go on after a run: what nobody waits for any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does it; the exit status.
///
/// # Errors
/// What the runner says, or what stands in the way of server and nodes.
pub async fn run(cli: &Cli) -> anyhow::Result<u8> {
    let home = Home::of(&cli.database);
    let Some(asked) = &cli.action else { return look(cli, &home).await };
    if !home.database.exists() {
        bail!("there are no records in {} yet; vogeler alone collects some", home.database.display());
    }
    let parts = house::parts(&home.database);
    if let Some(folder) = &cli.design_docs {
        views::load_theirs(&parts.store, folder).await?;
    }
    match asked {
        Action::Status(asked) => act::look_back(|| Ok(parts), Some(&home.runs()), asked, false).await,
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
    let residents = residents::of(cli.fleet)?;
    let parts = house::parts(&home.database);
    // First of all, so that nothing is written beside what is no database.
    home.check()?;
    parts.store.create().await?;
    let _taken = home.take()?;
    bundle::unpack(&home.bundle()).with_context(|| format!("cannot write {}", home.bundle().display()))?;
    views::load_ours(&parts.store, &home.bundle().join("design-docs")).await?;
    if let Some(folder) = &cli.design_docs {
        views::load_theirs(&parts.store, folder).await?;
    }
    let registry = plugins::read(cli.plugins.as_deref(), &home.bundle().join("plugins"))?;
    let request = first_look::request(cli, home, &residents, &registry)?;
    let mut house = House::open(parts, home, &residents, &registry).await?;
    let status = house.attend(async |parts| first_look::take(parts, &request, cli, &residents).await).await;
    let patience = if matches!(status, Ok(INTERRUPTED)) { Duration::ZERO } else { PATIENCE };
    house.close(patience).await;
    status
}
