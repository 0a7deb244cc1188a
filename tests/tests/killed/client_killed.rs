//! The client killed: during a plugin, around the way of its result, right after its start, by a plugin.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use vogeler_messaging::topology::{QueueKind, slot_key};
use vogeler_messaging::{ConsumeOptions, Consumer, Queue, Session};
use vogeler_protocol::RunId;
use vogeler_tests::{Program, Site, eventually, torture};

use crate::Moments;
use crate::commands::{
    Answer, INTERRUPTED, MARK, SLOW, answer, ask, begun, executions, expect_answered_once, node, off_line, report,
};

/// Kills the client that runs it.
const FATAL: &str = "echo $VOGELER_RUN >>executions; kill -9 $PPID";

#[tokio::test]
async fn a_client_killed_during_a_plugin_says_so_and_does_not_run_it_again() {
    let site = Site::start("kill-plugin").await;
    let _server = site.server().await;
    let node = node(&site, "kill01", &[("slow", SLOW)]);
    let client = node.start().await;
    let run = ["-c", "slow", "-n", "kill01"];
    let kill = async {
        begun(&site).await;
        client.kill().await;
        off_line(&site, &node).await;
        node.start().await
    };
    let (ran, client) = tokio::join!(site.runner(&run), kill);
    let ran = ran.expect(2);
    assert!(ran.stdout.contains(INTERRUPTED), "{ran:?}");
    let record = site.record("kill01").await.unwrap();
    assert_eq!(record["vogeler"]["errors"]["slow"]["kind"], "interrupted", "{record}");
    assert!(record["slow"].is_null(), "no data of an execution that was cut short: {record}");

    site.write("go", "");
    site.runner(&run).await.expect(0);
    assert_eq!(executions(&site).len(), 2, "one execution for each of two runs: {:?}", executions(&site));
    let record = site.record("kill01").await.unwrap();
    assert_eq!(record["slow"], "done", "{record}");
    assert!(record["vogeler"]["errors"]["slow"].is_null(), "the success clears the failure: {record}");
    assert_eq!(client.stop().await, 0, "the client's exit status");
    assert_eq!(off_line(&site, &node).await, 0, "commands that wait");
    site.expect_settled().await;
    report("client killed during a plugin", 1, 2);
}

/// The result of that run, as soon as the broker has it.
async fn result_of(run: RunId, overheard: &mut impl Consumer) -> Value {
    let run = run.to_string();
    loop {
        let next = timeout(Duration::from_secs(45), overheard.next()).await;
        let message = next.expect("a result within 45 s").expect("the spy's channel is open").message;
        let said: Value = serde_json::from_slice(&message.body).unwrap();
        if said["run"] == run && said["outcome"] == "ok" {
            return said;
        }
    }
}

#[tokio::test]
async fn a_client_killed_between_publish_and_acknowledgement_answers_once() {
    let site = Site::start("kill-ack").await;
    let _server = site.server().await;
    let (moments, session) = (Moments::draw(), site.session().await);
    let node = node(&site, "kill02", &[("mark", MARK)]);
    // A second queue that gets a copy of everything the node sends.
    let kind = QueueKind::Node { expires: Duration::from_secs(600), max_length: 1000 };
    let spy = Queue { name: "spy".to_owned(), kind };
    session.declare_queue(&spy).await.unwrap();
    session.bind(&spy.name, "vogeler.master.in", &slot_key(&node.name.parse().unwrap())).await.unwrap();
    let options = ConsumeOptions { prefetch: 0, exclusive: false, no_ack: false };
    let mut overheard = session.consume(&spy.name, options).await.unwrap();

    let mut client = node.start().await;
    let mut runs = Vec::new();
    for _ in 0..torture::volume(12, 200) {
        let run = ask(&session, &node, "mark").await;
        let said = result_of(run, &mut overheard).await;
        // What follows at the client takes a few milliseconds: the confirm, its note, the acknowledgement.
        moments.pass(Duration::from_millis(4)).await;
        client.kill().await;
        off_line(&site, &node).await;
        let journal = fs::read_to_string(site.path("kill02/state/journal")).unwrap();
        client = node.start().await;
        let (outcome, entry) = answer(&site, &node, run).await;
        let confirmed = journal.contains(&format!("done {run} "));
        assert!(outcome == Answer::Data || !confirmed, "a result that was confirmed is stored: {entry}");
        if outcome == Answer::Data {
            for part in ["instance", "epoch", "seq"] {
                assert_eq!(entry[part], said[part], "{part} of the result that was heard: {said}");
            }
        }
        runs.push(run);
    }
    let mut executed = executions(&site);
    executed.sort_unstable();
    let mut asked: Vec<String> = runs.iter().map(ToString::to_string).collect();
    asked.sort_unstable();
    assert_eq!(executed, asked, "one execution a run");
    expect_answered_once(&site, &node, client, &runs).await;
    report("client killed between publish and acknowledgement", runs.len(), runs.len());
}

