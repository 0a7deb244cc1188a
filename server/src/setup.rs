//! What has to be there before anything runs: exchanges, queues, the database, design documents.

use anyhow::{Context as _, bail};
use vogeler_messaging::topology::{key_of, queue_of, slots};
use vogeler_messaging::{Broker, Declared, Lost, Session, Topology, results};
use vogeler_store::design_docs::{self, DesignDoc};
use vogeler_store::{Store, Synced};

use crate::moving;
use crate::run::Parts;

/// Declares every exchange, and the queue of dead letters. Declaring twice is declaring once.
///
/// Returns a sentence for each that was there before with other arguments and was left so.
///
/// # Errors
/// The connection is lost, or a permission is missing.
pub async fn declare_exchanges<S: Session>(session: &S, topology: &Topology) -> Result<Vec<String>, Lost> {
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
    let moving = topology.moving_exchange();
    if !session.exchange_exists(&moving.name).await? {
        bind_slots(session, topology).await?;
    }
    Ok(notices)
}

/// Every slot goes on to the exchange that the queues of results are bound to. The exchange behind that one comes last:
/// where it is there, the slots are bound, and a server need not do it again each time that it connects.
async fn bind_slots<S: Session>(session: &S, topology: &Topology) -> Result<(), Lost> {
    let behind = topology.slots_exchange();
    session.declare_exchange(&behind).await?;
    for slot in slots() {
        session.bind_exchange(&behind.name, &topology.master, &key_of(slot)).await?;
    }
    session.declare_exchange(&topology.moving_exchange()).await?;
    Ok(())
}

/// The same, and the queues of results on a broker that has none; those that are there stay as many as they are.
///
/// # Errors
/// The connection is lost, or a permission is missing.
pub async fn declare<S: Session>(session: &S, topology: &Topology) -> Result<Vec<String>, Lost> {
    let notices = declare_exchanges(session, topology).await?;
    if results::in_force(session, topology).await?.is_empty() {
        declare_queues(session, topology).await?;
    }
    Ok(notices)
}

/// The queues of results for a broker that has none, with their slots.
pub(crate) async fn declare_queues<S: Session>(session: &S, topology: &Topology) -> Result<(), Lost> {
    create_queues(session, topology).await?;
    bind_queues(session, topology, topology.queues).await
}

/// The queues of results for a broker that has none. The highest comes first: with the lowest all of them are there, and
/// nobody counts some.
pub(crate) async fn create_queues<S: Session>(session: &S, topology: &Topology) -> Result<(), Lost> {
    for number in (0..topology.queues).rev() {
        session.declare_queue(&topology.results_queue(number)).await?;
    }
    Ok(())
}

/// Binds each slot to its queue, of so many.
pub(crate) async fn bind_queues<S: Session>(session: &S, topology: &Topology, count: u32) -> Result<(), Lost> {
    let exchange = topology.slots_exchange().name;
    for slot in slots() {
        let queue = topology.results_queue(queue_of(slot, count));
        session.bind(&queue.name, &exchange, &key_of(slot)).await?;
    }
    Ok(())
}

/// Declares the topology, creates the database, moves results to as many queues as are configured and loads design
/// documents; tells `say` what it did.
///
/// # Errors
/// Whatever could not be done, with what it was.
pub async fn run<B: Broker, St: Store>(parts: &Parts<B, St>, mut say: impl FnMut(String)) -> anyhow::Result<()> {
    let Parts { broker, store, topology, config, .. } = parts;
    if let Some(bad) = config.bad_queues() {
        bail!(bad);
    }
    // Read before anything is changed: a typing mistake in a view should stop all of it.
    let docs = design_docs::read_all(&config.design_docs).with_context(|| {
        "nothing was done: server.design_docs has to name the folder of the design documents".to_owned()
    })?;
    let session = broker.connect().await?;
    for notice in declare_exchanges(&session, topology).await.context("cannot declare exchanges and queues")? {
        say(format!("notice: {notice}"));
    }
    bind_slots(&session, topology).await.context("cannot bind exchanges")?;
    let names: Vec<String> = topology.exchanges().iter().map(|exchange| exchange.name.clone()).collect();
    say(format!("exchanges: {}", names.join(", ")));
    // Results that are worked off on the way need it.
    let created = store.create().await.context("cannot create the database")?;
    Box::pin(moving::arrange(parts, &session, &mut say)).await.context("cannot put the queues of results right")?;
    let queues = (0..topology.queues).map(|number| topology.results_queue(number).name);
    let queues: Vec<String> = queues.chain([topology.dead_queue().name]).collect();
    say(format!("queues: {}", queues.join(", ")));
    say(format!("database: {}", if created { "created" } else { "there already" }));
    sync(store, &docs, |_, line| say(line)).await?;
    session.close().await;
    Ok(())
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
