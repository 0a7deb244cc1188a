//! Commands: taken or refused, run, answered, acknowledged.
//!
//! Start at [`Dispatch::hear`]. One alias never runs twice at once; commands for it that wait are
//! served by one execution, whose result answers all of their runs. A delivery is acknowledged
//! when its answer is with the broker, and not before.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;
use vogeler_messaging::topology::{run_key, slot_key};
use vogeler_messaging::{Acks, Delivery, Message, Properties, Publish, Session, Topology};
use vogeler_protocol::message::{
    self, Command, CommandResult, Event, Failure, FailureKind, Hello, MAX_RESULT_BYTES, Notice, Payload, UNKNOWN_ALIAS,
    Version,
};
use vogeler_protocol::{Alias, Clock, Digest, Group, NodeName, Random, RunId, Target, Timestamp};

use crate::journal::{Asked, Journal, Progress};
use crate::link::Heard;
use crate::outbox::{Letter, Outbox, Sent};
use crate::plugin::Plugin;
use crate::plugin::execute::{Execution, Executor};
use crate::plugin::registry::Registry;

/// How far the clocks of a runner and a node may differ before a command counts as expired.
const CLOCK_GRACE: Duration = Duration::from_secs(300);

/// The longest splay: with a plugin's time limit it stays under the broker's 30 minutes.
const LONGEST_SPLAY: Duration = Duration::from_secs(300);

/// What every result of this client says of its origin.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The node.
    pub node: NodeName,
    /// Made at this start.
    pub instance: Uuid,
    /// The machine's fingerprint.
    pub machine_id: Option<String>,
    /// How often the client has started.
    pub epoch: u64,
    /// The broker login, which the broker vouches for.
    pub login: String,
}

/// A command that waits for its turn.
#[derive(Debug)]
struct Waiting {
    run: RunId,
    expires_at: Timestamp,
    not_before: Instant,
}

/// Where a command's delivery is to be acknowledged.
#[derive(Debug, Clone, Copy)]
struct Receipt {
    session: u64,
    tag: u64,
}

/// Everything between a delivery and its acknowledgement.
pub struct Dispatch<S: Session, A> {
    origin: Origin,
    topology: Topology,
    clock: Clock,
    random: Random,
    registry: Arc<Registry>,
    groups: Vec<Group>,
    journal: Journal,
    concurrency: usize,
    session: watch::Receiver<Option<S>>,
    outbox: Outbox<S>,
    acks: Option<(u64, A)>,
    seq: u64,
    waiting: BTreeMap<Alias, Vec<Waiting>>,
    running: BTreeMap<Alias, Vec<RunId>>,
    executions: JoinSet<(Box<Plugin>, u64, Execution)>,
    acknowledging: JoinSet<()>,
    receipts: HashMap<Asked, Receipt>,
    draining: bool,
}

/// What a dispatcher is made of.
pub struct DispatchParts<S: Session> {
    /// What results say of their origin.
    pub origin: Origin,
    /// Names of exchanges.
    pub topology: Topology,
    /// The wall clock.
    pub clock: Clock,
    /// For waits and identifiers.
    pub random: Random,
    /// The plugins.
    pub registry: Arc<Registry>,
    /// The groups.
    pub groups: Vec<Group>,
    /// What was begun and answered.
    pub journal: Journal,
    /// How many plugins may run at once.
    pub concurrency: usize,
    /// The session of the moment.
    pub session: watch::Receiver<Option<S>>,
}

