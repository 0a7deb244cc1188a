//! Dead letters: looked at, sent back, thrown away. A replay never rolls a record back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use reqwest::Method;
use serde_json::{Value, json};
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{ConsumeOptions, Consumer, Message, Properties, Publish, Session, Topology};
use vogeler_tests::{Fleet, Outcome, Site, eventually};

/// Lets the database refuse every record that has a member of that name.
async fn forbid(site: &Site, member: &str) {
    let function = format!("function (doc) {{ if (doc.{member}) {{ throw({{ forbidden: 'no {member} here' }}); }} }}");
    let path = format!("/{}/_design/forbidding", site.database);
    site.services.couch(Method::PUT, &path, Some(json!({ "validate_doc_update": function }))).await.unwrap();
}

async fn allow(site: &Site) {
    let path = format!("/{}/_design/forbidding", site.database);
    let rev = site.services.couch(Method::GET, &path, None).await.unwrap()["_rev"].as_str().unwrap().to_owned();
    site.services.couch(Method::DELETE, &format!("{path}?rev={rev}"), None).await.unwrap();
}

async fn letters(site: &Site) -> Vec<Value> {
    let listed = site.run("vogeler-server", &["dead", "list", "-o", "json"]).await.expect(0);
    serde_json::from_str(&listed.stdout).unwrap()
}

async fn expect_letters(site: &Site, count: u32) {
    eventually(async || {
        let found = site.queue("vogeler.dead").await?.messages;
        anyhow::ensure!(found == count, "{count} dead letters; there are {found}");
        anyhow::Ok(())
    })
    .await;
}

async fn dead(site: &Site, args: &[&str]) -> Outcome {
    let args: Vec<&str> = ["dead"].iter().chain(args).copied().collect();
    site.run("vogeler-server", &args).await
}

#[tokio::test]
async fn what_the_database_forbade_is_stored_once_it_allows_it() {
    let site = Site::start("forbade").await;
    forbid(&site, "r2").await;
    let _server = site.server().await;
    let mut fleet = Fleet::new("dead", 3);
    fleet.send(&site, 9, 200).await;
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (6, 3), "r2 of each node is forbidden");

    let listed = dead(&site, &["list"]).await.expect(0).stdout;
    assert!(listed.contains("dead0001") && listed.contains("    forbidden: no r2 here\n"), "{listed}");
    assert!(listed.contains("3 dead letters, "), "{listed}");
    let all = letters(&site).await;
    let id = |position: usize| all[position]["id"].as_str().unwrap();
    let beginning = &id(0)[..13];
    let shown = dead(&site, &["show", beginning]).await.expect(0).stdout;
    assert!(shown.contains(id(0)) && shown.contains("\"seq\":2"), "what it is and its body: {shown}");
    let body = dead(&site, &["show", id(0), "--body"]).await.expect(0).stdout;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["node"], all[0]["node"], "{body}");

    let again = dead(&site, &["replay"]).await.expect(0).stdout;
    assert!(again.ends_with("3 replayed, 0 stayed\n"), "{again}");
    expect_letters(&site, 3).await;
    assert_eq!(letters(&site).await.len(), 3, "still forbidden: dead again, under the same ids");

    let refused = dead(&site, &["drop"]).await.expect(1).stderr;
    assert!(refused.contains("name dead letters by id, --node or --reason"), "{refused}");
    let none = dead(&site, &["drop", "nosuchid"]).await.expect(1).stderr;
    assert!(none.contains("no dead letter has the id \"nosuchid\""), "{none}");
    let dropped = dead(&site, &["drop", "--node", "dead0002"]).await.expect(0).stdout;
    assert!(dropped.ends_with("1 dropped\n"), "{dropped}");

    allow(&site).await;
    let left = letters(&site).await;
    let first = left[0]["id"].as_str().unwrap();
    let replayed = dead(&site, &["replay", first]).await.expect(0).stdout;
    assert!(replayed.starts_with(&format!("replayed {first}")), "{replayed}");
    dead(&site, &["replay", "--reason", "forbidden"]).await.expect(0);
    site.expect_settled().await;
    assert_eq!(dead(&site, &["list"]).await.expect(0).stdout, "no dead letters\n");
    let account = fleet.account(&site).await.unwrap();
    assert_eq!((account.stored, account.dead), (8, 0), "all but the one that was dropped");
    assert_eq!(account.missing, [("dead0002".parse().unwrap(), 2)]);
}

