//! What leaves the node: results and hellos to the server, events to a runner.
//!
//! Results and hellos are kept until the broker has them (see [`crate::outbox`]); events are handed
//! over and forgotten.

use std::collections::BTreeMap;

use tracing::{info, warn};
use uuid::Uuid;
use vogeler_messaging::topology::{run_key, slot_key};
use vogeler_messaging::{Current, Message, Properties, Publish, Session, Topology};
use vogeler_protocol::message::{
    self, CommandResult, Event, Failure, FailureKind, Hello, MAX_RESULT_BYTES, Notice, Payload, Version,
};
use vogeler_protocol::{Alias, Clock, Digest, Group, Key, NodeName, Random, RunId};

use crate::journal::Asked;
use crate::outbox::{Letter, Outbox, Sent};
use crate::plugin::Plugin;
use crate::plugin::execute::Execution;
use crate::plugin::registry::Registry;

/// Where a result stands among those of its machine: epoch, and place in the epoch.
pub type Place = (u64, u64);

/// What every result of this client says of its origin.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The node.
    pub node: NodeName,
    /// Made at this start.
    pub instance: Uuid,
    /// The machine's fingerprint.
    pub machine_id: Option<String>,
    /// The number of this start.
    pub epoch: u64,
    /// The broker login, which the broker vouches for.
    pub login: String,
}

/// The way out.
pub struct Answers<S> {
    origin: Origin,
    topology: Topology,
    clock: Clock,
    random: Random,
    session: Current<Option<S>>,
    outbox: Outbox<S>,
    seq: u64,
}

impl<S: Session> Answers<S> {
    /// A way out over the session of the moment.
    pub fn new(origin: Origin, topology: Topology, clock: Clock, random: Random, session: Current<Option<S>>) -> Self {
        let outbox = Outbox::new(session.clone(), random.clone());
        Self { origin, topology, clock, random, session, outbox, seq: 0 }
    }

    /// The node that all of it is of.
    pub fn node(&self) -> &NodeName {
        &self.origin.node
    }

    /// The place of a plugin that starts now.
    pub fn next_place(&mut self) -> Place {
        self.seq += 1;
        (self.origin.epoch, self.seq)
    }

    /// Whether so much waits for the broker that nothing new should be started.
    pub fn is_full(&self) -> bool {
        self.outbox.is_full()
    }

    /// Whether every answer is with the broker.
    pub fn all_sent(&self) -> bool {
        self.outbox.has_no_answers()
    }

    /// Whether everything is with the broker, hellos included.
    pub fn nothing_left(&self) -> bool {
        self.outbox.is_empty()
    }

    /// The next message that the broker has; waits for ever while there is none. Cancel-safe.
    pub async fn sent(&mut self) -> Sent {
        self.outbox.sent().await
    }

    /// Sends what the client says of itself.
    pub fn hello(&mut self, registry: &Registry, groups: &[Group]) {
        let hello = Hello { groups: groups.to_vec(), aliases: registry.aliases(), ..self.bare_hello() };
        let letter = self.letter("hello", message::encode(&hello), None, Vec::new());
        self.outbox.post(letter);
    }

    /// What to say where another client has this node's queue.
    pub fn contention(&mut self) -> Letter {
        let hello = Hello { contends: true, ..self.bare_hello() };
        self.letter("hello", message::encode(&hello), None, Vec::new())
    }

    fn bare_hello(&mut self) -> Hello {
        let (epoch, seq) = self.next_place();
        Hello {
            v: Version,
            node: self.origin.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.origin.instance,
            machine_id: self.origin.machine_id.clone(),
            epoch,
            seq,
            contends: false,
            groups: Vec::new(),
            aliases: BTreeMap::new(),
        }
    }

