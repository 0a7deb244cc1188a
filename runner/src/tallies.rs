//! The tallies of a run, one for each of its commands.

use std::collections::BTreeSet;

use vogeler_protocol::message::Event;
use vogeler_protocol::record::Answer;
use vogeler_protocol::{Alias, NodeName, RunId, Timestamp};

use crate::tally::{FAILED, GOOD, NO_SUCH, SILENT, Tally};

/// What came of each command of a run, in the order in which they were given.
#[derive(Debug, Clone)]
pub struct Tallies(Vec<(Alias, Tally)>);

impl Tallies {
    /// A tally of the same nodes for each command.
    pub fn new(commands: &[Alias], tally: &Tally) -> Self {
        Self(commands.iter().map(|command| (command.clone(), tally.clone())).collect())
    }

    /// Each command with its tally.
    pub fn iter(&self) -> impl Iterator<Item = (&Alias, &Tally)> {
        self.0.iter().map(|(command, tally)| (command, tally))
    }

    /// The tally of a command, if it is one of this run.
    pub fn of(&mut self, command: &Alias) -> Option<&mut Tally> {
        self.0.iter_mut().find(|(name, _)| name == command).map(|(_, tally)| tally)
    }

    /// Takes an event; true if it changed anything.
    pub fn hear(&mut self, event: &Event, now: Timestamp) -> bool {
        self.of(&event.command).is_some_and(|tally| tally.hear(event, now))
    }

    /// Takes what a node's record says of a command of this run.
    pub fn read(&mut self, command: &Alias, node: &NodeName, answer: Answer, at: Option<Timestamp>) -> bool {
        self.of(command).is_some_and(|tally| tally.read(node, answer, at))
    }

    /// The client of a node that owes an answer is not connected any more.
    pub fn leave(&mut self, node: &NodeName) {
        self.0.iter_mut().for_each(|(_, tally)| tally.leave(node));
    }

    /// No node that owes an answer is there any more.
    pub fn leave_all(&mut self) {
        self.outstanding().iter().for_each(|node| self.leave(node));
    }

    /// The nodes that owe an answer.
    pub fn outstanding(&self) -> BTreeSet<NodeName> {
        self.0.iter().flat_map(|(_, tally)| tally.outstanding().iter().cloned()).collect()
    }

    /// A later run has answered a command in the place of this one.
    pub fn replace(&mut self, command: &Alias, node: &NodeName, by: RunId) {
        if let Some(tally) = self.of(command) {
            tally.replace(node, by);
        }
    }

    /// The nodes on line are asked in batches, and none of them has been.
    pub fn wait_for_batches(&mut self) {
        self.0.iter_mut().for_each(|(_, tally)| tally.wait_for_batches());
    }

    /// These are asked now.
    pub fn ask(&mut self, nodes: &[NodeName]) {
        self.0.iter_mut().for_each(|(_, tally)| tally.ask(nodes));
    }

    /// Whether everybody has ended everything.
    pub fn are_over(&self) -> bool {
        self.0.iter().all(|(_, tally)| tally.outstanding().is_empty())
    }

    /// Whether none of these, of all unless said, has anything left to end.
    pub fn are_over_for(&self, nodes: Option<&[NodeName]>) -> bool {
        let Some(nodes) = nodes else { return self.are_over() };
        self.0.iter().all(|(_, tally)| nodes.iter().all(|node| !tally.outstanding().contains(node)))
    }

    /// How many answers are awaited, and how many of them are here.
    pub fn progress(&self) -> (usize, usize) {
        let sum = |count: fn(&Tally) -> usize| self.0.iter().map(|(_, tally)| count(tally)).sum();
        (sum(Tally::awaited), sum(Tally::ended))
    }

    /// How many have accepted and not ended.
    pub fn running(&self) -> usize {
        self.0.iter().map(|(_, tally)| tally.running()).sum()
    }

    /// Whether nobody who was meant is on line.
    pub fn nobody_there(&self) -> bool {
        self.0.iter().all(|(_, tally)| tally.nobody_there())
    }

    /// The worst of them.
    pub fn exit_status(&self, strict: bool) -> u8 {
        worst(self.0.iter().map(|(_, tally)| tally.exit_status(strict)))
    }
}

/// Of several exit statuses the one that counts: 4, then 2, 3, 0.
pub fn worst(statuses: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |status: &u8| [GOOD, SILENT, FAILED, NO_SUCH].iter().position(|known| known == status);
    statuses.into_iter().max_by_key(rank).unwrap_or(GOOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_status_is_not_the_highest_number() {
        assert_eq!(worst([GOOD, SILENT, FAILED]), FAILED);
        assert_eq!(worst([SILENT, GOOD]), SILENT);
        assert_eq!(worst([FAILED, NO_SUCH, SILENT]), NO_SUCH);
        assert_eq!(worst([]), GOOD);
    }
}
