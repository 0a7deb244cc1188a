//! Which nodes a run is for: what was typed, what the records say, and how many of them are enough.
//!
//! Start at [`select`].

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::timeout;
use vogeler_protocol::{Group, NodeName, Target};
use vogeler_store::condition::Condition;
use vogeler_store::{KnownNode, Store, StoreError};

use crate::ask::near;
use crate::expected::{self, Known};
use crate::wanted::{Wanted, Word};

/// How long the database may take to say which nodes there are, where one can do without.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom an operator asks for.
#[derive(Debug, Clone)]
pub struct Choice {
    /// By name, group and pattern.
    pub wanted: Wanted,
    /// Of these, those whose record is like this.
    pub condition: Option<Condition>,
    /// Of these, no more than so many.
    pub limit: Option<Limit>,
}

/// How many nodes are enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// So many.
    Nodes(NonZeroUsize),
    /// So many of a hundred, at least one.
    Percent(NonZeroUsize),
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("{text:?} is neither a number of nodes, as 10, nor a part of them, as 10%");
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: NonZeroUsize = percent.trim().parse().map_err(wrong)?;
                if percent.get() > 100 {
                    Err("more than 100% there is not".to_owned())
                } else {
                    Ok(Self::Percent(percent))
                }
            }
            None => text.parse().map(Self::Nodes).map_err(wrong),
        }
    }
}

impl Limit {
    fn of(self, all: usize) -> usize {
        match self {
            Self::Nodes(nodes) => nodes.get().min(all),
            Self::Percent(percent) => (all * percent.get()).div_ceil(100),
        }
    }
}

/// The nodes of a run.
#[derive(Debug)]
pub struct Selection {
    /// Where the command goes.
    pub target: Target,
    /// What the database knows of them; none where it cannot be read.
    pub known: Known,
    /// What of it means nobody, though a list goes to the others: groups, patterns, names.
    pub strangers: Vec<String>,
    /// What has to be said about it.
    pub notices: Vec<String>,
}

impl Selection {
    /// Whether the command goes to each node by its name.
    pub fn is_named(&self) -> bool {
        matches!(self.target, Target::Nodes(_))
    }

    /// Whether the database says that nobody is meant.
    pub fn nobody_known(&self) -> bool {
        self.known.as_ref().is_some_and(Vec::is_empty)
    }
}

/// Finds out which nodes are meant.
///
/// # Errors
/// The records have to decide, and the database cannot be read; or somebody is to be left out whom nobody knows.
pub async fn select<St: Store>(store: &St, choice: &Choice) -> anyhow::Result<Selection> {
    let Choice { wanted, condition, limit } = choice;
    ensure!(!wanted.is_empty(), "{wanted} names no node");
    if condition.is_none()
        && let Some(target) = wanted.as_target()
    {
        if let Target::Nodes(nodes) = &target {
            ensure!(!nodes.is_empty(), "{wanted} leaves no node");
            return Ok(asked_or_not(store, limited(nodes.iter().cloned().collect(), *limit)).await);
        }
        if limit.is_none() {
            return Ok(asked_or_not(store, target).await);
        }
    }
    let (all, members) = read(store, wanted)
        .await
        .with_context(|| format!("which nodes {wanted} means is for the records to decide"))?;
    let is_member = |group: &Group, node: &NodeName| members.get(group).is_some_and(|members| members.contains(node));
    let (strangers, notices) = strangers(wanted, &all, is_member)?;
    let mut known: Vec<KnownNode> = all.into_iter().filter(|known| wanted.includes(&known.node, is_member)).collect();
    let mut names: BTreeSet<NodeName> = known.iter().map(|known| known.node.clone()).collect();
    // Whoever is named and not known is told of as such.
    names.extend(wanted.named(is_member));
    if let Some(condition) = condition {
        let met = store.find(Some(condition), &[]).await.context("--where")?;
        let met: BTreeSet<NodeName> = met.into_iter().map(|found| found.node).collect();
        let is_known = |node: &NodeName| known.binary_search_by(|known| known.node.cmp(node)).is_ok();
        names.retain(|node| met.contains(node) || !is_known(node));
    }
    let target = limited(names, *limit);
    let Target::Nodes(nodes) = &target else { bail!("a limit names its nodes") };
    known.retain(|known| nodes.binary_search(&known.node).is_ok());
    Ok(Selection { target, known: Some(known), strangers, notices })
}

/// The nodes of a target that does without the records, where they can be read all the same.
async fn asked_or_not<St: Store>(store: &St, target: Target) -> Selection {
    let reason = match timeout(PATIENCE, expected::known(store, &target)).await {
        Ok(Ok(known)) => {
            return Selection { target, known: Some(known), strangers: Vec::new(), notices: Vec::new() };
        }
        Ok(Err(reason)) => reason.to_string(),
        Err(_) => format!("no answer from the database within {} s", PATIENCE.as_secs()),
    };
    let waiting = match &target {
        Target::Nodes(_) => "asking the broker alone which of the nodes there are",
        Target::All | Target::Group(_) | Target::Glob(_) => "waiting for those that accept",
    };
    Selection { target, known: None, strangers: Vec::new(), notices: vec![format!("{reason}; {waiting}")] }
}

type Members = BTreeMap<Group, BTreeSet<NodeName>>;

/// All nodes by name, and who is in the groups that are named.
async fn read<St: Store>(store: &St, wanted: &Wanted) -> Result<(Vec<KnownNode>, Members), StoreError> {
    let mut members = Members::new();
    for group in wanted.groups() {
        members.insert(group.clone(), store.members(group).await?.into_iter().collect());
    }
    let mut all = store.nodes().await?;
    all.sort_by(|a, b| a.node.cmp(&b.node));
    Ok((all, members))
}

