//! What was promised to whom, as the messages themselves say it; and what must not happen on the way.
//!
//! The wrappers of broker, database and plugins tell it of every effect. What can be judged at once is judged at once
//! and noted in [`Ledger::broken`]; what has to be so in the end is asked by `judge`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::value::RawValue;
use vogeler_messaging::{Delivery, Publish};
use vogeler_protocol::message::{self, Command, CommandResult, Event, FailureKind, Hello, Notice, Payload};
use vogeler_protocol::{Alias, NodeName, RunId, Timestamp};

use super::life::Life;
use super::plan::NO_ALIAS;
use super::world::World;

/// Where a result stands among those of its machine: epoch, and place in it.
pub(super) type Place = (u64, u64);

/// A command that reached the queue of a node.
pub(super) type Order = (NodeName, RunId, Alias);

/// Five minutes, as `vogeler-client` grants them to the clocks.
const GRACE: std::time::Duration = std::time::Duration::from_secs(300);

const NODE_QUEUE: &str = "vogeler.node.";

/// What a client said, and the broker confirmed to it.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) node: NodeName,
    pub(super) message_id: String,
    pub(super) place: Place,
    pub(super) what: What,
}

/// Of what kind it is.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// Data, as JSON text, under a key.
    Data(String, String),
    /// A failure of a key.
    Failure(String),
    /// A hello.
    Hello,
}

/// What is known of one record from the writes that were confirmed.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    results: BTreeMap<String, (Place, String)>,
    errors: BTreeMap<String, Place>,
    hello: Option<Place>,
    /// How often somebody else has written it.
    pub(super) notes: u64,
}

/// A delivery that a consumer holds.
struct Held {
    order: Order,
    expires_at: Timestamp,
    command: Command,
}

/// The account of everything.
#[derive(Default)]
pub(super) struct Ledger {
    /// What is wrong, in words.
    pub(super) broken: Vec<String>,
    /// (queue, key), at the exchange of commands.
    pub(super) bindings: BTreeSet<(String, String)>,
    /// Commands that are in a node's queue or were, and when they expire; gone once they are settled.
    pub(super) owed: BTreeMap<Order, Timestamp>,
    /// Answers that reached the queue of results, and whether each was an interruption.
    pub(super) answers: BTreeMap<Order, BTreeSet<(Place, bool)>>,
    /// What clients were told the broker has.
    pub(super) said: Vec<Said>,
    /// The state of each record.
    pub(super) standing: BTreeMap<NodeName, Standing>,
    /// Plugins that were started: node, alias, run.
    started: BTreeSet<(NodeName, Alias, String)>,
    /// Nodes whose client has ended in whichever way.
    ended: BTreeSet<NodeName>,
    /// Commands whose runs were told that they are refused.
    refused: BTreeSet<Order>,
    held: BTreeMap<u64, BTreeMap<u64, Held>>,
    consumers: u64,
}

impl Ledger {
    /// A name for a consumer.
    pub(super) fn consumer(&mut self) -> u64 {
        self.consumers += 1;
        self.consumers
    }

    /// Something is wrong.
    pub(super) fn breaks(&mut self, words: String) {
        if self.broken.len() < 20 {
            self.broken.push(words);
        }
    }

    pub(super) fn bound(&mut self, queue: &str, exchange: &str, key: &str) {
        if exchange == "vogeler.broadcast.in" {
            self.bindings.insert((queue.to_owned(), key.to_owned()));
        }
    }

    pub(super) fn unbound(&mut self, queue: &str, exchange: &str, key: &str) {
        if exchange == "vogeler.broadcast.in" {
            self.bindings.remove(&(queue.to_owned(), key.to_owned()));
        }
    }

    /// A message is in every queue that is bound for it, whether or not its producer will hear so.
    pub(super) fn published(&mut self, world: &World, publish: &Publish<'_>) {
        match (publish.exchange, publish.message.properties.kind.as_deref()) {
            ("vogeler.broadcast.in", _) => self.ordered(publish),
            ("vogeler.master.in", Some("result")) => self.answered(world, publish),
            _ => {}
        }
    }

    fn ordered(&mut self, publish: &Publish<'_>) {
        let Ok(command) = message::decode::<Command>(&publish.message.body) else { return };
        for (queue, key) in &self.bindings {
            let node = queue.strip_prefix(NODE_QUEUE).filter(|_| key == publish.routing_key);
            let Some(node) = node.and_then(|node| node.parse().ok()) else { continue };
            let order = (node, command.run, command.command.clone());
            if !self.answers.contains_key(&order) {
                self.owed.insert(order, command.expires_at);
            }
        }
    }

