//! The merge itself.

use std::cmp::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::entry::{ErrorEntry, Order, ResultEntry, Standing, read};
use super::{Record, text};
use crate::message::{CommandResult, Failure, FailureKind, Hello, Payload};
use crate::object::Object;
use crate::{Digest, Timestamp};

/// A result on its way into a record.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The result, its output already read.
    pub result: CommandResult,
    /// The broker login that it came with, where the broker vouches for one.
    pub login: Option<String>,
    /// When the server took it.
    pub received_at: Timestamp,
    /// When it was published, where the message says so.
    pub sent_at: Option<Timestamp>,
    /// Whether it may have been merged before: redelivered, or replayed from the dead letters.
    pub again: bool,
    /// How many bytes the message had.
    pub bytes: usize,
    /// What to compare where the producer computed no digest.
    pub received_digest: Option<Digest>,
}

/// What an arrival did to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// New data, or a new failure, stands.
    Stored,
    /// The data is what it was; when it was collected is noted.
    Unchanged,
    /// The record already holds this very result. Nothing to write.
    Held,
    /// The record holds a later one. Nothing to write.
    Superseded,
}

impl Change {
    /// Whether the record differs from what it was.
    pub fn writes(self) -> bool {
        match self {
            Self::Stored | Self::Unchanged => true,
            Self::Held | Self::Superseded => false,
        }
    }
}

impl Record {
    /// Merges one result. Of one machine's results of a key the one with the highest order
    /// stands, whatever the order and number of arrivals; a failure stands beside the last good
    /// data until a later success clears it.
    pub fn apply(&mut self, arrival: &Arrival) -> Change {
        let result = &arrival.result;
        let key = result.key.as_str();
        let order = Order { machine_id: result.machine_id.clone(), epoch: result.epoch, seq: result.seq };
        let good: Option<Standing> = read(self.results.get(key));
        let bad: Option<Standing> = read(self.errors.get(key));
        let versus = |standing: &Option<Standing>| standing.as_ref().map(|s| against(arrival, &order, s));
        match &result.payload {
            Payload::Data(data) => {
                match versus(&good) {
                    Some(Ordering::Less) => return Change::Superseded,
                    Some(Ordering::Equal) => return Change::Held,
                    Some(Ordering::Greater) | None => {}
                }
                if versus(&bad) != Some(Ordering::Less) {
                    self.errors.remove(key);
                }
                self.put_data(arrival, order, data.get())
            }
            // Output is read before it comes here; what could not be read is a dead letter.
            Payload::Output(_) => Change::Superseded,
            Payload::Failure(failure) => {
                match (versus(&bad), versus(&good)) {
                    (Some(Ordering::Equal), _) => return Change::Held,
                    (Some(Ordering::Less), _) | (_, Some(Ordering::Less | Ordering::Equal)) => {
                        return Change::Superseded;
                    }
                    _ => {}
                }
                self.put_failure(arrival, order, failure);
                Change::Stored
            }
        }
    }

    fn put_data(&mut self, arrival: &Arrival, order: Order, data: &str) -> Change {
        let result = &arrival.result;
        let key = result.key.as_str();
        let digest = match (&result.digest, &arrival.received_digest) {
            (Some(digest), _) | (None, Some(digest)) => digest.clone(),
            (None, None) => Digest::of_bytes(data.as_bytes()),
        };
        let before: Option<ResultEntry> = read(self.results.get(key));
        let same = before.filter(|entry| entry.digest == digest && self.fields.get(key).is_some());
        let changed_at = same.as_ref().map_or(arrival.received_at, |entry| entry.changed_at);
        if same.is_none() {
            self.fields.set(key, raw(data));
        }
        let entry = ResultEntry {
            command: result.command.clone(),
            run: result.run,
            also_runs: result.also_runs.clone(),
            format: result.format,
            collected_at: result.started_at,
            received_at: arrival.received_at,
            sent_at: arrival.sent_at,
            changed_at,
            duration_ms: result.duration_ms,
            bytes: data.len(),
            digest,
            instance: result.instance,
            order,
            login: arrival.login.clone(),
        };
        self.results.set(key, json(&entry));
        self.touch(arrival.received_at);
        if same.is_some() { Change::Unchanged } else { Change::Stored }
    }

    fn put_failure(&mut self, arrival: &Arrival, order: Order, failure: &Failure) {
        let result = &arrival.result;
        let entry = ErrorEntry {
            command: result.command.clone(),
            run: result.run,
            also_runs: result.also_runs.clone(),
            at: result.started_at,
            received_at: arrival.received_at,
            sent_at: arrival.sent_at,
            kind: failure.kind,
            exit: result.exit,
            message: failure.message.clone(),
            stderr: failure.stderr.clone(),
            instance: result.instance,
            order,
            login: arrival.login.clone(),
        };
        self.errors.set(result.key.as_str(), json(&entry));
        self.touch(arrival.received_at);
    }

