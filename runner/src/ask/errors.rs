//! `errors`: what failed last, node by node, or how many nodes fail alike.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use vogeler_process::duration;
use vogeler_protocol::message::failure_words;
use vogeler_protocol::{NodeName, Timestamp};
use vogeler_store::Store;
use vogeler_store::condition::Condition;

use super::records::{self, Chosen};
use super::times::Times;
use super::{Reply, Shape, Whom};
use crate::output::{Column, Rows, cell};

/// The kinds of failure that a record may name.
const KINDS: [&str; 9] = [
    "exit",
    "signal",
    "timeout",
    "too_large",
    "bad_output",
    "not_found",
    "not_executable",
    "interrupted",
    "record_too_large",
];

/// What `errors` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Errors {
    /// Which nodes
    #[command(flatten)]
    pub whom: Whom,

    /// Only failures of this kind
    ///
    /// `exit` is a plugin that ended with a status other than 0; its status is in the column beside it.
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    pub kind: Option<String>,

    /// Only failures of this key
    ///
    /// The key is the field of the record that the data would have gone to; mostly the alias.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,

    /// Only failures of the last TIME, such as 90m or 2d
    ///
    /// By the time at which the plugin was started.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub since: Option<Duration>,

    /// Show equal failures once, with the number of nodes
    ///
    /// Equal in key, kind and message; those of most nodes come first.
    #[arg(long)]
    pub count: bool,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

pub(super) async fn answer<St: Store>(store: &St, asked: &Errors, times: Times) -> anyhow::Result<Reply> {
    let failing: Condition = "exists vogeler.errors".parse()?;
    let Chosen { records, notices, status } = records::choose(store, &asked.whom, Some(&failing)).await?;
    let failures = records.iter().flat_map(|seen| {
        seen.errors().map(|(key, entry, at)| Failure { node: &seen.node, key, at, entry }).collect::<Vec<_>>()
    });
    let failures: Vec<Failure<'_>> = failures.filter(|failure| asked.wants(failure, times)).collect();
    let rows = if asked.count { counted(&failures, times) } else { one_by_one(&failures, times) };
    Ok(Reply { answer: Some(rows.into()), notices, status })
}

impl Errors {
    fn wants(&self, failure: &Failure<'_>, times: Times) -> bool {
        let is_recent = |since: Duration| failure.at.is_some_and(|at| times.since(at) <= since);
        self.kind.as_deref().is_none_or(|kind| failure.text("kind") == kind)
            && self.key.as_deref().is_none_or(|key| failure.key == key)
            && self.since.is_none_or(is_recent)
    }
}

/// One entry of `vogeler.errors`.
struct Failure<'a> {
    node: &'a NodeName,
    key: &'a str,
    at: Option<Timestamp>,
    entry: &'a Value,
}

impl<'a> Failure<'a> {
    fn text(&self, member: &str) -> &'a str {
        self.entry.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// As a run tells it.
    fn words(&self) -> String {
        failure_words(self.text("message"), self.text("stderr"))
    }
}

