//! A site in memory for the tests of questions: four nodes, and what went wrong on them.
//!
//! `web01` is well and has two failures; `db01` has told nothing for five days; `old01` is an outside producer that
//! fell silent a month ago; `gone01` was retired.

use clap::Parser;
use serde_json::{Value, json};
use vogeler_messaging::memory::{MemoryBroker, MemoryConsumer, MemorySession};
use vogeler_messaging::topology::node_queue;
use vogeler_messaging::{Broker, ConnectError, ConsumeOptions, Session, Topology};
use vogeler_protocol::{Clock, Group, NodeName, Random, Timestamp};
use vogeler_store::condition::{Condition, Path};
use vogeler_store::design_docs::DesignDoc;
use vogeler_store::memory::MemoryStore;
use vogeler_store::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};

use super::{Ask, Operator, Reply, answer};
use crate::run::Parts;

/// The time it is.
pub(super) const NOW: &str = "2026-11-20T12:00:00.000Z";

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    ask: Ask,
}

/// What was typed after the program's name.
pub(super) fn parse(words: &[&str]) -> Result<Ask, clap::Error> {
    let line = Line::try_parse_from(["vogeler-runner"].iter().chain(words).copied())?;
    Ok(line.ask)
}

/// The clock, which stands.
pub(super) fn clock() -> Clock {
    let now: Timestamp = serde_json::from_value(json!(NOW)).unwrap();
    Clock::new(move || now)
}

/// Broker and database.
pub(super) struct Site {
    pub(super) store: MemoryStore,
    pub(super) broker: MemoryBroker,
}

impl Site {
    pub(super) async fn new() -> Self {
        let site = Self { store: MemoryStore::created(), broker: MemoryBroker::new(clock()) };
        for record in records() {
            site.put(&record).await;
        }
        site
    }

    /// Stores a record, over the one that is there only if it has its revision.
    pub(super) async fn put(&self, record: &Value) {
        let row = Row { id: record["_id"].as_str().unwrap().parse().unwrap(), document: record.to_string().into() };
        let fates = self.store.put(&[row]).await.unwrap();
        assert!(matches!(*fates, [Fate::Stored { .. }]), "{fates:?}");
    }

    /// The record of a node.
    pub(super) async fn record(&self, node: &str) -> Value {
        let documents = self.store.fetch(&[node.parse().unwrap()]).await.unwrap();
        serde_json::from_str(documents[0].as_ref().unwrap()).unwrap()
    }

    /// Declares the queue of a node, as its client did once.
    pub(super) async fn queue(&self, node: &str) -> MemorySession {
        let session = self.broker.connect().await.unwrap();
        session.declare_queue(&node_queue(&node.parse().unwrap())).await.unwrap();
        session
    }

    /// A client that takes commands, until it is dropped.
    pub(super) async fn on_line(&self, node: &str) -> (MemorySession, MemoryConsumer) {
        let session = self.queue(node).await;
        let options = ConsumeOptions { prefetch: 64, exclusive: true, no_ack: false };
        let consumer = session.consume(&node_queue(&node.parse().unwrap()).name, options).await.unwrap();
        (session, consumer)
    }

    /// Asks where nobody can be asked back.
    pub(super) async fn ask(&self, words: &[&str]) -> anyhow::Result<Reply> {
        self.ask_of(&self.broker, words).await
    }

    /// Asks with another broker.
    pub(super) async fn ask_of<B: Broker>(&self, broker: &B, words: &[&str]) -> anyhow::Result<Reply> {
        ask(broker, &self.store, words, &|_| None).await
    }
}

/// Asks what was typed.
pub(super) async fn ask<B: Broker, St: Store>(
    broker: &B,
    store: &St,
    words: &[&str],
    confirm: &dyn Fn(&str) -> Option<bool>,
) -> anyhow::Result<Reply> {
    let parts = Parts {
        broker: broker.clone(),
        store: store.clone(),
        topology: Topology::default(),
        clock: clock(),
        random: Random::seeded(1),
    };
    let asked = parse(words).unwrap_or_else(|error| panic!("{error}"));
    answer(&parts, &asked, Operator { name: "op@admin", confirm }).await
}

/// The answer as a program gets it.
pub(super) fn listed(reply: &Reply) -> Value {
    serde_json::to_value(reply.answer.as_ref().unwrap()).unwrap()
}

/// One column of it, which has only texts.
pub(super) fn names(reply: &Reply, column: &str) -> Vec<String> {
    listed(reply).as_array().unwrap().iter().map(|row| row[column].as_str().unwrap().to_owned()).collect()
}

