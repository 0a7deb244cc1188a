//! The plugin gauntlet: no plugin, however bad, stops the others, leaves a process, or stays in the
//! client's memory.
//!
//! Start at [`bad`], the table of what such plugins do and what lands of it. A plugin that kills
//! its own client is told among the stories of killed clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad;
mod leftovers;
mod processes;
mod turns;
mod wedged;

use std::cell::Cell;

use tokio::process::Command;
use tokio::task::JoinSet;
use vogeler_tests::program::{binary, command};
use vogeler_tests::{Account, Outcome, Program, Site, eventually, torture};

use bad::Bad;
use processes::{Held, Sweep};

const GOOD: &str = "good: {command: echo hi, format: string}\n";

/// How many runners ask at any time: three times what a client runs at once, so that there is
/// always something that waits.
const ASKING: usize = 12;

/// How much more a client may hold afterwards. A plugin that printed more than its MiB has filled a
/// buffer of two, and an allocator may keep that much; what is noted of some hundred answered
/// commands is a tenth of a MiB. A YAML bomb that stays is sixteen.
const MOST_KEPT_KIB: u64 = 4096;

/// A node named after the site, so that no other test has a process of that name; its client, and
/// what that held after a first good run.
struct Agent<'a> {
    site: &'a Site,
    client: Program,
    before: Held,
    _sweep: Sweep,
}

impl<'a> Agent<'a> {
    async fn start(site: &'a Site, plugins: &[Bad]) -> Self {
        let sweep = Sweep(site.vhost.clone());
        let node = site.node(&site.vhost).plugin("bad.yaml", &bad::prepare(site, plugins)).plugin("good.yaml", GOOD);
        // All of them are taken; what is bad about them shows when they run.
        node.run(&["list"]).await.expect(0);
        let client = node.start().await;
        introduced(site, &site.vhost).await;
        site.runner(&["-c", "good", "-n", &site.vhost]).await.expect(0);
        let before = Held::by(client.pid().unwrap());
        Self { site, client, before, _sweep: sweep }
    }

    fn runner(&self, alias: &str) -> Command {
        let mut runner = command(binary("vogeler-runner"));
        runner.env("VOGELER_CONFIG", self.site.path("vogeler.yaml")).args([
            "-c",
            alias,
            "-n",
            self.site.vhost.as_str(),
        ]);
        runner
    }

    /// Has each of them run once, and the good one again and again meanwhile.
    async fn run(&self, plugins: &[Bad]) {
        let over = Cell::new(false);
        let bad = async {
            let mut waiting = plugins.iter();
            let mut asking = JoinSet::new();
            loop {
                for bad in waiting.by_ref().take(ASKING - asking.len()) {
                    let (mut runner, status) = (self.runner(bad.alias), bad.exit_status());
                    asking.spawn(async move { Outcome::of(&mut runner).await.expect(status) });
                }
                let Some(ended) = asking.join_next().await else { break };
                ended.unwrap();
            }
            over.set(true);
        };
        let good = async {
            while !over.get() {
                Outcome::of(&mut self.runner("good")).await.expect(0);
            }
        };
        tokio::join!(bad, good);
    }

    /// Asserts that of each of them has landed what had to.
    async fn expect_landed(&self, plugins: &[Bad]) {
        let record = self.site.record(&self.site.vhost).await.unwrap();
        let wrong: Vec<String> = plugins.iter().filter_map(|bad| bad.difference(self.site, &record)).collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), plugins.len(), wrong.join("\n"));
        assert_eq!(record["good"], "hi", "{}", record["vogeler"]["errors"]["good"]);
        self.site.expect_settled().await;
    }

    /// Asserts that no process is left: by what they carry, and as a child of the client's, for it
    /// inherits all that have lost their parent.
    async fn expect_nobody_left(&self) {
        let left = processes::of_node(&self.site.vhost);
        assert!(left.is_empty(), "left: {}; it said:\n{}", processes::described(&left), self.client.log());
        // One that was killed and had not quite ended is reaped with the next plugin.
        self.site.runner(&["-c", "good", "-n", &self.site.vhost]).await.expect(0);
        eventually(async || {
            let children = processes::children(self.client.pid().unwrap());
            anyhow::ensure!(children.is_empty(), "an end of the client's {}", processes::described(&children));
            anyhow::Ok(())
        })
        .await;
    }

    /// Asserts that the client holds what it held after its first good run.
    async fn expect_nothing_kept(&self) {
        eventually(async || {
            let (before, now) = (self.before, Held::by(self.client.pid().unwrap()));
            anyhow::ensure!(now.descriptors == before.descriptors, "descriptors: {before:?} before, {now:?} now");
            let most = before.kib + MOST_KEPT_KIB;
            anyhow::ensure!(now.kib <= most, "memory of at most {most} KiB: {before:?} before, {now:?} now");
            anyhow::Ok(())
        })
        .await;
    }
}

/// Waits until a node has said hello: before that a runner cannot know that it is there.
async fn introduced(site: &Site, node: &str) {
    eventually(async || {
        let record = site.record(node).await?;
        anyhow::ensure!(record["vogeler"]["client"].is_object(), "{node} said hello: {record}");
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn whatever_a_plugin_does_is_told_and_the_others_run() {
    let site = Site::start("gauntlet").await;
    let _server = site.server().await;
    let plugins = bad::gauntlet();
    let agent = Agent::start(&site, &plugins).await;
    let rounds = torture::volume(1, 5);
    for _ in 0..rounds {
        agent.run(&plugins).await;
        agent.expect_nobody_left().await;
    }
    agent.expect_landed(&plugins).await;
    agent.expect_nothing_kept().await;

    let record = site.record(&site.vhost).await.unwrap();
    let stderr = |alias: &str| record["vogeler"]["errors"][alias]["stderr"].as_str().unwrap_or_default();
    assert!(stderr("leaks").contains("MemoryError"), "its limit is what ended it: {}", stderr("leaks"));
    assert_eq!(stderr("prints-to-stderr"), "x".repeat(4096), "the end of 10 MB");
    // That they were ended proves nothing where they had never begun.
    for alias in ["double-forks", "daemonises"] {
        assert!(bad::left_by(&site, alias) > 1, "{alias} left a process");
    }
    let sent = rounds * plugins.len();
    torture::report("bad plugins", rounds, &Account { sent, stored: sent, ..Account::default() });
}

#[tokio::test]
async fn what_a_plugin_printed_does_not_stay_in_the_clients_memory() {
    let site = Site::start("hungry").await;
    let _server = site.server().await;
    let plugins = bad::hungry();
    let agent = Agent::start(&site, &plugins).await;
    // An allocator learns from the first large block that it is given back, and keeps the next.
    for _ in 0..torture::volume(3, 20) {
        agent.run(&plugins).await;
    }
    agent.expect_landed(&plugins).await;
    agent.expect_nobody_left().await;
    agent.expect_nothing_kept().await;
}
