//! A RabbitMQ of one test's own, for stories that stop or kill it.
//!
//! Start at [`PrivateBroker::start`]. The broker of [`Services::find`] is everybody's, and nobody
//! touches it. The work is done by `tests/services.sh`, which knows every process of a broker by its
//! id, and ends this one with the others should the test not live to do so.

use std::fs;
use std::path::PathBuf;
use std::process::{self, Stdio};

use tempfile::TempDir;
use tokio::process::Command;
use url::Url;

use crate::site::workspace;
use crate::{Outcome, Services};

/// A broker that can be stopped, killed and started again, always with its ports and its data; gone
/// when it is dropped. RabbitMQ takes some 5 s to start, and 6 s to stop.
///
/// It is made before the [`Site`](crate::Site) that stands on it, and so it is dropped after it.
pub struct PrivateBroker {
    services: Services,
    dir: TempDir,
}

impl PrivateBroker {
    /// Starts one.
    ///
    /// # Panics
    /// RabbitMQ does not start, which shows the end of its log; or a variable of the environment is missing.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("vogeler-broker-").tempdir().expect("a folder");
        let mut broker = Self { services: Services::find(), dir };
        broker.script("start", &["broker"]).await;
        broker.services.amqp = broker.address("VOGELER_TEST_AMQP_URL");
        broker.services.amqps = broker.address("VOGELER_TEST_AMQPS_URL");
        broker.services.management = broker.address("VOGELER_TEST_MANAGEMENT_URL");
        // A certificate is of the authority that was made with it.
        broker.services.tls_dir = broker.dir.path().join("tls");
        broker
    }

    /// This broker, beside the database of the environment.
    pub fn services(&self) -> Services {
        self.services.clone()
    }

    /// Stops it as an administrator does. It keeps its data.
    ///
    /// # Panics
    /// It does not stop.
    pub async fn stop(&self) {
        self.script("halt", &[]).await;
    }

    /// Ends it with no warning. It keeps what it had on disk; see [`PrivateBroker::note_queues`].
    ///
    /// # Panics
    /// It cannot be killed.
    pub async fn kill(&self) {
        self.script("kill", &[]).await;
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), and waits until it is ready.
    ///
    /// # Panics
    /// RabbitMQ does not start; the message shows the end of its log.
    pub async fn resume(&self) {
        self.script("resume", &[]).await;
    }

    /// `rabbitmqctl` with these arguments; what it prints.
    ///
    /// # Panics
    /// It fails.
    pub async fn ctl(&self, args: &[&str]) -> String {
        self.script("ctl", args).await
    }

    /// Makes it write down which quorum queues there are.
    ///
    /// RabbitMQ 3.10 does so by itself once nobody has asked for one during half a second. Killed
    /// before that, it forgets a queue that was just declared with all that it has confirmed, and
    /// what it makes in its place never gets a leader. No client can do anything about that.
    ///
    /// # Panics
    /// It does not run.
    pub async fn note_queues(&self) {
        self.ctl(&["eval", "dets:sync(ra_directory_reverse)."]).await;
    }

    async fn script(&self, what: &str, args: &[&str]) -> String {
        let mut command = Command::new(script());
        command.arg(what).arg(self.dir.path()).args(args).stdin(Stdio::null());
        Outcome::of(&mut command).await.expect(0).stdout
    }

    /// A variable of the file that the script has written for shells.
    fn address(&self, name: &str) -> Url {
        let path = self.dir.path().join("env");
        let text = fs::read_to_string(&path).expect("the addresses of the broker");
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}='"))?.strip_suffix('\''));
        let value = value.unwrap_or_else(|| panic!("{} does not set {name}", path.display()));
        value.parse().expect("a URL")
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        // Nobody needs its data any more: killed, it is gone at once.
        for what in ["kill", "stop"] {
            let mut command = process::Command::new(script());
            command.arg(what).arg(self.dir.path());
            let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

fn script() -> PathBuf {
    workspace().join("tests/services.sh")
}
