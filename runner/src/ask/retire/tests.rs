//! Nodes are retired, or not, and come back.

use std::cell::RefCell;

use serde_json::{Value, json};
use vogeler_messaging::topology::node_key;
use vogeler_messaging::{Exchange, ExchangeKind, Message, Properties, Publish};
use vogeler_protocol::message::{Hello, Version};
use vogeler_store::memory::MemoryStore;

use super::super::fixture::{self, NOW, NoBroker, Site, Told, clock, listed, names};
use super::super::retired_at;
use super::*;

/// Lets so many commands wait for a node that is off line.
async fn commands(site: &Site, node: &str, count: usize) {
    let session = site.queue(node).await;
    let exchange = Exchange { name: "commands".to_owned(), kind: ExchangeKind::Topic, alternate: None };
    session.declare_exchange(&exchange).await.unwrap();
    let node: NodeName = node.parse().unwrap();
    session.bind(&node_queue(&node).name, &exchange.name, &node_key(&node)).await.unwrap();
    for _ in 0..count {
        let message = Message { body: b"{}".to_vec(), properties: Properties::default() };
        let key = node_key(&node);
        let publish = Publish { exchange: &exchange.name, routing_key: &key, mandatory: true, message };
        session.publish(publish).await.unwrap();
    }
}

async fn has_queue(site: &Site, node: &str) -> bool {
    let session = site.broker.connect().await.unwrap();
    session.queue_status(&node_queue(&node.parse().unwrap()).name).await.unwrap().is_some()
}

async fn is_retired(site: &Site, node: &str) -> bool {
    retired_at(&site.record(node).await).is_some()
}

#[tokio::test]
async fn the_record_is_marked_and_the_queue_goes() {
    let site = Site::new().await;
    commands(&site, "web01", 3).await;
    let before = site.record("web01").await;
    let reply = site.ask(&["retire", "web01", "old01", "--yes"]).await.unwrap();
    let expected = json!([
        {"node": "old01", "outcome": "retired"},
        {"node": "web01", "outcome": "retired", "commands": 3},
    ]);
    assert_eq!((listed(&reply), reply.status, reply.notices.len()), (expected, 0, 0));
    assert!(!has_queue(&site, "web01").await);

    let after = site.record("web01").await;
    assert_eq!(after["vogeler"]["retired"], json!({"at": NOW, "by": "op@admin"}));
    for kept in ["facts", "packages", "updated_at", "created_at"] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    assert_eq!(after["vogeler"]["results"], before["vogeler"]["results"]);
    assert_eq!(names(&site.ask(&["nodes"]).await.unwrap(), "node"), ["db01"]);
    let retired = site.ask(&["nodes", "--retired", "web01"]).await.unwrap();
    assert_eq!(names(&retired, "on_line"), ["retired"]);
}

#[tokio::test]
async fn a_client_that_comes_back_makes_the_record_live_again() {
    let site = Site::new().await;
    site.ask(&["retire", "web01", "-y"]).await.unwrap();
    assert!(is_retired(&site, "web01").await);
    let node: NodeName = "web01".parse().unwrap();
    let document = site.store.fetch(slice::from_ref(&node)).await.unwrap().pop().flatten().unwrap();
    let later = Timestamp::from_millisecond(clock().now().as_millisecond() + 1);
    let mut record = Record::from_document(node.clone(), &document, later).unwrap();
    let hello = Hello {
        v: Version,
        node: node.clone(),
        version: "1.0".to_owned(),
        instance: vogeler_protocol::Random::seeded(1).uuid(),
        machine_id: None,
        epoch: 1,
        seq: 1,
        contends: false,
        groups: Vec::new(),
        aliases: BTreeMap::new(),
    };
    record.apply_hello(&hello, later);
    site.store.put(&[Row { id: node, document: record.to_document() }]).await.unwrap();
    assert!(!is_retired(&site, "web01").await);
}

#[tokio::test]
async fn who_is_on_line_stays() {
    let site = Site::new().await;
    let _client = site.on_line("web01").await;
    let reply = site.ask(&["retire", "web01", "--yes"]).await.unwrap();
    assert_eq!(listed(&reply), json!([{"node": "web01", "outcome": "on line"}]));
    assert_eq!(reply.notices, ["web01 is on line: stop its client first, or say --force"]);
    assert_eq!(reply.status, 2);
    assert!(has_queue(&site, "web01").await && !is_retired(&site, "web01").await);

    let reply = site.ask(&["retire", "web01", "--yes", "--force"]).await.unwrap();
    assert_eq!(listed(&reply), json!([{"node": "web01", "outcome": "retired", "commands": 0}]));
    assert!(!has_queue(&site, "web01").await && is_retired(&site, "web01").await);
}

