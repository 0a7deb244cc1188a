//! `find`: the nodes whose record meets an expression.

use std::str::FromStr;

use serde_json::Value;
use vogeler_store::Store;
use vogeler_store::condition::{Condition, Path};

use super::records::retired_at;
use super::{Reply, Shape};
use crate::output::{Column, Rows, cell};

/// What `find` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Find {
    /// The expression, as 'facts.os.family == "Debian" && packages.openssl < "3.0.15"'
    ///
    /// In single quotes, because a shell has its own ideas of `<`, `&&` and `!`. docs/EXPRESSIONS.md explains it.
    #[arg(value_name = "EXPR")]
    pub condition: Condition,

    /// What to show of each, as facts.os.version,packages.openssl
    ///
    /// Paths with commas between them; without it, what the expression looks at. A path that leads through a list shows
    /// what every element has there.
    #[arg(long, value_name = "PATH,…")]
    pub columns: Option<Columns>,

    /// Show retired nodes, too
    ///
    /// They are left out otherwise, as everywhere.
    #[arg(long)]
    pub retired: bool,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

/// Paths, as they are typed with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<Path>);

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = |text: &str| text.trim().parse::<Path>().map_err(|error| error.to_string());
        split(text).into_iter().map(path).collect::<Result<_, _>>().map(Self)
    }
}

/// The parts between commas; one in quotes belongs to a name.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quote, mut escaped) = (Vec::new(), 0, None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), character) if open == character => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, ',') => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            (Some(_) | None, _) => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

pub(super) async fn answer<St: Store>(store: &St, asked: &Find) -> anyhow::Result<Reply> {
    let columns = match &asked.columns {
        Some(Columns(columns)) => columns.clone(),
        // The node stands in each row anyway.
        None => asked.condition.paths().into_iter().filter(|path| path.segments() != ["_id"]).cloned().collect(),
    };
    // Retirement is told there; whole, because a part that is missing somewhere would make the database look twice.
    let own = Path::member("vogeler");
    let is_there = |path: &&Path| path.segments().starts_with(own.segments());
    let mut fields: Vec<Path> = columns.iter().filter(|path| !is_there(path)).cloned().collect();
    fields.push(own.clone());
    let found = store.find(Some(&asked.condition), &fields).await?;

    let name = if columns.iter().any(|path| path.segments() == ["node"]) { "_id" } else { "node" };
    let titles = columns.iter().map(|path| Column::new(path.to_string(), path.to_string()));
    let mut rows = Rows::new([Column::new(name, "Node")].into_iter().chain(titles));
    for found in found.iter().filter(|found| asked.retired || retired_at(&found.record).is_none()) {
        let cells = columns.iter().map(|path| at(&found.record, path.segments()));
        rows.push([cell(&found.node)].into_iter().chain(cells));
    }
    Ok(rows.into())
}

/// What is there; where a list is on the way, of each of its elements that has it.
fn at(value: &Value, segments: &[String]) -> Option<Value> {
    let Some((first, rest)) = segments.split_first() else { return Some(value.clone()) };
    match value {
        Value::Object(members) => at(members.get(first)?, rest),
        Value::Array(_) if first.bytes().all(|byte| byte.is_ascii_digit()) => at(Path::member(first).get(value)?, rest),
        Value::Array(items) => {
            let values: Vec<Value> = items.iter().filter_map(|item| at(item, segments)).collect();
            (!values.is_empty()).then_some(Value::Array(values))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Site, listed, names};
    use super::*;

    #[tokio::test]
    async fn whose_record_meets_it() {
        let site = Site::new().await;
        let reply = site.ask(&["find", r#"packages.openssl < "3.0.15" && _id ~ "0""#]).await.unwrap();
        let expected = json!([
            {"node": "db01", "packages.openssl": "3.0.14-1"},
            {"node": "old01", "packages.openssl": "1.1.1"},
        ]);
        assert_eq!((listed(&reply), reply.status), (expected, 0));
        assert_eq!(listed(&site.ask(&["find", "facts.cpus > 99"]).await.unwrap()), json!([]));
    }

    #[tokio::test]
    async fn the_columns_that_are_asked_for() {
        let columns = r#"facts.disks.1,packages."python3.11",facts.os,vogeler.client.version"#;
        let reply = Site::new().await.ask(&["find", "exists packages", "--columns", columns]).await.unwrap();
        let expected = json!([
            {"node": "db01", "vogeler.client.version": "0.10.0"},
            {"node": "old01"},
            {"node": "web01", "facts.disks.1": "sdb", "packages.\"python3.11\"": "3.11.2",
                "facts.os": {"family": "Debian", "release": "12"}, "vogeler.client.version": "0.9.0"},
        ]);
        assert_eq!(listed(&reply), expected);
    }

    #[tokio::test]
    async fn retired_nodes_are_left_out() {
        let site = Site::new().await;
        let question = "exists vogeler.client";
        assert_eq!(names(&site.ask(&["find", question]).await.unwrap(), "node"), ["db01", "web01"]);
        let reply = site.ask(&["find", question, "--retired"]).await.unwrap();
        assert_eq!(names(&reply, "node"), ["db01", "gone01", "web01"]);
    }

    #[tokio::test]
    async fn a_record_may_have_a_node_of_its_own() {
        let site = Site::new().await;
        site.put(&json!({"_id": "app01", "node": "x"})).await;
        let reply = site.ask(&["find", "node == 'x'"]).await.unwrap();
        assert_eq!(listed(&reply), json!([{"_id": "app01", "node": "x"}]));
    }

    #[test]
    fn lists_are_walked_through() {
        let record = json!({"jmx": [{"port": 1, "tags": ["a"]}, {"port": 2}, 7, {"port": null}], "empty": []});
        for (path, expected) in [
            ("jmx.port", Some(json!([1, 2, null]))),
            ("jmx.tags", Some(json!([["a"]]))),
            ("jmx.1.port", Some(json!(2))),
            ("jmx.9", None),
            ("jmx.nothing", None),
            ("empty", Some(json!([]))),
            ("empty.x", None),
        ] {
            assert_eq!(at(&record, path.parse::<Path>().unwrap().segments()), expected, "{path}");
        }
    }

    #[test]
    fn commas_within_quotes_belong_to_a_name() {
        let columns: Columns = r#"a."b,c", 'd,"e'.f ,g."h\",i""#.parse().unwrap();
        let segments: Vec<&[String]> = columns.0.iter().map(Path::segments).collect();
        let expected: [&[&str]; 3] = [&["a", "b,c"], &["d,\"e", "f"], &["g", "h\",i"]];
        assert_eq!(segments, expected);
        for bad in ["", "a,", ",a", "a..b", "\"a"] {
            assert!(bad.parse::<Columns>().is_err(), "{bad:?}");
        }
    }
}
