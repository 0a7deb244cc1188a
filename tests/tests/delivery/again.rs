//! Results that come again, out of order, and again after later ones.

use serde_json::{Value, json};
use vogeler_messaging::Session;
use vogeler_protocol::{Clock, NodeName};
use vogeler_tests::{Account, Fleet, Site, eventually, torture};

use crate::publish;
use crate::relay::Relay;

/// So many node names that begin with `prefix`.
fn nodes(prefix: &str, count: usize) -> Vec<NodeName> {
    (0..count).map(|number| format!("{prefix}{number:03}").parse().unwrap()).collect()
}

/// Publishes a last result of another key. Of one node nothing overtakes: once it is stored,
/// everything before it has been looked at.
async fn publish_end(session: &impl Session, node: &NodeName) {
    publish(session, node, "end", &json!({ "outcome": "ok", "data": true }), None).await;
}

/// The record once it has that last result, if `still` holds of it all the time.
async fn ended(site: &Site, node: &NodeName, still: impl Fn(&Value)) -> Value {
    eventually(async || {
        let record = site.record(node.as_str()).await?;
        still(&record);
        anyhow::ensure!(record["end"] == true, "the last result of {node}: {record}");
        anyhow::Ok(record)
    })
    .await
}

#[tokio::test]
async fn what_comes_twice_and_thrice_is_stored_once() {
    let site = Site::start("again").await;
    let (count, each, random) = (torture::volume(20, 200), torture::volume(10, 25), torture::seeded());
    let mut fleet = Fleet::new("again", count);
    let session = site.session().await;
    let server = site.server().await;
    let mut sent = Vec::new();
    for index in (0..count).cycle().take(count * each) {
        let message = fleet.next(index, 300);
        for _ in 0..2 {
            fleet.publish(&session, index, message.clone()).await.unwrap();
        }
        sent.push((index, message));
    }
    fleet.expect_all_kept(&site).await;
    let mut before = Vec::new();
    for node in fleet.nodes() {
        before.push(site.record(node.as_str()).await.unwrap());
    }
    assert_eq!(server.stop().await, 0, "the server's exit status");

    // A third time, in any order, to a server that remembers nothing.
    sent.sort_by_cached_key(|_| random.uuid());
    for (index, message) in sent {
        fleet.publish(&session, index, message).await.unwrap();
    }
    let _server = site.server().await;
    // Of one node nothing overtakes: once these are stored, the rest has been looked at.
    for index in 0..count {
        let message = fleet.next(index, 300);
        fleet.publish(&session, index, message).await.unwrap();
    }
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "what comes again is no dead letter");
    for (node, before) in fleet.nodes().iter().zip(before) {
        let after = site.record(node.as_str()).await.unwrap();
        let results = before["vogeler"]["results"].as_object().unwrap();
        assert_eq!(results.len(), each, "results in the record of {node}: {before}");
        for (key, entry) in results {
            assert_eq!(after[key], before[key], "{key} of {node} when it came a third time");
            assert_eq!(after["vogeler"]["results"][key], *entry, "the entry of {key} of {node}");
        }
    }
    site.expect_settled().await;
    torture::report("results sent three times", 2 * count * each, &account);
}