/// The words that mean nobody, in sentences: those that ask, and those that leave out. A name that is to be left out
/// and that nobody knows is probably mistyped, and whoever was meant would be asked.
fn strangers(
    wanted: &Wanted,
    all: &[KnownNode],
    is_member: impl Fn(&Group, &NodeName) -> bool,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let names = || all.iter().map(|known| known.node.as_str());
    let is_idle = |word: &Word| !all.iter().any(|known| word.means(&known.node, &is_member));
    let (mut strangers, mut notices) = (Vec::new(), Vec::new());
    for word in wanted.included().filter(|word| is_idle(word)) {
        match word {
            Word::Group(_) | Word::Glob(_) => strangers.push(format!("no node is meant by {word}")),
            // It is asked by its name, and told of as unknown. Without any node, `all` is nobody's mistake.
            Word::Node(_) | Word::All => {}
        }
    }
    for word in wanted.excluded().filter(|word| is_idle(word)) {
        match word {
            Word::Node(node) => {
                bail!("!{node} leaves nobody out: {}", near::no_record(node, names()));
            }
            Word::Group(_) | Word::Glob(_) => notices.push(format!("!{word} leaves nobody out")),
            Word::All => {}
        }
    }
    notices.extend(strangers.iter().cloned());
    Ok((strangers, notices))
}

/// Drawn by the checksum of the name: spread over names that are alike, and the same each time, so that a dry run
/// tells whom the run will ask.
fn limited(names: BTreeSet<NodeName>, limit: Option<Limit>) -> Target {
    let enough = limit.map_or(names.len(), |limit| limit.of(names.len()));
    let mut names: Vec<NodeName> = names.into_iter().collect();
    if enough < names.len() {
        names.sort_by_cached_key(|name| crc32fast::hash(name.as_str().as_bytes()));
        names.truncate(enough);
        names.sort();
    }
    Target::Nodes(names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vogeler_store::Row;
    use vogeler_store::memory::MemoryStore;

    use super::*;

    async fn store() -> MemoryStore {
        let store = MemoryStore::created();
        let rows: Vec<Row> = [("db01", "Debian"), ("db02", "Rocky"), ("web01", "Debian"), ("web02", "Debian")]
            .into_iter()
            .map(|(id, family)| {
                let client = json!({ "groups": [&id[..id.len() - 2]] });
                let document = json!({ "_id": id, "updated_at": "2026-11-20T10:00:00.000Z",
                    "facts": { "family": family }, "vogeler": { "client": client } });
                Row { id: id.parse().unwrap(), document: document.to_string().into_bytes() }
            })
            .collect();
        store.put(&rows).await.unwrap();
        store
    }

    fn choice(list: &str, condition: Option<&str>, limit: Option<&str>) -> Choice {
        Choice {
            wanted: Wanted::read(&[list.to_owned()]).unwrap(),
            condition: condition.map(|text| text.parse().unwrap()),
            limit: limit.map(|text| text.parse().unwrap()),
        }
    }

    async fn selected(list: &str, condition: Option<&str>, limit: Option<&str>) -> String {
        select(&store().await, &choice(list, condition, limit)).await.unwrap().target.to_string()
    }

    #[tokio::test]
    async fn records_decide_where_they_have_to() {
        assert_eq!(selected("all", None, None).await, "all");
        assert_eq!(selected("all,!group:db", None, None).await, "web01,web02");
        assert_eq!(selected("group:db,new01", None, None).await, "db01,db02,new01");
        assert_eq!(selected("all", Some("facts.family == 'Debian'"), None).await, "db01,web01,web02");
        assert_eq!(selected("group:db,new01", Some("facts.family == 'Debian'"), None).await, "db01,new01");
    }

    #[tokio::test]
    async fn words_that_mean_nobody_are_told() {
        let store = store().await;
        let selection = select(&store, &choice("web01,group:mail,x*,!group:quiet", None, None)).await.unwrap();
        assert_eq!(selection.target.to_string(), "web01");
        assert_eq!(selection.strangers, ["no node is meant by group:mail", "no node is meant by x*"]);
        assert_eq!(selection.notices[0], "!group:quiet leaves nobody out");
        let refused = select(&store, &choice("all,!web1", None, None)).await.unwrap_err().to_string();
        assert!(
            refused.starts_with("!web1 leaves nobody out: there is no record of web1; did you mean web01"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_limit_draws_the_same_each_time() {
        let half = selected("all", None, Some("50%")).await;
        assert_eq!(half.split(',').count(), 2, "{half}");
        assert_eq!(selected("all", None, Some("2")).await, half);
        assert_eq!(selected("all", None, Some("1%")).await.split(',').count(), 1);
        assert_eq!(selected("web01,web02,x1", None, Some("9")).await, "web01,web02,x1");
        for wrong in ["0", "0%", "101%", "some", "-1"] {
            assert!(wrong.parse::<Limit>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn without_the_database_only_what_needs_it_fails() {
        let gone = MemoryStore::default();
        let selection = select(&gone, &choice("web01", None, None)).await.unwrap();
        assert!(selection.notices[0].contains("asking the broker alone"));
        assert_eq!(select(&gone, &choice("all", None, None)).await.unwrap().known, None);
        let told = format!("{:#}", select(&gone, &choice("all,!web01", None, None)).await.unwrap_err());
        assert!(told.starts_with("which nodes all,!web01 means is for the records to decide: "), "{told}");
    }
}
