//! What CouchDB refuses a whole batch for, each inside a batch of good results.
//!
//! Most of it never comes so far: the scan at the intake knows it. What only the database can know,
//! as the size of a record, is told apart by the server from what it answers.

use std::collections::BTreeSet;

use vogeler_tests::faulty::{Fault, FaultyStore, Rule, batches, every};
use vogeler_tests::{Fleet, Site, eventually, torture};

use crate::ends::{ONE_LANE, expect_unharmed};
use crate::letters::{expect_reason, letters_with};
use crate::messages::{BYTES, publish, result_of};

const NODES: usize = 500;

#[tokio::test]
async fn what_the_database_refuses_500_rows_for_costs_none_of_them() {
    let site = Site::start("batch").await;
    let server = site.server_with(&ONE_LANE).await;
    let mut fleet = Fleet::new("row", NODES);
    // The server takes 32 at first, and more once it has seen how small they are.
    fleet.send(&site, 100, BYTES).await;
    fleet.expect_all_kept(&site).await;
    let session = site.session().await;
    let poison = [
        ("surrogate-high", r#"{"a":"\ud800"}"#.to_owned()),
        ("surrogate-low", r#"["\udc00 and more"]"#.to_owned()),
        ("surrogate-in-a-key", r#"{"\ud83d":1}"#.to_owned()),
        ("no-double", "[1e400]".to_owned()),
        ("no-negative-double", "-1.8e308".to_owned()),
        ("integer-of-309", "9".repeat(309)),
        ("integer-of-309-and-exponent", format!("{}e-300", "9".repeat(309))),
    ];
    for (node, data) in &poison {
        fleet.send(&site, 60, BYTES).await;
        publish(&session, result_of(node, data)).await;
    }
    fleet.send(&site, NODES - 60 * poison.len(), BYTES).await;
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (600, 0), "stored and dead; the server said:\n{}", server.log());
    let nodes = poison.each_ref().map(|(node, _)| *node);
    let letters = letters_with(&site, &nodes, &server).await;
    for node in nodes {
        let letter = &letters[node];
        assert_eq!(letter["properties"]["headers"]["vogeler-reason"], "bad_data", "{letter}");
        let record = site.record(node).await;
        assert!(record.is_err(), "nothing was there to write for {node}: {record:?}");
    }
    site.expect_nothing_waits().await;
    expect_unharmed(server).await;
    torture::report("what a batch is refused for", poison.len(), &account);
}

/// The nodes of the records that are too large; the last of a batch, and one within.
const LARGE: [usize; 2] = [123, NODES - 1];

/// CouchDB names one culprit an answer. Its stand-in bounds nothing, so that the proxy does.
#[tokio::test]
async fn two_records_over_the_size_limit_are_the_only_ones_of_500_that_are_not_stored() {
    let site = Site::start("two-large").await;
    let faulty = FaultyStore::start(&site.services.couchdb).await;
    let url = faulty.url();
    let mut env = ONE_LANE.to_vec();
    env.push(("VOGELER_STORE_URL", url.as_str()));
    let server = site.server_with(&env).await;
    let mut fleet = Fleet::new("row", NODES);
    // The server takes 32 at first, and more once it has seen how small they are.
    fleet.send(&site, 100, BYTES).await;
    fleet.expect_all_kept(&site).await;

    // The only worker waits with one result. What comes meanwhile is its next batch.
    faulty.inject(Rule::new(Fault::Status(503), every));
    fleet.send(&site, 1, BYTES).await;
    eventually(async || {
        anyhow::ensure!(faulty.struck() > 0, "a request that fails");
        anyhow::Ok(())
    })
    .await;
    let session = site.session().await;
    for index in 0..NODES {
        let message = fleet.next(index, if LARGE.contains(&index) { 100_000 } else { BYTES });
        fleet.publish(&session, index, message).await.unwrap();
    }
    eventually(async || {
        let left = site.queue("master.in.0").await?.messages;
        anyhow::ensure!(left == 0, "all of them with the server; {left} are not");
        anyhow::Ok(())
    })
    .await;
    faulty.replace(Rule::new(Fault::DocumentLimit(65_536), batches));

    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (599, 2), "stored and dead; the server said:\n{}", server.log());
    assert!(server.log().contains("deliveries=500"), "one batch of 500; the server said:\n{}", server.log());
    let letters = site.dead_letters().await.unwrap();
    let large: BTreeSet<&str> = LARGE.iter().map(|index| fleet.nodes()[*index].as_str()).collect();
    let dead = letters.iter().map(|letter| letter["properties"]["headers"]["vogeler-dead-node"].as_str().unwrap());
    assert_eq!(dead.collect::<BTreeSet<_>>(), large, "whose results are dead");
    for letter in &letters {
        expect_reason("a record over the limit", letter, "record_too_large");
    }
    for node in large {
        let record = site.record(node).await.unwrap();
        let errors = record["vogeler"]["errors"].as_object().unwrap();
        assert!(errors.values().all(|error| error["kind"] == "record_too_large"), "{record}");
    }
    site.expect_nothing_waits().await;
    expect_unharmed(server).await;
    torture::report("two records of 500 over the size limit", 1, &account);
}
