//! The end of a delivery: its event, then its acknowledgement; or its copy among the dead letters,
//! then its acknowledgement.
//!
//! Nothing is acknowledged before the database, or the queue of dead letters, has it. Events are
//! handed over and never waited for: under a broker alarm that would wait for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use vogeler_messaging::topology::run_key;
use vogeler_messaging::{Acks, Backoff, Lost, Message, Properties, Publish, PublishError, Session, Topology};
use vogeler_protocol::message::{self, Event, Notice, Version};
use vogeler_protocol::{Clock, Random};

use crate::intake::{Askers, Incoming, Parcel, Unusable};
use crate::letter;
use crate::metrics::Metrics;

/// How long a consumer that is to close waits for its dead letters.
const LAST_BURIALS: Duration = Duration::from_secs(5);

/// Most bytes of a sentence in an event or in the log: a plugin's own words may be as long as its output.
const SENTENCE_BYTES: usize = 1000;

/// Settles the deliveries of one consumer.
pub struct Settler<S, A>(Arc<Inner<S, A>>);

struct Inner<S, A> {
    publishing: S,
    acks: A,
    topology: Topology,
    clock: Clock,
    random: Random,
    /// Dead letters on their way; they may wait for the broker without holding up a worker.
    burials: TaskTracker,
    /// Ends those that still wait when the consumer closes: their deliveries come again, to another settler.
    over: CancellationToken,
    held: AtomicUsize,
    held_bytes: AtomicUsize,
    buried_bytes: AtomicUsize,
    released: Notify,
    /// Whether it was told that dead letters wait.
    told: AtomicBool,
    metrics: Metrics,
}

impl<S, A> Drop for Inner<S, A> {
    /// What was not settled is back in the queue.
    fn drop(&mut self) {
        self.metrics.released(*self.held.get_mut(), *self.held_bytes.get_mut());
    }
}

impl<S, A> Clone for Settler<S, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Session, A: Acks> Settler<S, A> {
    /// Publishes on `publishing`, acknowledges through `acks`.
    pub fn new(publishing: S, acks: A, topology: Topology, metrics: Metrics, clock: Clock, random: Random) -> Self {
        Self(Arc::new(Inner {
            publishing,
            acks,
            topology,
            clock,
            random,
            burials: TaskTracker::new(),
            over: CancellationToken::new(),
            held: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            buried_bytes: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            released: Notify::new(),
            metrics,
        }))
    }

    /// These were merged: tells their runs and acknowledges them.
    pub async fn done(&self, settled: Vec<(Incoming, Notice, Option<String>)>) {
        let mut tags = Vec::with_capacity(settled.len());
        for (incoming, notice, detail) in &settled {
            if let Some(askers) = incoming.askers() {
                self.tell(&askers, *notice, detail.as_deref());
            }
            tags.push(incoming.parcel.tag);
            self.0.metrics.settled(*notice);
            self.release(incoming.parcel.weight);
        }
        self.ack(&tags).await;
    }

    /// Notes a delivery that is held from now on.
    pub fn hold(&self, bytes: usize) {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        self.0.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.metrics.taken(bytes);
    }

