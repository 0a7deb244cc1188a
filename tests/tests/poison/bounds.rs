//! What is small on its way in and large inside.
//!
//! A server bounds what it holds by bytes, and those that count are the bytes that it holds, not
//! those that came.

use std::fs;

use serde_json::{Value, json};
use vogeler_messaging::topology::{run_key, run_queue};
use vogeler_messaging::{ConsumeOptions, Consumer, Header, Message, Properties, Session};
use vogeler_protocol::{Clock, Random, RunId};
use vogeler_tests::{Program, Site, eventually};

use crate::ends::expect_unharmed;
use crate::messages::{json_message, publish, result_of};

/// The most memory that a process has had, in bytes.
fn peak(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// YAML of some 1.2 KB that is 4 MiB of JSON.
fn unfolding() -> String {
    let tenfold = |name: &str| vec![format!("*{name}"); 10].join(",");
    let (a, b, c) = (tenfold("a"), tenfold("b"), tenfold("c"));
    format!("a: &a {}\nb: &b [{a}]\nc: &c [{b}]\nd: &d [{c}]\ne: [*d,*d,*d]\n", "x".repeat(1_000))
}

/// Twelve times what the server aims to hold, in 240 KB.
const UNFOLDING: usize = 200;

/// What a server may take while 64 MiB of deliveries are held in up to three copies.
const MOST_MEMORY: u64 = 384 << 20;

/// All go to one record, so that the database has little to do, and one worker would wait for them all.
#[tokio::test]
async fn what_unfolds_inside_is_bounded_by_what_it_becomes() {
    let site = Site::start("unfolding").await;
    let session = site.session().await;
    let headers = [("vogeler-node", "unfold01"), ("vogeler-command", "c"), ("vogeler-format", "yaml")];
    let headers = headers.map(|(name, value)| (name.to_owned(), Header::Text(value.to_owned())));
    let properties = Properties {
        content_type: Some("text/plain".to_owned()),
        persistent: true,
        headers: headers.into(),
        ..Properties::default()
    };
    for _ in 0..UNFOLDING {
        let message = Message { body: unfolding().into_bytes(), properties: properties.clone() };
        publish(&session, message).await;
    }
    publish(&session, result_of("last01", "1")).await;
    let env = [("VOGELER_SERVER_WORKERS", "1"), ("VOGELER_SERVER_LINGER", "5s")];
    let server = site.server_with(&env).await;
    eventually(async || {
        let last = site.record("last01").await;
        anyhow::ensure!(last.is_ok(), "a record of the last result; the server said:\n{}", server.log());
        anyhow::Ok(())
    })
    .await;
    let peak = peak(&server);
    assert!(peak < MOST_MEMORY, "the server took {} MiB", peak >> 20);
    site.expect_settled().await;
    expect_unharmed(server).await;
}

/// An event goes to each run that asked; a failure may have much to say, and has done so in the record.
#[tokio::test]
async fn an_event_is_small_however_much_the_failure_says() {
    let site = Site::start("long-failure").await;
    let server = site.server().await;
    let session = site.session().await;
    let run = RunId::new(Clock::system().now(), &Random::from_system());
    let queue = run_queue(run);
    session.declare_queue(&queue).await.unwrap();
    session.bind(&queue.name, "vogeler.events", &run_key(run)).await.unwrap();
    let options = ConsumeOptions { prefetch: 0, exclusive: false, no_ack: false };
    let mut events = session.consume(&queue.name, options).await.unwrap();

    let error = json!({ "kind": "exit", "message": "m".repeat(4 << 20) });
    let failure = json!({ "v": 1, "node": "long01", "run": run, "command": "c", "outcome": "error", "error": error });
    publish(&session, json_message("long01", failure.to_string())).await;
    let event = tokio::time::timeout(std::time::Duration::from_secs(45), events.next()).await;
    let event = event.expect("an event within 45 s").expect("the channel is open").message.body;
    let told: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!((&told["event"], &told["node"]), (&json!("failed"), &json!("long01")), "what the run is told");
    assert!(event.len() < 8 << 10, "{} bytes of event", event.len());
    site.expect_settled().await;
    expect_unharmed(server).await;
}
