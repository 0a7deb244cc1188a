//! What a run was and what came of it, in a file: for a look later on, after Ctrl-C or a lost terminal.
//!
//! `$XDG_STATE_HOME/vogeler/runs/<run>.json`, a JSON object a line: what was asked and of whom, then each event as it
//! came, then the end. A file that cannot be written stops no run.

use std::cell::RefCell;
use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use vogeler_protocol::message::Event;
use vogeler_protocol::{Alias, NodeName, RunId, Timestamp};

use crate::expected::Expected;
use crate::progress::Progress;

/// So many runs are kept, the newest ones.
const KEPT: usize = 500;

/// What was asked, and of whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The run.
    pub run: RunId,
    /// What the nodes were to run.
    pub commands: Vec<Alias>,
    /// The target, as it was typed.
    pub target: String,
    /// When.
    pub issued_at: Timestamp,
    /// Until when the command waits for nodes that are off line.
    pub expires_at: Timestamp,
    /// Who asked.
    pub issuer: String,
    /// Whether whoever accepts was waited for, because nobody could say who will.
    pub open: bool,
    /// Whether nodes that lack the alias or are off line fail the run.
    #[serde(default)]
    pub strict: bool,
    /// Whether the runner left at once and listened to nobody.
    #[serde(default)]
    pub detached: bool,
    /// Of whom.
    pub expected: Expected,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The first.
    Asked(Box<Asked>),
    /// These were asked, of a run that asks its nodes one batch after the other.
    Batch(Vec<NodeName>),
    /// A node said something.
    Event(Event),
    /// The runner left, with this exit status.
    Left {
        /// When.
        at: Timestamp,
        /// As a shell sees it.
        exit_status: u8,
    },
}

/// The folder of runs, where there is a home for it.
pub fn folder() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    state.or_else(home).map(|state| state.join("vogeler/runs"))
}

/// The file of a run that goes on.
pub struct History(Option<File>);

impl History {
    /// A run that leaves no file.
    pub fn none() -> Self {
        Self(None)
    }

    /// Begins a file, and throws the oldest ones away.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(folder: &Path, asked: Asked) -> io::Result<Self> {
        // What plugins say in failing is nobody else's business.
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let old = runs(folder)?;
        for run in old.iter().skip(KEPT - 1) {
            // One that cannot be removed is in nobody's way.
            let _ = fs::remove_file(path(folder, *run));
        }
        let file = File::options().create(true).append(true).mode(0o600).open(path(folder, asked.run))?;
        let mut history = Self(Some(file));
        history.note(&Entry::Asked(Box::new(asked)))?;
        Ok(history)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// It cannot be written; nothing more is.
    pub fn note(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let written = file.write_all(&line);
        if written.is_err() {
            self.0 = None;
        }
        written
    }
}

/// Adds a line; a file that takes no more is told of once.
pub(crate) fn note(history: &RefCell<History>, entry: &Entry, progress: &Progress) {
    if let Err(error) = history.borrow_mut().note(entry) {
        progress.notice(&format!("the run is noted no further: {error}"));
    }
}

/// The runs that there are files of, the newest first.
///
/// # Errors
/// The folder cannot be read; one that is not there has none.
pub fn runs(folder: &Path) -> io::Result<Vec<RunId>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut runs: Vec<RunId> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok()).collect();
    // Their ids begin with the time.
    runs.sort_by_key(|run| std::cmp::Reverse(run.to_string()));
    Ok(runs)
}

/// What a file says.
///
/// # Errors
/// There is none, or it cannot be understood.
pub fn read(folder: &Path, run: RunId) -> anyhow::Result<(Asked, Vec<Entry>)> {
    let path = path(folder, run);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    // The last line may be cut, where the machine died over it.
    let mut entries = text.lines().map_while(|line| serde_json::from_str::<Entry>(line).ok());
    match entries.next() {
        Some(Entry::Asked(asked)) => Ok((*asked, entries.collect())),
        Some(Entry::Batch(_) | Entry::Event(_) | Entry::Left { .. }) | None => {
            bail!("{} does not begin as the file of a run does", path.display())
        }
    }
}

fn path(folder: &Path, run: RunId) -> PathBuf {
    folder.join(format!("{run}.json"))
}

#[cfg(test)]
mod tests {
    use vogeler_protocol::Random;
    use vogeler_protocol::message::{Notice, Version};

    use super::*;

    fn asked(second: i64) -> Asked {
        let at = Timestamp::from_millisecond(1_800_000_000_000 + 1000 * second);
        Asked {
            run: RunId::new(at, &Random::seeded(1)),
            commands: vec!["rpms".parse().unwrap()],
            target: "all".into(),
            issued_at: at,
            expires_at: at,
            issuer: "a@b".into(),
            open: false,
            strict: false,
            detached: false,
            expected: Expected { on_line: ["web01".parse().unwrap()].into(), ..Expected::default() },
        }
    }

    #[test]
    fn what_is_noted_is_read_back_up_to_a_line_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asked(0);
        let event = Entry::Event(Event {
            v: Version,
            run: asked.run,
            command: asked.commands[0].clone(),
            node: "web01".parse().unwrap(),
            event: Notice::Failed,
            at: asked.issued_at,
            detail: Some("exit 1".into()),
        });
        let mut history = History::begin(folder.path(), asked.clone()).unwrap();
        history.note(&event).unwrap();
        let mut file = File::options().append(true).open(path(folder.path(), asked.run)).unwrap();
        file.write_all(b"{\"left\":{\"at\":\xc3").unwrap();
        assert_eq!(read(folder.path(), asked.run).unwrap(), (asked, vec![event]));
    }

    #[test]
    fn the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let begun: Vec<RunId> = (0..=i64::try_from(KEPT).unwrap())
            .map(|second| {
                let asked = asked(second);
                let run = asked.run;
                History::begin(folder.path(), asked).unwrap();
                run
            })
            .collect();
        let kept = runs(folder.path()).unwrap();
        assert_eq!((kept.len(), kept.first()), (KEPT, begun.last()));
        assert!(!kept.contains(&begun[0]));
        assert!(runs(&folder.path().join("none")).unwrap().is_empty());
    }
}
