//! How long the operator waits: questions over 2,000 records, presence of 10,000 queues, runs.
//!
//! ```sh
//! cargo build --release
//! tests/services.sh with DIR cargo run --release -p vogeler-tests --example operator [runs|questions|presence]
//! ```
//!
//! The programs are the ones beside it, with connecting, asking and printing. Every figure is the median of five; what
//! comes first after a start or a change is told beside it. Figures of pouchdb-server say nothing: name a CouchDB in
//! `VOGELER_TEST_COUCHDB_URL`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use vogeler_messaging::topology::node_queue;
use vogeler_messaging::{ConsumeOptions, Consumer, Session};
use vogeler_protocol::{NodeName, Random};
use vogeler_store::{Row, Store};
use vogeler_tests::fleet::noise;
use vogeler_tests::{Program, Site, eventually};

const RECORDS: usize = 2000;
const QUEUES: usize = 10_000;
const CLIENTS: usize = 30;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let site = Site::start("operator").await;
    println!("database: {}", site.couch().describe().await.unwrap());
    let part = std::env::args().nth(1);
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wanted("runs") {
        runs(&site).await;
    }
    if wanted("questions") {
        questions(&site).await;
    }
    if wanted("presence") {
        presence(&site).await;
    }
}

/// The time of `act`: the first, and the median of those after it.
async fn timed(name: &str, mut act: impl AsyncFnMut()) {
    let mut times = Vec::new();
    for _ in 0..=ROUNDS {
        let begun = Instant::now();
        act().await;
        times.push(begun.elapsed());
    }
    let first = times.remove(0);
    times.sort();
    println!("{name}: {} ms (the first time {} ms)", times[ROUNDS / 2].as_millis(), first.as_millis());
}

/// Runs over real clients, and what an idle one takes.
async fn runs(site: &Site) {
    let _server = site.server().await;
    let mut clients: Vec<Program> = Vec::new();
    for number in 0..CLIENTS {
        clients.push(site.node(&format!("real{number:02}")).start().await);
    }
    eventually(async || {
        let nodes = site.couch().nodes().await?.len();
        anyhow::ensure!(nodes == CLIENTS, "{nodes} of {CLIENTS} clients have said hello");
        anyhow::Ok(())
    })
    .await;
    for target in ["real00", "all"] {
        timed(&format!("-c ping -n {target}"), async || {
            site.runner(&["-c", "ping", "-n", target]).await.expect(0);
        })
        .await;
    }
    timed("-c ping -n real00 --detach", async || {
        site.runner(&["-c", "ping", "-n", "real00", "--detach"]).await.expect(0);
    })
    .await;
    // Alone, it shares its program with nobody.
    let alone = clients.split_off(1);
    for client in alone {
        client.stop().await;
    }
    println!("idle client that has run {} commands, PSS: {} KiB", 3 * (ROUNDS + 1), pss(&clients[0]));
    for client in clients {
        client.stop().await;
    }
}

fn pss(client: &Program) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", client.pid().unwrap())).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn name(number: usize) -> NodeName {
    format!("web{number:05}.example.com").parse().unwrap()
}

/// Some 40 KB: facts, 600 packages, and what the server notes.
fn record(number: usize, random: &Random) -> Value {
    let (node, now) = (name(number), "2026-11-20T15:06:11.211Z");
    let packages: serde_json::Map<String, Value> = (0..600)
        .map(|package| (format!("package-{package}"), json!(format!("{}.{}.{}-1", package % 7, number % 13, package))))
        .chain([("openssl".to_owned(), json!(format!("3.0.{}-1~deb12u2", number % 20)))])
        .collect();
    let result = json!({ "command": "facts", "run": random.uuid(), "collected_at": now, "received_at": now,
        "changed_at": now, "digest": noise(random, 64), "bytes": 20_000, "epoch": 1, "seq": number });
    let errors = if number.is_multiple_of(50) {
        json!({ "ohai": { "command": "ohai", "kind": "not_found", "message": "it is not there", "run": random.uuid(),
            "at": now } })
    } else {
        json!({})
    };
    json!({
        "_id": node, "doc_type": "SystemRecord", "system_name": node, "created_at": now, "updated_at": now,
        "facts": { "os": { "family": if number.is_multiple_of(3) { "RedHat" } else { "Debian" }, "release": number % 5 },
            "text": noise(random, 8000) },
        "packages": packages,
        "vogeler": {
            "client": { "version": "0.1.0", "groups": [format!("rack{}", number % 40)], "hello_at": now,
                "aliases": { "facts": {}, "packages": {}, "ping": {} } },
            "results": { "facts": result, "packages": result },
            "errors": errors,
        },
    })
}

