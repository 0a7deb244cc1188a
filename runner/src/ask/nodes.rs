//! `nodes`: which nodes there are, and how each is.

use std::cmp::Ordering;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;
use vogeler_messaging::{Broker, Session};
use vogeler_process::duration;
use vogeler_protocol::{Group, Timestamp};
use vogeler_store::Store;
use vogeler_store::condition::Condition;

use super::presence::{self, OnLine};
use super::records::{self, Chosen, Seen};
use super::times::Times;
use super::{Reply, Shape, Whom};
use crate::output::{Column, Rows, cell};
use crate::run::Parts;
use crate::wanted::Wanted;

/// What `nodes` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Nodes {
    /// Which nodes
    #[command(flatten)]
    pub whom: Whom,

    /// Only those that are on line
    ///
    /// Their clients take commands now.
    #[arg(long, conflicts_with = "offline")]
    pub online: bool,

    /// Only those that are off line
    ///
    /// Those without a queue are among them, retired ones are not.
    #[arg(long)]
    pub offline: bool,

    /// Only those without a result for TIME, such as 12h or 2d
    ///
    /// By the time at which a node collected data, whatever the key; those that never sent any are among them.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub stale: Option<Duration>,

    /// Only those whose record meets EXPR, as 'facts.cpu.count >= 8'
    ///
    /// The same expressions as in `find`; docs/EXPRESSIONS.md explains them.
    #[arg(long = "where", value_name = "EXPR")]
    pub condition: Option<Condition>,

    /// Only those in a group
    ///
    /// Together with TARGET both have to hold: `nodes 'web*' --group canary`.
    #[arg(long, value_name = "NAME")]
    pub group: Option<Group>,

    /// What to sort by
    ///
    /// From the smallest, the oldest or the first letter on; what is not known comes first.
    #[arg(long, value_name = "COLUMN", value_enum, default_value_t)]
    pub sort: By,

    /// Turn the order around
    ///
    /// `--sort errors -r` has the most errors at the top.
    #[arg(short = 'r', long)]
    pub reverse: bool,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

/// The columns, to sort by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum By {
    /// The name
    #[default]
    Node,
    /// On line, off line, no queue
    #[value(alias = "on-line")]
    OnLine,
    /// The groups
    Groups,
    /// The version of the client
    Version,
    /// When data were last collected
    #[value(alias = "last-result")]
    LastResult,
    /// When the oldest data were collected
    #[value(alias = "oldest-data")]
    OldestData,
    /// How many keys fail
    Errors,
}

pub(super) async fn answer<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    asked: &Nodes,
    times: Times,
) -> anyhow::Result<Reply> {
    // Standard input first: while it is waited for, a connection would not be kept alive.
    let wanted = Wanted::read(&asked.whom.target)?;
    let choosing = records::choose_of(&parts.store, &wanted, asked.whom.retired, asked.condition.as_ref());
    let (session, chosen) = tokio::join!(parts.broker.connect(), choosing);
    let Chosen { mut records, mut notices, status } = chosen?;
    records.retain(|seen| asked.wants(seen, times));
    let told = match session {
        Ok(session) => {
            let told = presence::ask(&session, &records, times.now()).await;
            session.close().await;
            told.map_err(|reason| reason.to_string())
        }
        Err(reason) => Err(reason.to_string()),
    };
    let on_line = match told {
        Ok(on_line) => on_line,
        Err(reason) if asked.online || asked.offline => bail!("nobody can say who is on line: {reason}"),
        Err(reason) => {
            notices.push(format!("{reason}; who is on line is not known"));
            presence::unasked(&records)
        }
    };
    let mut lines: Vec<Line<'_>> =
        records.iter().zip(on_line).map(|(seen, on_line)| Line::new(seen, on_line)).collect();
    lines.retain(|line| match (asked.online, asked.offline) {
        (true, _) => line.on_line == OnLine::Yes,
        (false, true) => line.on_line.is_off_line(),
        (false, false) => true,
    });
    lines.sort_by(|line, other| line.compare(other, asked.sort));
    if asked.reverse {
        lines.reverse();
    }
    Ok(Reply { answer: Some(rows(&lines, times).into()), notices, status })
}

