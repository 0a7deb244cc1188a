//! What became of them: dead letters, each with its reason.

use std::collections::BTreeMap;

use serde_json::Value;
use vogeler_tests::{Program, Site, eventually};

/// The dead letters by the ids of their messages, once these are among them.
pub(super) async fn letters_with(site: &Site, ids: &[&str], server: &Program) -> BTreeMap<String, Value> {
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
pub(super) async fn expect_letters(site: &Site, count: usize) {
    eventually(async || {
        let found = site.queue("vogeler.dead").await?.messages;
        anyhow::ensure!(usize::try_from(found)? == count, "{count} dead letters; there are {found}");
        anyhow::Ok(())
    })
    .await;
}

/// Asserts that a letter says why it is dead, and that its message was delivered just once.
#[track_caller]
pub(super) fn expect_reason(id: &str, letter: &Value, reason: &str) {
    let headers = &letter["properties"]["headers"];
    assert_eq!(headers["vogeler-reason"], reason, "why {id} is dead: {headers}");
    assert!(headers["vogeler-detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{id}: {headers}");
    assert_eq!(headers["vogeler-exchange"], "vogeler.master.in", "where {id} came from: {headers}");
    assert_ne!(headers["vogeler-dead-node"], "forged", "whose {id} is: {headers}");
    assert_eq!(headers["vogeler-delivery-count"], 0, "how often {id} had come before: {headers}");
}