async fn questions(site: &Site) {
    let (random, store) = (Random::seeded(1), site.couch());
    for numbers in (0..RECORDS).collect::<Vec<_>>().chunks(200) {
        let row =
            |number: &usize| Row { id: name(*number), document: record(*number, &random).to_string().into_bytes() };
        store.put(&numbers.iter().map(row).collect::<Vec<_>>()).await.unwrap();
    }
    let nodes: Vec<NodeName> = (0..RECORDS).map(name).collect();
    let session = site.session().await;
    declare(&session, &nodes).await;
    println!("{RECORDS} records of {} KB", record(1, &random).to_string().len() / 1000);
    let condition = "facts.os.family == \"Debian\" && packages.openssl < \"3.0.15\"";
    for words in [
        &["nodes"][..],
        &["find", condition],
        &["find", condition, "--columns", "packages.openssl,facts.os.release"],
        &["find", "packages.openssl == \"3.0.7-1~deb12u2\""],
        &["-c", "ping", "-n", "all", "--dry-run"],
        &["-c", "ping", "--where", condition, "--dry-run"],
        &["errors"],
        &["aliases"],
        &["age"],
        &["show", "web00042.example.com", "packages.openssl"],
        &["view", "packages/by_name", "--start", "[\"openssl\"]", "--end", "[\"openssl\",{}]", "--no-reduce"],
    ] {
        timed(&words.join(" "), async || {
            site.runner(words).await.expect(0);
        })
        .await;
    }
    session.close().await;
}

/// Queues of that many nodes; as it takes a while, on several channels at once.
async fn declare(session: &impl Session, nodes: &[NodeName]) {
    for nodes in nodes.chunks(50) {
        let mut declaring = JoinSet::new();
        for node in nodes {
            let (session, queue) = (session.clone(), node_queue(node));
            declaring.spawn(async move {
                session.declare_queue(&queue).await.unwrap();
            });
        }
        while let Some(declared) = declaring.join_next().await {
            declared.unwrap();
        }
    }
}

/// Whether 10,000 nodes are on line, some of which have no queue.
async fn presence(site: &Site) {
    let session = site.session().await;
    for missing in [0, 10, 50] {
        let name = |number| -> NodeName { format!("db{number:05}-{missing}.example.com").parse().unwrap() };
        let there: Vec<NodeName> = (0..QUEUES).filter(|number| number % 100 >= missing).map(name).collect();
        let begun = Instant::now();
        declare(&session, &there).await;
        println!("({} queues were declared in {} ms)", there.len(), begun.elapsed().as_millis());
        let queues: Vec<String> = (0..QUEUES).map(|number| node_queue(&name(number)).name).collect();
        let consumer =
            session.consume(&queues[99], ConsumeOptions { prefetch: 1, exclusive: true, no_ack: false }).await.unwrap();
        timed(&format!("presence of {QUEUES} nodes, {missing} % without a queue"), async || {
            let session = site.session().await;
            let statuses = session.queue_statuses(&queues).await.unwrap();
            assert_eq!(statuses.iter().flatten().count(), there.len());
            assert_eq!(statuses.iter().flatten().filter(|status| status.consumers > 0).count(), 1);
            session.close().await;
        })
        .await;
        consumer.close().await;
    }
    session.close().await;
}
