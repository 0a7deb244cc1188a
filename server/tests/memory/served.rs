//! A server that runs in the test's own process, on a clock that the test can hurry.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use vogeler_messaging::memory::{MemoryBroker, MemorySession};
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{Acks as _, Broker, ConsumeOptions, Consumer as _, Message, Publish, Session, Topology};
use vogeler_protocol::{Clock, Group, NodeName, Random, Timestamp};
use vogeler_server::config::ServerSection;
use vogeler_server::health::Health;
use vogeler_server::metrics::Metrics;
use vogeler_server::run::{Parts, run};
use vogeler_server::setup;
use vogeler_store::condition::{Condition, Path};
use vogeler_store::design_docs::DesignDoc;
use vogeler_store::memory::MemoryStore;
use vogeler_store::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};

/// What a database answers instead of writing.
pub(crate) type Answer = Result<Vec<Fate>, PutError>;

/// Decides over each write; none lets it through.
type Whim = Arc<Mutex<Box<dyn FnMut(&[Row]) -> Option<Answer> + Send>>>;

/// A database that can be taken away, and that answers writes as the test wants.
#[derive(Clone)]
pub(crate) struct Unsteady {
    pub(crate) records: MemoryStore,
    away: Arc<Mutex<bool>>,
    whim: Whim,
    /// How long each write takes.
    slow: Arc<Mutex<Duration>>,
    /// How many records it was asked for by those who write.
    pub(crate) read: Arc<AtomicUsize>,
}

impl Unsteady {
    pub(crate) fn go_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    /// From now on a write takes so long.
    pub(crate) fn slow(&self, slow: Duration) {
        *self.slow.lock().unwrap() = slow;
    }

    /// From now on writes are answered so.
    pub(crate) fn answer(&self, whim: impl FnMut(&[Row]) -> Option<Answer> + Send + 'static) {
        *self.whim.lock().unwrap() = Box::new(whim);
    }

    fn there(&self) -> Result<(), StoreError> {
        if *self.away.lock().unwrap() {
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
        self.read.fetch_add(ids.len(), Ordering::Relaxed);
        self.records.fetch(ids).await
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        self.there()?;
        let slow = *self.slow.lock().unwrap();
        sleep(slow).await;
        let answer = (self.whim.lock().unwrap())(rows);
        match answer {
            Some(answer) => answer,
            None => self.records.put(rows).await,
        }
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        self.records.nodes().await
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        self.records.members(group).await
    }

    async fn find(&self, condition: Option<&Condition>, fields: &[Path]) -> Result<Vec<Found>, StoreError> {
        self.there()?;
        self.records.find(condition, fields).await
    }

    async fn view(&self, design: &str, view: &str, query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        self.records.view(design, view, query).await
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        self.records.sync_design(doc).await
    }
}

/// Running servers and what they run on.
pub(crate) struct Served {
    pub(crate) broker: MemoryBroker,
    pub(crate) session: MemorySession,
    pub(crate) store: Unsteady,
    /// Of the first.
    pub(crate) health: Health,
    /// What each counts.
    pub(crate) metrics: Vec<Metrics>,
    clock: Clock,
    servers: JoinSet<anyhow::Result<()>>,
}

impl Served {
    pub(crate) async fn start() -> Self {
        Self::with(1, 1).await
    }

    /// So many servers over so many queues.
    pub(crate) async fn with(queues: u32, servers: u64) -> Self {
        let begun = Instant::now();
        let clock = Clock::new(move || {
            let millis = i64::try_from(begun.elapsed().as_millis()).unwrap();
            Timestamp::from_millisecond(1_800_000_000_000 + millis)
        });
        let broker = MemoryBroker::new(clock.clone());
        let whim: Whim = Arc::new(Mutex::new(Box::new(|_: &[Row]| None)));
        let (away, slow, read) = Default::default();
        let store = Unsteady { records: MemoryStore::created(), away, whim, slow, read };
        let session = broker.connect().await.unwrap();
        setup::declare(&session, &Topology { queues, ..Topology::default() }).await.unwrap();
        let health = Health::new(clock.clone());
        let (metrics, running) = Default::default();
        let mut served = Self { broker, session, store, health, metrics, clock, servers: running };
        for number in 0..servers {
            let mut parts = served.parts(served.broker.clone(), 1);
            if number == 0 {
                parts.health = served.health.clone();
            }
            parts.random = Random::seeded(7 + number);
            served.metrics.push(parts.metrics.clone());
            served.serve(parts);
        }
        served
    }

