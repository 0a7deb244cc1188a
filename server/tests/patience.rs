//! A database that stays away for long, over the broker in memory and in no time at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use vogeler_messaging::memory::{MemoryBroker, MemorySession};
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{Broker, Message, Publish, Session, Topology};
use vogeler_protocol::{Clock, Group, NodeName, Random, Timestamp};
use vogeler_server::config::ServerSection;
use vogeler_server::health::Health;
use vogeler_server::metrics::Metrics;
use vogeler_server::run::{Parts, run};
use vogeler_server::setup;
use vogeler_store::design_docs::DesignDoc;
use vogeler_store::memory::MemoryStore;
use vogeler_store::{Fate, KnownNode, PutError, Row, Store, StoreError, Synced};

/// A database that can be taken away.
#[derive(Clone)]
struct Unsteady {
    records: MemoryStore,
    away: Arc<AtomicBool>,
}

impl Unsteady {
    fn there(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Away { address: "memory".into(), reason: "taken away".into() });
        }
        Ok(())
    }
}

impl Store for Unsteady {
    async fn probe(&self) -> Result<(), StoreError> {
        self.there()
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        self.there()
    }

    async fn describe(&self) -> Result<String, StoreError> {
        self.records.describe().await
    }

    async fn create(&self) -> Result<bool, StoreError> {
        self.records.create().await
    }

    async fn fetch(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        self.there()?;
        self.records.fetch(ids).await
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        self.there()?;
        self.records.put(rows).await
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        self.records.nodes().await
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        self.records.members(group).await
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        self.records.sync_design(doc).await
    }
}

async fn publish(session: &MemorySession, seq: u64) {
    let node: NodeName = "web01".parse().unwrap();
    let body =
        format!(r#"{{"v":1,"node":"web01","command":"r{seq}","epoch":1,"seq":{seq},"outcome":"ok","data":{seq}}}"#);
    let (exchange, key) = (Topology::default().master, slot_key(&node));
    let message = Message { body: body.into_bytes(), ..Message::default() };
    session.publish(Publish { exchange: &exchange, routing_key: &key, mandatory: true, message }).await.unwrap();
}

async fn waiting(session: &MemorySession) -> (u32, u32) {
    let status = session.queue_status("master.in.0").await.unwrap().unwrap();
    (status.messages, status.consumers)
}

async fn until(what: &str, minutes: u64, mut seen: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !seen().await {
        assert!(begun.elapsed() < Duration::from_secs(60 * minutes), "{what} within {minutes} minutes");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_ten_minutes_the_broker_has_the_results_again_until_the_database_is_back() {
    let begun = Instant::now();
    let clock = Clock::new(move || {
        let millis = i64::try_from(begun.elapsed().as_millis()).unwrap();
        Timestamp::from_millisecond(1_800_000_000_000 + millis)
    });
    let broker = MemoryBroker::new(clock.clone());
    let store = Unsteady { records: MemoryStore::created(), away: Arc::default() };
    let session = broker.connect().await.unwrap();
    setup::declare(&session, &Topology::default()).await.unwrap();
    let health = Health::new(clock.clone());
    let parts = Parts {
        broker: broker.clone(),
        store: store.clone(),
        topology: Topology::default(),
        config: ServerSection::default(),
        health: health.clone(),
        metrics: Metrics::default(),
        clock,
        random: Random::seeded(7),
    };
    let mut server = JoinSet::new();
    server.spawn(async move { run(parts, std::future::pending()).await });

    let record = async || {
        let node: NodeName = "web01".parse().unwrap();
        store.records.fetch(&[node]).await.unwrap().pop().flatten().unwrap_or_default()
    };
    publish(&session, 1).await;
    until("the first result", 1, async || record().await.contains("\"r1\":1")).await;
    store.away.store(true, Ordering::Relaxed);
    publish(&session, 2).await;
    publish(&session, 3).await;
    until("both taken", 1, async || waiting(&session).await == (0, 1)).await;
    until("both back in the queue, and nobody who takes them", 12, async || waiting(&session).await == (2, 0)).await;
    assert!(begun.elapsed() > Duration::from_secs(600), "patience was ten minutes, not {:?}", begun.elapsed());
    assert!(!health.told().0, "{}", health.told().1);

    sleep(Duration::from_secs(3600)).await;
    assert_eq!(waiting(&session).await, (2, 0), "an hour later they still wait there");
    store.away.store(false, Ordering::Relaxed);
    until("both stored", 2, async || {
        let record = record().await;
        record.contains("\"r2\":2") && record.contains("\"r3\":3")
    })
    .await;
    assert!(health.told().0, "{}", health.told().1);
    assert_eq!(waiting(&session).await, (0, 1));
}
