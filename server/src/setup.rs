//! What has to be there before anything runs: exchanges, queues, the database, design documents.

use std::path::Path;

use anyhow::Context as _;
use vogeler_messaging::{Declared, Lost, Session, Topology};
use vogeler_store::design_docs::{self, DesignDoc};
use vogeler_store::{Store, Synced};

/// Declares every exchange and queue of the server's. Declaring twice is declaring once.
///
/// Returns a sentence for each that was there before with other arguments and was left so.
///
/// # Errors
/// The connection is lost, or a permission is missing.
pub async fn declare<S: Session>(session: &S, topology: &Topology) -> Result<Vec<String>, Lost> {
    let mut notices = Vec::new();
    let mut note = |what: String, declared: Declared| {
        if let Declared::Differs(difference) = declared {
            notices.push(format!("{what} exists with other arguments and is used as it is: {difference}"));
        }
    };
    let [dead, exchanges @ ..] = topology.exchanges();
    let dead_queue = topology.dead_queue();
    // What takes the dead letters comes before the queue that points at it.
    note(format!("exchange {}", dead.name), session.declare_exchange(&dead).await?);
    note(format!("queue {}", dead_queue.name), session.declare_queue(&dead_queue).await?);
    session.bind(&dead_queue.name, &dead.name, "").await?;
    for exchange in &exchanges {
        note(format!("exchange {}", exchange.name), session.declare_exchange(exchange).await?);
    }
    let results = topology.results_queue();
    note(format!("queue {}", results.name), session.declare_queue(&results).await?);
    for slot in Topology::slots() {
        session.bind(&results.name, &topology.master, &slot).await?;
    }
    Ok(notices)
}

/// Declares the topology, creates the database and loads design documents; tells `say` what it did.
///
/// # Errors
/// Whatever could not be done, with what it was.
pub async fn run<S: Session, St: Store>(
    session: &S,
    topology: &Topology,
    store: &St,
    design_docs: &Path,
    mut say: impl FnMut(String),
) -> anyhow::Result<()> {
    // Read before anything is changed: a typing mistake in a view should stop all of it.
    let docs = design_docs::read_all(design_docs).with_context(|| {
        "nothing was done: server.design_docs has to name the folder of the design documents".to_owned()
    })?;
    for notice in declare(session, topology).await.context("cannot declare exchanges and queues")? {
        say(format!("notice: {notice}"));
    }
    let names: Vec<String> = topology.exchanges().iter().map(|exchange| exchange.name.clone()).collect();
    say(format!("exchanges: {}", names.join(", ")));
    say(format!("queues: {}, {}", topology.results_queue().name, topology.dead_queue().name));
    let created = store.create().await.context("cannot create the database")?;
    say(format!("database: {}", if created { "created" } else { "there already" }));
    sync(store, &docs, |_, line| say(line)).await
}

/// Loads design documents; tells `say` what that came to, and in words.
///
/// # Errors
/// A document that the database does not take.
pub async fn sync<St: Store>(
    store: &St,
    docs: &[DesignDoc],
    mut say: impl FnMut(Synced, String),
) -> anyhow::Result<()> {
    for doc in docs {
        let synced = store.sync_design(doc).await.with_context(|| format!("cannot load _design/{}", doc.name()))?;
        let what = match synced {
            Synced::Created => "loaded",
            Synced::Updated => "changed; its views were built before it went live",
            Synced::Unchanged => "there already",
        };
        say(synced, format!("_design/{}: {what}", doc.name()));
    }
    Ok(())
}