impl Nodes {
    fn wants(&self, seen: &Seen, times: Times) -> bool {
        let is_stale = |stale: Duration| last_result(seen).is_none_or(|at| times.since(at) > stale);
        self.group.as_ref().is_none_or(|group| seen.groups().contains(group)) && self.stale.is_none_or(is_stale)
    }
}

fn last_result(seen: &Seen) -> Option<Timestamp> {
    seen.results().filter_map(|(_, at)| at).max()
}

/// A row, before it is put into words.
struct Line<'a> {
    seen: &'a Seen,
    on_line: OnLine,
    groups: Vec<Group>,
    last_result: Option<Timestamp>,
    oldest_data: Option<Timestamp>,
    errors: usize,
}

impl<'a> Line<'a> {
    fn new(seen: &'a Seen, on_line: OnLine) -> Self {
        Self {
            seen,
            on_line,
            groups: seen.groups(),
            last_result: last_result(seen),
            oldest_data: seen.results().filter_map(|(_, at)| at).min(),
            errors: seen.errors().count(),
        }
    }

    fn compare(&self, other: &Self, by: By) -> Ordering {
        match by {
            By::Node => self.seen.node.cmp(&other.seen.node),
            By::OnLine => self.on_line.cmp(&other.on_line),
            By::Groups => self.groups.cmp(&other.groups),
            By::Version => numbers(self.seen.version()).cmp(&numbers(other.seen.version())),
            By::LastResult => self.last_result.cmp(&other.last_result),
            By::OldestData => self.oldest_data.cmp(&other.oldest_data),
            By::Errors => self.errors.cmp(&other.errors),
        }
    }
}

/// A version, so that 0.9 comes before 0.10.
fn numbers(version: Option<&str>) -> Vec<Result<u64, &str>> {
    version.into_iter().flat_map(|version| version.split('.')).map(|part| part.parse().map_err(|_| part)).collect()
}

