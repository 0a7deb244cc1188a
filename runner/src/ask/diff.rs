//! `diff`: what differs between the records of two nodes.
//!
//! Start at [`compare`]. Lists of single values are compared by what is in them, wherever it stands: a user more at the
//! top of a list is one row, and not one for each that has moved.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;
use vogeler_protocol::NodeName;
use vogeler_store::Store;
use vogeler_store::condition::Path;

use super::place::{below, dead_end};
use super::show::has_rounded;
use super::{Reply, Shape, node_name, records};
use crate::complete;
use crate::output::{Column, Rows, cell};
use crate::tally::NO_SUCH;

/// There is something that differs. Programs named diff say 1, which means usage here.
const DIFFERENT: u8 = 2;

/// Members that differ between any two records.
const OWN: [&str; 6] = ["_id", "_rev", "system_name", "created_at", "updated_at", "vogeler"];

/// What `diff` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Diff {
    /// One node
    ///
    /// Its whole name; where there is no record of it, names that come near are told.
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    #[arg(value_name = "NODE_A", value_parser = node_name)]
    pub a: NodeName,

    /// The other node
    ///
    /// As the first.
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    #[arg(value_name = "NODE_B", value_parser = node_name)]
    pub b: NodeName,

    /// The part to compare, as packages [default: all that was collected]
    ///
    /// What Vogeler keeps itself (vogeler, _id, _rev, system_name, created_at, updated_at) is compared only if PATH
    /// names it.
    #[arg(value_name = "PATH")]
    pub path: Option<Path>,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

pub(super) async fn answer<St: Store>(store: &St, asked: &Diff) -> anyhow::Result<Reply> {
    ensure!(asked.a != asked.b, "{} would be compared with itself", asked.a);
    let nodes = [asked.a.clone(), asked.b.clone()];
    let documents = store.fetch(&nodes).await?;
    let [Some(a), Some(b)] = &*documents else {
        let missing = nodes.iter().zip(&documents).filter(|(_, document)| document.is_none());
        let missing: Vec<NodeName> = missing.map(|(node, _)| node.clone()).collect();
        return Ok(Reply { answer: None, notices: records::unknown(store, &missing).await?, status: NO_SUCH });
    };
    let read = |node: &NodeName, text: &str| -> anyhow::Result<Value> {
        serde_json::from_str(text).with_context(|| format!("the record of {node} cannot be read"))
    };
    let (mut a, mut b) = (read(&asked.a, a)?, read(&asked.b, b)?);
    let mut found = Vec::new();
    if let Some(path) = &asked.path {
        let parts = (path.get(&a), path.get(&b));
        if parts == (None, None) {
            let notices =
                nodes.iter().zip([&a, &b]).map(|(node, record)| dead_end(node.as_str(), record, path)).collect();
            return Ok(Reply { answer: None, notices, status: NO_SUCH });
        }
        compare(&path.to_string(), parts.0, parts.1, &mut found);
    } else {
        for members in [&mut a, &mut b].into_iter().filter_map(Value::as_object_mut) {
            members.retain(|name, _| !OWN.contains(&name.as_str()));
        }
        compare("", Some(&a), Some(&b), &mut found);
    }
    let status = if found.is_empty() { 0 } else { DIFFERENT };
    let rounded = [&a, &b].into_iter().any(has_rounded);
    let notices = rounded.then(|| "numbers of more than 64 bits are compared rounded".to_owned()).into_iter().collect();
    Ok(Reply { status, notices, ..Reply::from(rows(asked, found)) })
}

fn rows(asked: &Diff, found: Vec<Difference<'_>>) -> Rows {
    let mut rows = Rows::new([
        Column::new("path", "Path"),
        Column::new("a", asked.a.as_str()),
        Column::new("b", asked.b.as_str()),
        Column::new("difference", "Difference"),
    ]);
    for Difference { path, a, b } in found {
        let words = match (a, b) {
            (Some(_), None) => format!("only in {}", asked.a),
            (None, Some(_)) => format!("only in {}", asked.b),
            (Some(_), Some(_)) | (None, None) => "differs".to_owned(),
        };
        rows.push([cell(&path), a.cloned(), b.cloned(), cell(&words)]);
    }
    rows
}

