//! The state directory: what the client must not forget when it ends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vogeler_protocol::{Group, Timestamp};

use crate::disk::{Directory, Disk, NotTaken};
use crate::journal::{self, Journal};

/// The state directory, held by one client at a time.
#[derive(Debug)]
pub struct State {
    disk: Arc<dyn Disk>,
    epoch: u64,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    /// Something in it cannot be read or written.
    #[error("cannot use {}; the state directory (client.state_dir, --state-dir) has to be writable", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another client holds it.
    #[error("another vogeler-client uses {}; give each client a state directory of its own", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A file in it holds something else.
    #[error("{} holds {text:?}, which is no number; remove it if this machine's records may be ordered anew", path.display())]
    Epoch {
        /// Which.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

/// Where the epoch stands.
const EPOCH: &str = "epoch";

/// Where the groups stand, one a line.
const GROUPS: &str = "groups";

impl State {
    /// Takes the directory, makes it if it is missing, and counts this start.
    ///
    /// # Errors
    /// What [`BadState`] lists.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, BadState> {
        let taken = Directory::take(dir).map_err(|not_taken| match not_taken {
            NotTaken::InUse => BadState::InUse { path: dir.to_owned() },
            NotTaken::Io(path, source) => BadState::Io { path, source },
        });
        Self::on(Arc::new(taken?), now)
    }

    /// Counts this start on a disk that is ours already.
    ///
    /// # Errors
    /// What [`BadState`] lists.
    pub fn on(disk: Arc<dyn Disk>, now: Timestamp) -> Result<Self, BadState> {
        let path = disk.path(EPOCH);
        let last = match disk.read(EPOCH).map(|bytes| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())) {
            Ok(Some(text)) => text.trim().parse::<u64>().map_err(|_| BadState::Epoch { path, text })?,
            Ok(None) => 0,
            Err(source) => return Err(BadState::Io { path, source }),
        };
        // A directory that was lost must not begin at one again: everything the node then sent would
        // count as older than what its record holds. The clock only seeds the count, it never
        // compares: one that goes back is outrun by the count itself.
        let epoch = now.as_second().max(last + 1);
        let state = Self { disk, epoch };
        // On disk before anything is ordered by it.
        state.replace(EPOCH, &format!("{epoch}\n"))?;
        Ok(state)
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), BadState> {
        self.disk.replace(name, text).map_err(|source| BadState::Io { path: self.disk.path(name), source })
    }

    /// The number of this start: greater than that of every start before.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The record of what was begun and answered.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn journal(&self) -> Result<Journal, BadState> {
        let at = |source| BadState::Io { path: self.disk.path(journal::FILE), source };
        Journal::open(Arc::clone(&self.disk)).map_err(at)
    }

    /// The groups that the node's queue was last bound to.
    pub fn bound_groups(&self) -> Vec<Group> {
        let bytes = self.disk.read(GROUPS).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Notes the groups that the node's queue is bound to now.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_bound_groups(&self, groups: &[Group]) -> Result<(), BadState> {
        let text: String = groups.iter().map(|group| format!("{group}\n")).collect();
        self.replace(GROUPS, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn counts_its_starts_and_admits_one_client() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (then, before) = (Timestamp::from_millisecond(5_000), Timestamp::from_millisecond(1_000));
        let first = State::open(&path, then).unwrap();
        assert_eq!(first.epoch(), 5);
        assert!(matches!(State::open(&path, then), Err(BadState::InUse { .. })));
        first.set_bound_groups(&["web".parse().unwrap()]).unwrap();
        drop(first);
        let second = State::open(&path, before).unwrap();
        assert_eq!((second.epoch(), second.bound_groups().len()), (6, 1), "with its clock set back");
        drop(second);
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(State::open(&path, Timestamp::from_millisecond(60_000)).unwrap().epoch(), 60, "with its state lost");
    }

    #[test]
    fn a_spoilt_counter_is_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("epoch"), "many").unwrap();
        assert!(matches!(State::open(dir.path(), Timestamp::from_millisecond(0)), Err(BadState::Epoch { .. })));
    }
}
