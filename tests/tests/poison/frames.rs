//! Properties that no careful library would send: RabbitMQ passes them on as they are.
//!
//! Who cannot read a delivery loses the connection, and the delivery comes again with the next one.
//! The broker makes a dead letter of it in the end; until then it must not take others with it, and
//! from then on there has to be a way to be rid of it.

use serde_json::Value;
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{ConsumeOptions, Consumer, Header, Session};
use vogeler_tests::program::command;
use vogeler_tests::{Fleet, Outcome, Site};

use crate::ends::expect_unharmed;
use crate::letters::expect_letters;
use crate::messages::{BYTES, json_message, publish, result_of};

/// For Debian's pika, whose own types would not encode this.
const RAW: &str = r#"import os, struct, sys
import pika, pika.data

class Encoded(dict):
    """A header table as it stands on the wire."""
    def __init__(self, entries):
        super().__init__()
        self.wire = struct.pack(">I", len(entries)) + entries

encode_table = pika.data.encode_table

def encode(pieces, table):
    if not isinstance(table, Encoded):
        return encode_table(pieces, table)
    pieces.append(table.wire)
    return len(table.wire)

pika.data.encode_table = encode

def nested(levels, kind, name):
    inner = b""
    for _ in range(levels):
        inner = name + kind + struct.pack(">I", len(inner)) + inner
    return inner

what, exchange, key = sys.argv[1:]
messages = {
    "no text": [{"message_id": b"\xff\xfe"}, {"headers": {b"\xff": "x"}}],
    "nested": [
        {"headers": Encoded(nested(18000, b"F", b"\x01a"))},
        {"headers": Encoded(b"\x01a" + nested(26000, b"A", b""))},
    ],
}[what]
channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
channel.confirm_delivery()
for more in messages:
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2, **more)
    channel.basic_publish(exchange, key, b"words", properties, mandatory=True)
"#;

/// Publishes two messages of that kind, whose bodies are no results.
async fn publish_raw(site: &Site, what: &str, exchange: &str) {
    let script = site.write("raw.py", RAW);
    let mut url = site.services.amqp.clone();
    url.set_path(&format!("/{}", site.vhost));
    let key = slot_key(&"poison".parse().unwrap());
    let mut python = command("/usr/bin/python3");
    python.arg(script).args([what, exchange, key.as_str()]).env("AMQP_URL", url.as_str());
    Outcome::of(&mut python).await.expect(0);
}

/// Waits for these two among the dead letters, whoever put them there: our server, or the broker
/// after its delivery limit.
async fn expect_both_dead(site: &Site) {
    expect_letters(site, 2).await;
    for letter in site.dead_letters().await.unwrap() {
        let headers = &letter["properties"]["headers"];
        let reason = [&headers["vogeler-reason"], &headers["x-first-death-reason"]].into_iter().find_map(Value::as_str);
        assert!(matches!(reason, Some("not_a_result" | "delivery_limit")), "why it is dead: {reason:?}");
        assert_eq!(letter["payload"], "words", "what is left of it");
    }
}

/// Such messages among good results: all of these are stored, and the server goes on.
async fn expect_nobody_stopped_by(what: &str) {
    let site = Site::start("raw").await;
    let mut fleet = Fleet::new("good", 10);
    fleet.send(&site, 20, BYTES).await;
    publish_raw(&site, what, "vogeler.master.in").await;
    fleet.send(&site, 40, BYTES).await;
    let server = site.server().await;
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (60, 0), "stored and dead; the server said:\n{}", server.log());
    expect_both_dead(&site).await;
    site.expect_nothing_waits().await;
    expect_unharmed(server).await;
}

#[tokio::test]
async fn properties_that_are_no_text_stop_nobody() {
    expect_nobody_stopped_by("no text").await;
}

/// As deep as one frame of RabbitMQ's default size can hold. A parser that recurses needs much stack.
#[tokio::test]
async fn headers_nested_as_deep_as_a_frame_crash_nobody() {
    expect_nobody_stopped_by("nested").await;
}

/// The broker adds a count to what it delivers again, and does not ask whether that fits.
#[tokio::test]
async fn a_message_that_its_delivery_count_makes_too_large_stops_nobody() {
    let site = Site::start("full-frame").await;
    let session = site.session().await;
    let mut full = result_of("full01", "1");
    full.properties.message_id = None;
    // 9 bytes less than a frame of 131,072.
    full.properties.headers.insert("h".to_owned(), Header::Text("x".repeat(131_020)));
    publish(&session, full).await;
    let options = ConsumeOptions { prefetch: 1, exclusive: false, no_ack: false };
    let mut once = session.consume("master.in.0", options).await.unwrap();
    once.next().await.unwrap();
    once.close().await;

    let mut fleet = Fleet::new("good", 10);
    fleet.send(&site, 40, BYTES).await;
    let server = site.server().await;
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (40, 0), "stored and dead; the server said:\n{}", server.log());
    site.expect_nothing_waits().await;
    let stored = site.record("full01").await.is_ok_and(|record| record["c"] == 1);
    let letters = site.dead_letters().await.unwrap();
    let dead = letters.iter().any(|letter| letter["payload"].as_str().is_some_and(|body| body.contains("full01")));
    assert!(stored != dead, "in its record ({stored}) or among the dead letters ({dead})");
    expect_unharmed(server).await;
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_read_can_be_dropped_unseen() {
    let site = Site::start("no-text-dead").await;
    let server = site.server().await;
    publish(&site.session().await, json_message("readable", "words")).await;
    expect_letters(&site, 1).await;
    publish_raw(&site, "no text", "vogeler.dead").await;
    publish(&site.session().await, json_message("hidden", "words")).await;
    expect_letters(&site, 4).await;
    let listed = site.run("vogeler-server", &["dead", "list"]).await.expect(1);
    assert!(listed.stdout.contains("readable") && listed.stdout.contains("1 dead letter, "), "{listed:?}");
    assert!(listed.stderr.contains("the letter after these cannot be read"), "{listed:?}");
    site.run("vogeler-server", &["dead", "show", "readable"]).await.expect(0);
    for left in [3, 2] {
        let dropped = site.run("vogeler-server", &["dead", "drop", "--unreadable"]).await.expect(0).stdout;
        assert!(dropped.starts_with("1 dropped unseen; "), "{dropped}");
        expect_letters(&site, left).await;
    }
    let listed = site.run("vogeler-server", &["dead", "list"]).await.expect(0).stdout;
    assert!(listed.contains("readable") && listed.contains("hidden"), "{listed}");
    expect_unharmed(server).await;
}
