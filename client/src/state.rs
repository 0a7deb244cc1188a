//! The state directory: what the client must not forget when it ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use vogeler_protocol::{Group, Timestamp};

use crate::journal::Journal;

/// The state directory, held by one client at a time.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    epoch: u64,
    _lock: Flock<File>,
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

fn at(path: &Path) -> impl Fn(io::Error) -> BadState + '_ {
    |source| BadState::Io { path: path.to_owned(), source }
}

impl State {
    /// Takes the directory, makes it if it is missing, and counts this start.
    ///
    /// # Errors
    /// What [`BadState`] lists.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, BadState> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| BadState::InUse { path: dir.to_owned() })?;
        let path = dir.join("epoch");
        let last = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<u64>().map_err(|_| BadState::Epoch { path: path.clone(), text })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(BadState::Io { path, source }),
        };
        // A directory that was lost must not begin at one again: everything the node then sent would
        // count as older than what its record holds. The clock only seeds the count, it never
        // compares: one that goes back is outrun by the count itself.
        let epoch = now.as_second().max(last + 1);
        // On disk before anything is ordered by it.
        write_whole(&path, &format!("{epoch}\n"))?;
        Ok(Self { dir: dir.to_owned(), epoch, _lock: lock })
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
        let path = self.dir.join("journal");
        Journal::open(&path).map_err(at(&path))
    }

    /// The groups that the node's queue was last bound to.
    pub fn bound_groups(&self) -> Vec<Group> {
        let text = fs::read_to_string(self.dir.join("groups")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Notes the groups that the node's queue is bound to now.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_bound_groups(&self, groups: &[Group]) -> Result<(), BadState> {
        let text: String = groups.iter().map(|group| format!("{group}\n")).collect();
        write_whole(&self.dir.join("groups"), &text)
    }
}

/// Writes a file so that after a crash it is either the old one or the new one.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), BadState> {
    let write = || {
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The rename itself is on disk once its directory is.
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

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
