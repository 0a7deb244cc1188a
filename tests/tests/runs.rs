//! Whom a run waits for, what it says of the others, and its exit status.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::Value;
use vogeler_tests::{Program, Site, eventually};

const HELLO: &str = "hello: {command: echo hi, format: string}\n";

/// Starts these clients, each in its groups, and waits until they have said hello: before that a
/// runner cannot know that they are there.
async fn fleet(site: &Site, nodes: &[(&str, &str)]) -> Vec<Program> {
    let mut clients = Vec::new();
    for (name, groups) in nodes {
        clients.push(site.node(name).groups(groups).plugin("hello.yaml", HELLO).start().await);
    }
    for (name, _) in nodes {
        eventually(async || {
            let record = site.record(name).await?;
            anyhow::ensure!(record["vogeler"]["client"].is_object(), "{name} said hello: {record}");
            anyhow::Ok(())
        })
        .await;
    }
    clients
}

/// Waits until a node's record holds the data of `hello`.
async fn answered(site: &Site, node: &str) {
    eventually(async || {
        let record = site.record(node).await?;
        anyhow::ensure!(record["hello"] == "hi", "hello in {record}");
        anyhow::Ok(())
    })
    .await;
}

/// Which of these nodes have answered `hello`.
async fn who_answered<'n>(site: &Site, nodes: &[&'n str]) -> Vec<&'n str> {
    let mut found = Vec::new();
    for node in nodes {
        if site.record(node).await.unwrap()["hello"] == "hi" {
            found.push(*node);
        }
    }
    found
}

#[tokio::test]
async fn a_node_that_does_not_exist_is_named_while_the_others_run() {
    let site = Site::start("nosuch").await;
    let _server = site.server().await;
    let _clients = fleet(&site, &[("web01", "")]).await;
    let ran = site.runner(&["-c", "hello", "-n", "web01,wbe02"]).await.expect(4);
    assert!(ran.stdout.contains("hello on web01,wbe02: 1 stored, 1 unknown\n"), "{ran:?}");
    assert!(ran.stdout.contains("wbe02: no such node: no record and no queue of that name\n"), "{ran:?}");
    assert_eq!(who_answered(&site, &["web01"]).await, ["web01"]);
}

#[tokio::test]
async fn an_alias_that_nobody_knows_is_named() {
    let site = Site::start("noalias").await;
    let _server = site.server().await;
    let _clients = fleet(&site, &[("web01", ""), ("web02", "")]).await;
    let ran = site.runner(&["-c", "helo", "-n", "all"]).await.expect(4);
    assert!(ran.stdout.contains("nobody knows the alias helo"), "{ran:?}");
    assert!(ran.stdout.contains("unknown alias; this node knows hello, ping"), "what they do know: {ran:?}");
}

#[tokio::test]
async fn a_node_that_is_off_line_is_listed_and_holds_nothing_up() {
    let site = Site::start("offline").await;
    let _server = site.server().await;
    let mut clients = fleet(&site, &[("web01", ""), ("db01", "")]).await;
    assert_eq!(clients.pop().unwrap().stop().await, 0, "the exit status of db01's client");
    eventually(async || {
        let consumers = site.queue("vogeler.node.db01").await?.consumers;
        anyhow::ensure!(consumers == 0, "db01 off line; its queue has {consumers} consumers");
        anyhow::Ok(())
    })
    .await;

    let ran = site.runner(&["-c", "hello", "-n", "all"]).await.expect(0);
    assert!(ran.stdout.contains("hello on all: 1 stored, 1 off line\n"), "{ran:?}");
    assert!(ran.stdout.contains("db01: off line: gets it when it connects, until 2"), "{ran:?}");
    let strict = site.runner(&["-c", "hello", "-n", "all", "--strict"]).await.expect(3);
    assert!(strict.stdout.contains("db01: off line"), "{strict:?}");
    let alone = site.runner(&["-c", "hello", "-n", "db01"]).await.expect(3);
    assert!(alone.stderr.contains("nobody that db01 means is on line"), "{alone:?}");

    assert!(who_answered(&site, &["db01"]).await.is_empty());
    let _db01 = site.node("db01").start().await;
    answered(&site, "db01").await;
    site.expect_settled().await;
}

#[tokio::test]
async fn a_detached_run_is_stored_later() {
    let site = Site::start("detach").await;
    let server = site.server().await;
    let _clients = fleet(&site, &[("web01", "")]).await;
    assert_eq!(server.stop().await, 0, "the server's exit status");
    let ran = site.runner(&["-c", "hello", "-n", "all", "--detach"]).await.expect(0);
    assert!(ran.stdout.starts_with("hello on all: queued as run "), "{ran:?}");
    assert!(who_answered(&site, &["web01"]).await.is_empty());
    let _server = site.server().await;
    answered(&site, "web01").await;
}

