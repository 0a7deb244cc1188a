//! Records in a file: what is confirmed outlives a kill, several processes lose nothing, and the programs run on it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "what a child says to its test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use vogeler_protocol::NodeName;
use vogeler_store::sqlite::Sqlite;
use vogeler_store::{Fate, Row, Store};
use vogeler_tests::{Outcome, Site, eventually};

/// The file that a child writes to.
const FILE: &str = "VOGELER_TEST_SQLITE";

/// How often a child writes, where it is not killed before.
const TIMES: &str = "VOGELER_TEST_SQLITE_TIMES";

const DOCUMENTS: usize = 5;

/// Counts up in each of the documents, however many others do, and says what was confirmed.
#[tokio::test]
#[ignore = "the child of the tests below, which start it"]
async fn child() {
    let sqlite = Sqlite::new(Path::new(&std::env::var(FILE).expect("the test that starts this says where")));
    let times: usize = std::env::var(TIMES).unwrap().parse().unwrap();
    for number in 0..times {
        let node: NodeName = format!("web{}", number % DOCUMENTS).parse().unwrap();
        loop {
            let standing = sqlite.fetch(std::slice::from_ref(&node)).await.unwrap().remove(0);
            let mut document: Value = standing.map_or_else(
                || serde_json::json!({ "_id": node.as_str() }),
                |text| serde_json::from_str(&text).unwrap(),
            );
            let count = document["count"].as_u64().unwrap_or(0) + 1;
            document["count"] = count.into();
            let row = Row { id: node.clone(), document: document.to_string().into_bytes() };
            match sqlite.put(&[row]).await.unwrap().remove(0) {
                Fate::Stored { .. } => break println!("confirmed {node} {count}"),
                Fate::Conflict => {}
                refused @ (Fate::Forbidden { .. } | Fate::Failed { .. }) => panic!("{refused:?}"),
            }
        }
    }
    println!("done");
}

fn start(file: &Path, times: usize) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child", "--nocapture"]);
    command.env(FILE, file).env(TIMES, times.to_string()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// The next document that was confirmed, and its count.
async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<(String, u64)> {
    while let Some(line) = lines.next_line().await.unwrap() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["confirmed", node, count] = words.as_slice() {
            return Some(((*node).to_owned(), count.parse().unwrap()));
        }
    }
    None
}

