//! Recent records, whole and with their revision, so that most batches need not read first.

use std::collections::{BTreeMap, HashMap};

use vogeler_protocol::{NodeName, Record};

/// Records by node, bounded by bytes; the one that was used longest ago goes first.
#[derive(Debug)]
pub struct Records {
    most_bytes: usize,
    bytes: usize,
    turn: u64,
    records: HashMap<NodeName, Kept>,
    by_turn: BTreeMap<u64, NodeName>,
}

#[derive(Debug)]
struct Kept {
    record: Record,
    weight: usize,
    turn: u64,
}

impl Records {
    /// Keeps up to so many bytes of records.
    pub fn new(most_bytes: usize) -> Self {
        Self { most_bytes, bytes: 0, turn: 0, records: HashMap::new(), by_turn: BTreeMap::new() }
    }

    /// Takes a record out, to be changed and put back once its new revision is known.
    pub fn take(&mut self, node: &NodeName) -> Option<Record> {
        let kept = self.records.remove(node)?;
        self.by_turn.remove(&kept.turn);
        self.bytes -= kept.weight;
        Some(kept.record)
    }

    /// Keeps a record as the database has it now.
    pub fn keep(&mut self, record: Record) {
        let node = record.id().clone();
        self.take(&node);
        let weight = record.weight();
        self.turn += 1;
        self.bytes += weight;
        self.by_turn.insert(self.turn, node.clone());
        self.records.insert(node, Kept { record, weight, turn: self.turn });
        while self.bytes > self.most_bytes {
            let Some((_, oldest)) = self.by_turn.first_key_value() else { return };
            let oldest = oldest.clone();
            self.take(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vogeler_protocol::Timestamp;

    #[test]
    fn the_longest_unused_goes_first() {
        let record = |name: &str| Record::new(name.parse().unwrap(), Timestamp::from_millisecond(0));
        let mut records = Records::new(record("a").weight() * 2);
        records.keep(record("a"));
        records.keep(record("b"));
        let a = records.take(&"a".parse().unwrap()).expect("both fit");
        records.keep(a);
        records.keep(record("c"));
        assert!(records.take(&"b".parse().unwrap()).is_none());
        assert!(records.take(&"a".parse().unwrap()).is_some());
        assert!(records.take(&"c".parse().unwrap()).is_some());
        assert_eq!(records.bytes, 0);
    }
}