/// One value that differs, or that only one has.
#[derive(Debug, PartialEq)]
struct Difference<'a> {
    path: String,
    a: Option<&'a Value>,
    b: Option<&'a Value>,
}

/// Notes what differs at a path and below it.
fn compare<'a>(path: &str, a: Option<&'a Value>, b: Option<&'a Value>, found: &mut Vec<Difference<'a>>) {
    match (a, b) {
        (a, b) if a == b => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for (name, value) in a {
                compare(&below(path, name), Some(value), b.get(name), found);
            }
            for (name, value) in b.iter().filter(|(name, _)| !a.contains_key(name.as_str())) {
                compare(&below(path, name), None, Some(value), found);
            }
        }
        (Some(Value::Array(items)), Some(Value::Array(others))) if is_flat(items) && is_flat(others) => {
            let (more, less) = (without(items, others), without(others, items));
            if more.is_empty() && less.is_empty() {
                // The same in another order.
                found.push(Difference { path: path.to_owned(), a, b });
            }
            found.extend(more.into_iter().map(|item| Difference { path: path.to_owned(), a: Some(item), b: None }));
            found.extend(less.into_iter().map(|item| Difference { path: path.to_owned(), a: None, b: Some(item) }));
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for place in 0..a.len().max(b.len()) {
                compare(&below(path, &place.to_string()), a.get(place), b.get(place), found);
            }
        }
        (Some(one), Some(other)) if is_leaf(one) && is_leaf(other) => {
            found.push(Difference { path: path.to_owned(), a, b });
        }
        (a, b) => {
            leaves(path, a, &mut |path, value| found.push(Difference { path, a: Some(value), b: None }));
            leaves(path, b, &mut |path, value| found.push(Difference { path, a: None, b: Some(value) }));
        }
    }
}

/// Every single value at a path and below it; what is empty is one, too.
fn leaves<'a>(path: &str, value: Option<&'a Value>, note: &mut dyn FnMut(String, &'a Value)) {
    match value {
        Some(Value::Object(members)) if !members.is_empty() => {
            for (name, value) in members {
                leaves(&below(path, name), Some(value), note);
            }
        }
        Some(Value::Array(items)) if !items.is_empty() => {
            for (place, value) in items.iter().enumerate() {
                leaves(&below(path, &place.to_string()), Some(value), note);
            }
        }
        Some(leaf) => note(path.to_owned(), leaf),
        None => {}
    }
}

fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn is_flat(items: &[Value]) -> bool {
    items.iter().all(is_leaf)
}

