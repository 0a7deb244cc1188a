//! Keeps the server running: database first, then the broker, then one consumer at a time.
//!
//! Start at [`run`]. A `Tenure` is the life of one consumer: it ends when the program is to
//! stop, when a connection is lost, when the database stays away, or when the prefetch no longer
//! fits the size of what comes.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use vogeler_messaging::{Backoff, Broker, ConnectError, ConsumeOptions, Consumer, Delivery, Session, Topology};
use vogeler_process::supervisor;
use vogeler_protocol::{Clock, Random};
use vogeler_store::{Store, StoreError};

use crate::batch::{Batches, Limits};
use crate::config::ServerSection;
use crate::health::Health;
use crate::intake::{Incoming, Intake};
use crate::losses::{Losses, Saying};
use crate::metrics::Metrics;
use crate::newcomers::Newcomers;
use crate::prefetch::{self, Sizes};
use crate::records::Records;
use crate::settle::Settler;
use crate::setup;
use crate::worker::{GivenUp, Worker};

/// After so long without the database the deliveries go back to the broker.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long channel and connections may take to close once the drain is over.
const GOODBYES: Duration = Duration::from_secs(15);

/// What settles the deliveries of a broker's consumer.
type SettlerOf<B> = Settler<<B as Broker>::Session, <<<B as Broker>::Session as Session>::Consumer as Consumer>::Acks>;

/// The parts that a server is made of.
#[derive(Clone)]
pub struct Parts<B, St> {
    /// The broker.
    pub broker: B,
    /// The database.
    pub store: St,
    /// Names of exchanges and queues.
    pub topology: Topology,
    /// Limits.
    pub config: ServerSection,
    /// What the server knows of both.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
    /// The wall clock.
    pub clock: Clock,
    /// For waits and identifiers.
    pub random: Random,
}

/// Serves until `stop` resolves, then finishes what was begun.
///
/// # Errors
/// A configuration that no waiting will mend. A broker or database that is away is waited for.
pub async fn run<B: Broker, St: Store>(parts: Parts<B, St>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let stopping = CancellationToken::new();
    let serving = serve(&parts, &stopping);
    tokio::pin!(serving, stop);
    tokio::select! {
        biased;
        () = &mut stop => {}
        ended = &mut serving => return ended,
    }
    stopping.cancel();
    // Within, the deadline is kept; beyond it there are two goodbyes to say.
    if tokio::time::timeout(parts.config.drain + GOODBYES, &mut serving).await.is_err() {
        warn!(
            seconds = parts.config.drain.as_secs(),
            "not everything was settled in time; the rest stays in the queue"
        );
    }
    Ok(())
}

/// How a tenure ended.
enum End {
    /// The program is to stop.
    Stopped,
    /// A connection was lost.
    Lost(String),
    /// The broker does not let us consume.
    Refused(String),
    /// The database stayed away.
    Patience,
    /// Another prefetch fits better.
    Resize(u16),
}

