//! Results are moved to another number of queues while servers and producers go on.
//!
//! The producers are no clients and count no epoch: nothing but the order of arrival decides, and whatever is overtaken
//! shows. What counts are the records, looked at all the time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};
use vogeler_messaging::amqp::AmqpSession;
use vogeler_messaging::{QueueStatus, Session as _};
use vogeler_protocol::NodeName;
use vogeler_tests::fleet::{self, json_message};
use vogeler_tests::program::{binary, command};
use vogeler_tests::{Account, Outcome, Program, Site, eventually, torture};

/// Between two results of a node, so that a database that is a stand-in keeps pace.
const PACE: Duration = Duration::from_millis(100);

/// The longest that a `setup` lives that is killed: about as long as it takes.
const A_MOMENT: Duration = Duration::from_secs(3);

fn nodes() -> Vec<NodeName> {
    (0..16).map(|number| format!("moved{number:02}").parse().unwrap()).collect()
}

/// Each counts on its own; it is sent anew what the broker has not confirmed.
async fn publish(session: &AmqpSession, node: &NodeName, command: &str, number: u64) {
    let body = json!({ "v": 1, "node": node, "command": command, "outcome": "ok", "data": number });
    let mut message = json_message(body.to_string());
    // What comes again because its server was killed is known to be older than what stands.
    message.properties.timestamp = Some(1_700_000_000 + number);
    fleet::publish(session, node, message).await.unwrap();
}

/// Sends every node's results, one after the other, until it is over; how many each has sent. Each number goes to a key
/// of its own, and to one where the latest has to stand.
async fn flow(site: &Site, over: &Cell<bool>) -> u64 {
    let session = site.session().await;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while !over.get() {
        pace.tick().await;
        number += 1;
        for node in nodes() {
            publish(&session, &node, "last", number).await;
            publish(&session, &node, &format!("r{number}"), number).await;
        }
    }
    session.close().await;
    number
}

/// The records of the nodes.
async fn records(site: &Site) -> anyhow::Result<BTreeMap<String, Value>> {
    let keys = json!({ "keys": nodes() });
    let path = format!("/{}/_all_docs?include_docs=true", site.database);
    let answer = site.services.couch(Method::POST, &path, Some(keys)).await?;
    let rows = answer["rows"].as_array().context("rows")?;
    let of_row = |row: &Value| Some((row["id"].as_str()?.to_owned(), row["doc"].clone()));
    Ok(rows.iter().filter_map(of_row).collect())
}

/// Looks at the records until it is over: what has stood under `last` never stands there again once it was followed.
async fn watch(site: &Site, over: &Cell<bool>) {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !over.get() {
        pace.tick().await;
        for (node, record) in records(site).await.unwrap() {
            let now = record["last"].as_u64().unwrap_or(0);
            let before = seen.insert(node.clone(), now).unwrap_or(0);
            assert!(now >= before, "the record of {node} went back from {before} to {now}");
        }
    }
}

fn setup(site: &Site, queues: u32) -> tokio::process::Command {
    let mut command = site.command("vogeler-server", &["setup"]);
    command.env("VOGELER_SERVER_QUEUES", queues.to_string());
    command
}

/// So many queues, each consumed.
async fn consumed(site: &Site, queues: usize, servers: &[Program]) {
    eventually(async || {
        let found = site.results().await?;
        let all = found.len() == queues && found.iter().copied().all(QueueStatus::is_consumed);
        let said = || servers.iter().map(Program::log).collect::<Vec<_>>().join("\n---\n");
        anyhow::ensure!(all, "{queues} queues that are consumed: {found:?}; the servers said:\n{}", said());
        anyhow::Ok(())
    })
    .await;
}

/// Waits until a server has said that.
async fn says(servers: &[Program], words: &str) {
    eventually(async || {
        let said = servers.iter().map(Program::log).collect::<Vec<_>>();
        anyhow::ensure!(said.iter().any(|log| log.contains(words)), "{words:?} in\n{}", said.join("\n---\n"));
        anyhow::Ok(())
    })
    .await;
}

/// Waits until each of two servers is the active consumer of two queues.
async fn balanced(site: &Site, servers: &[Program]) {
    eventually(async || {
        let path = format!("/api/consumers/{}", site.vhost);
        let consumers = site.services.manage(Method::GET, &path, None).await?;
        let mut held: BTreeMap<String, usize> = BTreeMap::new();
        for consumer in consumers.as_array().context("consumers")? {
            let queue = consumer["queue"]["name"].as_str().context("a queue")?;
            let number = queue.strip_prefix("master.in.").and_then(|number| number.parse::<u32>().ok());
            if number.is_some() && consumer["active"] == true {
                let connection = consumer["channel_details"]["connection_name"].as_str().context("a connection")?;
                *held.entry(connection.to_owned()).or_default() += 1;
            }
        }
        let said = || servers.iter().map(Program::log).collect::<Vec<_>>().join("\n---\n");
        anyhow::ensure!(
            held.values().copied().eq([2, 2]),
            "two queues for each of two servers: {held:?}; they said:\n{}",
            said()
        );
        anyhow::Ok(())
    })
    .await;
}