/// The items that are not among the others, each of these taken once.
fn without<'a>(items: &'a [Value], others: &[Value]) -> Vec<&'a Value> {
    let mut spare: BTreeMap<String, usize> = BTreeMap::new();
    for other in others {
        *spare.entry(other.to_string()).or_default() += 1;
    }
    let is_new = |item: &&Value| match spare.get_mut(&item.to_string()) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        Some(_) | None => true,
    };
    items.iter().filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Site, listed};
    use super::*;

    fn differences(a: &Value, b: &Value) -> Vec<(String, Option<Value>, Option<Value>)> {
        let mut found = Vec::new();
        compare("x", Some(a), Some(b), &mut found);
        found.into_iter().map(|Difference { path, a, b }| (path, a.cloned(), b.cloned())).collect()
    }

    #[tokio::test]
    async fn what_was_collected() {
        let site = Site::new().await;
        let reply = site.ask(&["diff", "web01", "db01"]).await.unwrap();
        let expected = json!([
            {"path": "facts.os.family", "a": "Debian", "difference": "only in web01"},
            {"path": "facts.os.release", "a": "12", "difference": "only in web01"},
            {"path": "facts.disks.0", "a": "sda", "difference": "only in web01"},
            {"path": "facts.disks.1", "a": "sdb", "difference": "only in web01"},
            {"path": "facts.cpus", "a": 8, "difference": "only in web01"},
            {"path": "packages.openssl", "a": "3.0.15-1", "b": "3.0.14-1", "difference": "differs"},
            {"path": "packages.\"python3.11\"", "a": "3.11.2", "difference": "only in web01"},
            {"path": "packages.postgresql", "b": "15.1", "difference": "only in db01"},
        ]);
        assert_eq!((listed(&reply), reply.status), (expected, 2));
    }

    #[tokio::test]
    async fn a_part() {
        let site = Site::new().await;
        let reply = site.ask(&["diff", "web01", "db01", "packages.openssl"]).await.unwrap();
        assert_eq!(listed(&reply).as_array().unwrap().len(), 1);
        let reply = site.ask(&["diff", "web01", "db01", "vogeler.client.version"]).await.unwrap();
        assert_eq!(listed(&reply)[0]["a"], "0.9.0");
        let reply = site.ask(&["diff", "web01", "db01", "facts.cpus"]).await.unwrap();
        assert_eq!(listed(&reply), json!([{"path": "facts.cpus", "a": 8, "difference": "only in web01"}]));
    }

    #[tokio::test]
    async fn nothing_differs() {
        let site = Site::new().await;
        let reply = site.ask(&["diff", "web01", "db01", "doc_type"]).await.unwrap();
        assert_eq!((listed(&reply), reply.status), (json!([]), 0));
        let error = site.ask(&["diff", "web01", "WEB01"]).await.unwrap_err();
        assert_eq!(error.to_string(), "web01 would be compared with itself");
    }

    #[tokio::test]
    async fn what_is_not_there() {
        let site = Site::new().await;
        for (words, sentences) in [
            (&["diff", "web02", "db01"][..], &["there is no record of web02; did you mean web01?"][..]),
            (
                &["diff", "web02", "db02"],
                &["there is no record of web02; did you mean web01?", "there is no record of db02; did you mean db01?"],
            ),
            (
                &["diff", "old01", "db01", "packages.zsh"],
                &[
                    "old01 has no packages.zsh; packages has openssl",
                    "db01 has no packages.zsh; packages has openssl, postgresql",
                ],
            ),
        ] {
            let reply = site.ask(words).await.unwrap();
            assert!(reply.answer.is_none() && reply.status == NO_SUCH, "{words:?}");
            assert_eq!(reply.notices, sentences);
        }
    }

    #[test]
    fn lists_of_single_values_are_compared_by_what_is_in_them() {
        let at_x = |a: Option<Value>, b: Option<Value>| ("x".to_owned(), a, b);
        let found = differences(&json!(["a", "b", "b", 1]), &json!(["z", "b", "a", 1.5]));
        let expected = [
            at_x(Some(json!("b")), None),
            at_x(Some(json!(1)), None),
            at_x(None, Some(json!("z"))),
            at_x(None, Some(json!(1.5))),
        ];
        assert_eq!(found, expected);
        let (one, other) = (json!(["a", "b"]), json!(["b", "a"]));
        assert_eq!(differences(&one, &other), [at_x(Some(one.clone()), Some(other.clone()))], "in another order");
    }

    #[test]
    fn other_lists_are_compared_by_place() {
        let found = differences(&json!([{"p": 1}, {"p": 2}]), &json!([{"p": 1}, {"p": 3}, {"p": 4}]));
        let expected =
            [("x.1.p".to_owned(), Some(json!(2)), Some(json!(3))), ("x.2.p".to_owned(), None, Some(json!(4)))];
        assert_eq!(found, expected);
    }

    #[test]
    fn of_different_kinds_everything_differs() {
        let found = differences(&json!({"a": 1, "b": []}), &json!("text"));
        let expected = [
            ("x.a".to_owned(), Some(json!(1)), None),
            ("x.b".to_owned(), Some(json!([])), None),
            ("x".to_owned(), None, Some(json!("text"))),
        ];
        assert_eq!(found, expected);
        let expected = [("x".to_owned(), Some(json!({})), Some(json!([])))];
        assert_eq!(differences(&json!({}), &json!([])), expected);
        let (one, other) = (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}));
        assert!(differences(&one, &other).is_empty(), "members have no order");
    }
}
