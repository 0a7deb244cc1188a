//! A site of one test's own: virtual host, database, folder, processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use vogeler_messaging::amqp::{AmqpBroker, Frames};
use vogeler_messaging::config::BrokerSection;
use vogeler_messaging::topology::node_queue;
use vogeler_messaging::{Broker, QueueStatus, Session, Topology, results};
use vogeler_store::config::StoreSection;
use vogeler_store::couch::Couch;

use crate::program::{Outcome, Program, binary, command};
use crate::{Services, eventually};

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace").to_owned()
}

/// A site; everything of it goes when it is dropped.
pub struct Site {
    /// The services it stands on.
    pub services: Services,
    /// Its virtual host.
    pub vhost: String,
    /// Its database.
    pub database: String,
    dir: TempDir,
}

impl Site {
    /// A site with exchanges, queues, database and design documents set up.
    ///
    /// # Panics
    /// A service is missing, or the set-up fails.
    pub async fn start(name: &str) -> Self {
        Self::start_on(Services::find(), name).await
    }

    /// The same on services of the test's own.
    ///
    /// # Panics
    /// A service is missing, or the set-up fails.
    pub async fn start_on(services: Services, name: &str) -> Self {
        let site = Self::bare_on(services, name).await;
        site.setup().await.expect(0);
        site
    }

    /// A site with a virtual host and nothing in it.
    ///
    /// # Panics
    /// A service is missing.
    pub async fn bare(name: &str) -> Self {
        Self::bare_on(Services::find(), name).await
    }