    fn release(&self, bytes: usize) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        self.0.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.0.metrics.released(1, bytes);
        self.0.released.notify_one();
    }

    /// Returns when fewer than so many bytes are held. Cancel-safe.
    pub async fn room(&self, bytes: usize) {
        while self.held_bytes() >= bytes {
            self.0.released.notified().await;
        }
    }

    /// How many bytes of deliveries are held, not settled yet, dead letters not counted.
    pub fn held_bytes(&self) -> usize {
        self.0.held_bytes.load(Ordering::Relaxed).saturating_sub(self.0.buried_bytes.load(Ordering::Relaxed))
    }

    /// How many dead letters are on their way, or wait for the broker.
    pub fn burying(&self) -> usize {
        self.0.burials.len()
    }

    /// This one can never be merged: moves it to the dead letters.
    pub fn bury(&self, parcel: Parcel, unusable: Unusable) {
        let node = unusable.askers.as_ref().map(|askers| &askers.node);
        warn!(
            node = node.map(tracing::field::display),
            key = parcel.routing_key,
            message_id = parcel.message.properties.message_id,
            reason = unusable.reason,
            detail = letter::shortened(&unusable.detail, SENTENCE_BYTES),
            "a message goes to the dead letters"
        );
        // They wait for the broker, maybe long; the bytes to hold are those of what is on its way to the database.
        self.0.buried_bytes.fetch_add(parcel.weight, Ordering::Relaxed);
        self.0.released.notify_one();
        let settler = self.clone();
        self.0.burials.spawn(async move {
            let (tag, size) = (parcel.tag, parcel.weight);
            let letter = letter::address(parcel, &unusable, &settler.0.clock, &settler.0.random);
            if settler.0.over.run_until_cancelled(settler.publish_dead(letter)).await == Some(true) {
                if let Some(askers) = &unusable.askers {
                    settler.tell(askers, Notice::Rejected, Some(&unusable.detail));
                }
                settler.0.metrics.dead_lettered(unusable.reason);
                settler.ack(&[tag]).await;
                settler.0.buried_bytes.fetch_sub(size, Ordering::Relaxed);
                settler.release(size);
            }
        });
    }

    /// Whether that dead letters wait is to be told: once, not once for each and each time.
    fn is_news(&self) -> bool {
        !self.0.told.swap(true, Ordering::Relaxed)
    }

    /// True once the queue of dead letters has it. False when the connection ended: the delivery
    /// comes again then.
    async fn publish_dead(&self, letter: Message) -> bool {
        let mut backoff = Backoff::new(self.0.random.clone(), Duration::from_secs(1), Duration::from_secs(60));
        loop {
            let publish =
                Publish { exchange: &self.0.topology.dead, routing_key: "", mandatory: true, message: letter.clone() };
            match self.0.publishing.publish(publish).await {
                Ok(()) => {
                    if self.0.told.swap(false, Ordering::Relaxed) {
                        info!("dead letters are taken again");
                    }
                    return true;
                }
                Err(PublishError::Lost(reason @ (Lost::Denied(_) | Lost::NotFound(_)))) if self.is_news() => {
                    error!(%reason, "dead letters wait; vogeler-server setup makes what is missing");
                }
                Err(reason @ (PublishError::Full { .. } | PublishError::Unroutable { .. })) if self.is_news() => {
                    error!(%reason, "dead letters wait; make room among them (vogeler-server dead), or run setup");
                }
                // Its channel alone may be gone, over somebody else's message: the next opens another.
                Err(reason) => debug!(%reason, "a dead letter still waits"),
            }
            tokio::select! {
                biased;
                _ = self.0.publishing.closed() => return false,
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }

    fn tell(&self, askers: &Askers, event: Notice, detail: Option<&str>) {
        for run in &askers.runs {
            let event = Event {
                v: Version,
                run: *run,
                command: askers.command.clone(),
                node: askers.node.clone(),
                event,
                at: self.0.clock.now(),
                detail: detail.map(|detail| letter::shortened(detail, SENTENCE_BYTES).to_owned()),
            };
            let properties = Properties {
                correlation_id: Some(run.to_string()),
                kind: Some("event".into()),
                content_type: Some(message::JSON.into()),
                app_id: Some("vogeler-server".into()),
                timestamp: Some(event.at.as_second()),
                ..Properties::default()
            };
            let message = Message { body: message::encode(&event), properties };
            let key = run_key(*run);
            let publish = Publish { exchange: &self.0.topology.events, routing_key: &key, mandatory: false, message };
            if !self.0.publishing.notify(publish) {
                self.0.metrics.event_dropped();
                debug!(%run, node = %askers.node, "an event was dropped; the run reads the record instead");
            }
        }
    }

    async fn ack(&self, tags: &[u64]) {
        if let Err(reason) = self.0.acks.ack(tags).await {
            // They are merged; that they come again changes nothing.
            debug!(%reason, count = tags.len(), "deliveries were not acknowledged and come again");
        }
    }

    /// Waits a moment for dead letters on their way. Those that the broker does not take yet stay
    /// unacknowledged and come again.
    pub async fn finish(&self) {
        self.0.burials.close();
        if timeout(LAST_BURIALS, self.0.burials.wait()).await.is_err() {
            warn!(count = self.0.burials.len(), "dead letters still wait for the broker; their deliveries come again");
            self.0.over.cancel();
            self.0.burials.wait().await;
        }
    }
}
