//! The exchanges and queues of Vogeler, as data.

use std::time::Duration;

use vogeler_protocol::names::SLOTS;
use vogeler_protocol::{Group, NodeName, RunId, Target};

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By the words of the routing key; `*` is one word, `#` any number.
    Topic,
    /// By the whole routing key.
    Direct,
    /// To every queue that is bound.
    Fanout,
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
}

/// A queue and the arguments it is declared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// What becomes of it, and how it keeps its messages.
    pub kind: QueueKind,
}

/// The kinds of queue that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueKind {
    /// A node's commands: durable and classic, because thousands of quorum queues weigh on a
    /// broker; drops the oldest over `max_length`; goes when nothing used it for `expires`.
    Node {
        /// How long an unused queue stays.
        expires: Duration,
        /// How many commands it holds.
        max_length: u32,
    },
    /// Results: quorum, one consumer active at a time, full when it is full (a publisher hears of
    /// it), dead-lettered at least once after `delivery_limit` deliveries.
    Results {
        /// How often a message is delivered before it counts as poison.
        delivery_limit: u32,
        /// The exchange that takes the poison.
        dead_letter_exchange: String,
        /// How many bytes it holds before it refuses more.
        max_bytes: u64,
    },
    /// Dead letters: quorum; refuses more when it is full, so that nothing is dropped unseen. Looking
    /// at them counts as delivering them, so that there is no limit to that (4.x would say 20 by itself).
    Dead {
        /// How many bytes it holds.
        max_bytes: u64,
    },
    /// A waiting runner's events: gone with its connection.
    Run,
}

/// A node's queue goes after a month without its client.
pub const NODE_QUEUE_EXPIRES: Duration = Duration::from_secs(30 * 24 * 3600);

/// Commands that a node which is off line can have waiting.
const NODE_QUEUE_LENGTH: u32 = 1000;

/// Well over what restarts of a server cost, well under for ever; 4.x would say 20 by itself.
pub const DELIVERY_LIMIT: u32 = 50;

/// Room for dead letters.
const DEAD_BYTES: u64 = 1 << 30;

/// The names in use at a site. The defaults are the design's; exchanges can be renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Commands from the runner: `node.<name>`, `group.<name>`, `broadcasts.all`.
    pub broadcast: String,
    /// Results from the nodes: `slot.<n>`.
    pub master: String,
    /// Events to runners: `run.<run id>`.
    pub events: String,
    /// What could not be processed; also the name of the queue that keeps it.
    pub dead: String,
    /// How many bytes of results the broker keeps for a server that is away.
    pub results_max_bytes: u64,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            broadcast: "vogeler.broadcast.in".into(),
            master: "vogeler.master.in".into(),
            events: "vogeler.events".into(),
            dead: "vogeler.dead".into(),
            results_max_bytes: 8 << 30,
        }
    }
}

/// Routing key of commands for every node, and for globs.
pub const EVERY_NODE: &str = "broadcasts.all";

impl Topology {
    /// Every exchange, in the order to declare them.
    pub fn exchanges(&self) -> [Exchange; 4] {
        let exchange = |name: &String, kind| Exchange { name: name.clone(), kind };
        [
            exchange(&self.dead, ExchangeKind::Fanout),
            exchange(&self.broadcast, ExchangeKind::Topic),
            exchange(&self.master, ExchangeKind::Direct),
            exchange(&self.events, ExchangeKind::Topic),
        ]
    }

    /// The queue of dead letters. Declared before the results' queue, which points at it.
    pub fn dead_queue(&self) -> Queue {
        Queue { name: self.dead.clone(), kind: QueueKind::Dead { max_bytes: DEAD_BYTES } }
    }

    /// The queue that results wait in.
    pub fn results_queue(&self) -> Queue {
        let kind = QueueKind::Results {
            delivery_limit: DELIVERY_LIMIT,
            dead_letter_exchange: self.dead.clone(),
            max_bytes: self.results_max_bytes,
        };
        Queue { name: "master.in.0".into(), kind }
    }

    /// The routing keys that the results' queue is bound by: every slot.
    pub fn slots() -> impl Iterator<Item = String> {
        (0..SLOTS).map(|slot| format!("slot.{slot}"))
    }
}

/// The routing key of a node's results.
pub fn slot_key(node: &NodeName) -> String {
    format!("slot.{}", node.slot())
}

/// The routing key of one node's commands.
pub fn node_key(node: &NodeName) -> String {
    format!("node.{node}")
}

/// The routing key of a group's commands.
pub fn group_key(group: &Group) -> String {
    format!("group.{group}")
}

/// The routing key of a run's events.
pub fn run_key(run: RunId) -> String {
    format!("run.{run}")
}

/// The queue that a node's commands wait in.
pub fn node_queue(node: &NodeName) -> Queue {
    let kind = QueueKind::Node { expires: NODE_QUEUE_EXPIRES, max_length: NODE_QUEUE_LENGTH };
    Queue { name: format!("vogeler.node.{node}"), kind }
}

/// The queue of a waiting runner.
pub fn run_queue(run: RunId) -> Queue {
    Queue { name: format!("vogeler.run.{run}"), kind: QueueKind::Run }
}

/// The messages that a command for `target` becomes: each one's routing key and own target. A
/// named node gets a message of its own, so that a long list does not travel to every node on it.
pub fn routes(target: &Target) -> Vec<(String, Target)> {
    match target {
        Target::All | Target::Glob(_) => vec![(EVERY_NODE.to_owned(), target.clone())],
        Target::Group(group) => vec![(group_key(group), target.clone())],
        Target::Nodes(nodes) => nodes.iter().map(|node| (node_key(node), Target::Nodes(vec![node.clone()]))).collect(),
    }
}
