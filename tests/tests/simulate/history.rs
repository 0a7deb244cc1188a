//! What happened, in order: a fingerprint of all of it, and the words of the end.
//!
//! Two runs of one seed have one fingerprint, or something was decided that the seed did not decide.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

/// Lines that are kept to be shown.
const KEPT: usize = 400;

/// What has happened so far.
#[derive(Default)]
pub(super) struct History {
    hasher: DefaultHasher,
    tail: VecDeque<String>,
    lines: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl History {
    /// Notes something, at that time since the beginning.
    pub(super) fn note(&mut self, at: Duration, who: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        let line = format!("{:>9}.{:03} {who}: {what}", at.as_secs(), at.subsec_millis());
        self.hasher.write(line.as_bytes());
        self.lines += 1;
        if self.tail.len() == KEPT {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Counts something that goes wrong, for the figures.
    pub(super) fn count(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    /// Of everything up to here.
    pub(super) fn fingerprint(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many things have happened.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// The last of them, in words.
    pub(super) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// How often each thing went wrong.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.clone()
    }
}