async fn counts(sqlite: &Sqlite) -> BTreeMap<String, u64> {
    let found = sqlite.find(None, &["count".parse().unwrap()]).await.unwrap();
    found.into_iter().map(|found| (found.node.to_string(), found.record["count"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn what_is_confirmed_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    Sqlite::new(&file).create().await.unwrap();
    let mut confirmed: BTreeMap<String, u64> = BTreeMap::new();
    for kill in 0..10 {
        let (mut child, mut lines) = start(&file, usize::MAX);
        // Somewhere within a write: each is told when it is over, and the next is under way.
        for _ in 0..20 + kill {
            let (node, count) = next(&mut lines).await.expect("it writes until it is killed");
            confirmed.insert(node, count);
        }
        child.kill().await.unwrap();
        while let Some((node, count)) = next(&mut lines).await {
            confirmed.insert(node, count);
        }
        let standing = counts(&Sqlite::new(&file)).await;
        for (node, count) in &mut confirmed {
            // One more may have been stored when the kill came, before it was told.
            assert!(
                (*count..=*count + 1).contains(&standing[node]),
                "{node}: {count} confirmed, {} there",
                standing[node]
            );
            *count = standing[node];
        }
    }
}

#[tokio::test]
async fn processes_that_write_at_once_lose_nothing() {
    const TIMES_EACH: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    let sqlite = Sqlite::new(&file);
    sqlite.create().await.unwrap();
    let children: Vec<_> = (0..3).map(|_| start(&file, TIMES_EACH)).collect();
    for (mut child, mut lines) in children {
        while next(&mut lines).await.is_some() {}
        assert!(child.wait().await.unwrap().success());
    }
    let expected: BTreeMap<String, u64> =
        (0..DOCUMENTS).map(|number| (format!("web{number}"), (3 * TIMES_EACH / DOCUMENTS) as u64)).collect();
    assert_eq!(counts(&sqlite).await, expected);
}

#[tokio::test]
async fn a_file_that_was_deleted_or_replaced_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let (file, aside) = (folder.path().join("records.db"), folder.path().join("aside.db"));
    let sqlite = Sqlite::new(&file);
    sqlite.create().await.unwrap();
    let row = |node: &str| Row { id: node.parse().unwrap(), document: format!(r#"{{"_id":"{node}"}}"#).into_bytes() };
    sqlite.put(&[row("web01")]).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let refused = sqlite.put(&[row("web02")]).await.unwrap_err();
    assert!(refused.to_string().contains("there is no database"), "{refused}");
    assert!(sqlite.probe().await.is_err() && sqlite.find(None, &[]).await.is_err());
    let _ = std::fs::remove_file(folder.path().join("records.db-wal"));
    let _ = std::fs::remove_file(folder.path().join("records.db-shm"));
    let copy = Sqlite::new(&aside);
    copy.create().await.unwrap();
    copy.put(&[row("db01")]).await.unwrap();
    drop(copy);
    std::fs::rename(&aside, &file).unwrap();
    let found = sqlite.find(None, &[]).await.unwrap();
    assert_eq!(found.iter().map(|found| found.node.as_str()).collect::<Vec<_>>(), ["db01"]);
    assert!(matches!(sqlite.put(&[row("web02")]).await.unwrap()[..], [Fate::Stored { .. }]));
}

#[tokio::test]
async fn damage_is_told_and_not_taken_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    let sqlite = Sqlite::new(&file);
    sqlite.create().await.unwrap();
    let document = br#"{"_id":"web01","os":"Debian"}"#.to_vec();
    sqlite.put(&[Row { id: "web01".parse().unwrap(), document }]).await.unwrap();
    drop(sqlite);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(6).position(|six| six == b"Debian").unwrap();
    bytes[at] = 0xff;
    std::fs::write(&file, bytes).unwrap();
    let sqlite = Sqlite::new(&file);
    for said in [
        sqlite.find(None, &["os".parse().unwrap()]).await.unwrap_err(),
        sqlite.fetch(&["web01".parse().unwrap()]).await.unwrap_err(),
    ] {
        assert!(said.to_string().contains("cannot be understood"), "{said}");
    }
}

#[tokio::test]
async fn a_small_site_runs_a_broker_and_a_file() {
    let site = Site::bare("file").await;
    let url = format!("sqlite://{}", site.path("below/records.db").display());
    let store = [("VOGELER_STORE_URL", url.as_str())];
    let run = async |program: &str, words: &[&str]| Outcome::of(site.command(program, words).envs(store)).await;
    let early = run("vogeler-runner", &["find", "a == 1"]).await.expect(1);
    assert!(early.stderr.contains("there is no database at sqlite://"), "{early:?}");
    run("vogeler-server", &["setup"]).await.expect(0);
    let checked = run("vogeler-server", &["check"]).await;
    assert!(checked.stdout.contains("SQLite 3."), "{checked:?}");
    let server = site.server_with(&store).await;
    let _client = site
        .node("web01")
        .groups("web")
        .plugin("hello.yaml", "hello: {command: echo hi, format: string}\n")
        .start()
        .await;
    eventually(async || {
        let nodes = run("vogeler-runner", &["nodes", "-o", "csv"]).await;
        anyhow::ensure!(nodes.stdout.contains("web01,yes"), "web01 on line: {nodes:?}");
        anyhow::Ok(())
    })
    .await;
    let ran = run("vogeler-runner", &["-c", "hello", "-n", "group:web,!db01"]).await;
    assert!(ran.stderr.contains("db01"), "a name to leave out that nobody knows is refused: {ran:?}");
    run("vogeler-runner", &["-c", "hello", "-n", "all"]).await.expect(0);
    let found = run("vogeler-runner", &["find", "hello == 'hi'", "-o", "csv"]).await.expect(0);
    assert!(found.stdout.contains("web01"), "{found:?}");
    let groups = run("vogeler-runner", &["view", "system_records/by_group", "--group", "-o", "csv"]).await.expect(0);
    assert_eq!(groups.stdout, "key,value\nweb,1\n");
    site.expect_settled().await;
    assert_eq!(server.stop().await, 0);
}
