//! The questions of `vogeler-runner`, over the real programs and database.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use vogeler_tests::{Site, eventually};

const PLUGINS: &str = "hello: {command: echo hi, format: string, description: Says hi}\n";
const FAILING: &str = "hello: {command: 'sh -c \"echo oops >&2; exit 3\"', format: string}\n";

/// `web01` and `db01` on line, one good and one bad; `off01` knows of nothing and is off line.
async fn asked(site: &Site) -> Vec<vogeler_tests::Program> {
    let mut clients = Vec::new();
    for (node, plugins) in
        [("web01", PLUGINS), ("db01", FAILING), ("bare01", "other: {command: echo hi, format: string}\n")]
    {
        clients.push(site.node(node).plugin("hello.yaml", plugins).start().await);
    }
    let off = site.node("off01").plugin("hello.yaml", PLUGINS).start().await;
    for node in ["web01", "db01", "bare01", "off01"] {
        eventually(async || {
            let record = site.record(node).await?;
            anyhow::ensure!(record["vogeler"]["client"].is_object(), "{node} said hello: {record}");
            anyhow::Ok(())
        })
        .await;
    }
    off.stop().await;
    clients
}

#[tokio::test]
async fn a_run_tells_each_reason_and_can_be_looked_at_again() {
    let site = Site::start("reasons").await;
    let _server = site.server().await;
    let _clients = asked(&site).await;
    let ran = site.runner(&["-c", "hello", "-n", "all"]).await.expect(2);
    assert!(ran.stdout.starts_with("hello on all: 1 stored, 1 failed, 1 refused, 1 off line\n"), "{ran:?}");
    for line in [
        "  db01: failed: exited with status 3",
        "  bare01: refused: unknown alias; this node knows other, ping",
        "  off01: off line: gets it when it connects, until 2",
        "  web01: stored\n",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {ran:?}");
    }
    let chosen = site.runner(&["-c", "hello", "--where", "hello == 'hi'", "-o", "json"]).await.expect(0);
    let json: Value = serde_json::from_str(&chosen.stdout).unwrap();
    assert_eq!((&json["unchanged"], json["nodes"].as_object().unwrap().len()), (&1.into(), 1), "{json}");
    let rehearsed = site.runner(&["-c", "hello", "-n", "all,!db01", "--dry-run"]).await.expect(0);
    assert!(rehearsed.stdout.contains("off01") && !rehearsed.stdout.contains("db01"), "{rehearsed:?}");
    let again = site.runner(&["status", json["run"].as_str().unwrap()]).await.expect(0);
    assert!(again.stdout.contains("1 unchanged\n  web01: unchanged"), "{again:?}");
    let both = site.runner(&["-c", "hello", "-c", "ping", "-n", "web01,bare01", "--batch", "1"]).await.expect(0);
    assert!(both.stdout.contains("ping on web01,bare01: 2 stored\n"), "{both:?}");
}

#[tokio::test]
async fn what_is_mistyped_or_misplaced_asks_nobody() {
    let site = Site::start("mistyped").await;
    let _server = site.server().await;
    let _clients = asked(&site).await;
    let refused = site.runner(&["-c", "hello", "-n", "all,!web1"]).await.expect(1);
    assert!(
        refused.stderr.contains("!web1 leaves nobody out: there is no record of web1; did you mean web01"),
        "{refused:?}"
    );
    let misplaced = site.runner(&["--dry-run", "retire", "off01", "-y"]).await.expect(1);
    assert!(misplaced.stderr.contains("--dry-run belongs to a run"), "{misplaced:?}");
    assert!(site.queue("vogeler.node.off01").await.is_ok(), "nothing was retired");
    for words in
        [&["-n", "web01,group:mail"][..], &["-n", "web01,x*"], &["--where", "hello == 1"], &["-n", "web01,web1"]]
    {
        let words: Vec<&str> = ["-c", "ping"].iter().chain(words).copied().collect();
        site.runner(&words).await.expect(4);
        site.runner(&[&words[..], &["--dry-run"]].concat()).await.expect(4);
        site.runner(&[&words[..], &["--detach"]].concat()).await.expect(4);
    }
    site.runner(&["retire", "off01", "--yes"]).await.expect(0);
    let strict = site.runner(&["-c", "ping", "-n", "all", "--strict"]).await.expect(0);
    assert!(!strict.stdout.contains("off01"), "{strict:?}");
    let away = site.runner(&["--dbhost", "http://127.0.0.1:1", "-c", "ping", "-n", "all", "--dry-run"]).await.expect(1);
    assert!(away.stderr.contains("for the records to say"), "{away:?}");
}

#[tokio::test]
async fn every_question_is_answered() {
    let site = Site::start("questions").await;
    let _server = site.server().await;
    let _clients = asked(&site).await;
    site.runner(&["-c", "hello", "-n", "web01,db01"]).await.expect(2);
    let ask = async |words: &[&str]| -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
        let answered = site.runner(&words).await.expect(0);
        serde_json::from_str(&answered.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {answered:?}"))
    };
    let nodes = ask(&["nodes"]).await;
    let on_line: Vec<(&str, &str)> = nodes
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["node"].as_str().unwrap(), row["on_line"].as_str().unwrap()))
        .collect();
    assert_eq!(on_line, [("bare01", "yes"), ("db01", "yes"), ("off01", "no"), ("web01", "yes")]);
    assert_eq!(ask(&["show", "web01", "hello"]).await, "hi");
    let found = ask(&["find", "hello == 'hi'", "--columns", "system_name"]).await;
    assert_eq!(found, json!([{ "node": "web01", "system_name": "web01" }]));
    let rows = ask(&["view", "system_records/by_name", "--no-reduce"]).await;
    assert_eq!(rows.as_array().unwrap().len(), 4, "{rows}");
    let errors = ask(&["errors"]).await;
    assert_eq!(
        (&errors[0]["node"], &errors[0]["kind"], &errors[0]["exit"]),
        (&"db01".into(), &"exit".into(), &3.into())
    );
    let aliases = ask(&["aliases"]).await;
    assert!(aliases.as_array().unwrap().iter().any(|row| row["alias"] == "hello" && row["nodes"] == 3), "{aliases}");
    let age = ask(&["age"]).await;
    assert!(age.as_array().unwrap().iter().any(|row| row["key"] == "hello"), "{age}");
    let differ = site.runner(&["diff", "web01", "db01"]).await.expect(2);
    assert!(differ.stdout.contains("hello"), "{differ:?}");
    site.runner(&["retire", "off01"]).await.expect(1);
    assert!(site.queue("vogeler.node.off01").await.is_ok(), "its queue is there");
    site.runner(&["retire", "off01", "--yes"]).await.expect(0);
    assert_eq!(ask(&["nodes"]).await.as_array().unwrap().len(), 3);
    assert!(site.queue("vogeler.node.off01").await.is_err(), "its queue is gone");
}