fn records() -> [Value; 4] {
    let web01 = json!({
        "_id": "web01", "doc_type": "SystemRecord", "system_name": "web01",
        "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-11-20T11:30:05.000Z",
        "facts": {"os": {"family": "Debian", "release": "12"}, "disks": ["sda", "sdb"], "cpus": 8},
        "packages": {"openssl": "3.0.15-1", "python3.11": "3.11.2"},
        "vogeler": {
            "client": {"version": "0.9.0", "groups": ["web"], "aliases": {
                "facts": {"key": "facts", "description": "What the machine is"},
                "rpms": {"key": "packages", "description": "Packages"}}},
            "results": {
                "facts": {"command": "facts", "collected_at": "2026-11-18T12:00:00.000Z",
                    "received_at": "2026-11-18T12:00:01.000Z"},
                "packages": {"command": "rpms", "collected_at": "2026-11-20T11:30:00.000Z",
                    "received_at": "2026-11-20T11:30:05.000Z"}},
            "errors": {
                "jmx": {"command": "jmx_ports", "at": "2026-11-20T11:00:00.000Z",
                    "received_at": "2026-11-20T11:00:01.000Z", "kind": "exit", "exit": 2, "message": "no java"},
                "users": {"command": "users", "at": "2026-11-10T12:00:00.000Z",
                    "received_at": "2026-11-10T12:00:01.000Z", "kind": "timeout", "message": "ran for 60 s"}}},
    });
    let db01 = json!({
        "_id": "db01", "doc_type": "SystemRecord", "system_name": "db01",
        "created_at": "2026-02-01T00:00:00.000Z", "updated_at": "2026-11-19T12:00:01.000Z",
        "packages": {"openssl": "3.0.14-1", "postgresql": "15.1"},
        "vogeler": {
            "client": {"version": "0.10.0", "groups": ["db"], "aliases": {
                "rpms": {"key": "rpm_list", "description": "Packages"}}},
            "results": {"packages": {"command": "rpms", "collected_at": "2026-11-15T12:00:00.000Z",
                "received_at": "2026-11-15T12:00:01.000Z"}},
            "errors": {"jmx": {"command": "jmx_ports", "at": "2026-11-19T12:00:00.000Z",
                "received_at": "2026-11-19T12:00:01.000Z", "kind": "exit", "exit": 2, "message": "no java"}}},
    });
    let old01 = json!({
        "_id": "old01", "doc_type": "SystemRecord", "system_name": "old01",
        "created_at": "2026-03-01T00:00:00.000Z", "updated_at": "2026-10-20T12:00:00.000Z",
        "packages": {"openssl": "1.1.1"},
        "vogeler": {"results": {"packages": {"command": "push", "received_at": "2026-10-20T12:00:00.000Z"}}},
    });
    let gone01 = json!({
        "_id": "gone01", "doc_type": "SystemRecord", "system_name": "gone01",
        "created_at": "2026-04-01T00:00:00.000Z", "updated_at": "2026-11-10T00:00:00.000Z",
        "vogeler": {
            "client": {"version": "0.9.0", "groups": ["web"], "aliases": {
                "rpms": {"key": "packages", "description": "Packages"}}},
            "results": {},
            "retired": {"at": "2026-11-15T12:00:00.000Z", "by": "op@admin"}},
    });
    [web01, db01, old01, gone01]
}

/// A broker that is away.
#[derive(Clone)]
pub(super) struct NoBroker;

impl Broker for NoBroker {
    type Session = MemorySession;

    async fn connect(&self) -> Result<MemorySession, ConnectError> {
        Err(ConnectError::Unreachable { address: self.address(), reason: "no route".to_owned() })
    }

    fn address(&self) -> String {
        "nowhere".to_owned()
    }

    fn login(&self) -> String {
        "nobody".to_owned()
    }
}

/// What a view answers.
pub(super) type View = fn(&str, &str, &ViewQuery) -> Result<Vec<ViewRow>, StoreError>;

/// What becomes of a write.
pub(super) type Write = fn(&Row) -> Option<Fate>;

/// The database in memory, where a test answers views, and may refuse a write.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) store: MemoryStore,
    pub(super) view: View,
    pub(super) write: Write,
}

impl Told {
    pub(super) fn new(store: &MemoryStore) -> Self {
        let view: View = |_, _, _| Ok(Vec::new());
        Self { store: store.clone(), view, write: |_| None }
    }
}

impl Store for Told {
    async fn probe(&self) -> Result<(), StoreError> {
        self.store.probe().await
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        self.store.probe_write().await
    }

    async fn describe(&self) -> Result<String, StoreError> {
        self.store.describe().await
    }

    async fn create(&self) -> Result<bool, StoreError> {
        self.store.create().await
    }

    async fn fetch(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        self.store.fetch(ids).await
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        let told: Option<Vec<Fate>> = rows.iter().map(self.write).collect();
        match told {
            Some(fates) => Ok(fates),
            None => self.store.put(rows).await,
        }
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        self.store.nodes().await
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        self.store.members(group).await
    }

    async fn find(&self, condition: Option<&Condition>, fields: &[Path]) -> Result<Vec<Found>, StoreError> {
        self.store.find(condition, fields).await
    }

    async fn view(&self, design: &str, view: &str, query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        (self.view)(design, view, query)
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        self.store.sync_design(doc).await
    }
}
