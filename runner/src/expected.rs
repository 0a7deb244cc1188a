//! Whom to wait for: which of the targeted nodes there are, and which of them are on line.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vogeler_messaging::topology::node_queue;
use vogeler_messaging::{Lost, Session};
use vogeler_protocol::{NodeName, Target, Timestamp};
use vogeler_store::{KnownNode, Store, StoreError};

/// A node that was not heard of for so long is not asked whether it is on line: asking counts as
/// use of its queue and would keep a dead one alive for ever.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(14 * 24 * 3600);

/// Whether a node has been silent for so long that it counts as off line without being asked.
pub fn is_forgotten(updated_at: Option<Timestamp>, now: Timestamp) -> bool {
    updated_at.is_some_and(|at| now.since(at) > FORGOTTEN_AFTER)
}

/// The targeted nodes, as far as anybody knows before the command is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Connected now: the ones to wait for.
    pub on_line: BTreeSet<NodeName>,
    /// Known, but not connected; the command waits for them.
    pub off_line: BTreeSet<NodeName>,
    /// Known, but their queue is gone: they were away for too long, and this command does not reach them.
    pub gone: BTreeSet<NodeName>,
    /// Named by the operator, and nobody knows them.
    pub unknown: BTreeSet<NodeName>,
}

/// What the database says of a target; none where it cannot be read.
pub type Known = Option<Vec<KnownNode>>;

/// Asks the database which nodes the target means.
///
/// # Errors
/// The database cannot be read.
pub async fn known<St: Store>(store: &St, target: &Target) -> Result<Vec<KnownNode>, StoreError> {
    match target {
        Target::All => store.nodes().await,
        Target::Glob(glob) => {
            let nodes = store.nodes().await?;
            Ok(nodes.into_iter().filter(|known| glob.matches(known.node.as_str())).collect())
        }
        Target::Group(group) => {
            let members = store.members(group).await?;
            Ok(members.into_iter().map(|node| KnownNode { node, updated_at: None }).collect())
        }
        Target::Nodes(nodes) => {
            let documents = store.fetch(nodes).await?;
            let there = nodes.iter().zip(documents).filter(|(_, document)| document.is_some());
            Ok(there.map(|(node, _)| KnownNode { node: node.clone(), updated_at: None }).collect())
        }
    }
}

/// Asks the broker which of them are connected. With a target that names nodes, those that have a
/// queue are known even where the database has no record of them yet.
///
/// # Errors
/// The connection was lost.
pub async fn presence<S: Session>(
    session: &S,
    target: &Target,
    known: &Known,
    now: Timestamp,
) -> Result<Expected, Lost> {
    let mut expected = Expected::default();
    let mut candidates: BTreeSet<NodeName> = BTreeSet::new();
    for known in known.iter().flatten() {
        let into = if is_forgotten(known.updated_at, now) { &mut expected.off_line } else { &mut candidates };
        into.insert(known.node.clone());
    }
    let named: BTreeSet<NodeName> = match target {
        Target::Nodes(nodes) => nodes.iter().cloned().collect(),
        Target::All | Target::Group(_) | Target::Glob(_) => BTreeSet::new(),
    };
    let asked: Vec<NodeName> = candidates.union(&named).cloned().collect();
    let queues: Vec<String> = asked.iter().map(|node| node_queue(node).name).collect();
    let statuses = session.queue_statuses(&queues).await?;
    for (node, status) in asked.into_iter().zip(statuses) {
        match status {
            Some(status) if status.consumers > 0 => expected.on_line.insert(node),
            Some(_) => expected.off_line.insert(node),
            None if candidates.contains(&node) => expected.gone.insert(node),
            None => expected.unknown.insert(node),
        };
    }
    Ok(expected)
}
