//! What one batch brings for one node, on its way through reading, merging and writing.

use vogeler_protocol::record::Change;
use vogeler_protocol::{Clock, NodeName, Record, Timestamp};
use vogeler_store::Row;

use crate::intake::{Content, Incoming};

/// What one batch brings for one node: one write.
#[derive(Debug)]
pub struct Group {
    /// The node.
    pub node: NodeName,
    /// What came for it, in the order in which it came.
    pub incoming: Vec<Incoming>,
    /// The record with everything merged, and what each of `incoming` did to it. None while it has
    /// to be read first.
    pub merged: Option<(Record, Vec<Change>)>,
    /// Whether what is kept in memory may be out of date for it.
    pub stale: bool,
    /// Whether it was taken for a node without a record, unread.
    pub guessed: bool,
    /// How often the database has failed over it.
    pub failures: u32,
    /// How often it has failed over everything beside it, too.
    pub rounds: u32,
}

impl Group {
    /// Not merged with anything yet.
    pub fn of(node: NodeName, incoming: Vec<Incoming>) -> Self {
        Self { node, incoming, merged: None, stale: false, guessed: false, failures: 0, rounds: 0 }
    }

    /// Merges everything with the record as it was read, or as it is kept in memory.
    pub fn merge(&mut self, mut record: Record, clock: &Clock) {
        let changes = self.incoming.iter().map(|incoming| match &incoming.content {
            Content::Result(arrival) => record.apply(arrival),
            Content::Hello(hello) => record.apply_hello(hello, clock.now()),
        });
        let changes = changes.collect();
        self.merged = Some((record, changes));
    }

    /// When a record begins that nobody had before: when the first of it arrived.
    pub fn begun(&self, clock: &Clock) -> Timestamp {
        let received = self.incoming.iter().filter_map(|incoming| match &incoming.content {
            Content::Result(arrival) => Some(arrival.received_at),
            Content::Hello(_) => None,
        });
        received.min().unwrap_or_else(|| clock.now())
    }

    /// Whether there is anything to be written.
    pub fn writes(&self) -> bool {
        self.merged.as_ref().is_some_and(|(_, changes)| changes.iter().any(|change| change.writes()))
    }

    /// What is to be written.
    pub fn row(&self) -> Option<Row> {
        let (record, _) = self.merged.as_ref()?;
        Some(Row { id: self.node.clone(), document: record.to_document() })
    }
}

/// A group that has to be read from the database before it is merged again.
pub fn unread(group: Group) -> Group {
    Group { merged: None, stale: true, guessed: false, ..group }
}

/// The same, where somebody else has written the record meanwhile: it may have been whoever consumes now, and these very
/// results and later ones.
pub fn overtaken(mut group: Group) -> Group {
    for incoming in &mut group.incoming {
        if let Content::Result(arrival) = &mut incoming.content {
            arrival.again = true;
        }
    }
    unread(group)
}

/// Splits a batch that was refused; the one group, where there is but one.
pub fn halve(mut batch: Vec<Group>, pending: &mut Vec<Vec<Group>>) -> Option<Group> {
    if batch.len() < 2 {
        return batch.pop();
    }
    let right = batch.split_off(batch.len() / 2);
    pending.push(right);
    pending.push(batch);
    None
}

/// Gives each delivery of a refused group a write of its own; the one delivery, where there is but one.
pub fn take_apart(mut group: Group, pending: &mut Vec<Vec<Group>>) -> Option<Incoming> {
    if group.incoming.len() < 2 {
        return group.incoming.pop();
    }
    for incoming in group.incoming.into_iter().rev() {
        pending.push(vec![unread(Group::of(group.node.clone(), vec![incoming]))]);
    }
    None
}
