//! Attachments, of which the server keeps the stubs: those who made them may change them at any time.
//!
//! A stub of what is not there any more makes CouchDB refuse the whole batch (412); a revision that
//! is outdated is a conflict of that row alone. Both are met by reading the record again.

use reqwest::Method;
use serde_json::{Value, json};
use vogeler_messaging::Session;
use vogeler_tests::{Fleet, Program, Site, eventually};

use crate::ends::{ONE_LANE, expect_unharmed};
use crate::messages::{BYTES, json_message, publish};

/// Publishes a result of that key.
async fn publish_key(session: &impl Session, node: &str, key: &str) {
    let body = json!({ "v": 1, "node": node, "command": key, "outcome": "ok", "data": key });
    publish(session, json_message(node, body.to_string())).await;
}

async fn record_with(site: &Site, node: &str, key: &str) -> Value {
    eventually(async || {
        let record = site.record(node).await?;
        anyhow::ensure!(record[key] == key, "{key} in {record}");
        anyhow::Ok(record)
    })
    .await
}

/// Asks the database for something about a record at its present revision.
async fn outside(site: &Site, method: Method, node: &str, attachment: &str, body: Option<Value>) {
    let rev = site.record(node).await.unwrap()["_rev"].as_str().unwrap().to_owned();
    let path = format!("/{}/{node}{attachment}?rev={rev}", site.database);
    site.services.couch(method, &path, body).await.unwrap();
}

const NOTE: &str = "/note.json";

/// A server that has, of each of these nodes, a record with the stub of an attachment in its cache.
async fn server_with_stubs(site: &Site, session: &impl Session, fleet: &mut Fleet, nodes: &[&str]) -> Program {
    let server = site.server_with(&ONE_LANE).await;
    // The cache goes with the first, small prefetch.
    fleet.send(site, 100, BYTES).await;
    fleet.expect_all_kept(site).await;
    for node in nodes {
        publish_key(session, node, "first").await;
        record_with(site, node, "first").await;
        outside(site, Method::PUT, node, NOTE, Some(json!("a note"))).await;
    }
    for node in nodes {
        publish_key(session, node, "second").await;
    }
    for node in nodes {
        let record = record_with(site, node, "second").await;
        assert_eq!(
            record["_attachments"]["note.json"]["stub"], true,
            "an attachment that the server has kept: {record}"
        );
    }
    server
}

/// One batch of 500 rows, these among them.
async fn batch(site: &Site, session: &impl Session, fleet: &mut Fleet, nodes: &[&str]) {
    fleet.send(site, 250, BYTES).await;
    for node in nodes {
        publish_key(session, node, "third").await;
    }
    fleet.send(site, 250 - nodes.len(), BYTES).await;
}

#[tokio::test]
async fn attachments_that_others_change_cost_no_result() {
    let site = Site::start("stubs").await;
    let session = site.session().await;
    let mut fleet = Fleet::new("row", 500);
    let nodes = ["changed", "detached", "deleted"];
    let server = server_with_stubs(&site, &session, &mut fleet, &nodes).await;
    outside(&site, Method::PUT, "changed", NOTE, Some(json!("another note"))).await;
    outside(&site, Method::DELETE, "detached", NOTE, None).await;
    outside(&site, Method::DELETE, "deleted", "", None).await;
    batch(&site, &session, &mut fleet, &nodes).await;

    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "dead letters; the server said:\n{}", server.log());
    let changed = record_with(&site, "changed", "third").await;
    assert_eq!(changed["second"], "second", "{changed}");
    let path = format!("/{}/changed{NOTE}", site.database);
    let note = site.services.couch(Method::GET, &path, None).await.unwrap();
    assert_eq!(note, "another note", "what the other has written stays");
    let detached = record_with(&site, "detached", "third").await;
    assert_eq!((&detached["second"], &detached["_attachments"]), (&json!("second"), &Value::Null), "{detached}");
    let deleted = record_with(&site, "deleted", "third").await;
    assert_eq!((&deleted["second"], &deleted["_attachments"]), (&Value::Null, &Value::Null), "begun anew: {deleted}");
    site.expect_settled().await;
    expect_unharmed(server).await;
}

/// The records are gone without a trace, so that there is no revision which would be outdated.
#[tokio::test]
async fn stubs_of_records_that_are_gone_without_a_trace_cost_no_result() {
    let site = Site::start("gone-stubs").await;
    let session = site.session().await;
    let nodes = ["gone01", "gone02"];
    let server = server_with_stubs(&site, &session, &mut Fleet::new("old", 100), &nodes).await;
    site.services.couch(Method::DELETE, &format!("/{}", site.database), None).await.unwrap();
    site.setup().await.expect(0);

    let mut fleet = Fleet::new("row", 500);
    batch(&site, &session, &mut fleet, &nodes).await;
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "dead letters; the server said:\n{}", server.log());
    for node in nodes {
        let record = record_with(&site, node, "third").await;
        assert_eq!((&record["first"], &record["_attachments"]), (&Value::Null, &Value::Null), "begun anew: {record}");
    }
    site.expect_settled().await;
    expect_unharmed(server).await;
}