    fn answered(&mut self, world: &World, publish: &Publish<'_>) {
        let Ok(result) = CommandResult::decode(&publish.message.body) else {
            self.breaks(format!("what was published to {} is no result", publish.routing_key));
            return;
        };
        let place = (result.epoch.unwrap_or(0), result.seq.unwrap_or(0));
        let interrupted =
            matches!(&result.payload, Payload::Failure(failure) if failure.kind == FailureKind::Interrupted);
        if interrupted && !self.ended.contains(&result.node) {
            self.breaks(format!("{}: {} was told as interrupted, and nothing was", result.node, result.command));
        }
        for run in result.runs() {
            let order = (result.node.clone(), run, result.command.clone());
            let answers = self.answers.entry(order.clone()).or_default();
            answers.insert((place, interrupted));
            let places: BTreeSet<Place> = answers.iter().map(|(place, _)| *place).collect();
            if places.len() > 1 {
                self.breaks(format!("{} answered run {run} of {} at {places:?}", order.0, order.2));
            }
            self.owed.remove(&order);
        }
        if world.machine(&result.node).is_none() {
            self.breaks(format!("a result of {}, which is no node", result.node));
        }
    }

    /// The producer of a message was told that the broker has it.
    pub(super) fn confirmed(&mut self, publish: &Publish<'_>) {
        if publish.exchange != "vogeler.master.in" {
            return;
        }
        let message_id = publish.message.properties.message_id.clone().unwrap_or_default();
        let said = if publish.message.properties.kind.as_deref() == Some("hello") {
            let Ok(hello) = message::decode::<Hello>(&publish.message.body) else { return };
            if hello.contends {
                return;
            }
            Said { place: (hello.epoch, hello.seq), node: hello.node, message_id, what: What::Hello }
        } else {
            let Ok(result) = CommandResult::decode(&publish.message.body) else { return };
            let key = result.key.to_string();
            let what = match &result.payload {
                Payload::Data(data) => What::Data(key, data.get().to_owned()),
                Payload::Failure(_) | Payload::Output(_) => What::Failure(key),
            };
            let place = (result.epoch.unwrap_or(0), result.seq.unwrap_or(0));
            Said { node: result.node, message_id, place, what }
        };
        self.said.push(said);
    }

    /// A command was handed to a node.
    pub(super) fn delivered(&mut self, consumer: u64, queue: &str, delivery: &Delivery) {
        let Some(node) = queue.strip_prefix(NODE_QUEUE).and_then(|node| node.parse().ok()) else { return };
        let Ok(command) = message::decode::<Command>(&delivery.message.body) else { return };
        let order = (node, command.run, command.command.clone());
        let held = Held { order, expires_at: command.expires_at, command };
        self.held.entry(consumer).or_default().insert(delivery.tag, held);
    }

    /// Deliveries are gone from the broker. Of a command that has to be right: it was answered, or nobody owes an
    /// answer.
    pub(super) fn acknowledged(&mut self, world: &World, life: &Life, consumer: u64, queue: &str, tags: &[u64]) {
        if !queue.starts_with(NODE_QUEUE) {
            return;
        }
        for tag in tags {
            let of_consumer = self.held.entry(consumer).or_default();
            let Some(held) = of_consumer.remove(tag) else { continue };
            let again = of_consumer.values().any(|other| other.order == held.order);
            let Some(machine) = world.machine(&held.order.0) else { continue };
            let groups = machine.groups.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let now = world.true_clock().now().as_millisecond() + machine.most_skew.load(Ordering::Relaxed);
            let expired = now > held.expires_at.after(GRACE).as_millisecond();
            let reloaded = machine.reloads.get() > 0;
            let not_ours = !held.command.target.includes(&held.order.0, &groups)
                || reloaded && matches!(held.command.target, vogeler_protocol::Target::Group(_));
            let unknown = held.order.2.as_str() == NO_ALIAS;
            let answered = self.answers.contains_key(&held.order);
            if answered || expired || not_ours || unknown {
                self.owed.remove(&held.order);
                if !answered && !not_ours && held.command.want_events && !self.refused.contains(&held.order) {
                    let (node, run, alias) = &held.order;
                    self.breaks(format!("{node} did not tell run {run} that it refused {alias}"));
                }
            } else if !again {
                let (node, run, alias) = &held.order;
                self.breaks(format!("{life} acknowledged {alias} of run {run}, and {node} has not answered it"));
            }
        }
    }