    async fn bare_on(services: Services, name: &str) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let vhost = format!("test-{name}-{}", &id[..12]);
        let user = services.amqp.username().to_owned();
        services.manage(Method::PUT, &format!("/api/vhosts/{vhost}"), None).await.expect("a virtual host of our own");
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let path = format!("/api/permissions/{vhost}/{user}");
        services.manage(Method::PUT, &path, Some(all)).await.expect("rights to it");
        let dir = tempfile::Builder::new().prefix(&format!("vogeler-{name}-")).tempdir().expect("a folder");
        let site = Self { services, database: vhost.clone(), vhost, dir };
        site.write("vogeler.yaml", &site.config("").to_string());
        site
    }

    fn config(&self, more: &str) -> String {
        let docs = workspace().join("design-docs");
        format!(
            "broker:\n  url: \"{}\"\n  vhost: \"{}\"\nstore:\n  url: \"{}\"\n  database: \"{}\"\nserver:\n  design_docs: \"{}\"\n{more}",
            self.services.amqp,
            self.vhost,
            self.services.couchdb,
            self.database,
            docs.display()
        )
    }

    /// A path in the site's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that only we can read into the site's folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("our own file");
        path
    }

    /// `vogeler-server setup`
    pub async fn setup(&self) -> Outcome {
        self.run("vogeler-server", &["setup"]).await
    }

    /// Runs a program of ours to its end, with the site's configuration.
    pub async fn run(&self, program: &str, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(program, args)).await
    }

    /// A command of ours with the site's configuration.
    pub fn command(&self, program: &str, args: &[&str]) -> tokio::process::Command {
        let mut command = command(binary(program));
        command.env("VOGELER_CONFIG", self.path("vogeler.yaml")).args(args);
        command.env("XDG_STATE_HOME", self.path("state"));
        command
    }

    /// Runs the runner.
    pub async fn runner(&self, args: &[&str]) -> Outcome {
        self.run("vogeler-runner", args).await
    }

    /// Starts a server and waits until it consumes.
    pub async fn server(&self) -> Program {
        self.server_with(&[]).await
    }

    /// Starts a server with more in its environment.
    pub async fn server_with(&self, env: &[(&str, &str)]) -> Program {
        let mut command = command(binary("vogeler-server"));
        command.env("VOGELER_CONFIG", self.path("vogeler.yaml")).envs(env.iter().copied());
        let program = Program::start(command, &self.path("server.log"));
        eventually(async || {
            let queues = self.results().await?;
            let log = program.log();
            // A consumer is there before it has looked round; it takes something once it has said so.
            let begun = log.matches(" consuming ").count() >= queues.len();
            let consumed = queues.into_iter().all(QueueStatus::is_consumed);
            anyhow::ensure!(consumed && begun, "a server that consumes; it said:\n{log}");
            anyhow::Ok(())
        })
        .await;
        program
    }

    /// A node of that name with no plugin yet.
    pub fn node(&self, name: &str) -> Node<'_> {
        let plugins = self.path(name).join("plugins");
        fs::create_dir_all(&plugins).expect("a folder");
        fs::set_permissions(&plugins, fs::Permissions::from_mode(0o755)).expect("our own folder");
        Node { site: self, name: name.to_owned(), groups: String::new(), env: Vec::new(), wrapper: Vec::new() }
    }

    /// A connection to the site's virtual host.
    pub async fn session(&self) -> <AmqpBroker as Broker>::Session {
        self.broker().connect().await.expect("the broker of the tests")
    }

    /// The site's broker, with an administrator's login.
    pub fn broker(&self) -> AmqpBroker {
        let section = BrokerSection {
            url: self.services.amqp.to_string(),
            vhost: Some(self.vhost.clone()),
            ..BrokerSection::default()
        };
        section.amqp("vogeler-tests", Frames::Large).expect("the services' URL")
    }

    /// The site's database.
    pub fn couch(&self) -> Couch {
        let section = StoreSection {
            url: self.services.couchdb.to_string(),
            database: self.database.clone(),
            ..StoreSection::default()
        };
        section.couch().expect("the services' URL")
    }

    /// What is in a queue and who consumes it.
    ///
    /// # Errors
    /// There is no such queue.
    pub async fn queue(&self, name: &str) -> anyhow::Result<QueueStatus> {
        let session = self.session().await;
        let status = session.queue_status(name).await?;
        session.close().await;
        status.with_context(|| format!("queue {name}"))
    }

    /// What is in each of the queues of results, and who consumes it.
    ///
    /// # Errors
    /// There is none.
    pub async fn results(&self) -> anyhow::Result<Vec<QueueStatus>> {
        let session = self.session().await;
        let found = results::in_force(&session, &Topology::default()).await?;
        session.close().await;
        anyhow::ensure!(!found.is_empty(), "a queue of results");
        Ok(found)
    }

    /// How many results wait for a server, in all queues.
    ///
    /// # Errors
    /// There is no queue of results.
    pub async fn waiting(&self) -> anyhow::Result<usize> {
        Ok(self.results().await?.into_iter().map(|status| status.messages as usize).sum())
    }

    /// A node's record.
    ///
    /// # Errors
    /// There is none yet.
    pub async fn record(&self, node: &str) -> anyhow::Result<Value> {
        self.services.couch(Method::GET, &format!("/{}/{node}", self.database), None).await
    }

    /// The rows of a view.
    ///
    /// # Errors
    /// The view does not answer.
    pub async fn view(&self, design: &str, view: &str, query: &[(&str, Value)]) -> anyhow::Result<Vec<Value>> {
        let mut url = url::Url::parse("http://ignored")?;
        url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (*name, value.to_string())));
        let path = format!("/{}/_design/{design}/_view/{view}?{}", self.database, url.query().unwrap_or_default());
        let answer = self.services.couch(Method::GET, &path, None).await?;
        answer["rows"].as_array().cloned().context("rows")
    }

    /// Asserts that every result is settled: nothing waits, nothing is unacknowledged, no dead letter.
    pub async fn expect_settled(&self) {
        self.expect_nothing_waits().await;
        self.expect_empty("vogeler.dead").await;
    }

    /// Asserts that no result waits and none is unacknowledged; there may be dead letters.
    pub async fn expect_nothing_waits(&self) {
        let count = eventually(async || self.results().await).await.len();
        for number in 0..count {
            self.expect_empty(&format!("master.in.{number}")).await;
        }
    }

    async fn expect_empty(&self, queue: &str) {
        eventually(async || {
            let left = self.messages(queue).await?;
            anyhow::ensure!(left == 0, "{left} messages are left in {queue}");
            anyhow::Ok(())
        })
        .await;
    }

    /// How many messages a queue has, those that are with a consumer counted.
    ///
    /// # Errors
    /// There is no such queue, or it has not told its numbers yet.
    pub async fn messages(&self, queue: &str) -> anyhow::Result<u64> {
        let status = self.services.manage(Method::GET, &format!("/api/queues/{}/{queue}", self.vhost), None).await?;
        status["messages"].as_u64().with_context(|| format!("the number of messages in {queue}"))
    }

    /// The dead letters, in the words of the management API; they stay where they are.
    ///
    /// # Errors
    /// The broker is not reached.
    pub async fn dead_letters(&self) -> anyhow::Result<Vec<Value>> {
        let path = format!("/api/queues/{}/vogeler.dead/get", self.vhost);
        let all = json!({ "count": 100_000, "ackmode": "ack_requeue_true", "encoding": "auto" });
        let letters = self.services.manage(Method::POST, &path, Some(all)).await?;
        letters.as_array().cloned().context("dead letters")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let (services, vhost, database) = (self.services.reconnected(), self.vhost.clone(), self.database.clone());
        // A runtime of its own: the test's may be the one that unwinds.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                // A site that was never finished has neither.
                let _ = services.manage(Method::DELETE, &format!("/api/vhosts/{vhost}"), None).await;
                let _ = services.couch(Method::DELETE, &format!("/{database}"), None).await;
            });
        });
        let _ = cleaning.join();
    }
}

