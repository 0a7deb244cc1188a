//! The life of one consumer: it takes what one queue of results has, until something ends it.
//!
//! Start at [`Tenure::run`]. A tenure ends when the program is to stop, when a connection is lost, when the database
//! stays away, when the prefetch no longer fits the size of what comes, when results are moved, or when another server
//! has less to do. What comes next is decided by [`crate::ways`].

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use vogeler_messaging::topology::key_of;
use vogeler_messaging::{Broker, ConsumeOptions, Consumer, Current, Declared, Delivery, Lost, Queue, Session, results};
use vogeler_process::supervisor;
use vogeler_store::Store;

use crate::batch::{Batches, Limits};
use crate::intake::{Incoming, Intake};
use crate::newcomers::Newcomers;
use crate::prefetch::{self, Sizes};
use crate::records::Records;
use crate::run::{Parts, Sessions};
use crate::settle::Settler;
use crate::worker::{GivenUp, Worker};

/// After so long without the database the deliveries go back to the broker.
const PATIENCE: Duration = Duration::from_secs(600);

/// What settles the deliveries of a broker's consumer.
type SettlerOf<B> = Settler<<B as Broker>::Session, <<<B as Broker>::Session as Session>::Consumer as Consumer>::Acks>;

/// Why a server lets go of its connections.
#[derive(Debug, Clone)]
pub(crate) enum Over {
    /// The program is to stop.
    Stopped,
    /// A connection was lost.
    Lost(String),
    /// The broker does not let us consume.
    Refused(String),
    /// The database stayed away.
    Patience,
}

impl From<Lost> for Over {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Connection(reason) => Self::Lost(reason),
            Lost::Denied(_) | Lost::NotFound(_) => Self::Refused(lost.to_string()),
        }
    }
}

/// Why a server lets go of every queue.
#[derive(Debug, Clone)]
pub(crate) enum Leave {
    /// The connections go, too.
    Over(Over),
    /// Results are moved to other queues.
    Moving,
}

/// How a tenure ended.
#[derive(Debug)]
pub(crate) enum End {
    /// With those of all the other queues.
    Leave(Leave),
    /// Another prefetch fits better.
    Resize(u16),
    /// Another server has less to do.
    PassedOn,
}

impl End {
    fn lost(reason: impl Into<String>) -> Self {
        Self::Leave(Leave::Over(Over::Lost(reason.into())))
    }
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Leave(Leave::Over(lost.into()))
    }
}

/// What a consumer sees to before it takes anything.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// That results are not moved and were not; then the queue is declared and bound by its slots.
    First {
        /// The queue.
        queue: Queue,
        /// Those that it takes.
        slots: Vec<u32>,
        /// How many queues there were when that was found out.
        count: u32,
    },
    /// That results are not moved.
    Again,
    /// Nothing: it is we who move them.
    Unasked,
}

/// What is to be consumed, and what the tenures beside it are told.
pub(crate) struct Tenure<B: Broker, St> {
    /// With this queue's share of what all of them may hold.
    pub(crate) parts: Arc<Parts<B, St>>,
    pub(crate) sessions: Sessions<B::Session>,
    pub(crate) queue: String,
    pub(crate) prefetch: u16,
    /// Whether it is over one of many connections that end at once.
    pub(crate) quiet: bool,
    /// Which of all it was that began to take; 0 while it has taken nothing.
    pub(crate) turn: Arc<AtomicU64>,
    /// How many have begun to take.
    pub(crate) turns: Arc<AtomicU64>,
    /// Why all of them are to end.
    pub(crate) leaving: Current<Option<Leave>>,
    /// Whether this one is to make room for another server.
    pub(crate) pass_on: CancellationToken,
    pub(crate) stopping: CancellationToken,
}