    /// Sends what came of an execution, to all runs that it answers.
    pub fn result(&mut self, plugin: &Plugin, runs: &[RunId], place: Place, execution: Execution) {
        let Execution { started_at, duration, exit, outcome } = execution;
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok(data) => info!(alias = %plugin.alias, millis, bytes = data.get().len(), "plugin ran"),
            Err(failure) => warn!(alias = %plugin.alias, millis, reason = failure.message, "plugin failed"),
        }
        let (digest, payload) = match outcome {
            // Told from its data alone, before a message several times as large is made of it.
            Ok(data) if data.get().len() > MAX_RESULT_BYTES => (None, Payload::Failure(too_large(data.get().len()))),
            Ok(data) => (Some(Digest::of_data(&data)), Payload::Data(data)),
            Err(failure) => (None, Payload::Failure(failure)),
        };
        let result = CommandResult {
            format: Some(plugin.format),
            started_at: Some(started_at),
            duration_ms: Some(millis),
            exit,
            digest,
            ..self.bare(&plugin.alias, plugin.key.clone(), runs, place, payload)
        };
        let mut body = result.encode();
        if body.len() > MAX_RESULT_BYTES {
            let payload = Payload::Failure(too_large(body.len()));
            body = CommandResult { payload, digest: None, ..result }.encode();
        }
        self.post_answer(body, &plugin.alias, runs);
    }

    /// Sends that nothing came of a command.
    pub fn failure(&mut self, alias: &Alias, key: Key, runs: &[RunId], place: Place, failure: Failure) {
        let started_at = Some(self.clock.now());
        let payload = Payload::Failure(failure);
        let result = CommandResult { started_at, ..self.bare(alias, key, runs, place, payload) };
        self.post_answer(result.encode(), alias, runs);
    }

    fn bare(&self, alias: &Alias, key: Key, runs: &[RunId], (epoch, seq): Place, payload: Payload) -> CommandResult {
        CommandResult {
            node: self.origin.node.clone(),
            run: runs.first().copied(),
            also_runs: runs.get(1..).unwrap_or_default().to_vec(),
            command: alias.clone(),
            key,
            format: None,
            instance: Some(self.origin.instance),
            machine_id: self.origin.machine_id.clone(),
            epoch: Some(epoch),
            seq: Some(seq),
            started_at: None,
            duration_ms: None,
            exit: None,
            digest: None,
            payload,
        }
    }

    fn post_answer(&mut self, body: Vec<u8>, alias: &Alias, runs: &[RunId]) {
        let answers = runs.iter().map(|run| (*run, alias.clone())).collect();
        let letter = self.letter("result", body, runs.first().copied(), answers);
        self.outbox.post(letter);
    }

    fn letter(&self, kind: &str, body: Vec<u8>, run: Option<RunId>, answers: Vec<Asked>) -> Letter {
        let properties = Properties {
            message_id: Some(self.random.uuid().to_string()),
            correlation_id: run.map(|run| run.to_string()),
            user_id: Some(self.origin.login.clone()),
            persistent: true,
            ..self.properties(kind)
        };
        Letter {
            exchange: self.topology.master.clone(),
            routing_key: slot_key(&self.origin.node),
            message: Message { body, properties },
            answers,
        }
    }

    fn properties(&self, kind: &str) -> Properties {
        Properties {
            kind: Some(kind.to_owned()),
            timestamp: Some(self.clock.now().as_second()),
            content_type: Some(message::JSON.to_owned()),
            app_id: Some("vogeler-client".to_owned()),
            ..Properties::default()
        }
    }

    /// Tells a runner that wants to hear; what is lost here it finds in the record.
    pub fn tell(&self, run: RunId, command: &Alias, notice: Notice, detail: Option<String>) {
        let Some(session) = self.session.get() else { return };
        let event = Event {
            v: Version,
            run,
            command: command.clone(),
            node: self.origin.node.clone(),
            event: notice,
            at: self.clock.now(),
            detail,
        };
        let properties = Properties { correlation_id: Some(run.to_string()), ..self.properties("event") };
        let key = run_key(run);
        session.notify(Publish {
            exchange: &self.topology.events,
            routing_key: &key,
            mandatory: false,
            message: Message { body: message::encode(&event), properties },
        });
    }
}

fn too_large(bytes: usize) -> Failure {
    let message = format!("the result has {bytes} bytes as a message; {MAX_RESULT_BYTES} can be sent");
    Failure { kind: FailureKind::TooLarge, message, stderr: String::new() }
}
