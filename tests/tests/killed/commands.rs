//! Nodes whose plugins leave a line in a file for each execution, and commands for them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use vogeler_messaging::topology::{node_key, node_queue};
use vogeler_messaging::{Message, Properties, Publish, Session};
use vogeler_protocol::message::{self, Command, Version};
use vogeler_protocol::{Clock, Random, RunId, Target};
use vogeler_tests::{Account, Node, Program, Site, eventually, torture};

/// Answers with its run.
pub(crate) const MARK: &str = "echo $VOGELER_RUN | tee -a executions";

/// Runs from the moment that it leaves a file `begun` until there is a file `go`. A client that is
/// killed leaves it running, and so it ends with the site's folder, too.
pub(crate) const SLOW: &str = "echo $VOGELER_RUN >>executions; touch begun; \
                               while [ -e begun ] && [ ! -e go ]; do sleep 0.05; done; echo done";

/// What is said of a run whose client ended.
pub(crate) const INTERRUPTED: &str = "the client ended while the plugin ran; it is not run again";

/// A node with plugins by alias: shell scripts that work in the site's folder.
pub(crate) fn node<'a>(site: &'a Site, name: &str, scripts: &[(&str, &str)]) -> Node<'a> {
    let folder = site.path("");
    scripts.iter().fold(site.node(name), |node, (alias, script)| {
        let fields = format!("shell: true\n  format: string\n  cwd: {}\n", folder.display());
        node.plugin(&format!("{alias}.yaml"), &format!("{alias}:\n  command: {script}\n  {fields}"))
    })
}

/// The runs that plugins were executed for, once for each execution.
pub(crate) fn executions(site: &Site) -> Vec<String> {
    let text = fs::read_to_string(site.path("executions")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until the plugin has left its file.
pub(crate) async fn begun(site: &Site) {
    eventually(async || {
        anyhow::ensure!(site.path("begun").exists(), "the plugin runs");
        anyhow::Ok(())
    })
    .await;
}

/// Waits until the broker knows that the client is gone; how many commands wait for it then.
pub(crate) async fn off_line(site: &Site, node: &Node<'_>) -> u32 {
    let queue = node_queue(&node.name.parse().unwrap()).name;
    eventually(async || {
        let status = site.queue(&queue).await?;
        anyhow::ensure!(status.consumers == 0, "{} off line", node.name);
        anyhow::Ok(status.messages)
    })
    .await
}

/// Asks a node as a runner does that does not wait.
pub(crate) async fn ask(session: &impl Session, node: &Node<'_>, alias: &str) -> RunId {
    let (now, name) = (Clock::system().now(), node.name.parse().unwrap());
    let key = node_key(&name);
    let command = Command {
        v: Version,
        run: RunId::new(now, &Random::from_system()),
        command: alias.parse().unwrap(),
        target: Target::Nodes(vec![name]),
        issued_at: now,
        expires_at: now.after(Duration::from_secs(3600)),
        splay_ms: 0,
        issuer: "a test".to_owned(),
        want_events: false,
    };
    let properties = Properties {
        correlation_id: Some(command.run.to_string()),
        kind: Some("command".to_owned()),
        content_type: Some(message::JSON.to_owned()),
        persistent: true,
        ..Properties::default()
    };
    let message = Message { body: message::encode(&command), properties };
    let publish = Publish { exchange: "vogeler.broadcast.in", routing_key: &key, mandatory: true, message };
    session.publish(publish).await.unwrap();
    command.run
}

/// How a run of `mark` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Data,
    Interrupted,
}

/// Which of the two the record says of a run of `mark`, and its entry; waits for it.
pub(crate) async fn answer(site: &Site, node: &Node<'_>, run: RunId) -> (Answer, Value) {
    let run = run.to_string();
    eventually(async || {
        let record = site.record(&node.name).await?;
        let (good, bad) = (&record["vogeler"]["results"]["mark"], &record["vogeler"]["errors"]["mark"]);
        if good["run"] == run {
            anyhow::ensure!(record["mark"] == run, "the data of run {run} with its entry: {record}");
            return anyhow::Ok((Answer::Data, good.clone()));
        }
        anyhow::ensure!(bad["run"] == run, "word of run {run}: {record}");
        anyhow::ensure!(bad["kind"] == "interrupted", "run {run} has data or was interrupted: {record}");
        anyhow::Ok((Answer::Interrupted, bad.clone()))
    })
    .await
}

/// Stops the client and asserts that these runs, and no others, were executed, each once at the
/// most, and that nothing is left to be answered or stored.
pub(crate) async fn expect_answered_once(site: &Site, node: &Node<'_>, client: Program, runs: &[RunId]) {
    // Behind all that came again, so that the client has taken that, too.
    site.runner(&["-c", "ping", "-n", &node.name]).await.expect(0);
    assert_eq!(client.stop().await, 0, "the client's exit status");
    assert_eq!(off_line(site, node).await, 0, "commands that wait");
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for run in executions(site) {
        *times.entry(run).or_default() += 1;
    }
    times.retain(|run, times| *times > 1 || !runs.iter().any(|asked| asked.to_string() == *run));
    assert!(times.is_empty(), "executions beyond the one that a run may have: {times:?}");
    site.expect_settled().await;
}

/// A line for the table of a story in which so many runs were asked and each one was answered.
pub(crate) fn report(fault: &str, times: usize, runs: usize) {
    torture::report(fault, times, &Account { sent: runs, stored: runs, ..Account::default() });
}
