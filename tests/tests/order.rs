//! A record is never rolled back: neither by a clock nor by what comes again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use vogeler_messaging::topology::{QueueKind, slot_key};
use vogeler_messaging::{ConsumeOptions, Consumer, Header, Message, Publish, Queue, Session};
use vogeler_tests::program::command;
use vogeler_tests::{Node, Outcome, Site};

const RESULTS: &str = "vogeler.master.in";

/// Sets the clock of a node's client an hour back, by Debian's `faketime`.
///
/// That program stands between its child and us and passes no signal on, so that it is only asked
/// which library it would load. The monotonic clock stays true: timers go by it.
async fn an_hour_back(node: Node<'_>) -> Node<'_> {
    let mut faketime = command("faketime");
    let library = Outcome::of(faketime.args(["-m", "-f", "-1h", "printenv", "LD_PRELOAD"])).await.expect(0).stdout;
    node.env("LD_PRELOAD", library.trim()).env("FAKETIME", "-1h").env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

/// The next result among what is overheard; a hello is none.
async fn next_result(overheard: &mut impl Consumer) -> Message {
    loop {
        let next = timeout(Duration::from_secs(45), overheard.next()).await;
        let message = next.expect("a result within 45 s").expect("the spy's channel is open").message;
        if message.properties.kind.as_deref() == Some("result") {
            return message;
        }
    }
}

#[tokio::test]
async fn a_record_is_never_rolled_back() {
    let site = Site::start("order").await;
    let _server = site.server().await;
    let motd = site.write("motd", "old");
    let descriptor = format!("motd: {{command: cat {}, format: string}}\n", motd.display());
    let run = ["-c", "motd", "-n", "order01"];

    // A second queue that gets a copy of everything the node sends.
    let session = site.session().await;
    let key = slot_key(&"order01".parse().unwrap());
    let kind = QueueKind::Node { expires: Duration::from_secs(600), max_length: 1000 };
    let spy = Queue { name: "spy".to_owned(), kind };
    session.declare_queue(&spy).await.unwrap();
    session.bind(&spy.name, RESULTS, &key).await.unwrap();
    let options = ConsumeOptions { prefetch: 0, exclusive: false, no_ack: false };
    let mut overheard = session.consume(&spy.name, options).await.unwrap();

    let client = site.node("order01").plugin("motd.yaml", &descriptor).start().await;
    site.runner(&run).await.expect(0);
    let old = next_result(&mut overheard).await;
    let before = site.record("order01").await.unwrap();
    assert_eq!(before["motd"], "old", "{before}");
    assert_eq!(client.stop().await, 0, "the client's exit status");

    site.write("motd", "new");
    let client = an_hour_back(site.node("order01")).await.start().await;
    site.runner(&run).await.expect(0);
    let new = site.record("order01").await.unwrap();
    assert_eq!(new["motd"], "new", "{new}");
    let result = |record: &Value| record["vogeler"]["results"]["motd"].clone();
    let collected = |record: &Value| result(record)["collected_at"].as_str().unwrap().to_owned();
    assert!(collected(&new) < collected(&before), "collected earlier, by the node's clock: {new}");

    let mut replayed = old.clone();
    replayed.properties.headers.insert("vogeler-replayed".to_owned(), Header::Flag(true));
    for message in [replayed, old] {
        let again = format!("{:?}", message.properties.headers);
        let publish = Publish { exchange: RESULTS, routing_key: &key, mandatory: true, message };
        session.publish(publish).await.unwrap();
        // Of one node nothing overtakes: once this is stored, the old result has been looked at.
        site.runner(&["-c", "ping", "-n", "order01"]).await.expect(0);
        let after = site.record("order01").await.unwrap();
        assert_eq!(after["motd"], "new", "the old result with headers {again}: {after}");
        assert_eq!(result(&after), result(&new), "the old result with headers {again}");
    }
    site.expect_settled().await;
    // Killed, it would leave the library's files in /dev/shm.
    assert_eq!(client.stop().await, 0, "the client's exit status");
}