    /// A run is told something; that may be lost.
    pub(super) fn told(&mut self, publish: &Publish<'_>) {
        let Ok(event) = message::decode::<Event>(&publish.message.body) else { return };
        if event.event == Notice::Refused {
            self.refused.insert((event.node, event.run, event.command));
        }
    }

    /// A plugin is started.
    pub(super) fn starts(&mut self, node: &NodeName, alias: &Alias, run: &str) {
        if !self.started.insert((node.clone(), alias.clone(), run.to_owned())) {
            self.breaks(format!("{node} ran {alias} a second time for run {run}"));
        }
    }

    /// The client of a node has ended, in whichever way.
    pub(super) fn ends(&mut self, node: &NodeName) {
        self.ended.insert(node.clone());
    }

    /// Somebody else has written a record.
    pub(super) fn noted(&mut self, node: &NodeName, notes: u64) {
        self.standing.entry(node.clone()).or_default().notes = notes;
    }

    /// The database has taken a record: nothing in it may be older than what was there.
    pub(super) fn written(&mut self, node: &NodeName, document: &[u8]) {
        let Ok(now) = Standing::of(document) else {
            self.breaks(format!("the record of {node} is none"));
            return;
        };
        let before = self.standing.insert(node.clone(), now.clone()).unwrap_or_default();
        for rolled_back in before.lost_in(&now) {
            self.breaks(format!("the record of {node} was rolled back: {rolled_back}"));
        }
    }
}

/// `vogeler` in a record, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Vogeler {
    client: Option<Entry>,
    results: BTreeMap<String, Entry>,
    errors: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    epoch: u64,
    seq: u64,
}

impl Entry {
    fn place(&self) -> Place {
        (self.epoch, self.seq)
    }
}

impl Standing {
    /// What a document says. Data stays the text that it is: a tree of each record would be most of the work.
    pub(super) fn of(document: &[u8]) -> serde_json::Result<Self> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_slice(document)?;
        let vogeler = members.get("vogeler").map(|vogeler| serde_json::from_str(vogeler.get())).transpose()?;
        let Vogeler { client, results, errors } = vogeler.unwrap_or_default();
        let data = |(key, entry): (String, Entry)| {
            let data = members.get(&key).map_or_else(String::new, |data| data.get().to_owned());
            (key, (entry.place(), data))
        };
        Ok(Self {
            errors: errors.into_iter().map(|(key, entry)| (key, entry.place())).collect(),
            hello: client.map(|client| client.place()),
            notes: members.get("notes").map(|notes| serde_json::from_str(notes.get())).transpose()?.unwrap_or(0),
            results: results.into_iter().map(data).collect(),
        })
    }

    /// What was there and is not any more, nor anything later.
    fn lost_in(&self, now: &Self) -> Vec<String> {
        let mut lost = Vec::new();
        for (key, (place, data)) in &self.results {
            match now.results.get(key) {
                Some((later, _)) if later > place => {}
                Some((same, stands)) if same == place && stands == data => {}
                other => lost.push(format!("{key} was at {place:?}, and is {other:?}")),
            }
        }
        for (key, place) in &self.errors {
            let stands = now.errors.get(key).is_some_and(|now| now >= place);
            let cleared = now.results.get(key).is_some_and(|(now, _)| now >= place);
            if !stands && !cleared {
                lost.push(format!("the error of {key} was at {place:?}"));
            }
        }
        if now.hello < self.hello {
            lost.push(format!("the hello was at {:?}, and is {:?}", self.hello, now.hello));
        }
        if now.notes < self.notes {
            lost.push(format!("somebody else's notes were at {}, and are at {}", self.notes, now.notes));
        }
        lost
    }

    /// Whether it holds what was said, or something later.
    pub(super) fn holds(&self, said: &Said) -> bool {
        let result = |key: &String| self.results.get(key).map(|(place, _)| *place);
        match &said.what {
            What::Data(key, data) => self
                .results
                .get(key)
                .is_some_and(|(place, stands)| *place > said.place || *place == said.place && data == stands),
            What::Failure(key) => {
                result(key) >= Some(said.place) || self.errors.get(key).is_some_and(|place| *place >= said.place)
            }
            What::Hello => self.hello >= Some(said.place),
        }
    }

    /// Whether a result of that place, or a later one, stands under any key.
    pub(super) fn reaches(&self, place: Place) -> bool {
        self.results.values().any(|(stands, _)| *stands >= place) || self.errors.values().any(|stands| *stands >= place)
    }
}
