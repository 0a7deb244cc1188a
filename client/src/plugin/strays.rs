//! Processes that a plugin left behind outside of its group.
//!
//! The client is a child subreaper: when the parent of such a process ends, the process becomes
//! the client's child. It is known by the run and command in its environment, killed and reaped by
//! its own id. A program that clears its environment and daemonises is not found; that is the
//! stated limit.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tracing::warn;
use vogeler_protocol::NodeName;

/// Makes this process the one that what plugins leave behind falls to.
///
/// # Errors
/// The system refuses.
pub fn adopt() -> anyhow::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("cannot reap what plugins leave behind")
}

/// Ends every plugin of the node that still runs, with its group and with what has escaped it: the client ends.
pub(super) async fn end_all(node: &NodeName) {
    let of_node = |(pid, owner): (&i32, &NodeName)| (owner == node).then(|| Pid::from_raw(*pid));
    let groups: Vec<Pid> = plugins().iter().filter_map(of_node).collect();
    for group in &groups {
        // One that has ended meanwhile needs no signal.
        let _ = killpg(*group, Signal::SIGKILL);
    }
    // What has escaped falls to us when its parent is gone, and not before.
    for _ in 0..LEADERS_END {
        if groups.iter().all(|leader| has_ended(*leader)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    remove(&[format!("VOGELER_NODE={node}")]).await;
}

/// The plugins that run, and on which node: the runtime waits for these itself. A process has one set of children, and
/// so there is one list of them, however many nodes it is.
static PLUGINS: Mutex<BTreeMap<i32, NodeName>> = Mutex::new(BTreeMap::new());

/// A plugin while it runs.
pub(super) struct Running(Option<i32>);

impl Running {
    /// Starts a plugin. Nobody looks for strays between its start and its being noted.
    pub(super) fn start(
        node: &NodeName,
        spawn: impl FnOnce() -> io::Result<tokio::process::Child>,
    ) -> io::Result<(tokio::process::Child, Self)> {
        let mut plugins = plugins();
        let child = spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        plugins.extend(pid.map(|pid| (pid, node.clone())));
        Ok((child, Self(pid)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            plugins().remove(&pid);
        }
    }
}

fn plugins() -> MutexGuard<'static, BTreeMap<i32, NodeName>> {
    PLUGINS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounds of looking: each may bring to light what the killed ones had started. A program that forks
/// without pause and never stays is chased for about a second.
const ROUNDS: usize = 500;

/// Looks at plugins that were killed, until they have ended; one that the kernel holds is left to it.
const LEADERS_END: usize = 500;

/// Rounds in a row that have to find nothing: one that forks and ends while it is looked at is seen in none.
const QUIET_ROUNDS: usize = 3;

/// Kills and reaps every child of ours that carries all of `marks` (`NAME=value`) in its
/// environment, and reaps those that have ended by themselves. A process that the kernel holds, as
/// over a file server that is away, is left to it.
pub(super) async fn remove(marks: &[String]) {
    let (mut quiet, mut killed) = (0, 0);
    for _ in 0..ROUNDS {
        let reaped = reap();
        let orphans = orphans();
        let strays: Vec<Pid> = orphans.iter().copied().filter(|pid| carries(*pid, marks)).collect();
        // Nobody's child is here at all, as after nearly every plugin: nothing can come of nothing.
        if orphans.is_empty() && !reaped && killed == 0 {
            break;
        }
        for pid in &strays {
            // It may have ended by itself meanwhile; until it is reaped its id stays its own.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        killed += strays.len();
        quiet = if strays.is_empty() && !reaped { quiet + 1 } else { 0 };
        if quiet == QUIET_ROUNDS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    if killed > 0 {
        warn!(killed, "a plugin left processes behind; they were killed");
    }
}

/// Children that are no plugin: whoever was their parent has ended.
fn orphans() -> Vec<Pid> {
    let plugins = plugins();
    children().into_iter().filter(|pid| !plugins.contains_key(&pid.as_raw())).collect()
}

/// Whether there were any that had ended.
fn reap() -> bool {
    let zombies: Vec<Pid> = orphans().into_iter().filter(|pid| is_zombie(*pid)).collect();
    for pid in &zombies {
        // Somebody else may have been faster, and then there is nothing to do.
        let _ = waitpid(*pid, Some(WaitPidFlag::WNOHANG));
    }
    !zombies.is_empty()
}

fn has_ended(pid: Pid) -> bool {
    is_zombie(pid) || !Path::new(&format!("/proc/{pid}")).exists()
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which stands in brackets and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

fn children() -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let pids = |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>();
    lists.flat_map(pids).map(Pid::from_raw).collect()
}

fn carries(pid: Pid, marks: &[String]) -> bool {
    // A zombie has no environment; it is reaped, whoever it was.
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let found: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    !environment.is_empty() && marks.iter().all(|mark| found.contains(&mark.as_bytes()))
}
