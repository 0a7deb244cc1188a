//! A broker with somebody listening in: what was published is stamped, what was delivered and acknowledged is timed.
//!
//! Two uses. Nodes share connections ([`Pool`]), and their results carry the time they were published at. The server's
//! deliveries are timed from there to their acknowledgement ([`Watch`]), which is when they are stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use vogeler_messaging::topology::{Exchange, Queue};
use vogeler_messaging::{
    Acks, Broker, ConnectError, ConsumeError, ConsumeOptions, Consumer, Declared, Delivery, Header, Lost, Publish,
    PublishError, QueueStatus, Session,
};

use crate::latency::{self, Latencies, Summary};

/// When a result was published: microseconds since 1970.
const AT: &str = "blowout-at";

/// Which part of a measurement a result belongs to.
pub const PHASE: &str = "blowout-phase";

/// Connections that many sessions share. Clones share them.
#[derive(Debug, Clone)]
pub struct Pool<B: Broker> {
    inner: B,
    connections: Arc<Vec<tokio::sync::Mutex<Option<B::Session>>>>,
    next: Arc<AtomicUsize>,
    published: Arc<AtomicU64>,
}

impl<B: Broker> Pool<B> {
    /// So many connections to a broker, made as they are needed; none, for one of its own for everybody who connects.
    pub fn new(inner: B, connections: usize) -> Self {
        let connections = (0..connections).map(|_| tokio::sync::Mutex::default()).collect();
        Self { inner, connections: Arc::new(connections), next: Arc::default(), published: Arc::default() }
    }

    /// How many results the broker has confirmed.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}

impl<B: Broker> Broker for Pool<B> {
    type Session = Stamping<B::Session>;

    async fn connect(&self) -> Result<Self::Session, ConnectError> {
        let published = Arc::clone(&self.published);
        if self.connections.is_empty() {
            return Ok(Stamping { inner: self.inner.connect().await?, shared: false, published });
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut kept = self.connections[turn].lock().await;
        let inner = match kept.as_ref().filter(|session| session.closed().now_or_never().is_none()) {
            Some(session) => session.clone(),
            None => kept.insert(self.inner.connect().await?).clone(),
        };
        Ok(Stamping { inner, shared: true, published })
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn login(&self) -> String {
        self.inner.login()
    }
}

/// A session of a node.
#[derive(Debug, Clone)]
pub struct Stamping<S> {
    inner: S,
    shared: bool,
    published: Arc<AtomicU64>,
}

/// The methods that nothing is added to.
macro_rules! passed_on {
    () => {
        async fn declare_exchange(&self, exchange: &Exchange) -> Result<Declared, Lost> {
            self.inner.declare_exchange(exchange).await
        }

        async fn exchange_exists(&self, name: &str) -> Result<bool, Lost> {
            self.inner.exchange_exists(name).await
        }

        async fn declare_queue(&self, queue: &Queue) -> Result<Declared, Lost> {
            self.inner.declare_queue(queue).await
        }

        async fn queue_status(&self, name: &str) -> Result<Option<QueueStatus>, Lost> {
            self.inner.queue_status(name).await
        }

        async fn queue_statuses(&self, names: &[String]) -> Result<Vec<Option<QueueStatus>>, Lost> {
            self.inner.queue_statuses(names).await
        }

        async fn delete_queue(&self, name: &str) -> Result<Option<u32>, Lost> {
            self.inner.delete_queue(name).await
        }

        async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
            self.inner.bind(queue, exchange, key).await
        }

        async fn unbind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
            self.inner.unbind(queue, exchange, key).await
        }

        async fn bind_exchange(&self, exchange: &str, source: &str, key: &str) -> Result<(), Lost> {
            self.inner.bind_exchange(exchange, source, key).await
        }

        fn notify(&self, publish: Publish<'_>) -> bool {
            self.inner.notify(publish)
        }

        async fn discard_head(&self, queue: &str) -> Result<bool, Lost> {
            self.inner.discard_head(queue).await
        }

        async fn closed(&self) -> String {
            self.inner.closed().await
        }

        fn blocked(&self) -> Option<String> {
            self.inner.blocked()
        }
    };
}

impl<S: Session> Session for Stamping<S> {
    type Consumer = S::Consumer;

    passed_on!();

