//! One run in a hundred wedges: the other ninety-nine are stored while it still runs.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::task::JoinSet;
use vogeler_tests::program::{binary, command};
use vogeler_tests::site::workspace;
use vogeler_tests::{Account, Outcome, Program, Site, eventually, torture};

use crate::agent::introduced;
use crate::processes::{self, Sweep};

const NODES: usize = 10;
const ALIASES: usize = 10;

/// The run that wedged: what it has written of itself.
struct Wedged {
    node: String,
    alias: String,
    pid: Pid,
}

impl Wedged {
    fn read(site: &Site) -> Option<Self> {
        let text = fs::read_to_string(site.path("runs/wedged")).ok()?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let [node, alias, pid] = words[..] else { return None };
        Some(Self { node: node.to_owned(), alias: alias.to_owned(), pid: Pid::from_raw(pid.parse().ok()?) })
    }
}

/// Every result that the records of these nodes hold of these aliases, by node and alias.
async fn stored(site: &Site, nodes: &[String], aliases: &[String]) -> anyhow::Result<BTreeSet<(String, String)>> {
    let mut stored = BTreeSet::new();
    for node in nodes {
        let record = site.record(node).await?;
        let of_node = aliases.iter().filter(|alias| record["vogeler"]["results"][alias.as_str()].is_object());
        stored.extend(of_node.map(|alias| (node.clone(), alias.clone())));
    }
    Ok(stored)
}

#[tokio::test]
async fn the_results_of_ninety_nine_are_stored_while_the_hundredth_run_is_wedged() {
    let site = Site::start("wedged").await;
    let nodes: Vec<String> = (0..NODES).map(|number| format!("{}-{number}", site.vhost)).collect();
    let aliases: Vec<String> = (0..ALIASES).map(|number| format!("work-{number}")).collect();
    let script = fs::read_to_string(workspace().join("tests/fixtures/gauntlet/one-in-100.sh")).unwrap();
    let script = site.write("runs/one-in-100.sh", &script);
    let folder = site.path("runs");
    let descriptor = |alias: &String| {
        // The longest that there is: the wedged run ends when the test says so, not when its time is up.
        let (script, folder) = (script.display(), folder.display());
        format!("{alias}: {{command: {script}, format: string, timeout: 15m, cwd: {folder}}}\n")
    };
    let descriptors: String = aliases.iter().map(descriptor).collect();

    let _sweeps: Vec<Sweep> = nodes.iter().cloned().map(Sweep).collect();
    let _server = site.server().await;
    let mut clients: Vec<Program> = Vec::new();
    for node in &nodes {
        clients.push(site.node(node).plugin("work.yaml", &descriptors).start().await);
    }
    for node in &nodes {
        introduced(&site, node).await;
    }

    let mut runners = JoinSet::new();
    for alias in &aliases {
        let mut runner = command(binary("vogeler-runner"));
        runner.env("VOGELER_CONFIG", site.path("vogeler.yaml")).args(["-c", alias.as_str(), "-n", "all"]);
        runners.spawn(async move { Outcome::of(&mut runner).await });
    }
    let all: BTreeSet<(String, String)> =
        nodes.iter().flat_map(|node| aliases.iter().map(|alias| (node.clone(), alias.clone()))).collect();
    let missing = eventually(async || {
        let stored = stored(&site, &nodes, &aliases).await?;
        let missing: Vec<_> = all.difference(&stored).cloned().collect();
        anyhow::ensure!(missing.len() <= 1, "99 of 100 results; not stored are {missing:?}");
        anyhow::Ok(missing)
    })
    .await;

    // The order: ninety-nine were in the records, and the process is still there.
    let wedged = Wedged::read(&site).expect("a run that wedges");
    assert_eq!(missing, [(wedged.node.clone(), wedged.alias.clone())], "what is not stored is what wedges");
    let running = processes::of_node(&wedged.node);
    assert!(running.contains(&wedged.pid), "{} still runs; there are {running:?}", wedged.pid);
    let record = site.record(&wedged.node).await.unwrap();
    assert!(record["vogeler"]["errors"][&wedged.alias].is_null(), "nothing is said of it yet: {record}");

    kill(wedged.pid, Signal::SIGKILL).unwrap();
    let error = eventually(async || {
        let record = site.record(&wedged.node).await?;
        let error = record["vogeler"]["errors"][&wedged.alias].clone();
        anyhow::ensure!(error.is_object(), "{} of {} among the errors: {record}", wedged.alias, wedged.node);
        anyhow::Ok(error)
    })
    .await;
    assert_eq!((&error["kind"], &error["message"]), (&json!("signal"), &json!("was ended by signal SIGKILL")));
    let mut statuses: Vec<i32> = runners.join_all().await.into_iter().map(|ran| ran.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[0; ALIASES - 1].as_slice(), &[2]].concat(), "one runner has seen one of its nodes fail");
    site.expect_settled().await;
    let sent = NODES * ALIASES;
    torture::report("one run in 100 wedges", 1, &Account { sent, stored: sent, ..Account::default() });
}
