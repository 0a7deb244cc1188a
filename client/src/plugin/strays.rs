//! Processes that a plugin left behind outside of its group.
//!
//! The client is a child subreaper: when the parent of such a process ends, the process becomes
//! the client's child. It is known by the run and command in its environment, killed and reaped by
//! its own id. A program that clears its environment and daemonises is not found; that is the
//! stated limit.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tracing::warn;

/// Rounds of looking: each may bring to light what the killed ones had started.
const ROUNDS: usize = 20;

/// Kills and reaps every child of ours that carries all of `marks` (`NAME=value`) in its environment.
pub(super) async fn remove(marks: &[String]) {
    for _ in 0..ROUNDS {
        let strays: Vec<Pid> = children().into_iter().filter(|pid| carries(*pid, marks)).collect();
        if strays.is_empty() {
            return;
        }
        for pid in strays {
            warn!(%pid, "a plugin left a process behind; killing it");
            // It may have ended by itself meanwhile; until it is reaped its id stays its own.
            let _ = kill(pid, Signal::SIGKILL);
            while let Ok(nix::sys::wait::WaitStatus::StillAlive) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

fn children() -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let pids = |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>();
    lists.flat_map(pids).map(Pid::from_raw).collect()
}

fn carries(pid: Pid, marks: &[String]) -> bool {
    // A zombie has no environment: it is somebody's to reap, and harms nobody.
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let found: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    !environment.is_empty() && marks.iter().all(|mark| found.contains(&mark.as_bytes()))
}
