//! Keeps the server running: database first, then the broker, then the queues of results.
//!
//! Start at [`run`]. It keeps two connections, one after the other as they are lost. What is done over them is
//! `ways`'s business, a `tenure` a queue.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use vogeler_messaging::{Backoff, Broker, ConnectError, Session, Topology};
use vogeler_protocol::{Clock, Random};
use vogeler_store::{Store, StoreError};

use crate::config::ServerSection;
use crate::health::Health;
use crate::losses::{Losses, Saying};
use crate::metrics::Metrics;
use crate::setup;
use crate::tenure::Over;
use crate::ways::{Course, Ways};

/// How long channel and connections may take to close once the drain is over.
const GOODBYES: Duration = Duration::from_secs(15);

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

impl<B, St> Parts<B, St> {
    /// On this machine's clock and randomness, with nothing known and nothing counted yet.
    pub fn new(broker: B, store: St, topology: Topology, config: ServerSection) -> Self {
        let clock = Clock::system();
        let (health, metrics) = (Health::new(clock.clone()), Metrics::default());
        Self { broker, store, topology, config, health, metrics, clock, random: Random::from_system() }
    }
}

/// Serves until `stop` resolves, then finishes what was begun.
///
/// # Errors
/// A configuration that no waiting will mend. A broker or database that is away is waited for.
pub async fn run<B: Broker, St: Store>(parts: Parts<B, St>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    follow(&parts, &Course::InForce, stop).await
}

/// The same for whoever moves results: exactly these queues, and nobody is made room for.
///
/// # Errors
/// As [`run`].
pub(crate) async fn work_off<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    queues: Vec<String>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    follow(parts, &Course::These(queues), stop).await
}

async fn follow<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    course: &Course,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let stopping = CancellationToken::new();
    let serving = serve(parts, course, &stopping);
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

async fn serve<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    course: &Course,
    stopping: &CancellationToken,
) -> anyhow::Result<()> {
    let health = &parts.health;
    let mut losses = Losses::new(parts.random.clone());
    let mut refused = String::new();
    // Whatever ended the last connection is met alone on this one.
    let mut cautious = false;
    let mut told = None;
    while !stopping.is_cancelled() {
        let Some(()) = stopping.run_until_cancelled(wait_for_store(parts)).await else { return Ok(()) };
        let quiet = losses.are_tiresome();
        let connected = stopping.run_until_cancelled(connect(parts, quiet)).await;
        let Some(sessions) = connected.transpose()? else { return Ok(()) };
        let connected_at = Instant::now();
        let mut ways = Ways { parts, sessions: &sessions, course, stopping, quiet, cautious, took: false, told };
        let over = Box::pin(ways.run()).await;
        let took = ways.took;
        told = ways.told;
        match over {
            Over::Stopped => return goodbye(sessions).await,
            Over::Patience => {
                health.disconnected("the database has been away for long");
                error!("the database has been away for long; the broker keeps the results until it is back");
                cautious = false;
            }
            Over::Refused(reason) => {
                health.disconnected(&reason);
                if refused != reason {
                    error!(reason, "results cannot be consumed; trying again");
                    refused = reason;
                }
                losses.refused();
            }
            Over::Lost(reason) => {
                health.disconnected(&reason);
                match losses.lost(took) {
                    Saying::Plainly => warn!(reason, "the connection to the broker was lost; connecting again"),
                    Saying::Explained => warn!(
                        reason,
                        "the connection to the broker is lost again and again, over a message that cannot be read \
                         perhaps; the broker gives such a one up after some fifty deliveries"
                    ),
                    Saying::Nothing => debug!(reason, "the connection to the broker was lost"),
                }
                cautious = true;
            }
        }
        goodbye(sessions).await?;
        let wait = losses.next_wait(connected_at.elapsed());
        stopping.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
    Ok(())
}

/// Two connections: while the broker blocks one that publishes, the other still acknowledges.
#[derive(Clone)]
pub(crate) struct Sessions<S> {
    pub(crate) consuming: S,
    pub(crate) publishing: S,
}

impl<S: Session> Sessions<S> {
    /// Waits until one of them is gone: why.
    pub(crate) async fn lost(&self) -> String {
        tokio::select! {
            biased;
            reason = self.consuming.closed() => reason,
            reason = self.publishing.closed() => reason,
        }
    }
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
            Ok(sessions) => match setup::declare_exchanges(&sessions.publishing, &parts.topology).await {
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