impl<S: Session, A: Acks> Dispatch<S, A> {
    /// A dispatcher with nothing to do yet.
    pub fn new(parts: DispatchParts<S>) -> Self {
        let outbox = Outbox::new(parts.session.clone(), parts.random.clone());
        Self {
            origin: parts.origin,
            topology: parts.topology,
            clock: parts.clock,
            random: parts.random,
            registry: parts.registry,
            groups: parts.groups,
            journal: parts.journal,
            concurrency: parts.concurrency.max(1),
            session: parts.session,
            outbox,
            acks: None,
            seq: 0,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            executions: JoinSet::new(),
            acknowledging: JoinSet::new(),
            receipts: HashMap::new(),
            draining: false,
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Sends what the client says of itself.
    pub fn say_hello(&mut self) {
        let hello = Hello {
            v: Version,
            node: self.origin.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.origin.instance,
            machine_id: self.origin.machine_id.clone(),
            epoch: self.origin.epoch,
            seq: self.next_seq(),
            groups: self.groups.clone(),
            aliases: self.registry.aliases(),
        };
        self.post("hello", message::encode(&hello), None, Vec::new());
    }

    /// Takes plugins and groups that were read anew.
    pub fn replace(&mut self, registry: Arc<Registry>, groups: Vec<Group>) {
        self.registry = registry;
        self.groups = groups;
        self.say_hello();
    }

    /// Starts nothing more; what runs goes on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether nothing runs and every answer is with the broker.
    pub fn is_idle(&self) -> bool {
        self.executions.is_empty() && self.outbox.has_no_answers() && self.acknowledging.is_empty()
    }

    /// Takes what the link heard.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn hear(&mut self, heard: Heard<A>) -> io::Result<()> {
        match heard {
            Heard::Up { session, acks } => {
                self.acks = Some((session, acks));
                Ok(())
            }
            Heard::Delivery { session, delivery } => self.take(session, &delivery),
        }
    }

    fn take(&mut self, session: u64, delivery: &Delivery) -> io::Result<()> {
        let receipt = Receipt { session, tag: delivery.tag };
        let command: Command = match message::decode(&delivery.message.body) {
            Ok(command) => command,
            Err(error) => {
                warn!(%error, "a message that is no command was thrown away");
                self.ack(&[receipt]);
                return Ok(());
            }
        };
        let asked = (command.run, command.command.clone());
        if let Some(earlier) = self.receipts.get_mut(&asked) {
            // It waits or runs, and came again by another session: it is answered once, there.
            debug!(run = %command.run, alias = %command.command, "a command came again");
            let duplicate = (earlier.session == receipt.session).then_some(*earlier);
            *earlier = receipt;
            self.ack(duplicate.as_slice());
            return Ok(());
        }
        match self.journal.progress(&asked) {
            Some(Progress::Done) => {
                debug!(run = %command.run, alias = %command.command, "a command was answered before");
                self.ack(&[receipt]);
            }
            Some(Progress::Started { epoch, seq }) => {
                warn!(run = %command.run, alias = %command.command, epoch, "a command was interrupted");
                self.receipts.insert(asked, receipt);
                self.report_interrupted(&command, epoch, seq);
            }
            None => self.admit(command, asked, receipt),
        }
        self.start_what_can()
    }

    /// Every command's target and time are looked at here: bindings only save traffic, and the
    /// broker's expiry promises nothing.
    fn admit(&mut self, command: Command, asked: Asked, receipt: Receipt) {
        let refusal = if !command.target.includes(&self.origin.node, &self.groups) {
            match command.target {
                Target::Glob(_) | Target::All => None,
                Target::Nodes(_) | Target::Group(_) => Some((Notice::Skipped, "not this node's".to_owned())),
            }
        } else if self.clock.now() > command.expires_at.after(CLOCK_GRACE) {
            Some((Notice::Refused, format!("expired at {}", command.expires_at)))
        } else if self.registry.get(&command.command).is_none() {
            Some((Notice::Refused, format!("{UNKNOWN_ALIAS}; this node knows {}", self.registry.names())))
        } else {
            info!(run = %command.run, alias = %command.command, issuer = command.issuer, "command taken");
            self.tell(&command, Notice::Accepted, None);
            self.receipts.insert(asked, receipt);
            let splay = Duration::from_millis(command.splay_ms).min(LONGEST_SPLAY);
            let not_before = Instant::now() + self.random.up_to(splay);
            let waiting = Waiting { run: command.run, expires_at: command.expires_at, not_before };
            self.waiting.entry(command.command).or_default().push(waiting);
            return;
        };
        if let Some((notice, detail)) = refusal {
            info!(run = %command.run, alias = %command.command, detail, "command {notice}");
            self.tell(&command, notice, Some(detail));
        }
        self.ack(&[receipt]);
    }

    /// Whether nothing is left to do: no command waits, and everything is with the broker.
    pub fn is_done(&self) -> bool {
        self.is_idle() && self.waiting.is_empty() && self.outbox.is_empty()
    }

    fn has_room(&self) -> bool {
        !self.draining && self.running.len() < self.concurrency && !self.outbox.is_full()
    }

    /// When the next command's splay is over, if one waits for that alone. Where there is no room,
    /// what makes room starts it.
    pub fn next_start(&self) -> Option<Instant> {
        if !self.has_room() {
            return None;
        }
        let waiting = self.waiting.iter().filter(|(alias, _)| !self.running.contains_key(*alias));
        waiting.flat_map(|(_, waiting)| waiting.iter().map(|waiting| waiting.not_before)).min()
    }

    /// Starts every alias whose turn it is, as far as there is room.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn start_what_can(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let due: Vec<Alias> = self
            .waiting
            .iter()
            .filter(|(alias, waiting)| {
                !self.running.contains_key(*alias) && waiting.iter().any(|waiting| waiting.not_before <= now)
            })
            .map(|(alias, _)| alias.clone())
            .collect();
        for alias in due {
            if !self.has_room() {
                return Ok(());
            }
            self.start(&alias)?;
        }
        Ok(())
    }

