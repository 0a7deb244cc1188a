//! What lists are made of: the part of each record that Vogeler keeps itself.
//!
//! Start at [`choose`], which reads it once for all the nodes that are meant. [`Seen`] knows where things stand in a
//! record; what somebody else has spoilt there counts as not being there.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::Value;
use vogeler_protocol::{Group, NodeName, Target, Timestamp};
use vogeler_store::condition::{Condition, Path};
use vogeler_store::{Found, Store, StoreError};

use super::{Whom, near, times};
use crate::tally;
use crate::wanted::{Wanted, Word};

/// A record, as far as it was read.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) node: NodeName,
    record: Value,
}

impl Seen {
    fn vogeler(&self, part: &str) -> Option<&Value> {
        self.record.get("vogeler")?.get(part)
    }

    /// When the record was told something last.
    pub(super) fn updated_at(&self) -> Option<Timestamp> {
        times::read(self.record.get("updated_at"))
    }

    /// When the node was retired, if it is.
    pub(super) fn retired_at(&self) -> Option<Timestamp> {
        retired_at(&self.record)
    }

    /// The version of its client; none where no client has said hello.
    pub(super) fn version(&self) -> Option<&str> {
        self.vogeler("client")?.get("version")?.as_str()
    }

    /// The groups that its client says it is in.
    pub(super) fn groups(&self) -> Vec<Group> {
        let groups = self.vogeler("client").and_then(|client| client.get("groups")?.as_array());
        groups.into_iter().flatten().filter_map(|group| group.as_str()?.parse().ok()).collect()
    }

    /// The aliases that its client knows: name, key and description.
    pub(super) fn aliases(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let aliases = members(self.vogeler("client").and_then(|client| client.get("aliases")));
        aliases.filter_map(|(alias, entry)| {
            let description = entry.get("description").and_then(Value::as_str).unwrap_or_default();
            Some((alias, entry.get("key")?.as_str()?, description))
        })
    }

    /// The keys that have data, and when these were collected.
    pub(super) fn results(&self) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
        members(self.vogeler("results")).map(|(key, entry)| (key, happened(entry, "collected_at")))
    }

    /// The keys that fail, with the entry and when it happened.
    pub(super) fn errors(&self) -> impl Iterator<Item = (&str, &Value, Option<Timestamp>)> {
        members(self.vogeler("errors")).map(|(key, entry)| (key, entry, happened(entry, "at")))
    }
}

impl From<Found> for Seen {
    fn from(Found { node, record }: Found) -> Self {
        Self { node, record }
    }
}

/// Members that are objects themselves.
fn members(object: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let members = object.and_then(Value::as_object).into_iter().flatten();
    members.filter(|(_, entry)| entry.is_object()).map(|(name, entry)| (name.as_str(), entry))
}

/// When something happened on a node, by its own clock, but never later than it came in: a clock that is ahead makes
/// nothing fresh.
fn happened(entry: &Value, by_its_clock: &str) -> Option<Timestamp> {
    let (own, received) = (times::read(entry.get(by_its_clock)), times::read(entry.get("received_at")));
    match (own, received) {
        (Some(own), Some(received)) => Some(own.min(received)),
        (own, received) => own.or(received),
    }
}

/// When the node of a record was retired; the mark is gone once the record has been told anything since. `vogeler.retired`
/// has to be there.
pub fn retired_at(record: &Value) -> Option<Timestamp> {
    times::read(record.get("vogeler")?.get("retired")?.get("at"))
}

/// The records of the nodes that are meant, in the order of their names.
pub(super) struct Chosen {
    pub(super) records: Vec<Seen>,
    /// What of the target there is no record of.
    pub(super) notices: Vec<String>,
    pub(super) status: u8,
}

/// Reads the records of the nodes that are meant and that meet the condition.
pub(super) async fn choose<St: Store>(
    store: &St,
    whom: &Whom,
    condition: Option<&Condition>,
) -> anyhow::Result<Chosen> {
    let wanted = Wanted::read(&whom.target)?;
    choose_of(store, &wanted, whom.retired, condition).await
}

/// The same of what was read already: reading may wait for standard input.
pub(super) async fn choose_of<St: Store>(
    store: &St,
    wanted: &Wanted,
    retired: bool,
    condition: Option<&Condition>,
) -> anyhow::Result<Chosen> {
    ensure!(!wanted.is_empty(), "{wanted} names no node");
    let mut records = read(store, condition).await?;
    let mut notices = strangers(wanted, &records);
    if !notices.is_empty() && condition.is_some() {
        // Those that do not meet the condition are there all the same.
        notices = strangers(wanted, &read(store, None).await?);
    }
    let named = named(wanted, &records);
    let is_shown = |seen: &Seen| retired || seen.retired_at().is_none() || named.contains(&seen.node);
    records.retain(|seen| is_meant(wanted, seen) && is_shown(seen));
    let status = if notices.is_empty() { tally::GOOD } else { tally::NO_SUCH };
    Ok(Chosen { records, notices, status })
}

/// In the order of the names. Whole members: a part of one that is missing somewhere would make the database look
/// twice.
async fn read<St: Store>(store: &St, condition: Option<&Condition>) -> Result<Vec<Seen>, StoreError> {
    let found = store.find(condition, &[Path::member("updated_at"), Path::member("vogeler")]).await?;
    Ok(found.into_iter().map(Seen::from).collect())
}

fn is_meant(wanted: &Wanted, seen: &Seen) -> bool {
    let groups = seen.groups();
    wanted.includes(&seen.node, |group, _| groups.contains(group))
}

