//! What each node said, and what that makes of the run.
//!
//! No I/O: events go in, sentences and an exit status come out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use vogeler_protocol::message::{Event, Notice, UNKNOWN_ALIAS};
use vogeler_protocol::record::Answer;
use vogeler_protocol::{NodeName, RunId, Timestamp};

use crate::expected::Expected;

/// All stored or unchanged.
pub const GOOD: u8 = 0;
/// A plugin failed, the server refused a result, or a command had expired.
pub const FAILED: u8 = 2;
/// A node that is on line did not answer in time, or nobody targeted is on line.
pub const SILENT: u8 = 3;
/// There is no such node, or nobody knows the alias.
pub const NO_SUCH: u8 = 4;

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// On line; its batch has not been asked yet.
    Later,
    /// On line; it has said nothing yet.
    Waiting,
    /// It runs the plugin, or will when its turn comes.
    Running,
    /// It has ended, in this way.
    Ended {
        /// How.
        event: Notice,
        /// In which words.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// Whether it answered cannot be known: the record has a later run's answer to this alias.
    Replaced {
        /// Of this run.
        by: RunId,
    },
    /// It was not connected when the run began.
    OffLine,
    /// It has a record and no queue, so that the command does not wait for it.
    Gone,
    /// Nobody knows it.
    Unknown,
}

/// A node and how long after the beginning of the run it last changed.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Where it stands.
    #[serde(flatten)]
    pub state: State,
    /// Whether the run waits for it.
    #[serde(skip)]
    pub awaited: bool,
    /// Whether its client was gone when the time was up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
    /// Milliseconds since the beginning, by the runner's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// Everybody who is part of a run.
#[derive(Debug, Clone)]
pub struct Tally {
    lines: BTreeMap<NodeName, Line>,
    /// Those of them that are awaited and have not ended.
    outstanding: BTreeSet<NodeName>,
    /// How many are awaited, and how many of these have ended; counted as they come, for there may be many.
    awaited: usize,
    ended: usize,
    begun: Timestamp,
    /// Whether whoever accepts is awaited, because nobody could say who will.
    open: bool,
}

impl Tally {
    /// A run that begins now. `open` where it is not known beforehand who will answer.
    pub fn new(expected: &Expected, open: bool, begun: Timestamp) -> Self {
        let mut lines = BTreeMap::new();
        let groups = [
            (&expected.on_line, State::Waiting, true),
            (&expected.off_line, State::OffLine, false),
            (&expected.gone, State::Gone, false),
            (&expected.unknown, State::Unknown, false),
        ];
        for (nodes, state, awaited) in groups {
            for node in nodes {
                lines.insert(node.clone(), Line { state: state.clone(), awaited, left: false, after_ms: None });
            }
        }
        let (outstanding, awaited) = (expected.on_line.clone(), expected.on_line.len());
        Self { lines, outstanding, awaited, ended: 0, begun, open }
    }

    /// The nodes that are on line are asked in batches, and none of them has been.
    pub fn wait_for_batches(&mut self) {
        for line in self.lines.values_mut().filter(|line| line.state == State::Waiting) {
            line.state = State::Later;
        }
        self.outstanding.clear();
    }

    /// These are asked now.
    pub fn ask(&mut self, nodes: &[NodeName]) {
        for node in nodes {
            if let Some(line) = self.lines.get_mut(node).filter(|line| line.state == State::Later) {
                line.state = State::Waiting;
                self.outstanding.insert(node.clone());
            }
        }
    }

    /// Takes an event; true if it changed anything.
    pub fn hear(&mut self, event: &Event, now: Timestamp) -> bool {
        let state = if event.event.ends() {
            State::Ended { event: event.event, detail: event.detail.clone() }
        } else {
            State::Running
        };
        self.set(&event.node, state, Some(now))
    }

    /// Its client is not connected any more.
    pub fn leave(&mut self, node: &NodeName) {
        if let Some(line) = self.lines.get_mut(node) {
            line.left = true;
        }
    }

