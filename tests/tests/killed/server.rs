//! The server killed, killed beside a standby, and stopped, while results flow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Map, Value};
use vogeler_tests::program::{binary, command};
use vogeler_tests::{Fleet, Program, Site, eventually, torture};

use crate::Moments;

/// Of data in each result.
const BYTES: usize = 400;

/// With these a thousand results take a second instead of one batch: there is something to strike into.
const SMALL_BATCHES: (&str, &str) = ("VOGELER_SERVER_BATCH_ROWS", "20");

/// Longest wait from the drawn number of writes to the fault.
const A_MOMENT: Duration = Duration::from_millis(30);

/// How often a document of the site was written, as the database counts.
async fn writes(site: &Site) -> anyhow::Result<u64> {
    let database = site.services.couch(Method::GET, &format!("/{}", site.database), None).await?;
    // A number; in a cluster text that begins with one.
    let sequence = &database["update_seq"];
    let words = sequence.as_str().map_or_else(|| sequence.to_string(), str::to_owned);
    let number = words.split('-').next().unwrap_or_default();
    number.parse::<u64>().with_context(|| format!("update_seq of {database}"))
}

/// Waits until documents were written so often.
async fn written(site: &Site, times: u64) {
    eventually(async || {
        let now = writes(site).await?;
        anyhow::ensure!(now >= times, "{} more writes; there were {now} in all", times - now);
        anyhow::Ok(())
    })
    .await;
}

/// Waits for a random moment while so many results flow.
async fn a_moment_within(site: &Site, results: usize, moments: &Moments) {
    // Two results of a node may become one write, so that only half of them are counted on.
    let times = writes(site).await.unwrap() + moments.number(results / 2);
    written(site, times).await;
    moments.pass(A_MOMENT).await;
}

/// What every record of the site notes of its results, by node and key.
async fn stored(site: &Site) -> anyhow::Result<BTreeMap<String, Map<String, Value>>> {
    let path = format!("/{}/_all_docs?include_docs=true", site.database);
    let answer = site.services.couch(Method::GET, &path, None).await?;
    let rows = answer["rows"].as_array().context("rows")?;
    let of_row = |row: &Value| {
        let results = row["doc"]["vogeler"]["results"].as_object()?;
        Some((row["id"].as_str()?.to_owned(), results.clone()))
    };
    Ok(rows.iter().filter_map(of_row).collect())
}

/// Looks at the records again and again: what one has shown it shows for ever, unchanged.
#[derive(Default)]
struct Witness(BTreeMap<String, Map<String, Value>>);

impl Witness {
    async fn look(&mut self, site: &Site) {
        let now = stored(site).await.unwrap();
        for (node, results) in &self.0 {
            for (key, before) in results {
                let after = now.get(node).and_then(|results| results.get(key));
                assert_eq!(after, Some(before), "the record of {node} was rolled back under {key}");
            }
        }
        self.0 = now;
    }
}

#[tokio::test]
async fn a_server_that_is_killed_again_and_again_loses_nothing() {
    let site = Site::start("killed").await;
    // The broker gives a delivery up after 50 kills.
    let (kills, nodes) = (torture::volume(6, 30), torture::volume(50, 200));
    let portion = torture::volume(1_000, 5_000).div_ceil(kills);
    let (moments, mut fleet) = (Moments::draw(), Fleet::new("killed", nodes));
    let mut server = site.server_with(&[SMALL_BATCHES]).await;
    for _ in 0..kills {
        let victim = server;
        let strike = async {
            a_moment_within(&site, portion, &moments).await;
            victim.kill().await;
            site.server_with(&[SMALL_BATCHES]).await
        };
        (_, server) = tokio::join!(fleet.send(&site, portion, BYTES), strike);
    }
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "nothing was given up after {kills} kills; the server said:\n{}", server.log());
    site.expect_settled().await;
    assert_eq!(server.stop().await, 0, "the exit status of the last server");
    torture::report("server killed while results flow", kills, &account);
}

