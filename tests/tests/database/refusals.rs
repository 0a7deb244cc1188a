//! Records that the database does not take: they alone are dead letters, each with the reason.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use vogeler_tests::faulty::{Fault, FaultyStore, Rule, batches, every};
use vogeler_tests::{Fleet, Site, eventually, torture};

use crate::{BYTES, expect_struck, server_behind};

/// What the dead letters say of themselves: node, sequence, reason, detail.
async fn dead_letters(site: &Site) -> BTreeSet<(String, u64, String, String)> {
    let read = |letter: &Value| {
        let result: Value = serde_json::from_str(letter["payload"].as_str().unwrap()).unwrap();
        let header = |name: &str| letter["properties"]["headers"][name].as_str().unwrap_or("missing").to_owned();
        let (node, seq) = (result["node"].as_str().unwrap().to_owned(), result["seq"].as_u64().unwrap());
        (node, seq, header("vogeler-reason"), header("vogeler-detail"))
    };
    site.dead_letters().await.unwrap().iter().map(read).collect()
}

const VALIDATION: &str = "function (doc) {
    if (doc.r3 && /7$/.test(doc._id)) {
        throw({ forbidden: doc._id + ' may have no r3' });
    }
}";

/// pouchdb-server tells of refused rows first and without their ids, CouchDB in their places.
#[tokio::test]
async fn what_a_validation_function_refuses_is_dead_and_all_else_is_stored() {
    let site = Site::start("forbidden").await;
    let path = format!("/{}/_design/validation", site.database);
    let validation = json!({ "validate_doc_update": VALIDATION });
    site.services.couch(Method::PUT, &path, Some(validation)).await.unwrap();
    let mut fleet = Fleet::new("web", 40);
    // They wait before the server comes, so that refused ones stand among others in its batches.
    fleet.send(&site, 200, BYTES).await;
    let server = site.server().await;
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (196, 4), "stored and dead; the server said:\n{}", server.log());
    site.expect_nothing_waits().await;

    let refused = |node: &str| (node.to_owned(), 3, "forbidden".to_owned(), format!("{node} may have no r3"));
    let expected: BTreeSet<_> = ["web0007", "web0017", "web0027", "web0037"].map(refused).into();
    assert_eq!(dead_letters(&site).await, expected, "the refused results");
    torture::report("validation function", 4, &account);
}

/// The node of the record that is too large.
const CULPRIT: usize = 250;

#[tokio::test]
async fn one_record_over_the_size_limit_in_a_batch_of_500_is_the_only_one_not_stored() {
    let site = Site::start("too-large").await;
    let faulty = FaultyStore::start(&site.services.couchdb).await;
    let one_lane =
        [("VOGELER_SERVER_WORKERS", "1"), ("VOGELER_SERVER_LINGER", "500ms"), ("VOGELER_SERVER_LOGLEVEL", "debug")];
    let server = server_behind(&faulty, &site, &one_lane).await;
    let mut fleet = Fleet::new("web", 500);
    // The server takes 32 at first, and more once it has seen how small they are.
    fleet.send(&site, 100, BYTES).await;
    fleet.expect_all_kept(&site).await;

    // The only worker waits with one result. What comes meanwhile is its next batch.
    faulty.inject(Rule::new(Fault::Status(503), every));
    fleet.send(&site, 1, BYTES).await;
    expect_struck(&faulty, 1).await;
    let session = site.session().await;
    for index in 0..500 {
        let message = fleet.next(index, if index == CULPRIT { 100_000 } else { BYTES });
        fleet.publish(&session, index, message).await.unwrap();
    }
    eventually(async || {
        let left = site.queue("master.in.0").await?.messages;
        anyhow::ensure!(left == 0, "all 500 with the server; {left} are not");
        anyhow::Ok(())
    })
    .await;
    faulty.replace(Rule::new(Fault::DocumentLimit(65_536), batches));

    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (600, 1), "stored and dead; the server said:\n{}", server.log());
    assert!(server.log().contains("deliveries=500"), "one batch of 500; the server said:\n{}", server.log());
    let node = fleet.nodes()[CULPRIT].to_string();
    let letters = dead_letters(&site).await;
    let letters: Vec<_> = letters.iter().map(|(node, seq, reason, _)| (&**node, *seq, &**reason)).collect();
    assert_eq!(letters, [(&*node, 1, "record_too_large")], "the dead letters");
    let record = site.record(&node).await.unwrap();
    assert_eq!(record["vogeler"]["errors"]["r1"]["kind"], "record_too_large", "{record}");

    let small = fleet.next(CULPRIT, BYTES);
    fleet.publish(&session, CULPRIT, small).await.unwrap();
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (601, 1), "a smaller result of the same node is stored");
    site.expect_nothing_waits().await;
    torture::report("one record of 500 over the size limit", 1, &account);
}