    /// Takes what a node's record says of this run, and when, where that is known.
    pub fn read(&mut self, node: &NodeName, answer: Answer, at: Option<Timestamp>) -> bool {
        let (event, detail) = match answer {
            Answer::Stored => (Notice::Stored, None),
            Answer::Unchanged => (Notice::Unchanged, None),
            Answer::Failed(reason) => (Notice::Failed, Some(reason)),
        };
        self.set(node, State::Ended { event, detail }, at)
    }

    fn set(&mut self, node: &NodeName, state: State, at: Option<Timestamp>) -> bool {
        let after = at.and_then(|at| u64::try_from(at.since(self.begun).as_millis()).ok());
        let open = self.open;
        let line = self.lines.entry(node.clone()).or_insert(Line {
            state: State::OffLine,
            awaited: false,
            left: false,
            after_ms: None,
        });
        // Events may overtake one another; the end stands.
        if matches!(line.state, State::Ended { .. }) {
            return false;
        }
        // Whoever says that it was skipped was never meant.
        let was_meant = !matches!(state, State::Ended { event: Notice::Skipped, .. });
        if open && was_meant && !line.awaited {
            line.awaited = true;
            self.awaited += 1;
        }
        line.state = state;
        line.after_ms = after;
        if matches!(line.state, State::Ended { .. }) {
            self.outstanding.remove(node);
            self.ended += usize::from(line.awaited);
        } else if line.awaited {
            self.outstanding.insert(node.clone());
        }
        true
    }

    /// The nodes that are awaited and have not ended.
    pub fn outstanding(&self) -> &BTreeSet<NodeName> {
        &self.outstanding
    }

    /// A later run has answered in its place, as its record says.
    pub fn replace(&mut self, node: &NodeName, by: RunId) {
        if let Some(line) = self.lines.get_mut(node).filter(|line| !matches!(line.state, State::Ended { .. })) {
            line.state = State::Replaced { by };
            self.outstanding.remove(node);
        }
    }

    /// Everybody who has not ended and whose record may say more.
    pub fn unanswered(&self) -> Vec<NodeName> {
        let open = |line: &Line| !matches!(line.state, State::Ended { .. } | State::Unknown);
        self.lines.iter().filter(|(_, line)| open(line)).map(|(node, _)| node.clone()).collect()
    }

    /// How many of those that are awaited have ended.
    pub fn ended(&self) -> usize {
        self.ended
    }

    /// How many have accepted and not ended.
    pub fn running(&self) -> usize {
        self.lines.values().filter(|line| line.state == State::Running).count()
    }

    /// How many are awaited in all.
    pub fn awaited(&self) -> usize {
        self.awaited
    }

    /// Every node with where it stands.
    pub fn lines(&self) -> impl Iterator<Item = (&NodeName, &Line)> {
        self.lines.iter()
    }

    /// How many have ended in that way.
    pub fn count(&self, notice: Notice) -> usize {
        let ended = |line: &&Line| matches!(&line.state, State::Ended { event, .. } if *event == notice);
        self.lines.values().filter(ended).count()
    }

    fn lacking(&self) -> usize {
        self.lines.values().filter(|line| lacks_alias(&line.state)).count()
    }

    fn any(&self, of: impl Fn(&State) -> bool) -> bool {
        self.lines.values().any(|line| of(&line.state))
    }

    /// Whether everybody who is on line has answered that it lacks the alias.
    pub fn nobody_knows(&self) -> bool {
        let may_know = self.any(|state| match state {
            State::Running | State::Waiting | State::Later | State::Replaced { .. } => true,
            State::Ended { event, .. } => *event != Notice::Skipped && !lacks_alias(state),
            State::OffLine | State::Gone | State::Unknown => false,
        });
        self.lacking() > 0 && !may_know
    }

    /// Whether nobody who was meant is on line.
    pub fn nobody_there(&self) -> bool {
        let answered = |state: &State| match state {
            State::Ended { event, .. } => *event != Notice::Skipped,
            State::Running => true,
            _ => false,
        };
        self.awaited() == 0 && !self.any(answered)
    }