async fn serve<B: Broker, St: Store>(parts: &Parts<B, St>, stopping: &CancellationToken) -> anyhow::Result<()> {
    let health = &parts.health;
    let mut prefetch = prefetch::FIRST.min(parts.config.prefetch);
    let mut losses = Losses::new(parts.random.clone());
    let mut refused = String::new();
    while !stopping.is_cancelled() {
        let Some(()) = stopping.run_until_cancelled(wait_for_store(parts)).await else { return Ok(()) };
        let quiet = losses.are_tiresome();
        let connected = stopping.run_until_cancelled(connect(parts, quiet)).await;
        let Some(sessions) = connected.transpose()? else { return Ok(()) };
        let connected_at = Instant::now();
        loop {
            let tenure = Tenure { parts, sessions: &sessions, prefetch, quiet, took: AtomicBool::new(false) };
            match tenure.run(stopping).await {
                End::Stopped => return goodbye(sessions).await,
                End::Resize(fits) => prefetch = fits,
                End::Patience => {
                    health.disconnected("the database has been away for long");
                    error!("the database has been away for long; the broker keeps the results until it is back");
                    break;
                }
                End::Refused(reason) => {
                    health.disconnected(&reason);
                    if refused != reason {
                        error!(reason, "results cannot be consumed; trying again");
                        refused = reason;
                    }
                    losses.refused();
                    break;
                }
                End::Lost(reason) => {
                    health.disconnected(&reason);
                    match losses.lost(tenure.took.into_inner()) {
                        Saying::Plainly => warn!(reason, "the connection to the broker was lost; connecting again"),
                        Saying::Explained => warn!(
                            reason,
                            "the connection to the broker is lost again and again, over a message that cannot be read \
                             perhaps; the broker gives such a one up after some fifty deliveries"
                        ),
                        Saying::Nothing => debug!(reason, "the connection to the broker was lost"),
                    }
                    prefetch = prefetch::CAUTIOUS;
                    break;
                }
            }
        }
        goodbye(sessions).await?;
        let wait = losses.next_wait(connected_at.elapsed());
        stopping.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
    Ok(())
}

/// Two connections: while the broker blocks one that publishes, the other still acknowledges.
struct Sessions<S> {
    consuming: S,
    publishing: S,
}

async fn goodbye<S: Session>(sessions: Sessions<S>) -> anyhow::Result<()> {
    sessions.consuming.close().await;
    sessions.publishing.close().await;
    Ok(())
}

/// Returns when the database answers and can write; nothing is consumed before.
async fn wait_for_store<B: Broker, St: Store>(parts: &Parts<B, St>) {
    let mut backoff = Backoff::new(parts.random.clone(), Duration::from_secs(1), Duration::from_secs(30));
    while let Err(reason) = parts.store.probe_write().await {
        parts.health.away(&reason);
        // CouchDB locks a login out that is refused too often, with the right password, too.
        let least = match reason {
            StoreError::Denied { .. } => Duration::from_secs(60),
            StoreError::Missing { .. } => Duration::from_secs(5),
            StoreError::Away { .. }
            | StoreError::Refused { .. }
            | StoreError::Garbled { .. }
            | StoreError::Unable { .. } => Duration::ZERO,
        };
        let wait = backoff.next_wait().max(least);
        tokio::time::sleep(wait).await;
    }
    parts.health.back();
}

/// What is only connected anew for the same message is not told again.
async fn connect<B: Broker, St: Store>(parts: &Parts<B, St>, quiet: bool) -> anyhow::Result<Sessions<B::Session>> {
    let mut backoff = Backoff::new(parts.random.clone(), Duration::from_millis(500), Duration::from_secs(30));
    let mut told = false;
    loop {
        let attempt = async {
            let sessions =
                Sessions { consuming: parts.broker.connect().await?, publishing: parts.broker.connect().await? };
            anyhow::Ok(sessions)
        };
        let reason = match attempt.await {
            Ok(sessions) => match setup::declare(&sessions.publishing, &parts.topology).await {
                Ok(notices) => {
                    for notice in notices.into_iter().filter(|_| !quiet) {
                        warn!("{notice}");
                    }
                    if !quiet {
                        info!(broker = parts.broker.address(), "connected");
                    }
                    return Ok(sessions);
                }
                Err(reason) => anyhow::Error::new(reason).context("cannot declare exchanges and queues"),
            },
            Err(reason) => {
                if let Some(error @ ConnectError::Configuration { .. }) = reason.downcast_ref() {
                    return Err(anyhow::Error::msg(error.to_string())).context("cannot start");
                }
                reason
            }
        };
        parts.health.disconnected(&format!("{reason:#}"));
        if !told {
            warn!(reason = format!("{reason:#}"), "waiting for the broker");
            told = true;
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

struct Tenure<'a, B: Broker, St> {
    parts: &'a Parts<B, St>,
    sessions: &'a Sessions<B::Session>,
    prefetch: u16,
    /// Whether it is one of many that end at once.
    quiet: bool,
    /// Whether it was given anything.
    took: AtomicBool,
}

impl<B: Broker, St: Store> Tenure<'_, B, St> {
    async fn run(&self, stopping: &CancellationToken) -> End {
        let queue = self.parts.topology.results_queue().name;
        let options = ConsumeOptions { prefetch: self.prefetch, exclusive: false, no_ack: false };
        let mut consumer = match self.sessions.consuming.consume(&queue, options).await {
            Ok(consumer) => consumer,
            Err(reason) => return End::Refused(reason.to_string()),
        };
        self.parts.health.connected();
        if !self.quiet {
            info!(queue, prefetch = self.prefetch, "consuming");
        }
        supervisor::status("consuming results, or standing by");
        let settler = Settler::new(
            self.sessions.publishing.clone(),
            consumer.acks(),
            self.parts.topology.clone(),
            self.parts.metrics.clone(),
            self.parts.clock.clone(),
            self.parts.random.clone(),
        );
        let give_up = CancellationToken::new();
        let mut workers = JoinSet::new();
        let lanes = self.start_workers(&mut workers, &settler, &give_up);
        let end = self.take(&mut consumer, &lanes, &settler, &mut workers, stopping).await;
        // No lane, no more work: the workers finish what they have and end.
        drop(lanes);
        // The broker sends on, as much as the window holds, until the channel closes; what it sends is too
        // large for that, so that the rest comes first back to the queue and then to its end.
        if matches!(end, End::Resize(fits) if fits < self.prefetch) {
            give_up.cancel();
            consumer.close().await;
            return self.drain(end, &mut workers, &settler, &give_up, stopping).await;
        }
        let end = self.drain(end, &mut workers, &settler, &give_up, stopping).await;
        consumer.close().await;
        end
    }

    /// Lets the workers finish what they have, as long as that makes sense; what is not settled
    /// then goes back to its place in the queue when the channel closes. No write is on its way
    /// any more when this returns.
    async fn drain(
        &self,
        end: End,
        workers: &mut JoinSet<Result<(), GivenUp>>,
        settler: &SettlerOf<B>,
        give_up: &CancellationToken,
        stopping: &CancellationToken,
    ) -> End {
        if matches!(end, End::Lost(_) | End::Patience) {
            give_up.cancel();
        }
        let too_late = async {
            stopping.cancelled().await;
            tokio::time::sleep(self.parts.config.drain).await;
        };
        let away = async {
            while self.parts.health.away_for().is_none_or(|away| away < PATIENCE) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::pin!(too_late, away);
        loop {
            tokio::select! {
                biased;
                ended = workers.join_next() => match ended {
                    Some(ended) => log_end(ended),
                    None => break,
                },
                () = &mut too_late, if !give_up.is_cancelled() => {
                    let seconds = self.parts.config.drain.as_secs();
                    warn!(seconds, "not everything was settled in time; the rest goes back to the queue");
                    give_up.cancel();
                }
                () = &mut away, if !give_up.is_cancelled() => give_up.cancel(),
                _ = self.sessions.consuming.closed(), if !give_up.is_cancelled() => give_up.cancel(),
            }
        }
        if !matches!(end, End::Lost(_)) {
            settler.finish().await;
        }
        if stopping.is_cancelled() { End::Stopped } else { end }
    }

    fn start_workers(
        &self,
        workers: &mut JoinSet<Result<(), GivenUp>>,
        settler: &SettlerOf<B>,
        give_up: &CancellationToken,
    ) -> Vec<mpsc::UnboundedSender<Incoming>> {
        let config = &self.parts.config;
        let limits = Limits { rows: config.batch_rows, bytes: config.batch_bytes, linger: config.linger };
        let count = config.workers.max(1);
        let lane = |_| {
            // Unbounded, but never longer than the prefetch.
            let (lane, incoming) = mpsc::unbounded_channel();
            let worker = Worker {
                store: self.parts.store.clone(),
                settler: settler.clone(),
                records: Records::new(config.cache_bytes / count),
                newcomers: Newcomers::default(),
                health: self.parts.health.clone(),
                metrics: self.parts.metrics.clone(),
                give_up: give_up.clone(),
                clock: self.parts.clock.clone(),
                random: self.parts.random.clone(),
                setbacks: 0,
            };
            workers.spawn(worker.run(Batches::new(incoming, limits)));
            lane
        };
        (0..count).map(lane).collect()
    }

    /// Hands deliveries to the workers until something ends it.
    async fn take(
        &self,
        consumer: &mut <B::Session as Session>::Consumer,
        lanes: &[mpsc::UnboundedSender<Incoming>],
        settler: &SettlerOf<B>,
        workers: &mut JoinSet<Result<(), GivenUp>>,
        stopping: &CancellationToken,
    ) -> End {
        let intake = Intake::new(&self.parts.config, self.parts.broker.login(), self.parts.clock.clone());
        let mut sizes = Sizes::new(&self.parts.config, self.prefetch);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let lost = async {
            tokio::select! {
                biased;
                reason = self.sessions.consuming.closed() => reason,
                reason = self.sessions.publishing.closed() => reason,
            }
        };
        tokio::pin!(lost);
        loop {
            let delivery: Delivery = tokio::select! {
                biased;
                () = stopping.cancelled() => return End::Stopped,
                reason = &mut lost => return End::Lost(reason),
                Some(ended) = workers.join_next() => {
                    log_end(ended);
                    return End::Lost("a worker has ended".to_owned());
                }
                _ = tick.tick() => {
                    if self.parts.health.away_for().is_some_and(|away| away > PATIENCE) {
                        return End::Patience;
                    }
                    // Dead letters that wait for the broker fill the window: what waits behind them needs a wider one.
                    if settler.burying() >= usize::from(self.prefetch) && self.prefetch < self.parts.config.prefetch {
                        let wider = self.prefetch.saturating_mul(4).max(prefetch::FIRST);
                        return End::Resize(wider.min(self.parts.config.prefetch));
                    }
                    continue;
                }
                next = async {
                    settler.room(self.parts.config.held_bytes).await;
                    consumer.next().await
                } => match next {
                    Some(delivery) => delivery,
                    None => return End::Lost("the broker closed the channel".to_owned()),
                },
            };
            if !self.took.swap(true, Ordering::Relaxed) && self.quiet {
                info!("results are taken again");
            }
            let read = intake.read(delivery);
            let weight = match &read {
                Ok(incoming) => incoming.parcel.weight,
                Err((parcel, _)) => parcel.weight,
            };
            sizes.note(weight);
            settler.hold(weight);
            match read {
                Ok(incoming) => {
                    let lane = lane_of(&incoming, lanes.len());
                    if lanes[lane].send(incoming).is_err() {
                        return End::Lost("a worker has ended".to_owned());
                    }
                }
                Err((parcel, unusable)) => settler.bury(parcel, unusable),
            }
            // Dead letters that wait for the broker would be published again by the next tenure.
            if settler.burying() == 0
                && let Some(fits) = sizes.resize(settler.held_bytes())
            {
                return End::Resize(fits);
            }
        }
    }
}

fn log_end(ended: Result<Result<(), GivenUp>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(()) | Err(GivenUp)) => {}
        Err(reason) => error!(%reason, "a worker has failed; what it held comes again"),
    }
}

/// The worker of a node, the same as long as the program runs.
fn lane_of(incoming: &Incoming, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    incoming.node.hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes.max(1) as u64).unwrap_or(0)
}