fn one_by_one(failures: &[Failure<'_>], times: Times) -> Rows {
    let mut rows = Rows::new([
        Column::new("node", "Node"),
        Column::new("key", "Key"),
        Column::new("command", "Command"),
        Column::new("kind", "Kind"),
        Column::new("exit", "Exit"),
        Column::new("at", "When"),
        Column::new("message", "Message"),
    ]);
    for failure in failures {
        rows.push([
            cell(failure.node),
            cell(failure.key),
            cell(failure.text("command")),
            cell(failure.text("kind")),
            failure.entry.get("exit").and_then(cell),
            times.cell(failure.at),
            cell(&failure.words()),
        ]);
    }
    rows
}

fn counted(failures: &[Failure<'_>], times: Times) -> Rows {
    let mut alike: BTreeMap<(&str, &str, String), Vec<&Failure<'_>>> = BTreeMap::new();
    for failure in failures {
        alike.entry((failure.key, failure.text("kind"), failure.words())).or_default().push(failure);
    }
    let mut alike: Vec<_> = alike.into_iter().collect();
    alike.sort_by_key(|(_, failures)| Reverse(failures.len()));
    let mut rows = Rows::new([
        Column::new("key", "Key"),
        Column::new("kind", "Kind"),
        Column::new("nodes", "Nodes"),
        Column::new("newest", "Newest"),
        Column::new("message", "Message"),
    ]);
    for ((key, kind, message), failures) in alike {
        let newest = failures.iter().filter_map(|failure| failure.at).max();
        rows.push([cell(key), cell(kind), cell(&failures.len()), times.cell(newest), cell(&message)]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vogeler_protocol::message::FailureKind;

    use super::super::fixture::{Site, listed};
    use super::*;

    async fn failing(flags: &[&str]) -> Vec<String> {
        let words: Vec<&str> = ["errors"].iter().chain(flags).copied().collect();
        let reply = Site::new().await.ask(&words).await.unwrap();
        let place = |row: &Value| format!("{} {}", row["node"].as_str().unwrap(), row["key"].as_str().unwrap());
        listed(&reply).as_array().unwrap().iter().map(place).collect()
    }

    #[tokio::test]
    async fn one_row_for_each_key_of_a_node() {
        let reply = Site::new().await.ask(&["errors", "-o", "yaml", "web01"]).await.unwrap();
        let expected = json!([
            {"node": "web01", "key": "jmx", "command": "jmx_ports", "kind": "exit", "exit": 2,
                "at": "2026-11-20T11:00:00.000Z", "message": "no java"},
            {"node": "web01", "key": "users", "command": "users", "kind": "timeout",
                "at": "2026-11-10T12:00:00.000Z", "message": "ran for 60 s"},
        ]);
        assert_eq!((listed(&reply), reply.status, reply.notices.len()), (expected, 0, 0));
    }

    #[tokio::test]
    async fn only_some() {
        assert_eq!(failing(&[]).await, ["db01 jmx", "web01 jmx", "web01 users"]);
        assert_eq!(failing(&["--kind", "timeout"]).await, ["web01 users"]);
        assert_eq!(failing(&["--key", "jmx"]).await, ["db01 jmx", "web01 jmx"]);
        assert_eq!(failing(&["--since", "1h"]).await, ["web01 jmx"]);
        assert_eq!(failing(&["--since", "1d"]).await, ["db01 jmx", "web01 jmx"]);
        assert_eq!(failing(&["group:db"]).await, ["db01 jmx"]);
        assert_eq!(failing(&["old01"]).await, [""; 0], "it is there, and nothing fails on it");
    }

    #[tokio::test]
    async fn equal_ones_are_counted() {
        let reply = Site::new().await.ask(&["errors", "--count"]).await.unwrap();
        let expected = json!([
            {"key": "jmx", "kind": "exit", "nodes": 2, "newest": "1 h", "message": "no java"},
            {"key": "users", "kind": "timeout", "nodes": 1, "newest": "10 d", "message": "ran for 60 s"},
        ]);
        assert_eq!(listed(&reply), expected);
    }

    #[tokio::test]
    async fn a_name_without_a_record_is_told() {
        let reply = Site::new().await.ask(&["errors", "web02"]).await.unwrap();
        assert_eq!(reply.notices, ["there is no record of web02; did you mean web01?"]);
        assert_eq!(reply.status, 4);
    }

    #[test]
    fn every_kind_can_be_asked_for() {
        for kind in KINDS {
            assert!(serde_json::from_value::<FailureKind>(json!(kind)).is_ok(), "{kind}");
        }
        // A new kind does not compile here: it belongs among those above.
        let known = |kind: FailureKind| match kind {
            FailureKind::Exit
            | FailureKind::Signal
            | FailureKind::Timeout
            | FailureKind::TooLarge
            | FailureKind::BadOutput
            | FailureKind::NotFound
            | FailureKind::NotExecutable
            | FailureKind::Interrupted
            | FailureKind::RecordTooLarge => serde_json::to_value(kind).unwrap(),
        };
        assert_eq!(known(FailureKind::RecordTooLarge), json!(KINDS[8]));
    }
}
