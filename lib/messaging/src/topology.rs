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
    /// The exchange that gets what no queue of this one takes.
    pub alternate: Option<String>,
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
    /// A waiting runner's events: its connection's alone, and gone with it.
    Run,
    /// Says something by being there, or by who consumes it; no message is in it. Quorum, because a classic queue
    /// looks as if it were missing while its node of a cluster is down.
    Sign,
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
    /// How many bytes of results each queue of them keeps for a server that is away.
    pub results_max_bytes: u64,
    /// How many queues of results a broker gets that has none yet, and how many `vogeler-server setup` makes of those
    /// that are there; 1 to 64. How many are in force is what is there: [`crate::results::in_force`].
    pub queues: u32,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            broadcast: "vogeler.broadcast.in".into(),
            master: "vogeler.master.in".into(),
            events: "vogeler.events".into(),
            dead: "vogeler.dead".into(),
            results_max_bytes: 8 << 30,
            queues: 1,
        }
    }
}

/// Routing key of commands for every node, and for globs.
pub const EVERY_NODE: &str = "broadcasts.all";

impl Topology {
    /// The exchanges that a site talks to, in the order to declare them.
    pub fn exchanges(&self) -> [Exchange; 4] {
        let exchange = |name: &String, kind| Exchange { name: name.clone(), kind, alternate: None };
        [
            exchange(&self.dead, ExchangeKind::Fanout),
            exchange(&self.broadcast, ExchangeKind::Topic),
            exchange(&self.master, ExchangeKind::Direct),
            exchange(&self.events, ExchangeKind::Topic),
        ]
    }

    /// Behind the one where results come in, bound to it by every slot; the queues of results are bound here. What a slot
    /// that has no queue gets goes to the next exchange, each message to the one or the other: so a slot changes its
    /// queue with neither a gap nor a message in both. It is an exchange of its own because others may bind queues of
    /// theirs to the first, and a slot that they listen to would never be without one.
    pub fn slots_exchange(&self) -> Exchange {
        let alternate = Some(self.moving_exchange().name);
        Exchange { name: format!("{}.slots", self.master), kind: ExchangeKind::Direct, alternate }
    }

    /// What takes results of slots that have no queue. Only while results are moved a queue is bound to it; otherwise they
    /// are unroutable, and their producers hear so.
    pub fn moving_exchange(&self) -> Exchange {
        Exchange { name: format!("{}.moving", self.master), kind: ExchangeKind::Fanout, alternate: None }
    }

    /// The queue of dead letters. Declared before the results' queue, which points at it.
    pub fn dead_queue(&self) -> Queue {
        Queue { name: self.dead.clone(), kind: QueueKind::Dead { max_bytes: DEAD_BYTES } }
    }

    /// The queue of that number that results wait in.
    pub fn results_queue(&self, number: u32) -> Queue {
        self.results(format!("master.in.{number}"))
    }

    /// The queue that results wait in while the others are changed. That it is there tells servers to stand aside.
    pub fn moving_queue(&self) -> Queue {
        self.results("master.in.moving".to_owned())
    }

    fn results(&self, name: String) -> Queue {
        let kind = QueueKind::Results {
            delivery_limit: DELIVERY_LIMIT,
            dead_letter_exchange: self.dead.clone(),
            max_bytes: self.results_max_bytes,
        };
        Queue { name, kind }
    }
}

/// While results are moved: there once the queues are what they are to be, so that from then on slots are bound to them.
pub fn switching_queue() -> Queue {
    Queue { name: "master.in.switching".into(), kind: QueueKind::Sign }
}

/// Every server consumes it, so that it is known how many there are; it is deleted where they have to look up.
pub fn servers_queue() -> Queue {
    Queue { name: "master.in.servers".into(), kind: QueueKind::Sign }
}

/// Whoever has it changes the queues of results, alone; it goes with its connection.
pub fn setup_queue() -> Queue {
    Queue { name: "master.in.setup".into(), kind: QueueKind::Run }
}

/// Every slot.
pub fn slots() -> impl Iterator<Item = u32> {
    0..SLOTS
}

/// The number of the queue that takes a slot, of so many.
pub fn queue_of(slot: u32, queues: u32) -> u32 {
    slot % queues.max(1)
}

/// The slots that a queue takes, of so many.
pub fn slots_of(number: u32, queues: u32) -> impl Iterator<Item = u32> {
    slots().filter(move |slot| queue_of(*slot, queues) == number)
}

/// The routing key of a slot.
pub fn key_of(slot: u32) -> String {
    format!("slot.{slot}")
}

/// The routing key of a node's results.
pub fn slot_key(node: &NodeName) -> String {
    key_of(node.slot())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_one_queue_and_each_queue_its_share_of_slots() {
        for queues in 1..=SLOTS {
            let mut owners = vec![0; SLOTS as usize];
            for number in 0..queues {
                let own: Vec<u32> = slots_of(number, queues).collect();
                assert!(
                    (SLOTS / queues..=SLOTS.div_ceil(queues)).contains(&(own.len() as u32)),
                    "{number} of {queues}"
                );
                own.iter().for_each(|slot| owners[*slot as usize] += 1);
                assert!(own.iter().all(|slot| queue_of(*slot, queues) == number), "{number} of {queues}: {own:?}");
            }
            assert!(owners.iter().all(|count| *count == 1), "{queues} queues: {owners:?}");
        }
        assert_eq!(slots_of(1, 4).take(3).collect::<Vec<_>>(), [1, 5, 9]);
    }

    #[test]
    fn no_queue_of_results_is_called_like_another() {
        let topology = Topology::default();
        let mut names: Vec<String> = (0..SLOTS).map(|number| topology.results_queue(number).name).collect();
        names.extend(
            [topology.moving_queue(), switching_queue(), servers_queue(), setup_queue()].map(|queue| queue.name),
        );
        names.sort();
        names.dedup();
        assert_eq!(names.len(), SLOTS as usize + 4);
        assert_eq!(topology.results_queue(0).name, "master.in.0");
    }
}