    /// Refuses what has expired while it waited here.
    fn still_good(&mut self, alias: &Alias, waiting: Vec<Waiting>) -> Vec<Waiting> {
        let now = self.clock.now();
        let (good, expired): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|waiting| now <= waiting.expires_at.after(CLOCK_GRACE));
        for waiting in expired {
            info!(run = %waiting.run, %alias, "a command expired while it waited");
            if let Some(receipt) = self.receipts.remove(&(waiting.run, alias.clone())) {
                self.ack(&[receipt]);
            }
        }
        good
    }

    fn start(&mut self, alias: &Alias) -> io::Result<()> {
        let Some(waiting) = self.waiting.remove(alias) else { return Ok(()) };
        let waiting = self.still_good(alias, waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let runs: Vec<RunId> = waiting.iter().map(|waiting| waiting.run).collect();
        let noted: Vec<(Asked, Timestamp)> =
            waiting.iter().map(|waiting| ((waiting.run, alias.clone()), waiting.expires_at)).collect();
        let seq = self.next_seq();
        self.journal.started(&noted, (self.origin.epoch, seq))?;
        self.running.insert(alias.clone(), runs.clone());
        let Some(plugin) = self.registry.get(alias).cloned() else {
            // It was there when the command was taken, and a reload has removed it since.
            let failure = Failure {
                kind: FailureKind::NotFound,
                message: "the plugin was removed while the command waited".to_owned(),
                stderr: String::new(),
            };
            self.running.remove(alias);
            self.post_failure(alias, &runs, (self.origin.epoch, seq), failure);
            return Ok(());
        };
        let executor =
            Executor { node: self.origin.node.clone(), version: env!("CARGO_PKG_VERSION"), clock: self.clock.clone() };
        let first = runs.first().map(ToString::to_string).unwrap_or_default();
        self.executions.spawn(async move {
            let execution = executor.run(&plugin, &first).await;
            (Box::new(plugin), seq, execution)
        });
        Ok(())
    }

    /// The next thing that has ended; waits for ever while nothing is under way. Cancel-safe.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub async fn finished(&mut self) -> io::Result<Finished> {
        tokio::select! {
            biased;
            Some(ended) = self.executions.join_next() => match ended {
                Ok((plugin, seq, execution)) => Ok(Finished::Plugin(plugin, seq, Box::new(execution))),
                Err(error) => Err(io::Error::other(format!("running a plugin failed: {error}"))),
            },
            Some(_) = self.acknowledging.join_next() => Ok(Finished::Acknowledgement),
            sent = self.outbox.sent() => Ok(Finished::Letter(sent)),
        }
    }

    /// Takes what [`Dispatch::finished`] returned.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn settle(&mut self, finished: Finished) -> io::Result<()> {
        match finished {
            Finished::Plugin(plugin, seq, execution) => {
                let runs = self.running.remove(&plugin.alias).unwrap_or_default();
                self.post_result(&plugin, &runs, seq, *execution);
            }
            Finished::Acknowledgement => return Ok(()),
            Finished::Letter(Sent { answers, .. }) => {
                // Noted before it is acknowledged: a crash between the two is told as done.
                self.journal.done(answers.iter().cloned(), self.clock.now())?;
                let receipts: Vec<Receipt> = answers.iter().filter_map(|asked| self.receipts.remove(asked)).collect();
                self.ack(&receipts);
            }
        }
        self.start_what_can()
    }

    fn post_result(&mut self, plugin: &Plugin, runs: &[RunId], seq: u64, execution: Execution) {
        let Execution { started_at, duration, exit, outcome } = execution;
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok(data) => info!(alias = %plugin.alias, millis, bytes = data.get().len(), "plugin ran"),
            Err(failure) => warn!(alias = %plugin.alias, millis, reason = failure.message, "plugin failed"),
        }
        let payload = match outcome {
            Ok(data) => Payload::Data(data),
            Err(failure) => Payload::Failure(failure),
        };
        let result = CommandResult {
            key: plugin.key.clone(),
            format: Some(plugin.format),
            started_at: Some(started_at),
            duration_ms: Some(millis),
            exit,
            digest: match &payload {
                Payload::Data(data) => Some(Digest::of_data(data)),
                Payload::Output(_) | Payload::Failure(_) => None,
            },
            ..self.result(&plugin.alias, runs, seq, payload)
        };
        let mut body = result.encode();
        if body.len() > MAX_RESULT_BYTES {
            let message = format!("the result has {} bytes as a message; {MAX_RESULT_BYTES} can be sent", body.len());
            let failure = Failure { kind: FailureKind::TooLarge, message, stderr: String::new() };
            body = CommandResult { payload: Payload::Failure(failure), digest: None, ..result }.encode();
        }
        self.post_answer(body, &plugin.alias, runs);
    }

    /// In the place of the execution that was cut short: if its result did reach the server after
    /// all, that one stands.
    fn report_interrupted(&mut self, command: &Command, epoch: u64, seq: u64) {
        let failure = Failure {
            kind: FailureKind::Interrupted,
            message: "the client ended while the plugin ran; it is not run again".to_owned(),
            stderr: String::new(),
        };
        self.post_failure(&command.command, &[command.run], (epoch, seq), failure);
    }

    fn post_failure(&mut self, alias: &Alias, runs: &[RunId], (epoch, seq): (u64, u64), failure: Failure) {
        let key = self.registry.get(alias).map_or_else(|| alias.into(), |plugin| plugin.key.clone());
        let (started_at, epoch) = (Some(self.clock.now()), Some(epoch));
        let payload = Payload::Failure(failure);
        let result = CommandResult { key, started_at, epoch, ..self.result(alias, runs, seq, payload) };
        self.post_answer(result.encode(), alias, runs);
    }

    fn result(&self, alias: &Alias, runs: &[RunId], seq: u64, payload: Payload) -> CommandResult {
        CommandResult {
            node: self.origin.node.clone(),
            run: runs.first().copied(),
            also_runs: runs.get(1..).unwrap_or_default().to_vec(),
            command: alias.clone(),
            key: alias.into(),
            format: None,
            instance: Some(self.origin.instance),
            machine_id: self.origin.machine_id.clone(),
            epoch: Some(self.origin.epoch),
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
        self.post("result", body, runs.first().copied(), answers);
    }

    fn post(&mut self, kind: &str, body: Vec<u8>, run: Option<RunId>, answers: Vec<Asked>) {
        let properties = Properties {
            message_id: Some(self.random.uuid().to_string()),
            correlation_id: run.map(|run| run.to_string()),
            user_id: Some(self.origin.login.clone()),
            persistent: true,
            ..self.properties(kind)
        };
        self.outbox.post(Letter {
            exchange: self.topology.master.clone(),
            routing_key: slot_key(&self.origin.node),
            message: Message { body, properties },
            answers,
        });
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

    /// Tells the runner, if it wants to hear; what is lost here it finds in the record.
    fn tell(&self, command: &Command, notice: Notice, detail: Option<String>) {
        let session = self.session.borrow().clone();
        let Some(session) = session.filter(|_| command.want_events) else { return };
        let event = Event {
            v: Version,
            run: command.run,
            command: command.command.clone(),
            node: self.origin.node.clone(),
            event: notice,
            at: self.clock.now(),
            detail,
        };
        let properties = Properties { correlation_id: Some(command.run.to_string()), ..self.properties("event") };
        let key = run_key(command.run);
        session.notify(Publish {
            exchange: &self.topology.events,
            routing_key: &key,
            mandatory: false,
            message: Message { body: message::encode(&event), properties },
        });
    }

    /// Acknowledges what came by the session of the moment; the rest came again by it, or will.
    /// Not waited for: while the broker blocks the connection no acknowledgement leaves it.
    fn ack(&mut self, receipts: &[Receipt]) {
        let Some((session, acks)) = &self.acks else { return };
        let tags: Vec<u64> =
            receipts.iter().filter(|receipt| receipt.session == *session).map(|receipt| receipt.tag).collect();
        if tags.is_empty() {
            return;
        }
        let acks = acks.clone();
        self.acknowledging.spawn(async move {
            if let Err(reason) = acks.ack(&tags).await {
                debug!(%reason, "not acknowledged; the command comes again and is told from the journal");
            }
        });
    }
}

/// Something that has come to its end.
pub enum Finished {
    /// A plugin: which, its place in the epoch, and what came of it.
    Plugin(Box<Plugin>, u64, Box<Execution>),
    /// A message that the broker has now.
    Letter(Sent),
    /// An acknowledgement that is on its way.
    Acknowledgement,
}