impl<B: Broker, St: Store> Tenure<B, St> {
    pub(crate) async fn run(self, entry: &Entry) -> End {
        let options = ConsumeOptions { prefetch: self.prefetch, exclusive: false, no_ack: false };
        let mut consumer = match self.sessions.consuming.consume(&self.queue, options).await {
            Ok(consumer) => consumer,
            Err(reason) => return self.not_let_in(entry, reason.to_string()).await,
        };
        if let Err(end) = self.enter(entry).await {
            consumer.close().await;
            return end;
        }
        self.parts.health.connected();
        if !self.quiet {
            info!(queue = self.queue, prefetch = self.prefetch, "consuming");
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
        let end = self.take(&mut consumer, &lanes, &settler, &mut workers).await;
        // No lane, no more work: the workers finish what they have and end.
        drop(lanes);
        // The broker sends on, as much as the window holds, until the channel closes; what it sends is too
        // large for that, so that the rest comes first back to the queue and then to its end.
        if matches!(end, End::Resize(fits) if fits < self.prefetch) {
            give_up.cancel();
            consumer.close().await;
            return self.drain(end, &mut workers, &settler, &give_up).await;
        }
        let end = self.drain(end, &mut workers, &settler, &give_up).await;
        consumer.close().await;
        end
    }

    /// A queue that cannot be consumed may be one that has just been moved away.
    async fn not_let_in(&self, entry: &Entry, reason: String) -> End {
        let refused = End::Leave(Leave::Over(Over::Refused(reason)));
        match entry {
            Entry::Unasked => refused,
            Entry::First { .. } | Entry::Again => self.make_room().await.err().unwrap_or(refused),
        }
    }

    /// Comes after the consumer is known to the broker: whoever moves results waits for consumers to go before it
    /// touches a queue, and was there before with the sign that is asked for here. So either it sees us, or we it.
    async fn enter(&self, entry: &Entry) -> Result<(), End> {
        match entry {
            Entry::Unasked => Ok(()),
            Entry::Again => self.make_room().await,
            Entry::First { queue, slots, count } => {
                self.make_room().await?;
                // A whole move may have passed since they were counted. From now on none can.
                if !results::are_still(&self.sessions.consuming, &self.parts.topology, *count).await? {
                    return Err(End::Leave(Leave::Moving));
                }
                Ok(self.bind(queue, slots).await?)
            }
        }
    }

    /// How this ends where results are being moved, or where that cannot be told.
    async fn make_room(&self) -> Result<(), End> {
        match results::are_moving(&self.sessions.consuming, &self.parts.topology).await? {
            true => Err(End::Leave(Leave::Moving)),
            false => Ok(()),
        }
    }

    /// On the connection that consumes: with the consumer whatever it has asked for is gone.
    async fn bind(&self, queue: &Queue, slots: &[u32]) -> Result<(), Lost> {
        let session = &self.sessions.consuming;
        if let Declared::Differs(difference) = session.declare_queue(queue).await?
            && !self.quiet
        {
            warn!("queue {} exists with other arguments and is used as it is: {difference}", queue.name);
        }
        let exchange = self.parts.topology.slots_exchange().name;
        for slot in slots {
            session.bind(&queue.name, &exchange, &key_of(*slot)).await?;
        }
        Ok(())
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
    ) -> End {
        let lost = matches!(end, End::Leave(Leave::Over(Over::Lost(_))));
        if lost || matches!(end, End::Leave(Leave::Over(Over::Patience))) {
            give_up.cancel();
        }
        let too_late = async {
            self.stopping.cancelled().await;
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
        if !lost {
            settler.finish().await;
        }
        if self.stopping.is_cancelled() { End::Leave(Leave::Over(Over::Stopped)) } else { end }
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

    /// Returns when this has to end for a reason that is not its own.
    async fn told_to_end(&self) -> End {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => End::Leave(Leave::Over(Over::Stopped)),
            leave = self.leaving.wait_for(Clone::clone) => End::Leave(leave),
            reason = self.sessions.lost() => End::lost(reason),
            () = self.pass_on.cancelled() => End::PassedOn,
        }
    }

    /// Hands deliveries to the workers until something ends it.
    async fn take(
        &self,
        consumer: &mut <B::Session as Session>::Consumer,
        lanes: &[mpsc::UnboundedSender<Incoming>],
        settler: &SettlerOf<B>,
        workers: &mut JoinSet<Result<(), GivenUp>>,
    ) -> End {
        let intake = Intake::new(&self.parts.config, self.parts.broker.login(), self.parts.clock.clone());
        let mut sizes = Sizes::new(&self.parts.config, self.prefetch);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let told = self.told_to_end();
        tokio::pin!(told);
        loop {
            let delivery: Delivery = tokio::select! {
                biased;
                end = &mut told => return end,
                Some(ended) = workers.join_next() => {
                    log_end(ended);
                    return End::lost("a worker has ended");
                }
                _ = tick.tick() => {
                    if self.parts.health.away_for().is_some_and(|away| away > PATIENCE) {
                        return End::Leave(Leave::Over(Over::Patience));
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
                    None => return End::lost("the broker closed the channel"),
                },
            };
            self.note_taken();
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
                        return End::lost("a worker has ended");
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

    /// From its first delivery on this server holds the queue.
    fn note_taken(&self) {
        if self.turn.load(Ordering::Relaxed) > 0 {
            return;
        }
        let before = self.turns.fetch_add(1, Ordering::Relaxed);
        self.turn.store(before + 1, Ordering::Relaxed);
        if before == 0 && self.quiet {
            info!("results are taken again");
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
