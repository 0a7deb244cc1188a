//! Runs one plugin and returns what it printed.
//!
//! Start at [`Executor::run`]. Nothing here knows of AMQP: a plugin is tested with no broker.
//! Nothing retries either; whoever asked decides that.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};
use vogeler_protocol::message::{Failure, FailureKind};
use vogeler_protocol::{Clock, Data, NodeName, Timestamp};

use super::descriptor::PATH;
use super::programs::{Programs, Ran};
use super::{Action, Plugin, Program, strays};

/// How much of standard error is kept: its end, where the reason mostly stands.
const STDERR_TAIL: usize = 4096;

/// How long a plugin has between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

/// How long to read on after the plugin and its group have ended; only a process that escaped the
/// group can hold the pipe open longer.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What came of running a plugin.
#[derive(Debug, Clone)]
pub struct Execution {
    /// When it started.
    pub started_at: Timestamp,
    /// How long it ran.
    pub duration: Duration,
    /// Its exit status, where it had one.
    pub exit: Option<i32>,
    /// The data, or why there is none.
    pub outcome: Result<Data, Failure>,
}

/// Runs plugins for one node.
#[derive(Debug, Clone)]
pub struct Executor {
    /// What a plugin finds as `VOGELER_NODE`.
    pub node: NodeName,
    /// The client's version, which `ping` answers.
    pub version: &'static str,
    /// The wall clock.
    pub clock: Clock,
    /// What runs programs.
    pub programs: Programs,
}

impl Executor {
    /// Runs `plugin` for the run of that name, within its limits. When it returns, nothing that
    /// the plugin started is left, but for what the module [`strays`](super) cannot find.
    pub async fn run(&self, plugin: &Plugin, run: &str) -> Execution {
        let started_at = self.clock.now();
        let begun = Instant::now();
        let (exit, outcome) = match &plugin.action {
            Action::Ping => (Some(0), Ok(self.ping())),
            Action::Program(program) => match self.programs.simulate(plugin, run) {
                Some(simulated) => simulated.await,
                None => self.run_program(plugin, program, run).await,
            },
        };
        Execution { started_at, duration: begun.elapsed(), exit, outcome }
    }

    fn ping(&self) -> Data {
        Data::parse(&serde_json::json!({ "version": self.version }).to_string()).expect("a small object is data")
    }

    async fn run_program(&self, plugin: &Plugin, program: &Program, run: &str) -> Ran {
        let marks = [format!("VOGELER_COMMAND={}", plugin.alias), format!("VOGELER_RUN={run}")];
        let mut command = match prepare(program) {
            Ok(command) => command,
            Err(message) => return (None, Err(failure(FailureKind::NotExecutable, message))),
        };
        command.env("VOGELER_NODE", self.node.as_str());
        command.env("VOGELER_COMMAND", plugin.alias.as_str()).env("VOGELER_RUN", run);
        let started = strays::Running::start(&self.node, || Command::from(command).kill_on_drop(true).spawn());
        let (child, running) = match started {
            Ok(started) => started,
            Err(error) => return (None, Err(cannot_start(program, &error))),
        };
        let ended = watch(child, plugin).await;
        drop(running);
        strays::remove(&marks).await;
        match ended {
            Ok(ended) => ended.judge(plugin),
            Err(error) => (None, Err(failure(FailureKind::NotExecutable, format!("lost sight of it: {error}")))),
        }
    }
}

/// The command with everything but the names of node, alias and run.
fn prepare(program: &Program) -> Result<std::process::Command, String> {
    let mut command = std::process::Command::new(&program.path);
    command.args(&program.args).current_dir(&program.cwd).env_clear();
    command.env("PATH", PATH).env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8");
    command.envs(&program.env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    if let Some(name) = &program.user {
        let user = nix::unistd::User::from_name(name).ok().flatten();
        let user = user.ok_or_else(|| format!("there is no user {name:?} on this machine"))?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    limit(&mut command, program.memory, program.nice);
    Ok(command)
}

/// Sets the limits between fork and exec, so that there is no moment in which they do not hold.
#[allow(unsafe_code, reason = "the standard library knows no limits; setrlimit and nice are async-signal-safe")]
fn limit(command: &mut std::process::Command, memory: Option<u64>, nice: i32) {
    let apply = move || -> io::Result<()> {
        if let Some(bytes) = memory {
            setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
        }
        // A client that is killed is told of as having been interrupted; its plugin does not go on.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // A plugin that dumps core fills the disk of the machine that it should describe.
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        if nice > 0 {
            nix::errno::Errno::result(renice(nice))?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(apply) };
}

#[allow(unsafe_code, reason = "nix has no setpriority")]
fn renice(nice: i32) -> i32 {
    // SAFETY: a system call on our own process with plain numbers.
    unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, nice) }
}

fn cannot_start(program: &Program, error: &io::Error) -> Failure {
    let path = program.path.display();
    match error.kind() {
        io::ErrorKind::NotFound if program.path.exists() => failure(
            FailureKind::NotExecutable,
            format!("{path}: the interpreter in its first line, or {}, is not there", program.cwd.display()),
        ),
        io::ErrorKind::NotFound => failure(FailureKind::NotFound, format!("{path} is not there")),
        _ => failure(FailureKind::NotExecutable, format!("{path} cannot be executed: {error}")),
    }
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, stderr: String::new() }
}

