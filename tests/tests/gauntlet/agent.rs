//! A client that has bad plugins and a good one.

use std::cell::Cell;

use tokio::process::Command;
use tokio::task::JoinSet;
use vogeler_tests::program::{binary, command};
use vogeler_tests::{Outcome, Program, Site, eventually};

use crate::bad::{self, Bad};
use crate::processes::{self, Held, Sweep};

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
pub(crate) struct Agent<'a> {
    site: &'a Site,
    pub(crate) client: Program,
    before: Held,
    _sweep: Sweep,
}

impl<'a> Agent<'a> {
    pub(crate) async fn start(site: &'a Site, plugins: &[Bad]) -> Self {
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
    pub(crate) async fn run(&self, plugins: &[Bad]) {
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
    pub(crate) async fn expect_landed(&self, plugins: &[Bad]) {
        let record = self.site.record(&self.site.vhost).await.unwrap();
        let wrong: Vec<String> = plugins.iter().filter_map(|bad| bad.difference(self.site, &record)).collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), plugins.len(), wrong.join("\n"));
        assert_eq!(record["good"], "hi", "{}", record["vogeler"]["errors"]["good"]);
        self.site.expect_settled().await;
    }

    /// Asserts that no process is left: by what they carry, and as a child of the client's, for it
    /// inherits all that have lost their parent.
    pub(crate) async fn expect_nobody_left(&self) {
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
    pub(crate) async fn expect_nothing_kept(&self) {
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
pub(crate) async fn introduced(site: &Site, node: &str) {
    eventually(async || {
        let record = site.record(node).await?;
        anyhow::ensure!(record["vogeler"]["client"].is_object(), "{node} said hello: {record}");
        anyhow::Ok(())
    })
    .await;
}
