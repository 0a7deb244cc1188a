//! How fast the server stores results, beside what the database takes of the very same documents.
//!
//! ```sh
//! tests/services.sh with DIR cargo run --release -p vogeler-tests --example ingest
//! ```
//!
//! Fills the queue first, then starts the server's own code in this process and takes the time from
//! there until nothing is left; then replays the stored documents by raw `_bulk_docs`, 500 a
//! request, into a new database. Figures of pouchdb-server say nothing: name a CouchDB in
//! `VOGELER_TEST_COUCHDB_URL`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{Message, Properties, Publish, Session, Topology};
use vogeler_protocol::message::{self, CommandResult, Payload};
use vogeler_protocol::{Clock, Data, NodeName, Random};
use vogeler_server::config::ServerSection;
use vogeler_server::health::Health;
use vogeler_server::metrics::Metrics;
use vogeler_server::run::{Parts, run};
use vogeler_store::{Row, Store};
use vogeler_tests::Site;
use vogeler_tests::fleet::noise;

const NODES: usize = 1000;
const RESULTS: usize = 10_000;
const BYTES: usize = 2000;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let site = Site::start("ingest").await;
    println!("database: {}", site.couch().describe().await.unwrap());
    for round in 0..ROUNDS {
        fill(&site, round).await;
        let (seconds, requests) = ingest(&site).await;
        let rate = RESULTS as f64 / seconds;
        let (raw_new, raw_updates) = raw(&site, round).await;
        println!(
            "round {round} ({}): server {rate:.0} results/s, {:.4} requests a result; raw _bulk_docs of the same \
             documents: {raw_new:.0}/s new, {raw_updates:.0}/s updates; ratio to raw updates {:.2}",
            if round == 0 { "new nodes, then updates" } else { "updates" },
            requests as f64 / RESULTS as f64,
            rate / raw_updates,
        );
    }
}

async fn fill(site: &Site, round: usize) {
    let session = site.session().await;
    let random = Random::seeded(round as u64 + 1);
    let mut publishing = JoinSet::new();
    for number in 0..RESULTS {
        let node: NodeName = format!("node{:04}.example.com", number % NODES).parse().unwrap();
        let data = json!({ "round": round, "number": number, "text": noise(&random, BYTES) });
        let payload = Payload::Data(Data::parse(&data.to_string()).unwrap());
        let mut result = CommandResult::bare(node.clone(), "facts".parse().unwrap(), payload).unwrap();
        result.epoch = Some(round as u64 + 1);
        result.seq = Some(number as u64);
        let properties = Properties {
            kind: Some("result".into()),
            content_type: Some(message::JSON.into()),
            persistent: true,
            ..Properties::default()
        };
        let message = Message { body: result.encode(), properties };
        let session = session.clone();
        publishing.spawn(async move {
            let (exchange, key) = (Topology::default().master, slot_key(&node));
            session
                .publish(Publish { exchange: &exchange, routing_key: &key, mandatory: true, message })
                .await
                .unwrap();
        });
        if publishing.len() >= 200 {
            publishing.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(published) = publishing.join_next().await {
        published.unwrap();
    }
    session.close().await;
}

/// Seconds from the start of the server until the queue is empty and settled, and requests sent.
async fn ingest(site: &Site) -> (f64, u64) {
    let store = site.couch();
    let parts = Parts {
        broker: site.broker(),
        store: store.clone(),
        topology: Topology::default(),
        config: ServerSection::default(),
        health: Health::new(Clock::system()),
        metrics: Metrics::default(),
        clock: Clock::system(),
        random: Random::from_system(),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let begun = Instant::now();
    let mut server = JoinSet::new();
    server.spawn(async move { run(parts, async { drop(stopped.await) }).await });
    let session = site.session().await;
    // What the broker has handed out is settled when the records say so.
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if session.queue_status("master.in.0").await.unwrap().unwrap().messages == 0 {
            break;
        }
    }
    stop.send(()).unwrap();
    server.join_next().await.unwrap().unwrap().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    session.close().await;
    (seconds, store.requests())
}

/// New documents and updates a second, of the documents that the server has stored, as many as there were results.
async fn raw(site: &Site, round: usize) -> (f64, f64) {
    let path = format!("/{}/_all_docs?include_docs=true&startkey=%22node%22&endkey=%22nodf%22", site.database);
    let stored = site.services.couch(Method::GET, &path, None).await.unwrap();
    let mut documents: Vec<Value> = stored["rows"].as_array().unwrap().iter().map(|row| row["doc"].clone()).collect();
    assert_eq!(documents.len(), NODES);
    let name = format!("{}-raw-{round}", site.database);
    site.services.couch(Method::PUT, &format!("/{name}"), None).await.unwrap();
    let section = vogeler_store::config::StoreSection {
        url: site.services.couchdb.to_string(),
        database: name.clone(),
        ..Default::default()
    };
    let couch = section.couch().unwrap();
    for document in &mut documents {
        document.as_object_mut().unwrap().remove("_rev");
    }
    let new = write(&couch, &mut documents, 1).await;
    let updates = write(&couch, &mut documents, RESULTS / NODES).await;
    site.services.couch(Method::DELETE, &format!("/{name}"), None).await.unwrap();
    (new, updates)
}

async fn write(couch: &vogeler_store::couch::Couch, documents: &mut [Value], times: usize) -> f64 {
    let mut count = 0;
    let mut seconds = 0.0;
    for _ in 0..times {
        for batch in documents.chunks_mut(500) {
            let rows: Vec<Row> = batch
                .iter()
                .map(|document| Row {
                    id: document["_id"].as_str().unwrap().parse().unwrap(),
                    document: document.to_string().into_bytes(),
                })
                .collect();
            let begun = Instant::now();
            let fates = couch.put(&rows).await.unwrap();
            seconds += begun.elapsed().as_secs_f64();
            for (document, fate) in batch.iter_mut().zip(fates) {
                let vogeler_store::Fate::Stored { rev } = fate else { panic!("{fate:?}") };
                document["_rev"] = rev.into();
            }
            count += rows.len();
        }
    }
    count as f64 / seconds
}