/// Kills a `setup` at some moment, and runs it again.
async fn move_with_a_death(site: &Site, queues: u32, moment: Duration) {
    let log = site.path("setup.log");
    let dying = Program::start(setup(site, queues), &log);
    eventually(async || {
        anyhow::ensure!(dying.log().contains(&format!(" to {queues} queues")), "a move begins:\n{}", dying.log());
        anyhow::Ok(())
    })
    .await;
    // It is the fault's own moment: nothing is waited for.
    sleep(moment).await;
    dying.kill().await;
    std::fs::remove_file(log).unwrap();
    Outcome::of(&mut setup(site, queues)).await.expect(0);
}

#[tokio::test]
async fn results_are_moved_to_other_queues_while_they_come_in() {
    let site = Site::start("moved").await;
    let servers = [0, 1].map(|number| {
        let mut command = command(binary("vogeler-server"));
        command.env("VOGELER_CONFIG", site.path("vogeler.yaml"));
        Program::start(command, &site.path(&format!("server-{number}.log")))
    });
    consumed(&site, 1, &servers).await;
    let (random, deaths) = (torture::seeded(), torture::volume(2, 20));
    let over = Cell::new(false);
    let moves = async {
        Outcome::of(&mut setup(&site, 4)).await.expect(0);
        says(&servers, "standing aside").await;
        consumed(&site, 4, &servers).await;
        says(&servers, "the broker has results in 4 queues, server.queues says 1").await;
        balanced(&site, &servers).await;
        for death in 0..deaths {
            let queues = if death % 2 == 0 { 2 } else { 3 };
            move_with_a_death(&site, queues, random.up_to(A_MOMENT)).await;
            consumed(&site, queues as usize, &servers).await;
        }
        Outcome::of(&mut setup(&site, 2)).await.expect(0);
        consumed(&site, 2, &servers).await;
        over.set(true);
    };
    let (number, (), ()) = tokio::join!(flow(&site, &over), watch(&site, &over), moves);

    eventually(async || {
        for (node, record) in records(&site).await? {
            let missing: Vec<u64> = (1..=number).filter(|each| record[format!("r{each}")] != *each).collect();
            let last = &record["last"];
            anyhow::ensure!(
                missing.is_empty() && *last == number,
                "{number} results of {node}; {missing:?} are missing, {last} is the last"
            );
        }
        anyhow::Ok(())
    })
    .await;
    site.expect_settled().await;
    for gone in ["master.in.2", "master.in.3", "master.in.moving", "master.in.switching"] {
        assert!(site.queue(gone).await.is_err(), "{gone} is gone");
    }
    for server in servers {
        assert_eq!(server.stop().await, 0, "a server's exit status");
    }
    let sent = number as usize * 2 * nodes().len();
    torture::report("results moved to other queues", 2 + deaths, &Account { sent, stored: sent, ..Account::default() });
}

#[tokio::test]
async fn a_broker_that_has_no_queue_gets_as_many_as_are_configured() {
    let site = Site::bare("queues").await;
    let made = Outcome::of(&mut setup(&site, 3)).await.expect(0);
    assert!(made.stdout.contains("queues: master.in.0, master.in.1, master.in.2, vogeler.dead"), "{made:?}");
    for number in 0..3 {
        let path = format!("/api/queues/{}/master.in.{number}/bindings", site.vhost);
        let bindings = site.services.manage(Method::GET, &path, None).await.unwrap();
        let slots =
            bindings.as_array().unwrap().iter().filter(|one| one["source"] == "vogeler.master.in.slots").count();
        assert_eq!(slots, if number == 0 { 22 } else { 21 }, "slots of queue {number}: {bindings}");
    }
    let checked = site.run("vogeler-server", &["check"]).await.expect(0);
    let (found, hint) = ("queues master.in.0 to 2: there", "results are in 3 queues, server.queues says 1");
    assert!(checked.stdout.contains(found) && checked.stdout.contains(hint), "{checked:?}");
    let server = site.server().await;
    assert!(server.log().contains("results in 3 queues, server.queues says 1"), "{}", server.log());
    assert_eq!(server.stop().await, 0, "the server's exit status");
}

#[tokio::test]
async fn a_number_of_queues_that_cannot_be_is_refused() {
    let site = Site::bare("queues").await;
    for queues in [0, 65] {
        let refused = Outcome::of(&mut setup(&site, queues)).await.expect(1);
        assert!(refused.stderr.contains(&format!("server.queues is {queues}; it has to be 1 to 64")), "{refused:?}");
    }
}
