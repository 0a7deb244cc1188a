//! `view`: the rows of a view of a design document, as the database has them.

use std::str::FromStr;

use anyhow::ensure;
use serde_json::Value;
use vogeler_store::{Store, StoreError, ViewQuery};

use super::{Reply, Shape};
use crate::output::{Column, Rows, cell};

/// What `view` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct View {
    /// The view, by its design document and its name, as packages/by_name
    ///
    /// Each folder under design-docs/ is a design document, and says what its views are good for.
    #[arg(value_name = "DDOC/VIEW")]
    pub name: ViewName,

    /// Only the rows with this key, as rpms or '["openssl","3.0.15-1"]'
    ///
    /// Keys are JSON; a word that is none is taken for a text, so that it needs no quotes. A text that looks like a
    /// number does: '"12"'.
    #[arg(long, value_name = "JSON", value_parser = key, allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["start", "end"])]
    pub key: Option<Value>,

    /// From this key on, as '["openssl"]'
    ///
    /// In the order of CouchDB: null, booleans, numbers, texts, arrays, objects. With --descending the highest.
    #[arg(long, value_name = "JSON", value_parser = key, allow_hyphen_values = true)]
    pub start: Option<Value>,

    /// Up to this key, itself included, as '["openssl",{}]'
    ///
    /// {} comes after every text, so that this is the end of all keys that begin with "openssl".
    #[arg(long, value_name = "JSON", value_parser = key, allow_hyphen_values = true)]
    pub end: Option<Value>,

    /// Reduce each key by itself
    ///
    /// For a count of each key, where the view counts.
    #[arg(long, conflicts_with_all = ["no_reduce", "group_level"])]
    pub group: bool,

    /// Reduce keys that are arrays by their first N elements
    ///
    /// 1 makes one row of all keys that begin alike.
    #[arg(long, value_name = "N", conflicts_with = "no_reduce")]
    pub group_level: Option<u32>,

    /// Apply the view's reduce function [default: where there is one]
    ///
    /// Without --group or --group-level that is one row in all.
    #[arg(long, conflicts_with = "no_reduce")]
    pub reduce: bool,

    /// Show the rows themselves, each with its node
    ///
    /// The database leaves the reduce function out.
    #[arg(long)]
    pub no_reduce: bool,

    /// No more than N rows
    ///
    /// The first ones, in the order of the keys.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// From the last key to the first
    ///
    /// --start is then the highest key, and --end the lowest.
    #[arg(long)]
    pub descending: bool,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

/// A view, by its design document and its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewName {
    design: String,
    view: String,
}

impl FromStr for ViewName {
    type Err = String;

    /// Takes `packages/by_name`, and what an address of CouchDB has: `_design/packages/_view/by_name`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (design, view) = text.strip_prefix("_design/").unwrap_or(text).split_once('/').unwrap_or_default();
        let view = view.strip_prefix("_view/").unwrap_or(view);
        if design.is_empty() || view.is_empty() || view.contains('/') {
            return Err("say DDOC/VIEW, as packages/by_name".to_owned());
        }
        Ok(Self { design: design.to_owned(), view: view.to_owned() })
    }
}

/// A key as it is typed: JSON, or a text without its quotes.
fn key(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) if text.trim_start().starts_with(['[', '{', '"']) => {
            Err(format!("it begins as JSON, but is none: {error}"))
        }
        Err(_) => Ok(Value::from(text)),
    }
}

pub(super) async fn answer<St: Store>(store: &St, asked: &View) -> anyhow::Result<Reply> {
    let ViewName { design, view } = &asked.name;
    let found = match store.view(design, view, &asked.query()).await {
        Ok(found) => found,
        Err(reason) => {
            // A design document that is missing and a database that is are told alike.
            let is_missing = matches!(reason, StoreError::Missing { .. } | StoreError::Refused { status: 404, .. });
            ensure!(
                !(is_missing && store.probe().await.is_ok()),
                "the database has no view {design}/{view}: vogeler-server load DIR brings it there, vogeler-server \
                 setup those that come along"
            );
            return Err(reason.into());
        }
    };
    // What is reduced is of no single node.
    let has_ids = found.is_empty() || found.iter().any(|row| row.id.is_some());
    let columns = [Column::new("id", "Node"), Column::new("key", "Key"), Column::new("value", "Value")];
    let mut rows = Rows::new(columns.into_iter().skip(usize::from(!has_ids)));
    for row in found {
        let cells = [cell(&row.id), Some(row.key), Some(row.value)];
        rows.push(cells.into_iter().skip(usize::from(!has_ids)));
    }
    Ok(rows.into())
}