/// How a program ended.
struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    why: Option<FailureKind>,
}

/// Reads what the child prints until it ends, or has to be ended.
async fn watch(mut child: Child, plugin: &Plugin) -> io::Result<Ended> {
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Output::new(plugin.max_output), Tail::default());
    let deadline = Instant::now() + plugin.timeout;
    let mut why = None;
    let exited = {
        let reading = async { tokio::try_join!(out.read(stdout.as_mut()), err.read(stderr.as_mut())) };
        tokio::pin!(reading);
        tokio::select! {
            biased;
            exited = timeout_at(deadline, child.wait()) => exited,
            read = &mut reading => match read {
                // Both pipes are closed; what is left to wait for is the end.
                Ok(_) => timeout_at(deadline, child.wait()).await,
                Err(TooMuch) => {
                    why = Some(FailureKind::TooLarge);
                    Ok(end(&mut child, group).await)
                }
            },
        }
    };
    let status = match exited {
        Ok(status) => status?,
        Err(_) => {
            why = Some(FailureKind::Timeout);
            end(&mut child, group).await?
        }
    };
    // Whatever it started in its group ends with it.
    signal(group, Signal::SIGKILL);
    if why.is_none() {
        let rest = async { tokio::try_join!(out.read(stdout.as_mut()), err.read(stderr.as_mut())) };
        if let Ok(Err(TooMuch)) = timeout(LAST_WORDS, rest).await {
            why = Some(FailureKind::TooLarge);
        }
    }
    Ok(Ended { status, stdout: out.bytes, stderr: err.bytes, why })
}

/// TERM, a moment, KILL; to the whole group.
async fn end(child: &mut Child, group: Option<Pid>) -> io::Result<ExitStatus> {
    signal(group, Signal::SIGTERM);
    if let Ok(status) = timeout(GRACE, child.wait()).await {
        return status;
    }
    signal(group, Signal::SIGKILL);
    // A process that the kernel holds, as over a file server that is away, does not end even now.
    timeout(GRACE, child.wait()).await.unwrap_or(Ok(ExitStatus::from_raw(Signal::SIGKILL as i32)))
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // A group that is gone needs no signal.
        let _ = killpg(group, signal);
    }
}

/// There is more than the limit.
struct TooMuch;

/// Standard output, up to its limit.
struct Output {
    bytes: Vec<u8>,
    limit: usize,
}

impl Output {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// Reads to the end. What was read stays when this is cancelled, and it may be called again.
    async fn read(&mut self, from: Option<&mut (impl AsyncRead + Unpin)>) -> Result<(), TooMuch> {
        let Some(from) = from else { return Ok(()) };
        loop {
            if self.bytes.len() > self.limit {
                return Err(TooMuch);
            }
            match from.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {}
            }
        }
    }
}

/// The end of standard error.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    async fn read(&mut self, from: Option<&mut (impl AsyncRead + Unpin)>) -> Result<(), TooMuch> {
        let Some(from) = from else { return Ok(()) };
        while let Ok(1..) = from.read_buf(&mut self.bytes).await {
            if self.bytes.len() > STDERR_TAIL * 2 {
                self.bytes.drain(..self.bytes.len() - STDERR_TAIL);
            }
        }
        Ok(())
    }
}

