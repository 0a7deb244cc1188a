//! What `/proc` says of the processes that plugins leave, and of what the client holds.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The processes that carry this node's name in their environment, as all of its plugins do. Its
/// client has the name in another variable.
pub(crate) fn of_node(node: &str) -> Vec<Pid> {
    let mark = format!("VOGELER_NODE={node}");
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| carries(*pid, &mark)).collect()
}

fn carries(pid: Pid, mark: &str) -> bool {
    // One that has ended meanwhile, or that is not ours to read, is none of ours.
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}

/// The children of a process, those that have ended and were not reaped among them.
pub(crate) fn children(of: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).unwrap();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let pids = |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>();
    lists.flat_map(pids).map(Pid::from_raw).collect()
}

/// What a process is, for a message.
pub(crate) fn described(pids: &[Pid]) -> String {
    let words = |pid: &Pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} ({})", line.trim_end_matches('\0').replace('\0', " "))
    };
    pids.iter().map(words).collect::<Vec<_>>().join(", ")
}

/// Ends what plugins of a node have left when it is dropped, so that a test which fails leaves nothing either.
pub(crate) struct Sweep(pub(crate) String);

impl Drop for Sweep {
    fn drop(&mut self) {
        for pid in of_node(&self.0) {
            // It may have ended by itself meanwhile.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// What a process holds for itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Memory in KiB. The pages of its program do not count: they come when they are first used,
    /// and the system takes them back as it likes.
    pub(crate) kib: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
}

impl Held {
    pub(crate) fn by(pid: Pid) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let held = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { kib: held.expect("a line RssAnon").parse().unwrap(), descriptors }
    }
}
