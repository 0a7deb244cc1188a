//! `show`: one record, or a part of it.

use std::slice;

use anyhow::Context as _;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;
use vogeler_protocol::NodeName;
use vogeler_store::Store;
use vogeler_store::condition::Path;

use super::times::Times;
use super::{Reply, Shape, node_name, place, records};
use crate::complete;
use crate::tally::NO_SUCH;

/// What `show` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Show {
    /// The node
    ///
    /// Its whole name; where there is no record of it, names that come near are told.
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    #[arg(value_name = "NODE", value_parser = node_name)]
    pub node: NodeName,

    /// The part of the record, as facts.os.family [default: all of it]
    ///
    /// A name with a dot in it is put in quotes: 'packages."python3.11"'. In a list, a number is a position, from 0.
    #[arg(value_name = "PATH")]
    pub path: Option<Path>,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

pub(super) async fn answer<St: Store>(store: &St, asked: &Show, times: Times) -> anyhow::Result<Reply> {
    let Show { node, path, shape: _ } = asked;
    let Some(document) = store.fetch(slice::from_ref(node)).await?.pop().flatten() else {
        let notices = records::unknown(store, slice::from_ref(node)).await?;
        return Ok(Reply { answer: None, notices, status: NO_SUCH });
    };
    let record: Value =
        serde_json::from_str(&document).with_context(|| format!("the record of {node} cannot be read"))?;
    let mut notices: Vec<String> = retirement(&record, node, times).into_iter().collect();
    let part = match path {
        None => &record,
        Some(path) => match path.get(&record) {
            Some(part) => part,
            None => {
                notices.push(place::dead_end(node.as_str(), &record, path));
                return Ok(Reply { answer: None, notices, status: NO_SUCH });
            }
        },
    };
    if has_rounded(part) {
        notices.push("numbers of more than 64 bits are rounded here; the record itself has every digit".to_owned());
    }
    Ok(Reply { answer: Some(part.clone().into()), notices, ..Reply::default() })
}

fn retirement(record: &Value, node: &NodeName, times: Times) -> Option<String> {
    let at = records::retired_at(record)?;
    let by = record.pointer("/vogeler/retired/by").and_then(Value::as_str).unwrap_or("somebody");
    Some(format!("{node} was retired by {by} {} ago ({})", times.age(at), at))
}

/// Whether there is a number in it that was too large to be read digit by digit.
pub(super) fn has_rounded(value: &Value) -> bool {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(|number| number.abs() >= TWO_TO_63),
        Value::Array(items) => items.iter().any(has_rounded),
        Value::Object(members) => members.values().any(has_rounded),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Site, listed};
    use super::*;

    #[tokio::test]
    async fn a_record_and_its_parts() {
        let site = Site::new().await;
        let whole = site.ask(&["show", "web01"]).await.unwrap();
        assert_eq!(listed(&whole), site.record("web01").await);
        assert_eq!((whole.status, whole.notices.len()), (0, 0));
        for (path, expected) in [
            ("facts.os", json!({"family": "Debian", "release": "12"})),
            ("facts.os.release", json!("12")),
            ("facts.disks.1", json!("sdb")),
            ("packages.\"python3.11\"", json!("3.11.2")),
            ("vogeler.errors.jmx.exit", json!(2)),
        ] {
            assert_eq!(listed(&site.ask(&["show", "web01", path]).await.unwrap()), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there() {
        let site = Site::new().await;
        for (words, sentence) in [
            (&["show", "web02"][..], "there is no record of web02; did you mean web01?"),
            (&["show", "web01", "fact.os"], "web01 has no fact.os; the record has _id, _rev, doc_type, "),
            (&["show", "web01", "facts.os.famly"], "facts.os has family, release; did you mean family?"),
            (&["show", "web01", "facts.disks.2"], "facts.disks is a list, from facts.disks.0 to facts.disks.1"),
        ] {
            let reply = site.ask(words).await.unwrap();
            assert!(reply.answer.is_none() && reply.status == NO_SUCH, "{words:?}");
            assert!(reply.notices.len() == 1 && reply.notices[0].contains(sentence), "{:?}", reply.notices);
        }
    }

    #[tokio::test]
    async fn a_retired_node_is_told_as_such() {
        let reply = Site::new().await.ask(&["show", "gone01", "system_name"]).await.unwrap();
        assert_eq!(reply.notices, ["gone01 was retired by op@admin 5 d ago (2026-11-15T12:00:00.000Z)"]);
        assert_eq!((listed(&reply), reply.status), (json!("gone01"), 0));
    }

    #[tokio::test]
    async fn rounded_numbers_are_told() {
        let site = Site::new().await;
        let text = r#"{"_id": "big01", "fits": 18446744073709551615, "long": [{"serial": 123456789012345678901234}]}"#;
        let row = vogeler_store::Row { id: "big01".parse().unwrap(), document: text.into() };
        site.store.put(&[row]).await.unwrap();
        assert_eq!(site.ask(&["show", "big01", "fits"]).await.unwrap().notices.len(), 0);
        let reply = site.ask(&["show", "big01", "long"]).await.unwrap();
        assert_eq!(reply.notices, ["numbers of more than 64 bits are rounded here; the record itself has every digit"]);
    }
}
