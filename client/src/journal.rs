//! What was begun and what was answered, by run and alias, across restarts.
//!
//! A command is noted as started, on disk, before its plugin starts; as done after the broker has
//! its result. So a command that comes again is told apart: new, answered, or begun by a client
//! that did not live to finish it, which a plugin that kills its client would otherwise repeat for
//! ever.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use vogeler_protocol::{Alias, RunId, Timestamp};

use crate::disk::{Appending, Disk};

/// The file is written anew when it has grown to this many bytes.
const COMPACT_AT: u64 = 1 << 20;

/// Entries are kept for so many seconds after their command has expired: until then the broker may
/// still bring it.
const KEEP_AFTER_EXPIRY: i64 = 24 * 3600;

/// One command: a run asks for an alias once.
pub type Asked = (RunId, Alias);

/// How far a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its plugin was started in that epoch; nothing is known of the end.
    Started {
        /// The epoch.
        epoch: u64,
        /// Its place in the epoch.
        seq: u64,
    },
    /// The broker has its result.
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    progress: Progress,
    expires: i64,
}

/// The journal of one state directory.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    file: Box<dyn Appending>,
    entries: BTreeMap<Asked, Entry>,
}

/// The file's name. A rewrite is beside it until it is whole.
pub const FILE: &str = "journal";

impl Journal {
    /// Reads the journal, or begins one. A last line that a crash cut short does not count.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let bytes = disk.read(FILE)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let entries = whole.lines().filter_map(read_line).collect();
        let mut journal = Self { file: disk.append(FILE)?, disk, entries };
        if whole.len() != text.len() {
            journal.rewrite()?;
        }
        Ok(journal)
    }

    /// How far a command has come; none if it was never begun here.
    pub fn progress(&self, asked: &Asked) -> Option<Progress> {
        self.entries.get(asked).map(|entry| entry.progress)
    }

    /// Notes that the plugin of these commands starts now; on disk when this returns.
    ///
    /// # Errors
    /// It cannot be written; the plugin must not be started.
    pub fn started(&mut self, asked: &[(Asked, Timestamp)], (epoch, seq): (u64, u64)) -> io::Result<()> {
        let mut lines = String::new();
        for (asked, expires_at) in asked {
            let entry = Entry {
                progress: Progress::Started { epoch, seq },
                expires: i64::try_from(expires_at.as_second()).unwrap_or(i64::MAX),
            };
            lines.push_str(&line(asked, &entry));
            self.entries.insert(asked.clone(), entry);
        }
        self.file.write(&lines)?;
        self.file.sync()
    }

    /// Notes that the broker has the result of these commands. May be lost in a crash: they are
    /// then reported as interrupted, at the place that their result holds already.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn done(&mut self, asked: impl IntoIterator<Item = Asked>, now: Timestamp) -> io::Result<()> {
        let mut lines = String::new();
        for asked in asked {
            let expires = self.entries.get(&asked).map_or_else(|| now.as_millisecond() / 1000, |entry| entry.expires);
            let entry = Entry { progress: Progress::Done, expires };
            lines.push_str(&line(&asked, &entry));
            self.entries.insert(asked, entry);
        }
        self.file.write(&lines)?;
        if self.file.bytes()? > COMPACT_AT {
            let oldest = now.as_millisecond() / 1000 - KEEP_AFTER_EXPIRY;
            self.entries.retain(|_, entry| entry.expires > oldest);
            self.rewrite()?;
        }
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let text: String = self.entries.iter().map(|(asked, entry)| line(asked, entry)).collect();
        self.disk.replace(FILE, &text)?;
        self.file = self.disk.append(FILE)?;
        Ok(())
    }
}

fn line((run, alias): &Asked, entry: &Entry) -> String {
    match entry.progress {
        Progress::Started { epoch, seq } => format!("started {run} {alias} {} {epoch} {seq}\n", entry.expires),
        Progress::Done => format!("done {run} {alias} {}\n", entry.expires),
    }
}

fn read_line(text: &str) -> Option<(Asked, Entry)> {
    let mut words = text.split(' ');
    let kind = words.next()?;
    let asked = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let expires = words.next()?.parse().ok()?;
    let progress = match kind {
        "started" => Progress::Started { epoch: words.next()?.parse().ok()?, seq: words.next()?.parse().ok()? },
        "done" => Progress::Done,
        _ => return None,
    };
    Some((asked, Entry { progress, expires }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Directory;

    fn asked(number: u8) -> Asked {
        (format!("019aa0b0-0000-7000-8000-0000000000{number:02}").parse().unwrap(), "rpms".parse().unwrap())
    }

    fn disk(dir: &tempfile::TempDir) -> Arc<dyn Disk> {
        Arc::new(Directory::take(dir.path()).unwrap())
    }

    #[test]
    fn survives_a_restart_and_a_line_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(&dir);
        let later = Timestamp::from_millisecond(4_000_000_000_000);
        let mut journal = Journal::open(disk.clone()).unwrap();
        journal.started(&[(asked(1), later), (asked(2), later)], (7, 3)).unwrap();
        journal.done([asked(1)], later).unwrap();
        drop(journal);
        disk.append(FILE).unwrap().write("done 019aa0b0-0000-7000-8000-000000000002 rp").unwrap();
        let mut journal = Journal::open(disk.clone()).unwrap();
        assert_eq!(journal.progress(&asked(1)), Some(Progress::Done));
        assert_eq!(journal.progress(&asked(2)), Some(Progress::Started { epoch: 7, seq: 3 }));
        assert_eq!(journal.progress(&asked(3)), None);
        journal.done([asked(2)], later).unwrap();
        assert_eq!(Journal::open(disk).unwrap().progress(&asked(2)), Some(Progress::Done));
    }

    #[test]
    fn forgets_what_can_no_longer_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(disk(&dir)).unwrap();
        let (old, now) = (Timestamp::from_millisecond(0), Timestamp::from_millisecond(4_000_000_000_000));
        journal.started(&[(asked(1), old)], (1, 1)).unwrap();
        let many = vec![(asked(2), now); 20_000];
        journal.started(&many, (1, 2)).unwrap();
        journal.done([asked(2)], now).unwrap();
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() < 1000, "it was written anew");
        assert_eq!(journal.progress(&asked(1)), None);
        assert_eq!(journal.progress(&asked(2)), Some(Progress::Done));
    }
}
