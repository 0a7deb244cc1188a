//! TERM at a client while a plugin runs.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vogeler_tests::{Program, Site, eventually};

use crate::commands::{
    Answer, INTERRUPTED, MARK, SLOW, answer, ask, begun, executions, expect_answered_once, node, off_line, report,
};

/// Goes on in a child for longer than any client waits.
const ENDLESS: &str = "echo $VOGELER_RUN >>executions; touch begun; sleep 300; echo done";

/// TERM, and waits until the client has heard it.
async fn term(client: &Program) {
    client.signal(Signal::SIGTERM);
    eventually(async || {
        anyhow::ensure!(client.log().contains("asked to stop"), "TERM is heard; it said:\n{}", client.log());
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_stopped_finishes_the_plugin_and_leaves_the_rest_waiting() {
    let site = Site::start("term-plugin").await;
    let _server = site.server().await;
    let session = site.session().await;
    let node = node(&site, "term01", &[("slow", SLOW), ("mark", MARK)]);
    let mut client = node.start().await;
    let stop = async {
        begun(&site).await;
        term(&client).await;
        let late = ask(&session, &node, "mark").await;
        site.write("go", "");
        (late, client.ended().await)
    };
    let (ran, (late, status)) = tokio::join!(site.runner(&["-c", "slow", "-n", "term01"]), stop);
    assert_eq!(status, 0, "exit status after TERM; it said:\n{}", client.log());
    let ran = ran.expect(0);
    assert!(ran.stdout.contains("slow on term01: 1 stored\n"), "{ran:?}");
    assert_eq!(site.record("term01").await.unwrap()["slow"], "done");
    assert_eq!(off_line(&site, &node).await, 1, "commands that wait: the one that came after TERM");
    let executed = executions(&site);
    assert_eq!(executed.len(), 1, "nothing is started after TERM: {executed:?}");

    let client = node.start().await;
    let (outcome, entry) = answer(&site, &node, late).await;
    assert_eq!(outcome, Answer::Data, "{entry}");
    expect_answered_once(&site, &node, client, &[executed[0].parse().unwrap(), late]).await;
    report("client stopped during a plugin", 1, 2);
}

/// Processes that carry this run in their environment.
fn left_of(run: &str) -> Vec<Pid> {
    let mark = format!("VOGELER_RUN={run}");
    let carries = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(carries).map(Pid::from_raw).collect()
}

#[tokio::test]
#[ignore = "a client waits 20 s for its plugins after TERM; make torture runs it"]
async fn a_client_that_is_stopped_gives_an_endless_plugin_up() {
    let site = Site::start("term-endless").await;
    let _server = site.server().await;
    let node = node(&site, "term02", &[("endless", ENDLESS)]);
    let mut client = node.start().await;
    let stop = async {
        begun(&site).await;
        term(&client).await;
        let status = client.ended().await;
        off_line(&site, &node).await;
        (status, client.log(), node.start().await)
    };
    let (ran, (status, log, next)) = tokio::join!(site.runner(&["-c", "endless", "-n", "term02"]), stop);
    let left = left_of(&executions(&site).concat());
    for pid in &left {
        // Ours, by its run: nothing of a test outlives it.
        let _ = kill(*pid, Signal::SIGKILL);
    }
    assert_eq!(status, 0, "exit status after TERM; it said:\n{log}");
    assert!(log.contains("not everything was run and sent within 20 s"), "{log}");
    assert!(left.is_empty(), "processes of the plugin that its client has left: {left:?}");
    let ran = ran.expect(2);
    assert!(ran.stdout.contains(INTERRUPTED), "{ran:?}");
    assert_eq!(executions(&site).len(), 1, "not run again: {:?}", executions(&site));
    assert_eq!(next.stop().await, 0, "the exit status of the next client");
    report("client stopped during an endless plugin", 1, 1);
}
