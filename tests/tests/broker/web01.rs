//! The one node with a real client, and what that client did.
//!
//! Plugins leave a line each time they are started, and a queue beside the server's gets a copy of
//! each result: what counts are these, never what a program says of itself.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use vogeler_messaging::topology::slot_key;
use vogeler_tests::program::{binary, command};
use vogeler_tests::{Program, Site, eventually};

/// A client that has found no broker again and again waits up to a minute before its next attempt.
const PATIENCE: Duration = Duration::from_secs(120);

/// `held` and its run last as long as what strikes meanwhile: five starts of a broker at the volume of `make torture`
/// take minutes on a slow machine. No plugin may take longer.
const HELD: &str = "15m";

/// The queue of commands.
pub(crate) const COMMANDS: &str = "vogeler.node.web01";

/// A run that is to end well.
pub(crate) const HELLO: [&str; 4] = ["-c", "hello", "-n", "web01"];

/// The node.
pub(crate) struct Web01<'a> {
    site: &'a Site,
    /// Its client.
    pub(crate) client: Program,
}

impl<'a> Web01<'a> {
    /// Starts its client and waits until a runner can know that it is there. Of its plugins `hello`
    /// ends at once, and `held` when it is let go.
    pub(crate) async fn start(site: &'a Site) -> Self {
        let folder = site.path("").display().to_string();
        let plugin = |alias: &str, rest: &str| {
            format!(
                "{alias}:\n  command: echo >> started-{alias}; {rest}\n  shell: true\n  format: string\n  \
                 timeout: {HELD}\n  cwd: {folder}\n"
            )
        };
        let hello = plugin("hello", "echo hi");
        let held = plugin("held", "until [ -e go ]; do sleep 0.05; done; echo done");
        let node = site.node("web01").groups("web").plugin("hello.yaml", &hello).plugin("held.yaml", &held);
        let client = node.start().await;
        eventually(async || {
            let record = site.record("web01").await?;
            anyhow::ensure!(record["vogeler"]["client"].is_object(), "web01 said hello: {record}");
            anyhow::Ok(())
        })
        .await;
        Self { site, client }
    }

    /// How often a plugin was started.
    pub(crate) fn starts(&self, alias: &str) -> usize {
        let lines = fs::read_to_string(self.site.path(&format!("started-{alias}")));
        lines.map_or(0, |lines| lines.lines().count())
    }

    /// Waits until `held` runs.
    pub(crate) async fn holds(&self) {
        eventually(async || {
            anyhow::ensure!(self.starts("held") > 0, "held runs; the client said:\n{}", self.client.log());
            anyhow::Ok(())
        })
        .await;
    }

    /// Lets `held` end.
    pub(crate) fn let_go(&self) {
        self.site.write("go", "");
    }

    /// Waits until its client is connected.
    pub(crate) async fn on_line(&self) {
        consumed(self.site, COMMANDS, &self.client).await;
    }

    /// From now on a queue of its own gets a copy of all that it sends.
    pub(crate) async fn overhear(&self) {
        let (services, vhost) = (&self.site.services, &self.site.vhost);
        let queue = json!({ "durable": true });
        services.manage(Method::PUT, &format!("/api/queues/{vhost}/overheard"), Some(queue)).await.unwrap();
        let key = json!({ "routing_key": slot_key(&"web01".parse().unwrap()) });
        let path = format!("/api/bindings/{vhost}/e/vogeler.master.in/q/overheard");
        services.manage(Method::POST, &path, Some(key)).await.unwrap();
    }

    /// The results of an alias among what was overheard, in the order in which they were published.
    pub(crate) async fn results(&self, alias: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/api/queues/{}/overheard/get", self.site.vhost);
        let all = json!({ "count": 100_000, "ackmode": "ack_requeue_true", "encoding": "auto" });
        let messages = self.site.services.manage(Method::POST, &path, Some(all)).await?;
        let mut results = Vec::new();
        for message in messages.as_array().context("messages")? {
            if message["properties"]["type"] == "result" {
                let result: Value = serde_json::from_str(message["payload"].as_str().context("a payload")?)?;
                if result["node"] == "web01" && result["command"] == alias {
                    results.push(result);
                }
            }
        }
        Ok(results)
    }

    /// Asserts that every command is acknowledged, and that `held` was started once and answered once.
    pub(crate) async fn expect_held_once(&self) {
        self.expect_acknowledged().await;
        let results = self.results("held").await.unwrap();
        assert_eq!(self.starts("held"), 1, "how often held was started; the client said:\n{}", self.client.log());
        assert_eq!(results.len(), 1, "one result of held: {results:?}");
        let record = self.site.record("web01").await.unwrap();
        assert_eq!(record["held"], "done", "{record}");
    }

    /// Asserts that no command waits and that none is unacknowledged.
    pub(crate) async fn expect_acknowledged(&self) {
        eventually(async || {
            let left = self.site.messages(COMMANDS).await?;
            anyhow::ensure!(left == 0, "{left} commands are left; the client said:\n{}", self.client.log());
            anyhow::Ok(())
        })
        .await;
    }
}

/// Waits until somebody consumes a queue; `program` is the one that should.
pub(crate) async fn consumed(site: &Site, queue: &str, program: &Program) {
    let waiting = async {
        while site.queue(queue).await.map_or(0, |status| status.consumers) == 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = timeout(PATIENCE, waiting).await;
    let seconds = PATIENCE.as_secs();
    assert!(waited.is_ok(), "after {seconds} s nobody consumes {queue}; who should said:\n{}", program.log());
}

/// Starts a run and does not wait for its end.
pub(crate) fn begin(site: &Site, alias: &str) -> Program {
    let mut command = command(binary("vogeler-runner"));
    command.env("VOGELER_CONFIG", site.path("vogeler.yaml")).args(["-c", alias, "-n", "web01", "--timeout", HELD]);
    Program::start(command, &site.path(&format!("run-{alias}.log")))
}

/// Waits until a run has ended, and asserts that it ended well.
pub(crate) async fn expect_good(mut run: Program) {
    let status = run.ended().await;
    assert_eq!(status, 0, "the exit status of a run that said:\n{}", run.log());
}

/// Waits until a program has said these words.
pub(crate) async fn says(program: &Program, words: &str) {
    eventually(async || {
        anyhow::ensure!(program.log().contains(words), "{words:?} among what it says:\n{}", program.log());
        anyhow::Ok(())
    })
    .await;
}

/// A story: the plugin is held while `fault` strikes, then let go; its run ends well, and it ran once.
pub(crate) async fn while_its_plugin_runs(name: &str, fault: impl AsyncFnOnce(&Site, &Web01)) {
    let site = Site::start(name).await;
    let _server = site.server().await;
    let web01 = Web01::start(&site).await;
    web01.overhear().await;
    let run = begin(&site, "held");
    web01.holds().await;
    fault(&site, &web01).await;
    web01.on_line().await;
    web01.let_go();
    expect_good(run).await;
    site.runner(&HELLO).await.expect(0);
    web01.expect_held_once().await;
    site.expect_settled().await;
}
