//! Whom to wait for: which of the targeted nodes there are, and which of them are on line.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vogeler_messaging::topology::node_queue;
use vogeler_messaging::{Lost, QueueStatus, Session};
use vogeler_protocol::{NodeName, Target, Timestamp};
use vogeler_store::{KnownNode, Store, StoreError};

/// A node that was not heard of for so long is not asked whether it is on line: asking counts as
/// use of its queue and would keep a dead one alive for ever.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(14 * 24 * 3600);

/// Records that are read in one request to see whether they are there; of more nodes the list of all is read first.
const FETCHED: usize = 100;

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
            let (members, mut nodes) = tokio::try_join!(store.members(group), store.nodes())?;
            let members: BTreeSet<NodeName> = members.into_iter().collect();
            nodes.retain(|known| members.contains(&known.node));
            Ok(nodes)
        }
        Target::Nodes(nodes) if nodes.len() <= FETCHED => of_records(store, nodes).await,
        Target::Nodes(nodes) => {
            let mut known = store.nodes().await?;
            known.retain(|known| nodes.contains(&known.node));
            let listed: BTreeSet<&NodeName> = known.iter().map(|known| &known.node).collect();
            let others: Vec<NodeName> = nodes.iter().filter(|node| !listed.contains(node)).cloned().collect();
            for page in others.chunks(FETCHED) {
                known.extend(of_records(store, page).await?);
            }
            Ok(known)
        }
    }
}

/// Those of the nodes that have a record; the records are read whole.
async fn of_records<St: Store>(store: &St, nodes: &[NodeName]) -> Result<Vec<KnownNode>, StoreError> {
    #[derive(Deserialize)]
    struct Told {
        updated_at: Option<Timestamp>,
    }
    let documents = store.fetch(nodes).await?;
    let known = |(node, document): (&NodeName, Option<String>)| {
        let told = serde_json::from_str::<Told>(&document?).ok();
        Some(KnownNode { node: node.clone(), updated_at: told.and_then(|told| told.updated_at) })
    };
    Ok(nodes.iter().zip(documents).filter_map(known).collect())
}

/// What the broker knows of the queues of these nodes, in their order; none where there is no queue.
pub(crate) async fn queues<'a, S: Session>(
    session: &S,
    nodes: impl IntoIterator<Item = &'a NodeName>,
) -> Result<Vec<Option<QueueStatus>>, Lost> {
    let names: Vec<String> = nodes.into_iter().map(|node| node_queue(node).name).collect();
    session.queue_statuses(&names).await
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
    let asked = candidates.union(&named).filter(|node| !expected.off_line.contains(*node));
    let asked: Vec<NodeName> = asked.cloned().collect();
    let statuses = queues(session, &asked).await?;
    for (node, status) in asked.into_iter().zip(statuses) {
        match status {
            Some(status) if status.is_consumed() => expected.on_line.insert(node),
            Some(_) => expected.off_line.insert(node),
            None if candidates.contains(&node) => expected.gone.insert(node),
            None => expected.unknown.insert(node),
        };
    }
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vogeler_messaging::memory::MemoryBroker;
    use vogeler_messaging::{Broker as _, ConsumeOptions};
    use vogeler_protocol::Clock;
    use vogeler_store::Row;
    use vogeler_store::memory::MemoryStore;

    use super::*;

    fn names(names: &[&str]) -> Vec<NodeName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn now() -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000)
    }

    /// `old` was heard of a month ago, `web01` just now.
    async fn store() -> MemoryStore {
        let store = MemoryStore::created();
        let month_ago = Timestamp::from_millisecond(now().as_millisecond() - 30 * 86_400_000);
        let rows = [("old", month_ago), ("web01", now())].map(|(id, at)| {
            let document = json!({ "_id": id, "updated_at": at, "vogeler": { "client": { "groups": ["web"] } } });
            Row { id: id.parse().unwrap(), document: document.to_string().into_bytes() }
        });
        store.put(&rows).await.unwrap();
        store
    }

    async fn expected(target: &Target, known: &Known) -> Expected {
        let session = MemoryBroker::new(Clock::new(now)).connect().await.unwrap();
        for node in names(&["web01", "old"]) {
            session.declare_queue(&node_queue(&node)).await.unwrap();
        }
        let options = ConsumeOptions { prefetch: 1, exclusive: true, no_ack: false };
        let _clients = (
            session.consume("vogeler.node.web01", options).await.unwrap(),
            session.consume("vogeler.node.old", options).await.unwrap(),
        );
        presence(&session, target, known, now()).await.unwrap()
    }

    #[tokio::test]
    async fn who_was_silent_for_two_weeks_is_not_asked_however_it_was_meant() {
        let store = store().await;
        let many: Vec<NodeName> = (0..FETCHED).map(|number| format!("n{number}").parse().unwrap()).collect();
        for (target, unknown) in [
            (Target::All, 0),
            ("group:web".parse().unwrap(), 0),
            ("*".parse().unwrap(), 0),
            (Target::Nodes(names(&["old", "web01", "web02"])), 1),
            (Target::Nodes([names(&["old", "web01"]), many].concat()), FETCHED),
        ] {
            let known = Some(known(&store, &target).await.unwrap());
            let expected = expected(&target, &known).await;
            assert_eq!(expected.off_line, names(&["old"]).into_iter().collect(), "{target}");
            assert_eq!(expected.on_line, names(&["web01"]).into_iter().collect(), "{target}");
            assert_eq!((expected.gone.len(), expected.unknown.len()), (0, unknown), "{target}");
        }
    }

    #[tokio::test]
    async fn without_the_database_whoever_is_named_is_asked() {
        let expected = expected(&Target::Nodes(names(&["old", "web02"])), &None).await;
        assert_eq!(expected.on_line, names(&["old"]).into_iter().collect());
        assert_eq!(expected.unknown, names(&["web02"]).into_iter().collect());
    }
}