fn rows(lines: &[Line<'_>], times: Times) -> Rows {
    let mut rows = Rows::new([
        Column::new("node", "Node"),
        Column::new("on_line", "On line").red_when(|value| value == "no" || value == "no queue"),
        Column::new("groups", "Groups"),
        Column::new("version", "Version"),
        Column::new("last_result", "Last result"),
        Column::new("oldest_data", "Oldest data"),
        Column::new("errors", "Errors").red_when(|value| value.as_u64() > Some(0)),
    ]);
    for line in lines {
        rows.push([
            cell(&line.seen.node),
            cell(&line.on_line),
            cell(&line.groups),
            line.seen.version().map(Value::from),
            times.cell(line.last_result),
            times.cell(line.oldest_data),
            cell(&line.errors),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{NoBroker, Site, listed, names};

    async fn nodes(flags: &[&str]) -> Vec<String> {
        let site = Site::new().await;
        let _client = site.on_line("web01").await;
        site.queue("db01").await;
        let words: Vec<&str> = ["nodes"].iter().chain(flags).copied().collect();
        names(&site.ask(&words).await.unwrap(), "node")
    }

    #[tokio::test]
    async fn how_each_is() {
        let site = Site::new().await;
        let _client = site.on_line("web01").await;
        let reply = site.ask(&["nodes", "-o", "json", "--retired"]).await.unwrap();
        let expected = json!([
            {"node": "db01", "on_line": "no queue", "groups": ["db"], "version": "0.10.0",
                "last_result": "2026-11-15T12:00:00.000Z", "oldest_data": "2026-11-15T12:00:00.000Z", "errors": 1},
            {"node": "gone01", "on_line": "retired", "groups": ["web"], "version": "0.9.0", "errors": 0},
            {"node": "old01", "on_line": "no", "groups": [],
                "last_result": "2026-10-20T12:00:00.000Z", "oldest_data": "2026-10-20T12:00:00.000Z", "errors": 0},
            {"node": "web01", "on_line": "yes", "groups": ["web"], "version": "0.9.0",
                "last_result": "2026-11-20T11:30:00.000Z", "oldest_data": "2026-11-18T12:00:00.000Z", "errors": 2},
        ]);
        assert_eq!(listed(&reply), expected);
        assert_eq!((reply.status, reply.notices.len()), (0, 0));
    }

    #[tokio::test]
    async fn people_get_ages() {
        let reply = Site::new().await.ask(&["nodes", "web01"]).await.unwrap();
        let rows = listed(&reply);
        assert_eq!((&rows[0]["last_result"], &rows[0]["oldest_data"]), (&json!("30 min"), &json!("2 d")));
    }

    #[tokio::test]
    async fn only_some() {
        assert_eq!(nodes(&[]).await, ["db01", "old01", "web01"]);
        assert_eq!(nodes(&["--online"]).await, ["web01"]);
        assert_eq!(nodes(&["--offline"]).await, ["db01", "old01"]);
        assert_eq!(nodes(&["--offline", "--retired"]).await, ["db01", "old01"]);
        assert_eq!(nodes(&["--stale", "2d"]).await, ["db01", "old01"]);
        assert_eq!(nodes(&["--stale", "2d", "--retired"]).await, ["db01", "gone01", "old01"], "it never sent any");
        assert_eq!(nodes(&["--stale", "5d"]).await, ["old01"]);
        assert_eq!(nodes(&["--group", "web"]).await, ["web01"]);
        assert_eq!(nodes(&["--where", "exists packages"]).await, ["db01", "old01", "web01"]);
        assert_eq!(nodes(&["--where", "facts.os.family == 'Debian'"]).await, ["web01"]);
        assert_eq!(nodes(&["*01", "--group", "db"]).await, ["db01"]);
        assert_eq!(nodes(&["gone01"]).await, ["gone01"]);
    }

    #[tokio::test]
    async fn in_every_order() {
        for (by, expected) in [
            ("node", ["db01", "old01", "web01"]),
            ("on_line", ["web01", "db01", "old01"]),
            ("on-line", ["web01", "db01", "old01"]),
            ("groups", ["old01", "db01", "web01"]),
            ("version", ["old01", "web01", "db01"]),
            ("last_result", ["old01", "db01", "web01"]),
            ("oldest_data", ["old01", "db01", "web01"]),
            ("errors", ["old01", "db01", "web01"]),
        ] {
            assert_eq!(nodes(&["--sort", by]).await, expected, "{by}");
            let mut reversed = expected;
            reversed.reverse();
            assert_eq!(nodes(&["--sort", by, "-r"]).await, reversed, "{by}");
        }
    }

    #[tokio::test]
    async fn without_the_broker_the_rest_is_shown() {
        let site = Site::new().await;
        let reply = site.ask_of(&NoBroker, &["nodes", "--retired"]).await.unwrap();
        assert_eq!(names(&reply, "on_line"), ["unknown", "retired", "unknown", "unknown"]);
        let sentence = "cannot reach the broker at nowhere: no route; who is on line is not known";
        assert_eq!((reply.notices, reply.status), (vec![sentence.to_owned()], 0));
        for flag in ["--online", "--offline"] {
            let error = site.ask_of(&NoBroker, &["nodes", flag]).await.unwrap_err().to_string();
            assert_eq!(error, "nobody can say who is on line: cannot reach the broker at nowhere: no route");
        }
    }

    #[tokio::test]
    async fn who_has_no_record_is_told() {
        let reply = Site::new().await.ask(&["nodes", "web01,web02"]).await.unwrap();
        assert_eq!(names(&reply, "node"), ["web01"]);
        let sentence = "there is no record of web02; did you mean web01?";
        assert_eq!((reply.notices, reply.status), (vec![sentence.to_owned()], 4));
    }
}
