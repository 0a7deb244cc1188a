//! All of it at once, among good results.

use std::time::Duration;

use serde_json::Value;
use vogeler_messaging::{Header, Message, Session};
use vogeler_protocol::{Clock, NodeName};
use vogeler_tests::{Fleet, Site, eventually, torture};

use crate::ends::{bounds_records, expect_unharmed};
use crate::letters::{expect_reason, letters_with};
use crate::messages::{BYTES, publish, result_of};
use crate::table::{End, Poison, table};

/// A prefetch that is never changed: that would cost whatever is in the server's hands a delivery.
const STEADY: (&str, &str) = ("VOGELER_SERVER_PREFETCH", "32");

/// The most that the server may say about all of it, some 200 bytes a message.
const MOST_WORDS: usize = 100_000;

#[tokio::test]
async fn every_poison_ends_where_it_should_and_every_good_result_is_stored() {
    let site = Site::start("poison").await;
    let bounded = bounds_records(&site).await;
    let table = table();
    let mut fleet = Fleet::new("good", 20);
    let session = site.session().await;
    for (position, poison) in table.iter().enumerate() {
        publish(&session, poison.message.clone()).await;
        for index in [position % 20, (position + 7) % 20] {
            let message = fleet.next(index, BYTES);
            fleet.publish(&session, index, message).await.unwrap();
        }
    }
    session.close().await;

    let server = site.server_with(&[STEADY]).await;
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "good results among the dead letters; the server said:\n{}", server.log());
    let dead: Vec<&str> = table.iter().filter(|poison| dies(poison, bounded)).map(|poison| &*poison.name).collect();
    let letters = letters_with(&site, &dead, &server).await;
    for poison in &table {
        let name = &*poison.name;
        match (&poison.end, letters.get(name)) {
            (End::Dead(reason), Some(letter)) => expect_letter(poison, letter, reason),
            (End::Stored(key, data), None) => {
                let record = site.record(name).await.unwrap();
                assert_eq!(record[key], *data, "what {name} left in its record: {record}");
            }
            (End::Large, Some(letter)) => {
                expect_letter(poison, letter, "record_too_large");
                let record = site.record(name).await.unwrap();
                assert_eq!(record["vogeler"]["errors"]["c"]["kind"], "record_too_large", "{record}");
            }
            (End::Large, None) => {
                let stored = site.record(name).await.unwrap()["c"].as_str().map(str::len);
                assert_eq!(stored, Some(15 << 20), "how much of {name} is stored");
            }
            (_, letter) => panic!("{name} is not where it should be; among the dead letters: {letter:?}"),
        }
    }
    site.expect_nothing_waits().await;

    let log = server.log();
    assert!(!log.contains("connecting again"), "one connection all along; the server said:\n{log}");
    let words = log.len();
    assert!(words < MOST_WORDS, "{words} bytes of log: what is told of a message is no copy of it");
    expect_unharmed(server).await;
    torture::report("poison", table.len(), &account);
}

fn dies(poison: &Poison, bounded: bool) -> bool {
    match poison.end {
        End::Dead(_) => true,
        End::Stored(..) => false,
        End::Large => bounded,
    }
}

/// Asserts that a letter says why, and that all of its message is in it.
fn expect_letter(poison: &Poison, letter: &Value, reason: &str) {
    expect_reason(&poison.name, letter, reason);
    assert_eq!(letter["payload_bytes"], poison.message.body.len(), "bytes that are left of {}", poison.name);
    let properties = &letter["properties"];
    assert!(properties["expiration"].is_null(), "a dead letter stays until somebody takes it away: {properties}");
}

/// A result of `c` without an order, as other programs send it, published so long from now.
fn sent(node: &NodeName, data: &str, from_now: Duration) -> Message {
    let mut message = result_of(node.as_str(), data);
    message.properties.timestamp = Some(Clock::system().now().after(from_now).as_second());
    message
}

/// What stands was not published after it was received, whatever its producer's clock said.
#[tokio::test]
async fn a_clock_far_ahead_shuts_no_later_result_out() {
    let site = Site::start("clock-ahead").await;
    let server = site.server().await;
    let session = site.session().await;
    let node: NodeName = "clock01".parse().unwrap();
    publish(&session, sent(&node, "\"from the year 2500\"", Duration::from_secs(15_000_000_000))).await;
    let mut later = sent(&node, "\"later\"", Duration::from_secs(60));
    later.properties.headers.insert("vogeler-replayed".to_owned(), Header::Flag(true));
    publish(&session, later).await;
    eventually(async || {
        let record = site.record(node.as_str()).await?;
        anyhow::ensure!(record["c"] == "later", "the later result in {record}");
        anyhow::Ok(())
    })
    .await;
    site.expect_settled().await;
    expect_unharmed(server).await;
}