impl Ended {
    fn judge(self, plugin: &Plugin) -> Ran {
        let Self { status, stdout, stderr, why } = self;
        let cut = stderr.len().saturating_sub(STDERR_TAIL);
        let stderr = String::from_utf8_lossy(&stderr[cut..]).into_owned();
        let failed = |kind, message| Err(Failure { kind, message, stderr: stderr.clone() });
        let outcome = match (why, status.code(), status.signal()) {
            (Some(FailureKind::TooLarge), ..) => failed(
                FailureKind::TooLarge,
                format!("printed more than {} bytes; max_output can be set up to 4 MiB", plugin.max_output),
            ),
            (Some(kind), ..) => {
                failed(kind, format!("ran longer than {}", vogeler_process::duration::format(plugin.timeout)))
            }
            (None, Some(0), _) => match plugin.format.read(&stdout) {
                Ok(data) => Ok(data),
                Err(error) => failed(FailureKind::BadOutput, vogeler_protocol::sentence(&error)),
            },
            (None, Some(code), _) => failed(FailureKind::Exit, format!("exited with status {code}")),
            (None, None, Some(number)) => {
                let name = Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.to_string());
                failed(FailureKind::Signal, format!("was ended by signal {name}"))
            }
            (None, None, None) => failed(FailureKind::Exit, format!("ended in an unknown way: {status}")),
        };
        (status.code(), outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::descriptor;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    async fn run(text: &str) -> Execution {
        let (plugins, broken) = descriptor::read(Path::new("p.yaml"), text, Path::new("/nonexistent"));
        assert!(broken.is_empty(), "{broken:?}");
        let programs = Programs::of_machine();
        let executor = Executor { node: "web01".parse().unwrap(), version: "1", clock: Clock::system(), programs };
        // As in a client, no two executions of one alias share a run.
        static RUNS: AtomicUsize = AtomicUsize::new(1);
        executor.run(&plugins[0], &format!("run-{}", RUNS.fetch_add(1, Ordering::Relaxed))).await
    }

    async fn shell(script: &str, more: &str) -> Execution {
        let quoted = serde_json::Value::from(script);
        run(&format!("a: {{command: {quoted}, shell: true, format: string{more}}}")).await
    }

    async fn data(script: &str) -> String {
        shell(script, "").await.outcome.unwrap().get().to_owned()
    }

    #[tokio::test]
    async fn a_clean_environment_and_closed_input() {
        let named = data("echo $VOGELER_NODE $VOGELER_COMMAND $VOGELER_RUN").await;
        assert!(named.starts_with("\"web01 a run-"), "{named}");
        assert_eq!(data("echo ${HOME-none} ${CARGO-none}; pwd").await, r#""none none\n/""#);
        assert_eq!(data("cat; echo end").await, r#""end""#);
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_name() {
        let failed = async |script: &str, more: &str| shell(script, more).await.outcome.unwrap_err();
        let exit = failed("echo why >&2; exit 3", "").await;
        assert_eq!((exit.kind, exit.stderr.as_str()), (FailureKind::Exit, "why\n"));
        assert_eq!(exit.message, "exited with status 3");
        assert_eq!(failed("kill -SEGV $$", "").await.message, "was ended by signal SIGSEGV");
        assert_eq!(failed("sleep 100", ", timeout: 50ms").await.kind, FailureKind::Timeout);
        assert_eq!(failed("yes", ", max_output: 100K").await.kind, FailureKind::TooLarge);
        assert_eq!(failed("printf '\\377'", "").await.kind, FailureKind::BadOutput);
        let missing = run("a: {command: /nonexistent/x, format: raw}").await.outcome.unwrap_err();
        assert_eq!(missing.kind, FailureKind::NotFound);
        let plain = run("a: {command: /etc/passwd, format: raw}").await.outcome.unwrap_err();
        assert_eq!(plain.kind, FailureKind::NotExecutable);
    }

    #[tokio::test]
    async fn a_memory_limit_holds() {
        let hungry = shell("x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}", ", memory: 64MiB").await;
        assert!(hungry.outcome.is_err());
    }

    #[tokio::test]
    async fn only_the_end_of_standard_error_is_kept() {
        let failure = shell("seq 100000 >&2; exit 1", "").await.outcome.unwrap_err();
        assert!(
            failure.stderr.ends_with("100000\n") && failure.stderr.len() <= STDERR_TAIL,
            "{}",
            failure.stderr.len()
        );
    }

    #[tokio::test]
    async fn a_child_that_keeps_the_pipe_open_does_not_keep_us() {
        let begun = shell("sleep 1000 & echo done", "").await;
        assert_eq!(begun.outcome.unwrap().get(), r#""done""#);
    }

    #[tokio::test]
    async fn what_escaped_the_group_is_found() {
        strays::adopt().unwrap();
        let escaped = shell("setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.1; echo", "").await;
        let pid: i32 = escaped.outcome.unwrap().get().trim_matches('"').split("\\n").next().unwrap().parse().unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
    }

    #[tokio::test]
    async fn a_daemon_that_forks_without_pause_is_caught() {
        strays::adopt().unwrap();
        const HOPPER: &str =
            "import os\nif os.fork(): os._exit(0)\nos.setsid()\nwhile True:\n  if os.fork(): os._exit(0)\n";
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("hopper.py");
        std::fs::write(&program, HOPPER).unwrap();
        let mark = format!("HOPPER_OF={}", dir.path().display());
        let (python, marked) = (format!("/usr/bin/python3 {}", program.display()), mark.replace('=', ": "));
        let hopped = run(&format!("a: {{command: {python}, format: raw, env: {{{marked}}}}}")).await;
        assert!(hopped.outcome.is_ok(), "{:?}", hopped.outcome);
        let carries = |process: &Path| {
            let environment = std::fs::read(process.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let processes = || std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        // One look may fall between a fork and its parent's end.
        for _ in 0..100 {
            let left: Vec<_> = processes().filter(|process| carries(process)).collect();
            assert!(left.is_empty(), "left: {left:?}");
        }
    }

    #[tokio::test]
    async fn ping_is_built_in() {
        let registry = crate::plugin::registry::Registry::read(Path::new("/nonexistent"), Path::new("/nonexistent"));
        let programs = Programs::of_machine();
        let executor = Executor { node: "a".parse().unwrap(), version: "9.9", clock: Clock::system(), programs };
        let ping = registry.get(&"ping".parse().unwrap()).unwrap();
        assert_eq!(executor.run(ping, "r").await.outcome.unwrap().get(), r#"{"version":"9.9"}"#);
    }
}
