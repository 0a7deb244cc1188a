//! Commands: taken or refused, run, answered, acknowledged.
//!
//! Start at [`Dispatch::hear`]. One alias never runs twice at once; commands for it that wait are
//! served by one execution, whose result answers all of their runs. A delivery is acknowledged
//! when its answer is with the broker, and not before.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use vogeler_messaging::{Acks, Delivery, Session};
use vogeler_protocol::message::{self, Command, Failure, FailureKind, LONGEST_SPLAY, Notice, UNKNOWN_ALIAS};
use vogeler_protocol::{Alias, Clock, Group, Random, RunId, Target, Timestamp};

use crate::answers::{Answers, Place};
use crate::journal::{Asked, Journal, Progress};
use crate::link::Heard;
use crate::outbox::{Letter, Sent};
use crate::plugin::Plugin;
use crate::plugin::execute::{Execution, Executor};
use crate::plugin::programs::Programs;
use crate::plugin::registry::Registry;

/// How far the clocks of a runner and a node may differ before a command counts as expired.
const CLOCK_GRACE: Duration = Duration::from_secs(300);

/// A command that waits for its turn.
#[derive(Debug)]
struct Waiting {
    run: RunId,
    want_events: bool,
    expires_at: Timestamp,
    not_before: Instant,
    /// Counts commands as they come: who has waited longest is next.
    turn: u64,
}

/// Where a command's delivery is to be acknowledged.
#[derive(Debug, Clone, Copy)]
struct Receipt {
    session: u64,
    tag: u64,
}

/// Everything between a delivery and its acknowledgement.
pub struct Dispatch<S: Session, A> {
    answers: Answers<S>,
    clock: Clock,
    random: Random,
    registry: Arc<Registry>,
    programs: Programs,
    groups: Vec<Group>,
    journal: Journal,
    concurrency: usize,
    acks: Option<(u64, A)>,
    waiting: BTreeMap<Alias, Vec<Waiting>>,
    running: BTreeMap<Alias, Vec<RunId>>,
    executions: JoinSet<(Box<Plugin>, Place, Execution)>,
    acknowledging: JoinSet<()>,
    receipts: HashMap<Asked, Receipt>,
    turns: u64,
    draining: bool,
}

/// What a dispatcher is made of.
pub struct DispatchParts<S: Session> {
    /// The way out.
    pub answers: Answers<S>,
    /// The wall clock.
    pub clock: Clock,
    /// For waits and identifiers.
    pub random: Random,
    /// The plugins.
    pub registry: Arc<Registry>,
    /// What runs them.
    pub programs: Programs,
    /// The groups.
    pub groups: Vec<Group>,
    /// What was begun and answered.
    pub journal: Journal,
    /// How many plugins may run at once.
    pub concurrency: usize,
}

impl<S: Session, A: Acks> Dispatch<S, A> {
    /// A dispatcher with nothing to do yet.
    pub fn new(parts: DispatchParts<S>) -> Self {
        Self {
            answers: parts.answers,
            clock: parts.clock,
            random: parts.random,
            registry: parts.registry,
            programs: parts.programs,
            groups: parts.groups,
            journal: parts.journal,
            concurrency: parts.concurrency.max(1),
            acks: None,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            executions: JoinSet::new(),
            acknowledging: JoinSet::new(),
            receipts: HashMap::new(),
            turns: 0,
            draining: false,
        }
    }

    /// Sends what the client says of itself.
    pub fn say_hello(&mut self) {
        self.answers.hello(&self.registry, &self.groups);
    }