    /// Notes, in the place of a result that the database found too large, what makes the record so.
    pub fn apply_too_large(&mut self, arrival: &Arrival) -> Change {
        let size = match &arrival.result.payload {
            Payload::Data(data) => data.get().len(),
            Payload::Output(_) | Payload::Failure(_) => arrival.bytes,
        };
        let largest: Vec<String> =
            self.largest(3).iter().map(|(key, bytes)| format!("{key} ({bytes} bytes)")).collect();
        let message = format!(
            "with the {size} bytes of this result the record is larger than the database takes; \
             the largest it has: {}",
            if largest.is_empty() { "nothing else".to_owned() } else { largest.join(", ") }
        );
        let mut arrival = arrival.clone();
        arrival.result.payload =
            Payload::Failure(Failure { kind: FailureKind::RecordTooLarge, message, stderr: String::new() });
        self.apply(&arrival)
    }

    /// Merges what a client says of itself.
    pub fn apply_hello(&mut self, hello: &Hello, now: Timestamp) -> Change {
        let order = Order { machine_id: hello.machine_id.clone(), epoch: Some(hello.epoch), seq: Some(hello.seq) };
        let standing: Option<Order> = read(self.client.as_deref());
        if hello.contends {
            let other = standing.as_ref().and_then(|standing| standing.machine_id.as_deref());
            return self.note_clash(hello, other, now);
        }
        match standing.and_then(|standing| order.compare(&standing)) {
            Some(Ordering::Less) => return Change::Superseded,
            Some(Ordering::Equal) => return Change::Held,
            Some(Ordering::Greater) | None => {}
        }
        let mut client = Object::default();
        client.set("version", text(&hello.version));
        client.set("instance", json(&hello.instance));
        if let Some(machine_id) = &hello.machine_id {
            client.set("machine_id", text(machine_id));
        }
        client.set("epoch", json(&hello.epoch));
        client.set("seq", json(&hello.seq));
        client.set("groups", json(&hello.groups));
        client.set("aliases", json(&hello.aliases));
        client.set("hello_at", json(&now));
        self.client = Some(client.as_raw());
        let clash: Option<Clash> = read(self.others.get(CLASH));
        // Who was turned away has the name now, or has not tried for long: one that tries says so at each start.
        let over =
            |clash: &Clash| Some(&clash.machine_id) == hello.machine_id.as_ref() || now.since(clash.at) > LONG_AGO;
        if clash.as_ref().is_some_and(over) {
            self.others.remove(CLASH);
        }
        self.touch(now);
        Change::Stored
    }

    /// Two machines say that they are this node. Whoever has the queue keeps the record; the other is named in it.
    fn note_clash(&mut self, hello: &Hello, standing: Option<&str>, now: Timestamp) -> Change {
        let Some(machine_id) = hello.machine_id.clone().filter(|other| standing.is_some_and(|id| id != other)) else {
            // The same machine: its own connection that died and still held the queue.
            return Change::Held;
        };
        let before: Option<Clash> = read(self.others.get(CLASH));
        if before.is_some_and(|before| before.instance == hello.instance) {
            return Change::Held;
        }
        let clash = Clash { machine_id, instance: hello.instance, version: hello.version.clone(), at: now };
        self.others.set(CLASH, json(&clash));
        self.touch(now);
        Change::Stored
    }

    /// Notes that an operator took the node out of service, until the record is told something again.
    pub fn retire(&mut self, by: &str, now: Timestamp) {
        self.others.set(RETIRED, json(&Retired { at: now, by: by.to_owned() }));
    }

    fn touch(&mut self, now: Timestamp) {
        self.fields.set("updated_at", text(&now.to_string()));
        self.others.remove(RETIRED);
    }
}

/// `vogeler.clash`: the machine that was turned away, because another one has the node's name.
#[derive(Serialize, Deserialize)]
struct Clash {
    machine_id: String,
    instance: Uuid,
    version: String,
    at: Timestamp,
}

/// From then on a hello of the client that has the name takes the note away.
const LONG_AGO: Duration = Duration::from_secs(24 * 3600);

/// Where it stands, among the members of `vogeler`.
const CLASH: &str = "clash";

/// `vogeler.retired`
#[derive(Serialize)]
struct Retired {
    at: Timestamp,
    by: String,
}

/// Where it stands, among the members of `vogeler`.
const RETIRED: &str = "retired";

/// How an arrival compares with what stands: later, the very same, or earlier.
fn against(arrival: &Arrival, order: &Order, standing: &Standing) -> Ordering {
    order.compare(&standing.order).unwrap_or_else(|| match arrival.sent_at {
        // It may have been merged before, and something else since. What stands may itself have
        // waited long for a server, so that its own sending counts where it is known; but nothing was
        // sent after it was received, whatever the clock of its producer says.
        Some(sent)
            if arrival.again
                && standing.sent_at.map_or(standing.received_at, |at| at.min(standing.received_at)) > sent =>
        {
            Ordering::Less
        }
        _ => Ordering::Greater,
    })
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("data has been scanned")
}

fn json<T: Serialize>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("entries hold string keys and finite numbers only")
}
