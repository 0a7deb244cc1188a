//! Messages that are of no use, or worse: each ends in a place that is known, and nothing else is
//! the worse for it.
//!
//! Start at [`table`], which says what is fed and where the design says that it ends; [`mixed`] feeds
//! all of it at once. [`batches`] and [`stubs`] hold what CouchDB refuses a whole batch for,
//! [`nesting`] what its views break over, [`frames`] what can be done to the properties of a message,
//! [`bounds`] what is small on its way in and large inside. A server that crashes is seen by its exit
//! status: nobody starts it again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod batches;
mod bounds;
mod frames;
mod mixed;
mod nesting;
mod stubs;
mod table;

use std::collections::BTreeMap;

use serde_json::Value;
use vogeler_messaging::{Message, Session};
use vogeler_store::Store as _;
use vogeler_tests::{Program, Site, eventually, fleet};

/// How large the good results are.
const BYTES: usize = 200;

/// One worker that waits for company, so that what is sent together is written together.
const ONE_LANE: [(&str, &str); 3] =
    [("VOGELER_SERVER_WORKERS", "1"), ("VOGELER_SERVER_LINGER", "500ms"), ("VOGELER_SERVER_LOGLEVEL", "debug")];

/// Publishes as whoever may publish results can; the broker cares for the slot, not for what is in it.
async fn publish(session: &impl Session, message: Message) {
    fleet::publish(session, &"poison".parse().unwrap(), message).await.unwrap();
}

/// A JSON message of that id.
fn json_message(id: &str, body: impl Into<Vec<u8>>) -> Message {
    let mut message = fleet::json_message(body);
    message.properties.message_id = Some(id.to_owned());
    message
}

/// A good result of the key `c` whose data is that JSON text; the message has the node's name for its id.
fn result_of(node: &str, data: &str) -> Message {
    let body = format!(r#"{{"v":1,"node":"{node}","command":"c","outcome":"ok","data":{data}}}"#);
    json_message(node, body)
}

/// Whether the database bounds the size of a record. CouchDB does, its stand-in does not.
async fn bounds_records(site: &Site) -> bool {
    site.couch().describe().await.unwrap().starts_with("CouchDB")
}

/// The dead letters by the ids of their messages, once these are among them.
async fn letters_with(site: &Site, ids: &[&str], server: &Program) -> BTreeMap<String, Value> {
    let letters = eventually(async || {
        let letters = site.dead_letters().await?.into_iter();
        let id = |letter: &Value| letter["properties"]["message_id"].as_str().unwrap_or("no id").to_owned();
        let letters: BTreeMap<String, Value> = letters.map(|letter| (id(&letter), letter)).collect();
        let missing: Vec<_> = ids.iter().filter(|id| !letters.contains_key(**id)).collect();
        anyhow::ensure!(missing.is_empty(), "dead letters {missing:?}; the server said:\n{}", server.log());
        anyhow::Ok(letters)
    })
    .await;
    expect_letters(site, ids.len()).await;
    letters
}

/// Asserts that there are so many dead letters, and no copy of one beside it.
async fn expect_letters(site: &Site, count: usize) {
    eventually(async || {
        let found = site.queue("vogeler.dead").await?.messages;
        anyhow::ensure!(usize::try_from(found)? == count, "{count} dead letters; there are {found}");
        anyhow::Ok(())
    })
    .await;
}

/// Asserts that a letter says why it is dead, and that its message was delivered just once.
#[track_caller]
fn expect_reason(id: &str, letter: &Value, reason: &str) {
    let headers = &letter["properties"]["headers"];
    assert_eq!(headers["vogeler-reason"], reason, "why {id} is dead: {headers}");
    assert!(headers["vogeler-detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{id}: {headers}");
    assert_eq!(headers["vogeler-exchange"], "vogeler.master.in", "where {id} came from: {headers}");
    assert_ne!(headers["vogeler-dead-node"], "forged", "whose {id} is: {headers}");
    assert_eq!(headers["vogeler-delivery-count"], 0, "how often {id} had come before: {headers}");
}

/// Stops the server, and asserts that it is the one that was started.
async fn expect_unharmed(server: Program) {
    let log = server.log();
    assert!(!log.contains("panicked"), "the server said:\n{log}");
    assert_eq!(server.stop().await, 0, "the exit status of the server that was started; it said:\n{log}");
}