#[tokio::test]
async fn a_client_killed_at_any_moment_answers_every_run_once() {
    let site = Site::start("kill-any").await;
    let _server = site.server().await;
    let (moments, session) = (Moments::draw(), site.session().await);
    let node = node(&site, "kill03", &[("mark", MARK)]);
    let mut client = node.start().await;
    let mut runs = Vec::new();
    for _ in 0..torture::volume(12, 200) {
        let run = ask(&session, &node, "mark").await;
        // From the command's way to the client until after its acknowledgement.
        moments.pass(Duration::from_millis(25)).await;
        client.kill().await;
        off_line(&site, &node).await;
        client = node.start().await;
        let (outcome, entry) = answer(&site, &node, run).await;
        let executed = executions(&site).contains(&run.to_string());
        assert!(executed || outcome == Answer::Interrupted, "data comes of an execution: {entry}");
        runs.push(run);
    }
    expect_answered_once(&site, &node, client, &runs).await;
    report("client killed around a command", runs.len(), runs.len());
}

/// The epoch in a state directory; a file that was cut short holds none.
fn epoch(state: &Path) -> u64 {
    let text = fs::read_to_string(state.join("epoch")).unwrap();
    let number = text.strip_suffix('\n').and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("the epoch is whole: {text:?}"))
}

#[tokio::test]
async fn a_client_killed_right_after_its_start_begins_anew() {
    let site = Site::start("kill-start").await;
    let _server = site.server().await;
    let (moments, session) = (Moments::draw(), site.session().await);
    let node = node(&site, "kill04", &[("mark", MARK)]);
    let client = node.start().await;
    let first = ask(&session, &node, "mark").await;
    answer(&site, &node, first).await;
    assert_eq!(client.stop().await, 0, "the client's exit status");

    // Waits all along; whichever start lives long enough runs it.
    off_line(&site, &node).await;
    let waiting = ask(&session, &node, "mark").await;
    let (state, log) = (site.path("kill04/state"), site.path("kill04/client.log"));
    let (noted, mut last) = (format!("done {first} "), epoch(&state));
    let starts = torture::volume(12, 100);
    for _ in 0..starts {
        let client = Program::start(node.command(&[]), &log);
        moments.pass(Duration::from_millis(60)).await;
        client.kill().await;
        let now = epoch(&state);
        assert!(now >= last, "the epoch went from {last} back to {now}");
        last = now;
        let journal = fs::read_to_string(state.join("journal")).unwrap();
        assert!(journal.contains(&noted) && journal.ends_with('\n'), "what was noted stays, whole: {journal}");
    }

    off_line(&site, &node).await;
    let client = node.start().await;
    let begun = epoch(&state);
    assert!(begun > last, "the epoch of a start, {begun}, is higher than {last} before");
    eventually(async || {
        let record = site.record("kill04").await?;
        anyhow::ensure!(record["vogeler"]["client"]["epoch"] == begun, "hello of epoch {begun}: {record}");
        anyhow::Ok(())
    })
    .await;
    answer(&site, &node, waiting).await;
    let next = ask(&session, &node, "mark").await;
    let (outcome, entry) = answer(&site, &node, next).await;
    assert_eq!(outcome, Answer::Data, "a run works: {entry}");
    expect_answered_once(&site, &node, client, &[first, waiting, next]).await;
    report("client killed right after its start", starts, 3);
}

#[tokio::test]
async fn a_plugin_that_kills_its_client_is_reported_once_and_not_repeated() {
    let site = Site::start("fatal").await;
    let _server = site.server().await;
    let node = node(&site, "kill05", &[("fatal", FATAL), ("mark", MARK)]);
    let mut client = node.start().await;
    // As a supervisor does.
    let restart = async {
        let status = client.ended().await;
        off_line(&site, &node).await;
        (status, node.start().await)
    };
    let (ran, (status, client)) = tokio::join!(site.runner(&["-c", "fatal", "-n", "kill05"]), restart);
    assert_eq!(status, 256, "the client was ended by a signal");
    let ran = ran.expect(2);
    assert!(ran.stdout.contains(INTERRUPTED), "{ran:?}");
    let reported = site.record("kill05").await.unwrap()["vogeler"]["errors"]["fatal"].clone();
    assert_eq!(reported["kind"], "interrupted", "{reported}");

    // Another alias works, and a further start has nothing left to tell.
    let run = ["-c", "mark", "-n", "kill05"];
    site.runner(&run).await.expect(0);
    assert_eq!(client.stop().await, 0, "the client's exit status: it was not killed again");
    off_line(&site, &node).await;
    let client = node.start().await;
    site.runner(&run).await.expect(0);
    let record = site.record("kill05").await.unwrap();
    assert_eq!(record["vogeler"]["errors"]["fatal"], reported, "reported once: {record}");
    let (fatal, executed) = (reported["run"].as_str().unwrap(), executions(&site));
    let times = executed.iter().filter(|run| *run == fatal).count();
    assert_eq!(times, 1, "executions of run {fatal}, whose plugin kills: {executed:?}");
    assert_eq!(client.stop().await, 0, "the client's exit status");
    assert_eq!(off_line(&site, &node).await, 0, "commands that wait");
    site.expect_settled().await;
    report("client killed by its own plugin", 1, 3);
}
