//! `age`: how old the data are, key by key.

use std::collections::BTreeMap;
use std::time::Duration;

use vogeler_protocol::Timestamp;
use vogeler_store::Store;

use super::records::{self, Chosen, Seen};
use super::times::Times;
use super::{Reply, Shape, Whom};
use crate::output::{Column, Rows, cell};

/// The ages that are counted, each node once; what is older, or of no known age, comes after them.
const WITHIN: [Duration; 3] =
    [Duration::from_secs(3600), Duration::from_secs(24 * 3600), Duration::from_secs(7 * 24 * 3600)];

/// What `age` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Age {
    /// Which nodes
    #[command(flatten)]
    pub whom: Whom,

    /// Only this key
    ///
    /// The key is the field of the record that the data are in; mostly the alias.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

pub(super) async fn answer<St: Store>(store: &St, asked: &Age, times: Times) -> anyhow::Result<Reply> {
    let Chosen { records, notices, status } = records::choose(store, &asked.whom, None).await?;
    let mut keys: BTreeMap<&str, Vec<Option<Timestamp>>> = BTreeMap::new();
    let wanted = |key: &str| asked.key.as_deref().is_none_or(|only| only == key);
    for (key, at) in records.iter().flat_map(Seen::results).filter(|(key, _)| wanted(key)) {
        keys.entry(key).or_default().push(at);
    }
    let mut rows = Rows::new([
        Column::new("key", "Key"),
        Column::new("nodes", "Nodes"),
        Column::new("newest", "Newest"),
        Column::new("median", "Median"),
        Column::new("oldest", "Oldest"),
        Column::new("within_1h", "Within 1 h"),
        Column::new("within_1d", "1 d"),
        Column::new("within_7d", "7 d"),
        Column::new("older", "Older"),
    ]);
    for (key, mut collected) in keys {
        // What has no known time comes first, as the oldest.
        collected.sort_unstable();
        let counts = counts(&collected, times);
        let known: Vec<Timestamp> = collected.iter().flatten().copied().collect();
        rows.push([
            cell(key),
            cell(&collected.len()),
            times.cell(known.last().copied()),
            times.cell(median(&collected)),
            times.cell(known.first().copied()),
            cell(&counts[0]),
            cell(&counts[1]),
            cell(&counts[2]),
            cell(&counts[3]),
        ]);
    }
    Ok(Reply { answer: Some(rows.into()), notices, status })
}

/// Half of the nodes have data that are as old or older; none where the time is not known. Of two in the middle, the
/// older one.
fn median(collected: &[Option<Timestamp>]) -> Option<Timestamp> {
    collected.get(collected.len().checked_sub(1)? / 2).copied().flatten()
}

/// How many are how old.
fn counts(collected: &[Option<Timestamp>], times: Times) -> [usize; 4] {
    let mut counts = [0; 4];
    for at in collected {
        let place = at.and_then(|at| WITHIN.iter().position(|within| times.since(at) <= *within));
        counts[place.unwrap_or(WITHIN.len())] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{NOW, Site, listed};
    use super::super::times;
    use super::*;
    use crate::output::Format;

    #[tokio::test]
    async fn key_by_key() {
        let reply = Site::new().await.ask(&["age"]).await.unwrap();
        let expected = json!([
            {"key": "facts", "nodes": 1, "newest": "2 d", "median": "2 d", "oldest": "2 d",
                "within_1h": 0, "within_1d": 0, "within_7d": 1, "older": 0},
            {"key": "packages", "nodes": 3, "newest": "30 min", "median": "5 d", "oldest": "31 d",
                "within_1h": 1, "within_1d": 0, "within_7d": 1, "older": 1},
        ]);
        assert_eq!((listed(&reply), reply.status, reply.notices.len()), (expected, 0, 0));
    }

    #[tokio::test]
    async fn one_key_of_some_nodes() {
        let site = Site::new().await;
        let reply = site.ask(&["age", "--key", "packages", "group:web,web02", "-o", "json"]).await.unwrap();
        let expected = json!([{"key": "packages", "nodes": 1, "newest": "2026-11-20T11:30:00.000Z",
            "median": "2026-11-20T11:30:00.000Z", "oldest": "2026-11-20T11:30:00.000Z",
            "within_1h": 1, "within_1d": 0, "within_7d": 0, "older": 0}]);
        assert_eq!(listed(&reply), expected);
        assert_eq!(reply.notices, ["there is no record of web02; did you mean web01?"]);
        assert_eq!(reply.status, 4);
        assert_eq!(listed(&site.ask(&["age", "--key", "nothing"]).await.unwrap()), json!([]));
    }

    #[test]
    fn every_node_is_counted_once() {
        let now = times::read(Some(&json!(NOW))).unwrap();
        let ago = |seconds: i64| Some(Timestamp::from_millisecond(now.as_millisecond() - seconds * 1000));
        let collected = [None, ago(604_801), ago(604_800), ago(86_400), ago(3601), ago(3600), ago(-5)];
        assert_eq!(counts(&collected, Times::new(now, Format::Table)), [2, 2, 1, 2]);
    }

    #[test]
    fn the_older_one_of_two_in_the_middle() {
        let at = |millis| Some(Timestamp::from_millisecond(millis));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[at(1)]), at(1));
        assert_eq!(median(&[at(1), at(2)]), at(1));
        assert_eq!(median(&[None, at(1), at(2)]), at(1));
        assert_eq!(median(&[None, None, at(2)]), None);
    }
}