#[tokio::test]
async fn groups_and_patterns_mean_their_nodes() {
    const NODES: [&str; 4] = ["db01", "web01", "web02", "web11"];
    let site = Site::start("targets").await;
    let _server = site.server().await;
    let _clients = fleet(&site, &[("db01", "dc1"), ("web01", "web,dc1"), ("web02", "web"), ("web11", "web")]).await;
    let ran = site.runner(&["-c", "hello", "-n", "group:dc1"]).await.expect(0);
    assert!(ran.stdout.contains("hello on group:dc1: 2 stored\n"), "{ran:?}");
    assert_eq!(who_answered(&site, &NODES).await, ["db01", "web01"]);
    let ran = site.runner(&["-c", "hello", "-n", "web0[!1]"]).await.expect(0);
    assert!(ran.stdout.contains("hello on web0[!1]: 1 stored\n"), "{ran:?}");
    assert_eq!(who_answered(&site, &NODES).await, ["db01", "web01", "web02"]);
    let nobody = site.runner(&["-c", "hello", "-n", "group:dc2"]).await.expect(4);
    assert!(nobody.stderr.contains("no node is meant by group:dc2"), "{nobody:?}");
}

#[tokio::test]
async fn programs_read_one_json_object() {
    let site = Site::start("json").await;
    let _server = site.server().await;
    let _clients = fleet(&site, &[("web01", ""), ("web02", "")]).await;
    let ran = site.runner(&["-c", "hello", "-n", "all", "-o", "json"]).await.expect(0);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["exit_status"], 0, "{told}");
    assert_eq!(told["stored"], 2, "{told}");
    assert_eq!(told["command"], "hello", "{told}");
    assert_eq!(told["nodes"]["web02"]["event"], "stored", "{told}");
    let run = told["run"].as_str().unwrap();
    assert_eq!(site.record("web01").await.unwrap()["vogeler"]["results"]["hello"]["run"], run, "{told}");

    let ran = site.runner(&["-c", "hello", "-n", "web01,wbe02", "-o", "json"]).await.expect(4);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["exit_status"], 4, "{told}");
    assert_eq!(told["nodes"]["wbe02"]["state"], "unknown", "{told}");
}

#[tokio::test]
async fn without_a_readable_database_those_that_accept_are_awaited() {
    let site = Site::start("nostore").await;
    let _server = site.server().await;
    let _clients = fleet(&site, &[("web01", ""), ("web02", "")]).await;
    let run = ["-c", "hello", "-n", "all", "--quiet", "3s", "--dbhost", "http://127.0.0.1:1"];
    let ran = site.runner(&run).await.expect(0);
    assert!(ran.stderr.contains("waiting for those that accept"), "{ran:?}");
    assert!(ran.stdout.contains("hello on all: 2 stored\n"), "{ran:?}");
    assert_eq!(who_answered(&site, &["web01", "web02"]).await, ["web01", "web02"]);
}

#[tokio::test]
async fn the_server_stopped_during_a_run() {
    const NODES: [&str; 3] = ["web01", "web02", "web03"];
    let site = Site::start("stopped").await;
    let server = site.server().await;
    // Runs from the moment that it leaves a file until there is a file `go`.
    let slow = format!(
        "slow:\n  command: touch begun-$VOGELER_NODE; until [ -e go ]; do sleep 0.05; done; echo done\n  \
         shell: true\n  format: string\n  cwd: {}\n",
        site.path("").display()
    );
    for node in NODES {
        site.write(&format!("{node}/plugins/slow.yaml"), &slow);
    }
    let _clients = fleet(&site, &NODES.map(|node| (node, ""))).await;

    let interrupt = async {
        eventually(async || {
            let idle: Vec<&str> =
                NODES.into_iter().filter(|node| !site.path(&format!("begun-{node}")).exists()).collect();
            anyhow::ensure!(idle.is_empty(), "{idle:?} run it");
            anyhow::Ok(())
        })
        .await;
        assert_eq!(server.stop().await, 0, "the server's exit status");
        site.write("go", "");
        eventually(async || {
            let waiting = site.queue("master.in.0").await?.messages;
            anyhow::ensure!(waiting == 3, "three results that wait; {waiting} do");
            anyhow::Ok(())
        })
        .await;
        site.server().await
    };
    let (ran, _server) = tokio::join!(site.runner(&["-c", "slow", "-n", "all"]), interrupt);

    let ran = ran.expect(0);
    assert!(ran.stdout.contains("slow on all: 3 stored\n"), "{ran:?}");
    for node in NODES {
        let record = site.record(node).await.unwrap();
        assert_eq!(record["slow"], "done", "{record}");
    }
    site.expect_settled().await;
}

#[tokio::test]
async fn that_no_server_is_there_is_said_in_words() {
    let site = Site::start("noserver").await;
    let _client = site.node("web01").plugin("hello.yaml", HELLO).start().await;
    let ran = site.runner(&["-c", "hello", "-n", "web01", "--timeout", "3s"]).await.expect(3);
    assert!(ran.stderr.contains("no vogeler-server is connected"), "{ran:?}");
    assert!(ran.stdout.contains("hello on web01: 0 stored, 1 still running\n"), "{ran:?}");
    let _server = site.server().await;
    answered(&site, "web01").await;
}