impl View {
    fn query(&self) -> ViewQuery {
        ViewQuery {
            key: self.key.clone(),
            startkey: self.start.clone(),
            endkey: self.end.clone(),
            reduce: (self.reduce || self.no_reduce).then_some(self.reduce),
            group: self.group,
            group_level: self.group_level,
            descending: self.descending,
            limit: self.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vogeler_store::ViewRow;

    use super::super::Ask;
    use super::super::fixture::{self, Site, Told, ask, listed, parse};
    use super::*;

    fn query(flags: &[&str]) -> ViewQuery {
        let words: Vec<&str> = ["view", "packages/by_name"].iter().chain(flags).copied().collect();
        let Ask::View(view) = parse(&words).unwrap() else { panic!("it is view") };
        view.query()
    }

    async fn answered(view: fixture::View) -> anyhow::Result<Reply> {
        let site = Site::new().await;
        let store = Told { view, ..Told::new(&site.store) };
        ask(&site.broker, &store, &["view", "packages/by_name"], &|_| None).await
    }

    #[test]
    fn what_the_database_is_asked() {
        assert_eq!(query(&[]), ViewQuery::default());
        let expected = ViewQuery { key: Some(json!("openssl")), reduce: Some(false), ..ViewQuery::default() };
        assert_eq!(query(&["--key", "openssl", "--no-reduce"]), expected);
        let expected = ViewQuery {
            startkey: Some(json!(["openssl"])),
            endkey: Some(json!(["openssl", {}])),
            reduce: Some(true),
            group_level: Some(2),
            descending: true,
            limit: Some(5),
            ..ViewQuery::default()
        };
        let range = ["--start", "[\"openssl\"]", "--end", "[\"openssl\",{}]"];
        let rest = ["--reduce", "--group-level", "2", "--descending", "--limit", "5"];
        assert_eq!(query(&[&range[..], &rest].concat()), expected);
        assert!(query(&["--group"]).group);
    }

    #[test]
    fn keys_are_json_or_words() {
        for (text, expected) in [
            ("openssl", json!("openssl")),
            ("3.0.15", json!("3.0.15")),
            ("12", json!(12)),
            ("-1", json!(-1)),
            ("\"12\"", json!("12")),
            ("null", json!(null)),
            (r#"["a",{}]"#, json!(["a", {}])),
            ("", json!("")),
        ] {
            assert_eq!(query(&["--key", text]).key, Some(expected), "{text}");
        }
        for bad in ["[\"a\"", "{a}", "\"a"] {
            assert!(key(bad).unwrap_err().starts_with("it begins as JSON, but is none: "), "{bad}");
        }
    }

    #[test]
    fn names_of_views() {
        for text in ["packages/by_name", "_design/packages/by_name", "_design/packages/_view/by_name"] {
            let ViewName { design, view } = text.parse().unwrap();
            assert_eq!((&*design, &*view), ("packages", "by_name"), "{text}");
        }
        for bad in ["", "packages", "/by_name", "packages/", "a/b/c"] {
            assert!(bad.parse::<ViewName>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn rows_are_what_the_database_says() {
        let rows = answered(|design, view, _| {
            let row = |id: &str, value| ViewRow { id: Some(id.to_owned()), key: json!([design, view]), value };
            Ok(vec![row("db01", json!(null)), row("web01", json!({"a": 1}))])
        });
        let expected = json!([
            {"id": "db01", "key": ["packages", "by_name"], "value": null},
            {"id": "web01", "key": ["packages", "by_name"], "value": {"a": 1}},
        ]);
        assert_eq!(listed(&rows.await.unwrap()), expected);
        let reduced = answered(|_, _, _| Ok(vec![ViewRow { id: None, key: json!(null), value: json!(3) }]));
        assert_eq!(listed(&reduced.await.unwrap()), json!([{"key": null, "value": 3}]));
    }

    #[tokio::test]
    async fn what_cannot_be_answered() {
        let missing = "the database has no view packages/by_name: vogeler-server load DIR brings it there, \
                       vogeler-server setup those that come along";
        let errors = [
            answered(|_, _, _| Err(StoreError::Missing { address: "db".to_owned() })).await,
            answered(|_, _, _| {
                Err(StoreError::Refused { address: "db".to_owned(), status: 404, reason: "deleted".to_owned() })
            })
            .await,
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().to_string(), missing);
        }
        let refused = answered(|_, _, _| {
            Err(StoreError::Refused { address: "db".to_owned(), status: 400, reason: "no group".to_owned() })
        });
        assert_eq!(refused.await.unwrap_err().to_string(), "the database at db answered 400: no group");
        // The one in memory runs no views.
        let unable = Site::new().await.ask(&["view", "packages/by_name"]).await.unwrap_err().to_string();
        assert!(unable.starts_with("the database at memory cannot do that: it runs no views"), "{unable}");
    }
}