/// A server of a log of its own, once it consumes or stands by: the broker counts only the active one.
async fn one_of_two(site: &Site, number: usize) -> Program {
    // The prefetch stays what it is at first: to change it, a server lets go of the queue, and the one
    // that has been there for longest would no longer be the active one.
    let env = [("VOGELER_SERVER_PREFETCH", "32"), SMALL_BATCHES];
    let mut command = command(binary("vogeler-server"));
    command.env("VOGELER_CONFIG", site.path("vogeler.yaml")).envs(env);
    let server = Program::start(command, &site.path(&format!("server-{number}.log")));
    eventually(async || {
        anyhow::ensure!(server.log().contains(" consuming "), "server {number} consumes; it said:\n{}", server.log());
        anyhow::Ok(())
    })
    .await;
    server
}

#[tokio::test]
async fn a_standby_takes_over_from_a_server_that_is_killed() {
    let site = Site::start("standby").await;
    let (kills, nodes) = (torture::volume(5, 30), torture::volume(50, 200));
    let portion = torture::volume(1_000, 5_000).div_ceil(kills);
    let (moments, mut fleet) = (Moments::draw(), Fleet::new("standby", nodes));
    let mut servers = VecDeque::from([one_of_two(&site, 0).await, one_of_two(&site, 1).await]);
    let mut witness = Witness::default();
    for kill in 0..kills {
        let active = servers.pop_front().unwrap();
        let strike = async {
            a_moment_within(&site, portion, &moments).await;
            active.kill().await;
        };
        tokio::join!(fleet.send(&site, portion, BYTES), strike);
        // The standby alone is left, and these are still to come: it has the queue.
        let before = writes(&site).await.unwrap();
        fleet.send(&site, 10, BYTES).await;
        written(&site, before + 1).await;
        witness.look(&site).await;
        servers.push_back(one_of_two(&site, kill + 2).await);
    }
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "nothing was given up after {kills} kills");
    witness.look(&site).await;
    site.expect_settled().await;
    for server in servers {
        assert_eq!(server.stop().await, 0, "the exit status of a server, active or standby");
    }
    torture::report("active one of two servers killed", kills, &account);
}

#[tokio::test]
async fn a_server_that_is_stopped_under_load_finishes_what_it_began() {
    let site = Site::start("term").await;
    let (stops, nodes) = (torture::volume(3, 12), torture::volume(50, 200));
    let results = torture::volume(1_000, 5_000);
    let (moments, mut fleet) = (Moments::draw(), Fleet::new("term", nodes));
    // All of it waits: there is load at any moment, and what was sent is known.
    fleet.send(&site, results, BYTES).await;
    for stop in 0..stops {
        let mut server = site.server_with(&[SMALL_BATCHES, ("VOGELER_SERVER_PREFETCH", "200")]).await;
        a_moment_within(&site, results / stops / 2, &moments).await;
        server.signal(Signal::SIGTERM);
        assert_eq!(server.ended().await, 0, "exit status after TERM; it said:\n{}", server.log());
        let log = server.log();
        assert!(!log.contains("not everything was settled in time"), "it drains within its deadline:\n{log}");
        let done: usize = stored(&site).await.unwrap().values().map(Map::len).sum();
        assert!(stop > 0 || done < results, "the first TERM came under load: {done} of {results} were stored");
        // Not lost. Some may be stored and back all the same: RabbitMQ forgets acknowledgements that a busy
        // quorum queue has not taken yet when the channel closes.
        eventually(async || {
            let left = site.queue("master.in.0").await?.messages as usize;
            anyhow::ensure!(done + left >= results, "{done} stored and {left} back in the queue make {results}");
            anyhow::Ok(())
        })
        .await;
    }
    let server = site.server().await;
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "nothing is a dead letter; the server said:\n{}", server.log());
    site.expect_settled().await;
    torture::report("server stopped under load", stops, &account);
}