    async fn publish(&self, mut publish: Publish<'_>) -> Result<(), PublishError> {
        let is_result = publish.message.properties.kind.as_deref() == Some("result");
        if is_result {
            let at = i64::try_from(latency::now()).unwrap_or(i64::MAX);
            publish.message.properties.headers.insert(AT.to_owned(), Header::Number(at));
        }
        self.inner.publish(publish).await?;
        if is_result {
            self.published.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<S::Consumer, ConsumeError> {
        self.inner.consume(queue, options).await
    }

    async fn close(&self) {
        // Others are still on it. Consumers end when they are dropped.
        if !self.shared {
            self.inner.close().await;
        }
    }
}

/// What a server was seen to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Deliveries that were acknowledged.
    pub acked: u64,
    /// Of results, from published to acknowledged.
    pub latency: Summary,
    /// The phases of a measurement, by number.
    pub phases: BTreeMap<i64, Phase>,
}

/// One phase: microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Phase {
    /// When its first delivery came.
    pub first: u64,
    /// When its last one was acknowledged.
    pub last: u64,
    /// How many were acknowledged.
    pub acked: u64,
}

impl Phase {
    /// The same phase as two servers have seen it.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last), acked: self.acked + other.acked }
    }
}

#[derive(Debug, Default)]
struct Account {
    acked: u64,
    latencies: Latencies,
    phases: BTreeMap<i64, Phase>,
}

/// Watches a server's deliveries. Clones share what was seen.
#[derive(Debug, Clone)]
pub struct Watch<B> {
    inner: B,
    account: Arc<Mutex<Account>>,
}

impl<B: Broker> Watch<B> {
    /// Watches whoever connects through it.
    pub fn new(inner: B) -> Self {
        Self { inner, account: Arc::default() }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        let account = lock(&self.account);
        Seen { acked: account.acked, latency: account.latencies.summary(), phases: account.phases.clone() }
    }

    /// Forgets the latencies: what comes now is what is measured.
    pub fn begin(&self) {
        lock(&self.account).latencies = Latencies::default();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Broker> Broker for Watch<B> {
    type Session = Watched<B::Session>;

    async fn connect(&self) -> Result<Self::Session, ConnectError> {
        Ok(Watched { inner: self.inner.connect().await?, account: Arc::clone(&self.account) })
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn login(&self) -> String {
        self.inner.login()
    }
}

/// A session of the server.
#[derive(Debug, Clone)]
pub struct Watched<S> {
    inner: S,
    account: Arc<Mutex<Account>>,
}

impl<S: Session> Session for Watched<S> {
    type Consumer = WatchedConsumer<S::Consumer>;

    passed_on!();

    async fn publish(&self, publish: Publish<'_>) -> Result<(), PublishError> {
        self.inner.publish(publish).await
    }

    async fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<Self::Consumer, ConsumeError> {
        let inner = self.inner.consume(queue, options).await?;
        Ok(WatchedConsumer { inner, stamps: Arc::default(), account: Arc::clone(&self.account) })
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// When deliveries were published and which phase they belong to, by tag.
type Stamps = Arc<Mutex<HashMap<u64, (Option<u64>, Option<i64>)>>>;

/// A consumer of the server.
#[derive(Debug)]
pub struct WatchedConsumer<C> {
    inner: C,
    stamps: Stamps,
    account: Arc<Mutex<Account>>,
}

impl<C: Consumer> Consumer for WatchedConsumer<C> {
    type Acks = WatchedAcks<C::Acks>;

    async fn next(&mut self) -> Option<Delivery> {
        let delivery = self.inner.next().await?;
        let properties = &delivery.message.properties;
        let at = properties.number(AT).and_then(|at| u64::try_from(at).ok());
        let phase = properties.number(PHASE);
        if let Some(phase) = phase {
            let mut account = lock(&self.account);
            let phase = account.phases.entry(phase).or_default();
            if phase.first == 0 {
                phase.first = latency::now();
            }
        }
        lock(&self.stamps).insert(delivery.tag, (at, phase));
        Some(delivery)
    }

    fn acks(&self) -> Self::Acks {
        let (stamps, account) = (Arc::clone(&self.stamps), Arc::clone(&self.account));
        WatchedAcks { inner: self.inner.acks(), stamps, account }
    }

    async fn close(self) {
        self.inner.close().await;
    }
}

/// Acknowledges deliveries, and notes when.
#[derive(Debug, Clone)]
pub struct WatchedAcks<A> {
    inner: A,
    stamps: Stamps,
    account: Arc<Mutex<Account>>,
}

impl<A: Acks> Acks for WatchedAcks<A> {
    async fn ack(&self, tags: &[u64]) -> Result<(), Lost> {
        self.inner.ack(tags).await?;
        let now = latency::now();
        let (mut stamps, mut account) = (lock(&self.stamps), lock(&self.account));
        for tag in tags {
            let Some((at, phase)) = stamps.remove(tag) else { continue };
            account.acked += 1;
            if let Some(at) = at {
                account.latencies.note(now.saturating_sub(at));
            }
            if let Some(phase) = phase {
                let phase = account.phases.entry(phase).or_default();
                phase.last = now;
                phase.acked += 1;
            }
        }
        Ok(())
    }
}
