//! The real programs as child processes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// A binary of this workspace, built beside the test that runs.
///
/// # Panics
/// It was not built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(Path::parent).expect("a test is built into target/PROFILE/deps");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not there; `cargo build --workspace` builds it, and `make test` does so",
        path.display()
    );
    path
}

/// A command with nothing of the caller's environment that could configure it.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VOGELER_")) {
        command.env_remove(name);
    }
    // Nothing is noted in the home of whoever runs the tests; a site has a place for it.
    command.env_remove("XDG_STATE_HOME").env_remove("HOME");
    command.env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; 256 where a signal ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl Outcome {
    /// Runs `command` to its end.
    ///
    /// # Panics
    /// It cannot be started, or does not end within two minutes.
    pub async fn of(command: &mut Command) -> Self {
        let output = tokio::time::timeout(Duration::from_secs(120), command.output());
        let output = output.await.unwrap_or_else(|_| panic!("{command:?} did not end within two minutes"));
        let output = output.unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        Self {
            status: output.status.code().unwrap_or(256),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit status and shows everything where it is another.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "exit status\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

/// A program that runs; ended by its id when dropped.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command` with everything that it says going to `log`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let beside = file.try_clone().expect("a second handle");
        command.stdout(file).stderr(beside);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            kill(pid, signal).expect("the process is ours");
        }
    }

    /// TERM, and waits for the end; the exit status.
    ///
    /// # Panics
    /// It does not end within a minute.
    pub async fn stop(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits for the end; the exit status.
    ///
    /// # Panics
    /// It does not end within a minute.
    pub async fn ended(&mut self) -> i32 {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it does not end; it said:\n{}", self.log()));
        ended.expect("a child of ours").code().unwrap_or(256)
    }

    /// KILL, and waits for the end.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a child of ours");
    }
}
