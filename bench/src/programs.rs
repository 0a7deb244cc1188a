//! The programs that are installed: how soon they are there, and what an idle agent takes.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use vogeler_messaging::topology::{EVERY_NODE, node_queue};
use vogeler_messaging::{Broker as _, ConsumeOptions, Consumer as _, Session as _};
use vogeler_protocol::{Clock, NodeName, Record};
use vogeler_store::{Row, Store as _};

use crate::act::Context;
use crate::latency::median;
use crate::meter;
use crate::report::Report;

/// How often each is started.
const STARTS: usize = 20;

/// How long an agent is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(10);

/// The agent that is started, and the node in whose place we listen.
pub const AGENT: &str = "programs.blowout.example";
/// See there.
pub const LISTENER: &str = "listener.blowout.example";

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts `vogeler-client` and `vogeler-runner` as they are in `programs`.
///
/// # Errors
/// One of them does not do its part.
pub async fn programs(context: &Context, programs: &Path, plugins: Option<&Path>) -> anyhow::Result<Report> {
    let site = &context.site;
    site.set_up().await?;
    let dir = tempfile::tempdir()?;
    let config = configuration(context, dir.path(), plugins)?;
    let mut report = Report::new(format!("the programs of {}", programs.display()), context.on());
    let session = site.amqp("vogeler-blowout programs")?.connect().await?;

    context.progress.step("starting vogeler-client");
    let client = programs.join("vogeler-client");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (agent, took) = Agent::start(&client, &config, dir.path())?;
        starts.push(took.as_secs_f64());
        drop(agent);
    }
    let (agent, _) = Agent::start(&client, &config, dir.path())?;
    context.progress.step("leaving it alone");
    tokio::time::sleep(IDLE).await;
    let pss = meter::proportional(agent.pid()).context("the system does not say how much memory it takes")?;
    drop(agent);
    report.add("client_ready", median(starts) * 1000.0, "ms from its start until it is connected, median");
    report.add("client_pss", pss as f64 / 1e6, "MB, idle");

    context.progress.step("starting vogeler-runner");
    let listener: NodeName = LISTENER.parse()?;
    let known = Record::new(listener.clone(), Clock::system().now()).to_document();
    let put = site.couch()?.put(&[Row { id: listener.clone(), document: known }]).await;
    put.context("a record cannot be written")?;
    let queue = node_queue(&listener);
    session.declare_queue(&queue).await?;
    session.bind(&queue.name, &site.topology().broadcast, EVERY_NODE).await?;
    let options = ConsumeOptions { prefetch: 0, exclusive: true, no_ack: true };
    let mut consumer = session.consume(&queue.name, options).await?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut command = Command::new(programs.join("vogeler-runner"));
        command
            .env_clear()
            .args(["--config".as_ref(), config.as_os_str()])
            .args(["-c", "ping", "-n", "all", "--detach"]);
        let mut runner = command.stdout(Stdio::null()).spawn().context("cannot start vogeler-runner")?;
        let taken = tokio::time::timeout(PATIENCE, consumer.next()).await;
        ensure!(matches!(taken, Ok(Some(_))), "vogeler-runner has published nothing");
        starts.push(begun.elapsed().as_secs_f64());
        let status = runner.wait()?;
        ensure!(status.success(), "vogeler-runner ended with {status}");
    }
    report.add("runner_published", median(starts) * 1000.0, "ms from its start until a node has the command, median");
    session.close().await;
    site.clear().await?;
    Ok(report)
}

/// A configuration file for both, which only we can read.
fn configuration(context: &Context, dir: &Path, plugins: Option<&Path>) -> anyhow::Result<PathBuf> {
    let (url, username, password) = context.site.login()?;
    let store = &context.site.store;
    let config = json!({
        "broker": { "url": url.as_str(), "username": username, "password": password.reveal(), "ca_file": context.site.broker.ca_file },
        "store": {
            "url": store.url,
            "username": store.username,
            "password": store.password.as_ref().map(vogeler_process::Secret::reveal),
        },
        "client": {
            "node_name": AGENT,
            "state_dir": dir.join("state"),
            "plugin_dir": plugins.map_or_else(|| dir.join("plugins"), Path::to_owned),
            "program_dir": plugins.map_or_else(|| dir.join("plugins"), |plugins| plugins.join("bin")),
        },
    });
    std::fs::create_dir(dir.join("plugins"))?;
    let path = dir.join("vogeler.yaml");
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
    // JSON is YAML.
    file.write_all(config.to_string().as_bytes())?;
    Ok(path)
}

/// An agent that runs; it is stopped when this is dropped.
struct Agent(Child);

impl Agent {
    /// Starts one; how long it took until it said that it is connected, as systemd would hear it.
    fn start(program: &Path, config: &Path, dir: &Path) -> anyhow::Result<(Self, Duration)> {
        let path = dir.join("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut command = Command::new(program);
        command.env_clear().env("NOTIFY_SOCKET", &path).env("PATH", "/usr/bin:/bin");
        command.args(["--config".as_ref(), config.as_os_str()]).args(["--loglevel", "error"]);
        let begun = Instant::now();
        let agent = Self(command.spawn().with_context(|| format!("cannot start {}", program.display()))?);
        let mut words = [0; 4096];
        loop {
            let length = socket.recv(&mut words).context("vogeler-client does not say that it is connected")?;
            if words[..length].windows(16).any(|window| window == b"STATUS=connected") {
                return Ok((agent, begun.elapsed()));
            }
            if begun.elapsed() > PATIENCE {
                bail!("vogeler-client does not say that it is connected");
            }
        }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(0)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both only fail where it has ended already.
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}