/// A node of a site.
pub struct Node<'a> {
    site: &'a Site,
    /// Its name.
    pub name: String,
    groups: String,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Node<'_> {
    /// Adds a descriptor.
    #[must_use]
    pub fn plugin(self, file: &str, text: &str) -> Self {
        self.site.write(&format!("{}/plugins/{file}", self.name), text);
        self
    }

    /// Adds the plugins that ship, by the names of their descriptors.
    #[must_use]
    pub fn shipped(self, names: &[&str]) -> Self {
        for name in names {
            let text = fs::read_to_string(workspace().join(format!("plugins/{name}.yaml"))).expect("a shipped plugin");
            self.site.write(&format!("{}/plugins/{name}.yaml", self.name), &text);
        }
        self
    }

    /// Puts it into groups, separated by commas.
    #[must_use]
    pub fn groups(mut self, groups: &str) -> Self {
        self.groups = groups.to_owned();
        self
    }

    /// Adds to the environment of its client.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs its client through another program.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// A command of `vogeler-client` with everything that makes it this node's.
    pub fn command(&self, args: &[&str]) -> tokio::process::Command {
        let client = binary("vogeler-client");
        let mut command = match self.wrapper.split_first() {
            Some((wrapper, rest)) => {
                let mut command = command(wrapper);
                command.args(rest).arg(client);
                command
            }
            None => command(client),
        };
        command
            .env("VOGELER_CONFIG", self.site.path("vogeler.yaml"))
            .env("VOGELER_NODE_NAME", &self.name)
            .env("VOGELER_PLUGIN_DIR", self.site.path(&self.name).join("plugins"))
            .env("VOGELER_CLIENT_PROGRAM_DIR", workspace().join("plugins/bin"))
            .env("VOGELER_CLIENT_STATE_DIR", self.site.path(&self.name).join("state"))
            .env("VOGELER_CLIENT_GROUPS", &self.groups)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .args(args);
        command
    }

    /// Runs a sub-command of the client to its end.
    pub async fn run(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(args)).await
    }

    /// Starts the client and waits until it consumes.
    pub async fn start(&self) -> Program {
        let program = Program::start(self.command(&[]), &self.site.path(&self.name).join("client.log"));
        let queue = node_queue(&self.name.parse().expect("a node name")).name;
        eventually(async || {
            let status = self.site.queue(&queue).await?;
            anyhow::ensure!(status.consumers > 0, "{} on line; it said:\n{}", self.name, program.log());
            anyhow::Ok(())
        })
        .await;
        program
    }
}
