//! `aliases`: which command aliases there are, and who knows them.

use std::collections::BTreeMap;

use vogeler_protocol::NodeName;
use vogeler_store::Store;

use super::records::{self, Chosen};
use super::{Reply, Shape, Whom};
use crate::output::{Column, Rows, cell};

/// What `aliases` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Aliases {
    /// Which nodes
    #[command(flatten)]
    pub whom: Whom,

    /// Name the nodes that know each alias, too
    ///
    /// In a column of its own, behind the others.
    #[arg(long)]
    pub nodes: bool,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

/// Who knows an alias with one key, and what each says about it.
type Knowing<'a> = BTreeMap<&'a NodeName, &'a str>;

pub(super) async fn answer<St: Store>(store: &St, asked: &Aliases) -> anyhow::Result<Reply> {
    let Chosen { records, mut notices, status } = records::choose(store, &asked.whom, None).await?;
    let mut aliases: BTreeMap<&str, BTreeMap<&str, Knowing<'_>>> = BTreeMap::new();
    for seen in &records {
        for (alias, key, description) in seen.aliases() {
            aliases.entry(alias).or_default().entry(key).or_default().insert(&seen.node, description);
        }
    }
    let columns = [
        Column::new("alias", "Alias"),
        Column::new("key", "Key"),
        Column::new("nodes", "Nodes"),
        Column::new("description", "Description"),
        Column::new("names", "Names"),
    ];
    let shown = if asked.nodes { 5 } else { 4 };
    let mut rows = Rows::new(columns.into_iter().take(shown));
    for (alias, keys) in &aliases {
        for (key, knowing) in keys {
            let names: Vec<&NodeName> = knowing.keys().copied().collect();
            let cells = [cell(alias), cell(key), cell(&names.len()), cell(&most_say(knowing)), cell(&names)];
            rows.push(cells.into_iter().take(shown));
        }
        notices.extend(disagreement(alias, keys));
    }
    Ok(Reply { answer: Some(rows.into()), notices, status })
}

/// The description that most have; of equal ones the first.
fn most_say<'a>(knowing: &Knowing<'a>) -> Option<&'a str> {
    let mut said: BTreeMap<&str, usize> = BTreeMap::new();
    for description in knowing.values().copied().filter(|description| !description.is_empty()) {
        *said.entry(description).or_default() += 1;
    }
    said.into_iter().rev().max_by_key(|(_, count)| *count).map(|(description, _)| description)
}

/// That an alias fills different fields on different nodes: a question over one of them misses the others.
fn disagreement(alias: &str, keys: &BTreeMap<&str, Knowing<'_>>) -> Option<String> {
    let each = keys.iter().map(|(key, knowing)| match knowing.first_key_value() {
        Some((node, _)) if knowing.len() == 1 => format!("{key} on {node}"),
        Some(_) | None => format!("{key} on {} nodes", knowing.len()),
    });
    let each: Vec<String> = each.collect();
    (each.len() > 1).then(|| format!("{alias} has not the same key everywhere: {}", each.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Site, listed};
    use super::*;

    #[tokio::test]
    async fn who_knows_which() {
        let site = Site::new().await;
        let reply = site.ask(&["aliases", "--nodes"]).await.unwrap();
        let expected = json!([
            {"alias": "facts", "key": "facts", "nodes": 1, "description": "What the machine is", "names": ["web01"]},
            {"alias": "rpms", "key": "packages", "nodes": 1, "description": "Packages", "names": ["web01"]},
            {"alias": "rpms", "key": "rpm_list", "nodes": 1, "description": "Packages", "names": ["db01"]},
        ]);
        assert_eq!((listed(&reply), reply.status), (expected, 0));
        assert_eq!(reply.notices, ["rpms has not the same key everywhere: packages on web01, rpm_list on db01"]);
    }

    #[tokio::test]
    async fn names_are_shown_where_they_are_asked_for() {
        let reply = Site::new().await.ask(&["aliases", "db01"]).await.unwrap();
        let expected = json!([{"alias": "rpms", "key": "rpm_list", "nodes": 1, "description": "Packages"}]);
        assert_eq!((listed(&reply), reply.notices.len()), (expected, 0));
    }

    #[tokio::test]
    async fn retired_nodes_count_where_they_are_asked_for() {
        let reply = Site::new().await.ask(&["aliases", "--retired"]).await.unwrap();
        assert_eq!(listed(&reply)[1]["nodes"], 2);
        assert_eq!(reply.notices, ["rpms has not the same key everywhere: packages on 2 nodes, rpm_list on db01"]);
    }

    #[tokio::test]
    async fn a_name_without_a_record_is_told() {
        let reply = Site::new().await.ask(&["aliases", "web02"]).await.unwrap();
        assert_eq!(reply.notices, ["there is no record of web02; did you mean web01?"]);
        assert_eq!(reply.status, 4);
    }

    #[test]
    fn the_description_that_most_have() {
        let nodes: Vec<NodeName> = ["a", "b", "c", "d"].iter().map(|name| name.parse().unwrap()).collect();
        let said = |words: &[&'static str]| most_say(&nodes.iter().zip(words.iter().copied()).collect());
        assert_eq!(said(&["old", "new", "new", ""]), Some("new"));
        assert_eq!(said(&["b", "a"]), Some("a"));
        assert_eq!(said(&["", ""]), None);
    }
}
