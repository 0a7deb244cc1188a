//! One run, from the command line to the exit status.
//!
//! Start at [`run`]: whom it is for (`select`, `expected`), the command on its way (`publish`), the answers (`listen`),
//! the end (`report`). A run in batches does the middle part several times.

mod end;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{sleep, timeout};
use vogeler_messaging::{Broker, Session, Topology, results};
use vogeler_process::exit;
use vogeler_protocol::message::{Command, Version};
use vogeler_protocol::{Alias, Clock, NodeName, Random, RunId, Target, Timestamp};
use vogeler_store::Store;

use crate::expected::{self, Expected};
use crate::history::{self, Asked, Entry, History};
use crate::listen::Listener;
use crate::progress::Progress;
use crate::publish::Publisher;
use crate::report::About;
use crate::select::{self, Choice, Selection};
use crate::tallies::Tallies;
use crate::tally::{self, Tally};

/// Ended by Ctrl-C, as a shell reports it.
pub const INTERRUPTED: u8 = 130;

const NOBODY_GETS_IT: &str = "no queue takes the command: nobody gets it, now or later";

/// What an operator asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The aliases.
    pub commands: Vec<Alias>,
    /// The nodes.
    pub choice: Choice,
    /// How long to wait, for each batch.
    pub timeout: Duration,
    /// How long nobody new may accept, where it is not known who will.
    pub quiet: Duration,
    /// How long the command stays good.
    pub ttl: Duration,
    /// Over how long the nodes spread their start.
    pub splay: Duration,
    /// How many nodes are asked at once; all, unless said.
    pub batch: Option<NonZeroUsize>,
    /// How long to wait between two batches.
    pub pause: Duration,
    /// Whether to leave once the broker has it.
    pub detach: bool,
    /// Whether nodes that lack the alias or are off line fail the run.
    pub strict: bool,
    /// Whether nodes and server are there when the runner has left.
    pub outlived: bool,
    /// Who asks.
    pub issuer: String,
    /// Where the run is noted; nowhere if there is no such place.
    pub history: Option<PathBuf>,
}

/// The parts that a run needs.
pub struct Parts<B, St> {
    /// The broker.
    pub broker: B,
    /// The database, if one is configured; it may well be out of reach.
    pub store: St,
    /// Names of exchanges.
    pub topology: Topology,
    /// The wall clock.
    pub clock: Clock,
    /// For identifiers and waits.
    pub random: Random,
}

/// Runs commands and returns the exit status.
///
/// # Errors
/// The broker cannot be reached, or does not take the command; or the records have to decide who is meant, and cannot
/// be read.
pub async fn run<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    request: &Request,
    progress: &Progress,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<u8> {
    let begun = parts.clock.now();
    let run = RunId::new(begun, &parts.random);
    let about = About { run, target: request.target(), expires_at: begun.after(request.ttl), has_expired: false };
    let (history, sent) = (RefCell::new(History::none()), Cell::new(false));
    let running = Running { parts, request, progress, begun, about, history, sent };
    let outcome = running.run(pin!(interrupted)).await;
    let exit_status = *outcome.as_ref().unwrap_or(&exit::TROUBLE);
    running.note(&Entry::Left { at: parts.clock.now(), exit_status });
    outcome
}

impl Request {
    /// The target as it was typed.
    fn target(&self) -> String {
        let wanted = &self.choice.wanted;
        match &self.choice.condition {
            Some(condition) => format!("{wanted} where {condition}"),
            None => wanted.to_string(),
        }
    }
}

struct Running<'a, B, St> {
    parts: &'a Parts<B, St>,
    request: &'a Request,
    progress: &'a Progress,
    begun: Timestamp,
    about: About,
    history: RefCell<History>,
    /// Whether anything of it may have reached the broker.
    sent: Cell<bool>,
}

/// Who is asked, before anything is sent.
struct Prepared<S> {
    session: S,
    selection: Selection,
    expected: Expected,
    /// Whether somebody may answer of whom nobody knows.
    open: bool,
}