#[tokio::test]
async fn who_is_not_known_is_told() {
    let site = Site::new().await;
    let reply = site.ask(&["retire", "web02", "old01", "--yes"]).await.unwrap();
    let expected = json!([{"node": "old01", "outcome": "retired"}, {"node": "web02", "outcome": "unknown"}]);
    assert_eq!((listed(&reply), reply.status), (expected, 4));
    assert_eq!(reply.notices, ["there is no record of web02; did you mean web01?"]);
}

#[tokio::test]
async fn the_operator_is_asked() {
    let site = Site::new().await;
    commands(&site, "web01", 2).await;
    commands(&site, "db01", 1).await;
    site.queue("old01").await;
    let _client = site.on_line("gone01").await;
    site.put(&json!({"_id": "app01", "vogeler": {}})).await;
    let questions = RefCell::new(Vec::new());
    let confirm = |question: &str| {
        questions.borrow_mut().push(question.to_owned());
        Some(question.starts_with("Retire web01"))
    };
    let words = ["retire", "--force", "web01", "db01", "old01", "gone01", "app01", "web01"];
    let reply = fixture::ask(&site.broker, &site.store, &words, &confirm).await.unwrap();
    let expected = [
        "Retire app01? It has no queue.",
        "Retire db01? Its queue goes, and the command that waits in it.",
        "Retire gone01, which is on line? Its queue goes.",
        "Retire old01? Its queue goes.",
        "Retire web01? Its queue goes, and the 2 commands that wait in it.",
    ];
    assert_eq!(questions.into_inner(), expected);
    assert_eq!(names(&reply, "outcome"), ["declined", "declined", "declined", "declined", "retired"]);
    assert_eq!(reply.status, 2);
    assert!(has_queue(&site, "db01").await && !is_retired(&site, "db01").await);
}

#[tokio::test]
async fn where_nobody_can_be_asked_nothing_is_done() {
    let site = Site::new().await;
    let error = site.ask(&["retire", "web01"]).await.unwrap_err().to_string();
    assert_eq!(error, "nobody is there to be asked about web01; nothing was done: say --yes");
    assert!(!is_retired(&site, "web01").await);
}

#[tokio::test]
async fn without_the_broker_nothing_is_done() {
    let site = Site::new().await;
    let error = site.ask_of(&NoBroker, &["retire", "web01", "--yes"]).await.unwrap_err().to_string();
    assert_eq!(error, "cannot reach the broker at nowhere: no route");
    assert!(!is_retired(&site, "web01").await);
}

#[tokio::test]
async fn what_others_write_meanwhile_is_kept() {
    let site = Site::new().await;
    let mut document: Value = site.record("web01").await;
    document["note"] = json!("of another");
    let row = Row { id: "web01".parse().unwrap(), document: document.to_string().into_bytes() };
    let rows = [row];
    // Both have read the same revision, and the other is the first to write.
    let (other, reply) = tokio::join!(biased; site.store.put(&rows), site.ask(&["retire", "web01", "--yes"]));
    let fates = other.unwrap();
    assert!(matches!(*fates, [Fate::Stored { .. }]), "{fates:?}");
    assert_eq!(reply.unwrap().status, 0);
    let record = site.record("web01").await;
    assert_eq!(record["note"], "of another");
    assert_eq!(record["_rev"], "3-memory");
    assert!(retired_at(&record).is_some());
}

async fn refused(site: &Site, write: fixture::Write) -> String {
    let store = Told { write, ..Told::new(&site.store) };
    let reply = fixture::ask(&site.broker, &store, &["retire", "web01", "--yes"], &|_| None).await.unwrap();
    assert_eq!((names(&reply, "outcome"), reply.status), (vec!["failed".to_owned()], 2));
    reply.notices.concat()
}

#[tokio::test]
async fn what_the_database_refuses() {
    let site = Site::new().await;
    site.queue("web01").await;
    let forbidden = refused(&site, |_| Some(Fate::Forbidden { reason: "read only".to_owned() })).await;
    assert_eq!(forbidden, "web01 is not retired: the database forbids it: read only");
    let failed = |_: &Row| Some(Fate::Failed { error: "os".to_owned(), reason: "full".to_owned() });
    let failed = refused(&site, failed).await;
    assert_eq!(failed, "web01 is not retired: the database did not store its record: os: full");
    let beaten = refused(&site, |_| Some(Fate::Conflict)).await;
    assert_eq!(beaten, "web01 is not retired: its record was written by others 10 times while we tried");
    assert!(has_queue(&site, "web01").await, "a queue goes only after the mark");
}

#[tokio::test]
async fn a_database_that_is_away_is_an_error() {
    let site = Site { store: MemoryStore::default(), ..Site::new().await };
    for words in [&["retire", "web01", "-y"][..], &["nodes"], &["show", "web01"], &["find", "exists a"], &["errors"]] {
        let error = site.ask(words).await.unwrap_err().to_string();
        assert_eq!(error, "there is no database at memory; run vogeler-server setup", "{words:?}");
    }
}