    /// Runs another server.
    pub(crate) fn serve<B: Broker>(&mut self, parts: Parts<B, Unsteady>) {
        self.servers.spawn(async move { run(parts, std::future::pending()).await });
    }

    /// The parts of a program that reaches the broker in its own way, and that is configured for so many queues.
    pub(crate) fn parts<B>(&self, broker: B, queues: u32) -> Parts<B, Unsteady> {
        let design_docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../design-docs").into();
        Parts {
            broker,
            store: self.store.clone(),
            topology: Topology { queues, ..Topology::default() },
            config: ServerSection { queues, design_docs, ..ServerSection::default() },
            health: Health::new(self.clock.clone()),
            metrics: Metrics::default(),
            clock: self.clock.clone(),
            random: Random::seeded(5),
        }
    }

    /// `vogeler-server setup`, configured for so many queues.
    pub(crate) async fn setup(&self, queues: u32) {
        let mut said = Vec::new();
        let done = Box::pin(setup::run(&self.parts(self.broker.clone(), queues), |line| said.push(line))).await;
        assert!(done.is_ok(), "{done:?}\n{}", said.join("\n"));
    }

    /// A new session, after the broker has ended the old ones.
    pub(crate) async fn connect_again(&mut self) {
        self.session = self.broker.connect().await.unwrap();
    }

    /// Sends the result of that sequence of a node: the number itself, under the key `r<seq>`.
    pub(crate) async fn send(&self, node: &str, seq: u64) {
        let body = format!(
            r#"{{"v":1,"node":"{node}","command":"r{seq}","epoch":1,"seq":{seq},"outcome":"ok","data":{seq}}}"#
        );
        self.send_body(node, &body).await;
    }

    pub(crate) async fn send_body(&self, node: &str, body: &str) {
        self.send_message(node, Message { body: body.as_bytes().to_vec(), ..Message::default() }).await;
    }

    pub(crate) async fn send_message(&self, node: &str, message: Message) {
        let node: NodeName = node.parse().unwrap();
        let (exchange, key) = (Topology::default().master, slot_key(&node));
        let publish = Publish { exchange: &exchange, routing_key: &key, mandatory: true, message };
        self.session.publish(publish).await.unwrap();
    }

    /// The record of a node as it is stored; empty where there is none.
    pub(crate) async fn record(&self, node: &str) -> String {
        let node: NodeName = node.parse().unwrap();
        self.store.records.fetch(&[node]).await.unwrap().pop().flatten().unwrap_or_default()
    }

    pub(crate) async fn holds(&self, node: &str, seq: u64) -> bool {
        self.record(node).await.contains(&format!("\"r{seq}\":{seq}"))
    }

    /// Messages that wait and consumers of the results' queue.
    pub(crate) async fn waiting(&self) -> (u32, u32) {
        let status = self.session.queue_status("master.in.0").await.unwrap().unwrap();
        (status.messages, status.consumers)
    }

    pub(crate) async fn dead(&self) -> u32 {
        self.session.queue_status("vogeler.dead").await.unwrap().unwrap().messages
    }

    /// Takes the next dead letter, which has to be there: its body and its reason.
    pub(crate) async fn take_dead(&self) -> (String, String) {
        let options = ConsumeOptions { prefetch: 1, exclusive: false, no_ack: false };
        let mut consumer = self.session.consume("vogeler.dead", options).await.unwrap();
        let delivery = consumer.next().await.unwrap();
        consumer.acks().ack(&[delivery.tag]).await.unwrap();
        let reason = format!("{:?}", delivery.message.properties.headers);
        (String::from_utf8_lossy(&delivery.message.body).into_owned(), reason)
    }
}

/// Polls for a state on the hurried clock.
pub(crate) async fn until(what: &str, minutes: u64, mut seen: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !seen().await {
        assert!(begun.elapsed() < Duration::from_secs(60 * minutes), "{what} within {minutes} minutes");
        sleep(Duration::from_millis(100)).await;
    }
}