#[tokio::test]
async fn more_letters_than_one_consumer_is_handed_are_all_dealt_with() {
    let site = Site::start("many").await;
    let session = site.session().await;
    let mut publishing = tokio::task::JoinSet::new();
    for number in 0..2_500 {
        let properties = Properties { message_id: Some(format!("letter-{number}")), ..Properties::default() };
        let message = Message { body: b"words".to_vec(), properties };
        let session = session.clone();
        publishing.spawn(async move {
            let publish = Publish { exchange: "vogeler.dead", routing_key: "", mandatory: true, message };
            session.publish(publish).await.unwrap();
        });
    }
    while let Some(published) = publishing.join_next().await {
        published.unwrap();
    }
    assert_eq!(letters(&site).await.len(), 2_500);
    dead(&site, &["show", "letter-2499"]).await.expect(0);
    let dropped = dead(&site, &["drop", "--reason", "unknown"]).await.expect(0).stdout;
    assert!(dropped.ends_with("2500 dropped\n"), "all of them: {}", dropped.lines().last().unwrap());
    expect_letters(&site, 0).await;
}

/// One result of `motd` as a producer sends it.
fn motd(text: &str, order: &Value, sent: Option<u64>) -> Message {
    let mut body = json!({ "v": 1, "node": "web01", "command": "motd", "outcome": "ok", "data": text });
    body.as_object_mut().unwrap().extend(order.as_object().unwrap().clone());
    let properties = Properties { timestamp: sent, persistent: true, ..Properties::default() };
    Message { body: body.to_string().into_bytes(), properties }
}

async fn publish(site: &Site, message: Message) {
    let (exchange, key) = (Topology::default().master, slot_key(&"web01".parse().unwrap()));
    let session = site.session().await;
    let publish = Publish { exchange: &exchange, routing_key: &key, mandatory: true, message };
    session.publish(publish).await.unwrap();
    session.close().await;
}

#[tokio::test]
async fn a_replay_never_rolls_a_record_back() {
    let site = Site::start("rollback").await;
    let _server = site.server().await;
    let counted = |seq: u64| json!({ "epoch": 1, "seq": seq });
    // With an order, which decides; without one, where the time of sending does, or the time of death.
    let cases = [(counted(1), counted(2), None), (json!({}), json!({}), Some(1_000_000)), (json!({}), json!({}), None)];
    for (older, newer, sent) in cases {
        forbid(&site, "motd").await;
        publish(&site, motd("old", &older, sent)).await;
        expect_letters(&site, 1).await;
        allow(&site).await;
        publish(&site, motd("new", &newer, None)).await;
        eventually(async || {
            let record = site.record("web01").await?;
            anyhow::ensure!(record["motd"] == "new", "the new result in {record}");
            anyhow::Ok(())
        })
        .await;
        let before = site.record("web01").await.unwrap();
        dead(&site, &["replay"]).await.expect(0);
        site.expect_settled().await;
        assert_eq!(site.record("web01").await.unwrap(), before, "the older result changes nothing");
        let path = format!("/{}/web01?rev={}", site.database, before["_rev"].as_str().unwrap());
        site.services.couch(Method::DELETE, &path, None).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_broker_gave_up_is_listed_and_comes_back() {
    let site = Site::start("limit").await;
    let mut fleet = Fleet::new("poison", 1);
    fleet.send(&site, 1, 100).await;
    // A server that crashes over it again and again.
    let session = site.session().await;
    for _ in 0..=50 {
        let options = ConsumeOptions { prefetch: 1, exclusive: false, no_ack: false };
        let mut crashing = session.consume("master.in.0", options).await.unwrap();
        crashing.next().await.unwrap();
        crashing.close().await;
    }
    expect_letters(&site, 1).await;
    let letter = &letters(&site).await[0];
    assert_eq!((&letter["reason"], &letter["node"]), (&"delivery_limit".into(), &"poison0000".into()), "{letter}");
    let _server = site.server().await;
    dead(&site, &["replay"]).await.expect(0);
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!((account.stored, account.dead), (1, 0));
    site.expect_settled().await;
}