fn find<'a>(records: &'a [Seen], node: &NodeName) -> Option<&'a Seen> {
    records.binary_search_by(|seen| seen.node.cmp(node)).ok().map(|place| &records[place])
}

fn named(wanted: &Wanted, records: &[Seen]) -> BTreeSet<NodeName> {
    wanted.named(|group, node| find(records, node).is_some_and(|seen| seen.groups().contains(group)))
}

/// For so many unknown names others are looked for that come near: each is compared with every node.
const SUGGESTED: usize = 10;

/// What of a target is not among the records, in sentences.
fn strangers(wanted: &Wanted, records: &[Seen]) -> Vec<String> {
    if wanted.as_target() == Some(Target::All) {
        return Vec::new();
    }
    let named = named(wanted, records);
    let strangers = named.iter().filter(|node| find(records, node).is_none());
    let names = || records.iter().map(|seen| seen.node.as_str());
    let mut sentences: Vec<String> = strangers
        .enumerate()
        .map(|(place, node)| match place {
            ..SUGGESTED => near::no_record(node, names()),
            _ => format!("there is no record of {node}"),
        })
        .collect();
    for word in wanted.excluded() {
        match word {
            Word::Node(node) if find(records, node).is_none() => {
                sentences.push(format!("!{node} leaves nobody out: {}", near::no_record(node, names())));
            }
            Word::Node(_) | Word::Group(_) | Word::Glob(_) | Word::All => {}
        }
    }
    if sentences.is_empty() && !records.iter().any(|seen| is_meant(wanted, seen)) {
        sentences.push(format!("{wanted} means no node that has a record"));
    }
    sentences
}

/// That there is no record of these, with the names that come near.
pub(crate) async fn unknown<St: Store>(store: &St, nodes: &[NodeName]) -> Result<Vec<String>, StoreError> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let known = store.nodes().await?;
    let names = || known.iter().map(|known| known.node.as_str());
    Ok(nodes.iter().map(|node| near::no_record(node, names())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Site;
    use super::*;

    async fn chosen(target: &str, retired: bool, condition: Option<&str>) -> (Vec<String>, Vec<String>, u8) {
        let whom = Whom { target: vec![target.to_owned()], retired };
        let condition = condition.map(|text| text.parse::<Condition>().unwrap());
        let Chosen { records, notices, status } =
            choose(&Site::new().await.store, &whom, condition.as_ref()).await.unwrap();
        (records.iter().map(|seen| seen.node.to_string()).collect(), notices, status)
    }

    #[tokio::test]
    async fn who_is_meant() {
        let there = |nodes: &[&str]| -> (Vec<String>, Vec<String>, u8) {
            (nodes.iter().map(|node| (*node).to_owned()).collect(), Vec::new(), 0)
        };
        assert_eq!(chosen("all", false, None).await, there(&["db01", "old01", "web01"]));
        assert_eq!(chosen("all", true, None).await, there(&["db01", "gone01", "old01", "web01"]));
        assert_eq!(chosen("gone01,db01", false, None).await, there(&["db01", "gone01"]));
        assert_eq!(chosen("group:web", false, None).await, there(&["web01"]));
        assert_eq!(chosen("all,!group:db", false, None).await, there(&["old01", "web01"]));
        assert_eq!(chosen("db01,web01,!group:db", false, None).await, there(&["web01"]));
        assert_eq!(chosen("*01", false, Some("exists facts")).await, there(&["web01"]));
        // They are there, although they do not meet the condition.
        assert_eq!(chosen("db01,web01", false, Some("exists facts")).await, there(&["web01"]));
        assert_eq!(chosen("group:db", false, Some("exists facts")).await, there(&[]));
    }

    #[tokio::test]
    async fn who_is_not_there() {
        let web02 = "there is no record of web02; did you mean web01?";
        for condition in [None, Some("exists facts")] {
            let (nodes, notices, status) = chosen("web01,web02", false, condition).await;
            assert_eq!((nodes, notices, status), (vec!["web01".to_owned()], vec![web02.to_owned()], 4));
            for target in ["group:mail", "mail*", "group:web,!web*,!gone*"] {
                let sentence = format!("{target} means no node that has a record");
                assert_eq!(chosen(target, false, condition).await, (Vec::new(), vec![sentence], 4));
            }
        }
    }

    #[test]
    fn what_is_spoilt_counts_as_not_there() {
        for vogeler in [json!(null), json!([]), json!({"client": 1, "results": [1], "errors": {"a": "b"}})] {
            let seen = Seen { node: "a".parse().unwrap(), record: json!({"vogeler": vogeler, "updated_at": 5}) };
            assert_eq!((seen.updated_at(), seen.version(), seen.groups().len()), (None, None, 0));
            assert_eq!((seen.aliases().count(), seen.results().count(), seen.errors().count()), (0, 0, 0));
        }
    }

    #[test]
    fn a_clock_that_is_ahead_makes_nothing_fresh() {
        let (early, late) = ("2026-11-20T10:00:00.000Z", "2026-11-20T11:00:00.000Z");
        for (entry, expected) in [
            (json!({"at": late, "received_at": early}), Some(early)),
            (json!({"at": early, "received_at": late}), Some(early)),
            (json!({"received_at": late}), Some(late)),
            (json!({"at": early}), Some(early)),
            (json!({}), None),
        ] {
            assert_eq!(happened(&entry, "at").map(|at| at.to_string()).as_deref(), expected, "{entry}");
        }
    }
}