#[tokio::test]
async fn of_one_key_the_highest_stands_in_whatever_order_results_come() {
    let site = Site::start("shuffled").await;
    let (nodes, random) = (nodes("shuffled", torture::volume(20, 200)), torture::seeded());
    let session = site.session().await;
    let mut sent = Vec::new();
    for node in &nodes {
        for (epoch, seq) in (1..=3).flat_map(|epoch| (1..=4).map(move |seq| (epoch, seq))) {
            // Two of three bring data; the others are failures.
            let good = random.uuid().as_u64_pair().1 % 3 > 0;
            sent.push((node, (epoch, seq), good));
        }
    }
    sent.sort_by_cached_key(|_| random.uuid());

    let mut server = site.server().await;
    for (number, (node, (epoch, seq), good)) in sent.iter().enumerate() {
        if number == sent.len() / 2 {
            server.kill().await;
            server = site.server().await;
        }
        let mut more = json!({ "machine_id": "m", "epoch": epoch, "seq": seq });
        if *good {
            more["outcome"] = json!("ok");
            more["data"] = json!([epoch, seq]);
        } else {
            more["outcome"] = json!("error");
            more["error"] = json!({ "kind": "exit", "message": "exited with status 1" });
        }
        publish(&session, node, "motd", &more, None).await;
    }
    for node in &nodes {
        publish_end(&session, node).await;
    }
    let highest = |of: &NodeName, wanted: bool| -> Option<(u64, u64)> {
        let places = sent.iter().filter(|(node, _, good)| *node == of && *good == wanted).map(|(_, place, _)| *place);
        places.max()
    };
    for node in &nodes {
        let record = ended(&site, node, |_| {}).await;
        let (data, failure) = (highest(node, true), highest(node, false));
        let place = |part: &str| {
            let entry = &record["vogeler"][part]["motd"];
            Some((entry["epoch"].as_u64()?, entry["seq"].as_u64()?))
        };
        assert_eq!(record["motd"], data.map_or(Value::Null, |(epoch, seq)| json!([epoch, seq])), "{record}");
        assert_eq!(place("results"), data, "epoch and seq of the data: {record}");
        // A failure stands beside the data until a later success.
        assert_eq!(place("errors"), failure.filter(|_| failure > data), "epoch and seq of the failure: {record}");
    }
    site.expect_settled().await;
    assert_eq!(server.stop().await, 0, "the server's exit status");
    let all = sent.len() + nodes.len();
    torture::report("results out of order", 1, &Account { sent: all, stored: all, ..Account::default() });
}

#[tokio::test]
async fn what_is_redelivered_under_a_later_result_does_not_replace_it() {
    let site = Site::start("redelivered").await;
    let session = site.session().await;
    let relay = Relay::start(&site.services.amqp).await;
    let server = site.server_with(&[("VOGELER_BROKER_URL", relay.url.as_str())]).await;
    // All of it is less than a first window (32): the server holds it and changes nothing about that.
    let (clients, outside) = (nodes("client", 6), nodes("outside", 6));
    let now = Clock::system().now().as_second();

    // What the server acknowledges does not arrive.
    relay.swallow();
    for (data, seq, seconds_ago) in [("older", 1, 20), ("later", 2, 10)] {
        let said = json!({ "outcome": "ok", "data": data });
        for node in &clients {
            let mut more = said.clone();
            more["machine_id"] = json!("m");
            (more["epoch"], more["seq"]) = (json!(1), json!(seq));
            publish(&session, node, "motd", &more, None).await;
        }
        // A producer that is no client has its time of sending to go by.
        for node in &outside {
            publish(&session, node, "motd", &said, Some(now - seconds_ago)).await;
        }
    }
    let sent = 2 * (clients.len() + outside.len());
    let mut before = Vec::new();
    for node in clients.iter().chain(&outside) {
        let record = eventually(async || {
            let record = site.record(node.as_str()).await?;
            anyhow::ensure!(record["motd"] == "later", "the later result of {node}: {record}");
            anyhow::Ok(record)
        })
        .await;
        before.push(record);
    }
    relay.cut().await;
    eventually(async || {
        let back = site.queue("master.in.0").await?.messages as usize;
        anyhow::ensure!(back == sent, "{sent} results back in the queue, stored as they are; there are {back}");
        anyhow::Ok(())
    })
    .await;

    relay.mend();
    for node in clients.iter().chain(&outside) {
        publish_end(&session, node).await;
    }
    for (node, before) in clients.iter().chain(&outside).zip(before) {
        let stands = |record: &Value| assert_eq!(record["motd"], "later", "{node} when the older one came again");
        let after = ended(&site, node, stands).await;
        let entry = |record: &Value| record["vogeler"]["results"]["motd"].clone();
        if clients.contains(node) {
            assert_eq!(entry(&after), entry(&before), "{node}: it is known by its epoch and seq");
        } else {
            assert_eq!(entry(&after)["changed_at"], entry(&before)["changed_at"], "{node}: {after}");
        }
    }
    site.expect_settled().await;
    assert_eq!(server.stop().await, 0, "the server's exit status");
    let all = sent + clients.len() + outside.len();
    torture::report("acknowledgements lost", 1, &Account { sent: all, stored: all, ..Account::default() });
}