impl<B: Broker, St: Store> Running<'_, B, St> {
    async fn run(&self, mut interrupted: Pin<&mut impl Future<Output = ()>>) -> anyhow::Result<u8> {
        let Self { parts, request, progress, about, .. } = self;
        let prepared = tokio::select! {
            biased;
            () = interrupted.as_mut() => return Ok(self.interrupted(None)?),
            prepared = self.prepare() => prepared?,
        };
        let mut tallies = Tallies::new(&request.commands, &Tally::new(&prepared.expected, prepared.open, self.begun));
        self.begin_history(&prepared);
        if request.detach {
            return tokio::select! {
                biased;
                () = interrupted => Ok(self.interrupted(None)?),
                status = self.detach(&prepared, &tallies) => status,
            };
        }
        let mut listener = Listener::start(parts, about.run, &request.commands, progress, &self.history);
        let asked = tokio::select! {
            biased;
            () = interrupted => return Ok(self.interrupted(Some(&tallies))?),
            asked = self.ask(&prepared, &mut listener, &mut tallies) => asked,
        };
        let routed = match asked {
            Ok(routed) => routed,
            Err(error) => {
                if self.sent.get() {
                    progress.end(about, &tallies, exit::TROUBLE)?;
                }
                return Err(error);
            }
        };
        let session = listener.into_session();
        let status = self.end(session.as_ref(), &prepared, &mut tallies, routed).await?;
        if let Some(session) = session {
            session.close().await;
        }
        Ok(status)
    }

    /// Everything that comes before the first command.
    async fn prepare(&self) -> anyhow::Result<Prepared<B::Session>> {
        let Self { parts, request, progress, .. } = self;
        let (session, selection) = tokio::join!(parts.broker.connect(), select::select(&parts.store, &request.choice));
        let (session, selection) = (session?, selection?);
        selection.notices.iter().for_each(|notice| progress.notice(notice));
        self.check_exchanges(&session).await?;
        let expected = expected::presence(&session, &selection.target, &selection.known, self.begun).await;
        let expected = expected.context("cannot ask which nodes are on line")?;
        // Where nobody that is known is on line, one may be that has no record yet.
        let open = selection.known.is_none() || !selection.is_named() && expected.on_line.is_empty();
        Ok(Prepared { session, selection, expected, open })
    }

    /// Asks everybody, in batches if need be, and waits; how many messages some queue took.
    async fn ask(
        &self,
        prepared: &Prepared<B::Session>,
        listener: &mut Listener<'_, B, St>,
        tallies: &mut Tallies,
    ) -> anyhow::Result<usize> {
        let Self { request, progress, .. } = self;
        let batches = self.batches(prepared)?;
        let in_batches = request.batch.is_some();
        // Listen first: an answer may be faster than the publisher confirm.
        listener.listen(&prepared.session).await.context("cannot listen for events")?;
        if in_batches {
            tallies.wait_for_batches();
        }
        let patience = request.timeout + request.splay;
        let quiet = (prepared.open && !prepared.selection.is_named()).then_some(request.quiet);
        let mut routed = 0;
        for (number, (target, asked)) in batches.into_iter().enumerate() {
            if number > 0 {
                sleep(request.pause).await;
            }
            let session = listener.session(patience).await?;
            tallies.ask(&asked);
            if in_batches {
                self.note(&Entry::Batch(asked.clone()));
            }
            routed += self.publish_in_time(&session, &target, &prepared.expected).await?;
            progress.count(tallies);
            if number == 0 {
                self.mind_the_server(&session).await;
            }
            if !asked.is_empty() || quiet.is_some() && routed > 0 {
                let asked = Some(&*asked).filter(|asked| in_batches && !asked.is_empty());
                listener.wait(asked, tallies, patience, quiet).await;
            }
        }
        if routed == 0 && !prepared.selection.is_named() {
            progress.notice(NOBODY_GETS_IT);
        }
        Ok(routed)
    }

    /// Where each batch goes, and whom it makes answer. Off-line nodes get the command with the last one.
    fn batches(&self, prepared: &Prepared<B::Session>) -> anyhow::Result<Vec<(Target, Vec<NodeName>)>> {
        let Prepared { selection, expected, .. } = prepared;
        let on_line: Vec<NodeName> = expected.on_line.iter().cloned().collect();
        let Some(size) = self.request.batch else { return Ok(vec![(selection.target.clone(), on_line)]) };
        let can_be_told = selection.is_named() || selection.known.is_some();
        ensure!(can_be_told, "batches are made of nodes that the database knows");
        let mut batches: Vec<(Vec<NodeName>, Vec<NodeName>)> =
            on_line.chunks(size.get()).map(|chunk| (chunk.to_vec(), chunk.to_vec())).collect();
        if batches.is_empty() {
            batches.push((Vec::new(), Vec::new()));
        }
        if let Some((targets, _)) = batches.last_mut() {
            targets.extend(expected.off_line.iter().cloned());
        }
        Ok(batches.into_iter().map(|(targets, asked)| (Target::Nodes(targets), asked)).collect())
    }

    /// Says at once what would otherwise only show when the time is up.
    async fn mind_the_server(&self, session: &B::Session) {
        let topology = &self.parts.topology;
        let Ok(queues) = results::in_force(session, topology).await else { return };
        if queues.is_empty() || queues.iter().any(|queue| queue.is_consumed()) {
            return;
        }
        self.progress.notice(match results::are_moving(session, topology).await {
            Ok(true) => "results wait until vogeler-server setup has moved them to other queues",
            Ok(false) | Err(_) => "no vogeler-server is connected; results wait until one is",
        });
    }

    async fn check_exchanges(&self, session: &B::Session) -> anyhow::Result<()> {
        let topology = &self.parts.topology;
        for exchange in [&topology.broadcast, &topology.events] {
            if !session.exchange_exists(exchange).await? {
                bail!(
                    "the broker at {} has no exchange {exchange:?}; run vogeler-server setup",
                    self.parts.broker.address()
                );
            }
        }
        Ok(())
    }

    async fn detach(&self, prepared: &Prepared<B::Session>, tallies: &Tallies) -> anyhow::Result<u8> {
        let Prepared { session, selection, expected, .. } = prepared;
        let routed = self.publish_in_time(session, &selection.target, expected).await?;
        let no_such = !expected.unknown.is_empty() || !selection.strangers.is_empty() || selection.nobody_known();
        let status = match (no_such, routed) {
            (true, _) => tally::NO_SUCH,
            (false, 0) => tally::SILENT,
            (false, _) => tally::GOOD,
        };
        if routed == 0 {
            self.progress.notice(NOBODY_GETS_IT);
        }
        self.progress.queued(&self.about, tallies, routed, status)?;
        session.close().await;
        Ok(status)
    }

    /// Publishes every command to that target; how many messages some queue took.
    async fn publish_in_time(
        &self,
        session: &B::Session,
        target: &Target,
        expected: &Expected,
    ) -> anyhow::Result<usize> {
        let publisher =
            Publisher { parts: self.parts, progress: self.progress, ttl: self.request.ttl, told: Cell::new(false) };
        self.sent.set(true);
        let publishing = async {
            let mut routed = 0;
            for command in &self.request.commands {
                routed += publisher.publish(session, &self.command(command, target), expected).await?;
            }
            anyhow::Ok(routed)
        };
        timeout(self.request.timeout, publishing).await.context("the broker has not taken the command in time")?
    }

    fn command(&self, alias: &Alias, target: &Target) -> Command {
        Command {
            v: Version,
            run: self.about.run,
            command: alias.clone(),
            target: target.clone(),
            issued_at: self.begun,
            expires_at: self.about.expires_at,
            splay_ms: u64::try_from(self.request.splay.as_millis()).unwrap_or(u64::MAX),
            issuer: self.request.issuer.clone(),
            want_events: !self.request.detach,
        }
    }

    fn begin_history(&self, prepared: &Prepared<B::Session>) {
        let Some(folder) = &self.request.history else { return };
        let asked = Asked {
            run: self.about.run,
            commands: self.request.commands.clone(),
            target: self.about.target.clone(),
            issued_at: self.begun,
            expires_at: self.about.expires_at,
            issuer: self.request.issuer.clone(),
            open: prepared.open,
            strict: self.request.strict,
            detached: self.request.detach,
            expected: prepared.expected.clone(),
        };
        match History::begin(folder, asked) {
            Ok(history) => *self.history.borrow_mut() = history,
            Err(error) => self.progress.notice(&format!(
                "the run is not noted in {}, so that `status` will know less of it: {error}",
                folder.display()
            )),
        }
    }

    fn note(&self, entry: &Entry) {
        history::note(&self.history, entry, self.progress);
    }
}