    /// What to say where another client has this node's queue.
    pub fn contention(&mut self) -> Letter {
        self.answers.contention()
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
        self.executions.is_empty() && self.answers.all_sent() && self.acknowledging.is_empty()
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
                self.report_interrupted(&command, (epoch, seq));
            }
            None => self.admit(command, asked, receipt),
        }
        self.start_what_can()
    }

    /// Every command's target and time are looked at here: bindings only save traffic, and the
    /// broker's expiry promises nothing.
    fn admit(&mut self, command: Command, asked: Asked, receipt: Receipt) {
        let refusal = if !command.target.includes(self.answers.node(), &self.groups) {
            match command.target {
                Target::Glob(_) | Target::All => None,
                Target::Nodes(_) | Target::Group(_) => Some((Notice::Skipped, "not this node's".to_owned())),
            }
        } else if self.clock.now() > command.expires_at.after(CLOCK_GRACE) {
            Some((Notice::Refused, expired_at(command.expires_at)))
        } else if self.registry.get(&command.command).is_none() {
            Some((Notice::Refused, format!("{UNKNOWN_ALIAS}; this node knows {}", self.registry.names())))
        } else {
            info!(run = %command.run, alias = %command.command, issuer = command.issuer, "command taken");
            self.tell(&command, Notice::Accepted, None);
            self.receipts.insert(asked, receipt);
            let splay = Duration::from_millis(command.splay_ms).min(LONGEST_SPLAY);
            let not_before = Instant::now() + self.random.up_to(splay);
            self.turns += 1;
            let turn = self.turns;
            let Command { run, want_events, expires_at, .. } = command;
            let waiting = Waiting { run, want_events, expires_at, not_before, turn };
            self.waiting.entry(command.command).or_default().push(waiting);
            return;
        };
        if let Some((notice, detail)) = refusal {
            info!(run = %command.run, alias = %command.command, detail, "command {notice}");
            self.tell(&command, notice, Some(detail));
        }
        self.ack(&[receipt]);
    }

    fn tell(&self, command: &Command, notice: Notice, detail: Option<String>) {
        if command.want_events {
            self.answers.tell(command.run, &command.command, notice, detail);
        }
    }

    /// Whether nothing is left to do: no command waits, and everything is with the broker.
    pub fn is_done(&self) -> bool {
        self.is_idle() && self.waiting.is_empty() && self.answers.nothing_left()
    }

    fn has_room(&self) -> bool {
        !self.draining && self.running.len() < self.concurrency && !self.answers.is_full()
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

    /// Starts every alias whose turn it is, as far as there is room; the one that has waited longest first.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn start_what_can(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let idle = self.waiting.iter().filter(|(alias, _)| !self.running.contains_key(*alias));
        let mut due: Vec<(u64, Alias)> = idle
            .filter_map(|(alias, waiting)| {
                let longest = waiting.iter().filter(|waiting| waiting.not_before <= now).map(|waiting| waiting.turn);
                Some((longest.min()?, alias.clone()))
            })
            .collect();
        due.sort_unstable();
        for (_, alias) in due {
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
            if waiting.want_events {
                let detail = format!("{}, while it waited for its turn", expired_at(waiting.expires_at));
                self.answers.tell(waiting.run, alias, Notice::Refused, Some(detail));
            }
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
        let place = self.answers.next_place();
        self.journal.started(&noted, place)?;
        self.running.insert(alias.clone(), runs.clone());
        let Some(plugin) = self.registry.get(alias).cloned() else {
            // It was there when the command was taken, and a reload has removed it since.
            let failure = Failure {
                kind: FailureKind::NotFound,
                message: "the plugin was removed while the command waited".to_owned(),
                stderr: String::new(),
            };
            self.running.remove(alias);
            self.answers.failure(alias, alias.into(), &runs, place, failure);
            return Ok(());
        };
        let executor = Executor {
            node: self.answers.node().clone(),
            version: env!("CARGO_PKG_VERSION"),
            clock: self.clock.clone(),
            programs: self.programs.clone(),
        };
        let first = runs.first().map(ToString::to_string).unwrap_or_default();
        self.executions.spawn(async move {
            let execution = executor.run(&plugin, &first).await;
            (Box::new(plugin), place, execution)
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
                Ok((plugin, place, execution)) => Ok(Finished::Plugin(plugin, place, Box::new(execution))),
                Err(error) => Err(io::Error::other(format!("running a plugin failed: {error}"))),
            },
            Some(_) = self.acknowledging.join_next() => Ok(Finished::Acknowledgement),
            sent = self.answers.sent() => Ok(Finished::Letter(sent)),
        }
    }

    /// Takes what [`Dispatch::finished`] returned.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn settle(&mut self, finished: Finished) -> io::Result<()> {
        match finished {
            Finished::Plugin(plugin, place, execution) => {
                let runs = self.running.remove(&plugin.alias).unwrap_or_default();
                self.answers.result(&plugin, &runs, place, *execution);
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

    /// In the place of the execution that was cut short: if its result did reach the server after
    /// all, that one stands.
    fn report_interrupted(&mut self, command: &Command, place: Place) {
        let alias = &command.command;
        let key = self.registry.get(alias).map_or_else(|| alias.into(), |plugin| plugin.key.clone());
        let failure = Failure {
            kind: FailureKind::Interrupted,
            message: "the client ended while the plugin ran; it is not run again".to_owned(),
            stderr: String::new(),
        };
        self.answers.failure(alias, key, &[command.run], place, failure);
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

fn expired_at(at: Timestamp) -> String {
    format!("expired at {at}")
}

/// Something that has come to its end.
pub enum Finished {
    /// A plugin: which, its place in the epoch, and what came of it.
    Plugin(Box<Plugin>, Place, Box<Execution>),
    /// A message that the broker has now.
    Letter(Sent),
    /// An acknowledgement that is on its way.
    Acknowledgement,
}