    /// The exit status; with `strict`, nodes that lack the alias or are off line count, too.
    pub fn exit_status(&self, strict: bool) -> u8 {
        let failed = |state: &State| match state {
            State::Ended { event: Notice::Failed | Notice::Rejected, .. } => true,
            State::Ended { event: Notice::Refused, .. } => strict || !lacks_alias(state),
            _ => false,
        };
        if self.any(|state| matches!(state, State::Unknown)) || self.nobody_knows() {
            NO_SUCH
        } else if self.any(failed) {
            FAILED
        } else if !self.outstanding().is_empty()
            || self.any(|state| matches!(state, State::Later | State::Replaced { .. }))
            || self.nobody_there()
            || (strict && self.any(|state| matches!(state, State::OffLine | State::Gone)))
        {
            SILENT
        } else {
            GOOD
        }
    }
}

/// Whether a node refused because it lacks the alias.
pub fn lacks_alias(state: &State) -> bool {
    matches!(
        state,
        State::Ended { event: Notice::Refused, detail: Some(detail) } if detail.starts_with(UNKNOWN_ALIAS)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use vogeler_protocol::message::Version;

    fn tally(on_line: &[&str], off_line: &[&str], unknown: &[&str]) -> Tally {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let expected = Expected {
            on_line: names(on_line),
            off_line: names(off_line),
            unknown: names(unknown),
            ..Expected::default()
        };
        Tally::new(&expected, false, Timestamp::from_millisecond(0))
    }

    fn say(tally: &mut Tally, node: &str, event: Notice, detail: Option<&str>) {
        let event = Event {
            v: Version,
            run: "019aa0b0-0000-7000-8000-000000000001".parse().unwrap(),
            command: "rpms".parse().unwrap(),
            node: node.parse().unwrap(),
            event,
            at: Timestamp::from_millisecond(0),
            detail: detail.map(str::to_owned),
        };
        tally.hear(&event, Timestamp::from_millisecond(1));
    }

    #[test]
    fn all_stored_or_unchanged_is_good() {
        let mut tally = tally(&["a", "b"], &["c"], &[]);
        assert_eq!(tally.exit_status(false), SILENT);
        say(&mut tally, "a", Notice::Stored, None);
        say(&mut tally, "b", Notice::Accepted, None);
        assert_eq!(tally.outstanding().len(), 1);
        say(&mut tally, "b", Notice::Unchanged, None);
        say(&mut tally, "b", Notice::Accepted, None);
        assert!(tally.outstanding().is_empty(), "what has ended stays so");
        assert_eq!((tally.exit_status(false), tally.exit_status(true)), (GOOD, SILENT), "one is off line");
    }

    #[test]
    fn the_worst_decides() {
        let mut tally = tally(&["a", "b", "c"], &[], &[]);
        say(&mut tally, "a", Notice::Stored, None);
        say(&mut tally, "b", Notice::Refused, Some("unknown alias; this node knows ping"));
        say(&mut tally, "c", Notice::Stored, None);
        assert_eq!((tally.exit_status(false), tally.exit_status(true)), (GOOD, FAILED));
        let mut failing = tally.clone();
        failing.lines.remove("c");
        say(&mut failing, "c", Notice::Refused, Some("expired at …"));
        assert_eq!(failing.exit_status(false), FAILED);
        let mut mixed = self::tally(&["a"], &[], &["x"]);
        say(&mut mixed, "a", Notice::Failed, None);
        assert_eq!(mixed.exit_status(false), NO_SUCH);
    }

    #[test]
    fn nobody_knows_the_alias() {
        let mut tally = tally(&["a", "b"], &[], &[]);
        for node in ["a", "b"] {
            say(&mut tally, node, Notice::Refused, Some("unknown alias; this node knows ping"));
        }
        assert_eq!(tally.exit_status(false), NO_SUCH);
    }

    #[test]
    fn nobody_on_line_is_silence() {
        assert_eq!(tally(&[], &["a"], &[]).exit_status(false), SILENT);
        assert_eq!(tally(&[], &[], &[]).exit_status(false), SILENT);
    }

    #[test]
    fn without_a_database_whoever_accepts_is_awaited() {
        let mut tally = Tally::new(&Expected::default(), true, Timestamp::from_millisecond(0));
        say(&mut tally, "a", Notice::Accepted, None);
        assert_eq!(tally.outstanding().len(), 1);
        say(&mut tally, "a", Notice::Stored, None);
        assert_eq!(tally.exit_status(false), GOOD);
    }
}
