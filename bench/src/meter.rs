//! What processes take: memory and CPU time, read from `/proc`.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procfs::net::TcpState;
use procfs::process::{self, FDTarget, Process};
use serde::Serialize;
use tokio::task::JoinSet;
use url::Url;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(200);

/// One kind of process: its id and those of its children.
#[derive(Debug, Clone)]
struct Watched {
    name: &'static str,
    pid: i32,
    begun: f64,
    peak: u64,
}

/// What a process took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usage {
    /// Which.
    pub name: &'static str,
    /// CPU seconds, user and system, since the meter began.
    pub cpu_seconds: f64,
    /// The most resident memory that was seen, in bytes.
    pub peak_rss: u64,
    /// Proportional memory at the end, in bytes; none where the system does not say.
    pub pss: Option<u64>,
}

/// Watches some processes.
#[derive(Debug)]
pub struct Meter {
    watched: Arc<Mutex<Vec<Watched>>>,
    _looking: JoinSet<()>,
}

impl Meter {
    /// Begins to watch these. Who is not on this machine is left out.
    pub fn start(processes: impl IntoIterator<Item = (&'static str, Option<i32>)>) -> Self {
        let begin = |(name, pid): (&'static str, Option<i32>)| {
            let pid = pid?;
            let (begun, peak) = family(pid);
            Some(Watched { name, pid, begun, peak })
        };
        let watched = Arc::new(Mutex::new(processes.into_iter().filter_map(begin).collect::<Vec<_>>()));
        let mut looking = JoinSet::new();
        let looked = Arc::clone(&watched);
        looking.spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                for watched in looked.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
                    watched.peak = watched.peak.max(resident(watched.pid));
                }
            }
        });
        Self { watched, _looking: looking }
    }

    /// What they took so far, those of one name together.
    pub fn usage(&self) -> Vec<Usage> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<Usage> = Vec::new();
        for Watched { name, pid, begun, peak } in watched {
            let (now, rss) = family(pid);
            let usage = Usage { name, cpu_seconds: now - begun, peak_rss: peak.max(rss), pss: proportional(pid) };
            match all.iter_mut().find(|before| before.name == name) {
                Some(before) => {
                    before.cpu_seconds += usage.cpu_seconds;
                    before.peak_rss += usage.peak_rss;
                    before.pss = before.pss.zip(usage.pss).map(|(before, more)| before + more);
                }
                None => all.push(usage),
            }
        }
        all
    }
}

/// CPU seconds and resident memory of a process and of all that descend from it.
fn family(pid: i32) -> (f64, u64) {
    let ticks = procfs::ticks_per_second().max(1) as f64;
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut stats = BTreeMap::new();
    for stat in process::all_processes().into_iter().flatten().flatten().filter_map(|process| process.stat().ok()) {
        children.entry(stat.ppid).or_default().push(stat.pid);
        // What ended children took, the system has added to their parent.
        let times = (stat.utime + stat.stime) as f64 + (stat.cutime + stat.cstime).max(0) as f64;
        stats.insert(stat.pid, (times / ticks, stat.rss * procfs::page_size()));
    }
    let (mut cpu, mut rss, mut todo) = (0.0, 0, vec![pid]);
    while let Some(pid) = todo.pop() {
        if let Some((seconds, bytes)) = stats.get(&pid) {
            cpu += seconds;
            rss += bytes;
        }
        todo.extend(children.remove(&pid).unwrap_or_default());
    }
    (cpu, rss)
}

fn resident(pid: i32) -> u64 {
    let stat = Process::new(pid).and_then(|process| process.stat());
    stat.map_or(0, |stat| stat.rss * procfs::page_size())
}

/// Proportional memory: what is shared counts by its share.
pub fn proportional(pid: i32) -> Option<u64> {
    let rollup = Process::new(pid).and_then(|process| process.smaps_rollup()).ok()?;
    rollup.memory_map_rollup.iter().find_map(|map| map.extension.map.get("Pss").copied())
}

/// Resident memory of a process and its children, in bytes.
pub fn memory(pid: i32) -> u64 {
    family(pid).1
}

/// The process that listens where `url` points; none where that is another machine, or another user's.
pub fn listener(url: &Url, port: u16) -> Option<i32> {
    let port = url.port_or_known_default().unwrap_or(port);
    let host = url.host_str()?.trim_matches(['[', ']']);
    let here = (host, port).to_socket_addrs().ok()?.any(|address| address.ip().is_loopback());
    if !here {
        return None;
    }
    let sockets = procfs::net::tcp().into_iter().flatten().chain(procfs::net::tcp6().into_iter().flatten());
    let inodes: Vec<u64> = sockets
        .filter(|entry| entry.state == TcpState::Listen && entry.local_address.port() == port)
        .map(|entry| entry.inode)
        .collect();
    let listens = |process: &Process| {
        let descriptors = process.fd().into_iter().flatten().flatten();
        descriptors
            .map(|descriptor| descriptor.target)
            .any(|target| matches!(target, FDTarget::Socket(inode) if inodes.contains(&inode)))
    };
    process::all_processes().ok()?.flatten().find(listens).map(|process| process.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_address() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listening.local_addr().unwrap().port();
        let url: Url = format!("http://127.0.0.1:{port}").parse().unwrap();
        assert_eq!(listener(&url, 80), Some(i32::try_from(std::process::id()).unwrap()));
        assert_eq!(listener(&"http://192.0.2.1:80".parse().unwrap(), 80), None, "another machine");
        assert!(memory(i32::try_from(std::process::id()).unwrap()) > 0);
    }
}
