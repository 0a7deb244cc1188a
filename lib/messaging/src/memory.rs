//! A broker in this process, for tests, for simulation and for a system without a broker.
//!
//! The semantics are RabbitMQ's as far as Vogeler relies on them: topic, direct and fanout
//! routing, alternate exchanges, prefetch, unsettled deliveries that return in order with a count, exclusive and single
//! active consumers, expiry at the head, dead letters, length limits, unroutable returns. Nothing
//! is kept on disk. [`state`](self) holds the rules; this file is how sessions reach them.

mod routing;
mod state;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use vogeler_protocol::Clock;

use self::state::{Id, State};
use crate::message::{Delivery, Publish};
use crate::topology::{Exchange, Queue};
use crate::{
    Acks, Broker, ConnectError, ConsumeError, ConsumeOptions, Consumer, Current, Declared, Lost, PublishError,
    QueueStatus, Session,
};

/// A broker in memory. Clones are the same broker.
#[derive(Clone)]
pub struct MemoryBroker {
    state: Arc<Mutex<State>>,
    clock: Clock,
    login: Arc<str>,
    /// Why nobody may publish, as under an alarm.
    blocked: Current<Option<String>>,
}

impl MemoryBroker {
    /// An empty broker whose messages expire by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { state: Arc::default(), clock, login: "memory".into(), blocked: Current::new(None) }
    }

    /// Takes no messages for now, as a broker that runs out of memory or disk: who publishes waits.
    pub fn block(&self, reason: &str) {
        self.blocked.set(Some(reason.to_owned()));
    }

    /// Takes messages again.
    pub fn unblock(&self) {
        self.blocked.set(None);
    }

    /// How many messages of a queue are not settled: those that wait, and those that some consumer was given.
    pub fn unsettled(&self, queue: &str) -> usize {
        lock(&self.state).unsettled(queue)
    }

    /// Ends every connection, as a broker that restarts does. Durable queues and what is in them stay.
    pub fn disconnect(&self) {
        let sessions: BTreeSet<Id> = lock(&self.state).sessions();
        for session in sessions {
            lock(&self.state).end_session(session, "the broker restarted", &self.clock);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker for MemoryBroker {
    type Session = MemorySession;

    async fn connect(&self) -> Result<MemorySession, ConnectError> {
        let (id, closed) = lock(&self.state).begin_session();
        Ok(MemorySession(Arc::new(Inner { id, closed, broker: self.clone() })))
    }

    fn address(&self) -> String {
        "memory".to_owned()
    }

    fn login(&self) -> String {
        self.login.as_ref().to_owned()
    }
}

/// A connection to a broker in memory.
#[derive(Clone)]
pub struct MemorySession(Arc<Inner>);

struct Inner {
    id: Id,
    closed: Current<Option<String>>,
    broker: MemoryBroker,
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.broker.state).end_session(self.id, "the connection was closed", &self.broker.clock);
    }
}

impl MemorySession {
    /// The state, while this session is open.
    fn open(&self) -> Result<MutexGuard<'_, State>, Lost> {
        match self.0.closed.get() {
            Some(reason) => Err(Lost::Connection(reason)),
            None => Ok(lock(&self.0.broker.state)),
        }
    }
}

impl Session for MemorySession {
    type Consumer = MemoryConsumer;

    async fn declare_exchange(&self, exchange: &Exchange) -> Result<Declared, Lost> {
        Ok(self.open()?.declare_exchange(exchange))
    }

    async fn exchange_exists(&self, name: &str) -> Result<bool, Lost> {
        Ok(self.open()?.exchange_exists(name))
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<Declared, Lost> {
        self.open()?.declare_queue(queue, self.0.id)
    }

    async fn queue_status(&self, name: &str) -> Result<Option<QueueStatus>, Lost> {
        Ok(self.open()?.queue_status(name))
    }

    async fn queue_statuses(&self, names: &[String]) -> Result<Vec<Option<QueueStatus>>, Lost> {
        let state = self.open()?;
        Ok(names.iter().map(|name| state.queue_status(name)).collect())
    }

    async fn delete_queue(&self, name: &str) -> Result<Option<u32>, Lost> {
        Ok(self.open()?.delete_queue(name))
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        self.open()?.bind(queue, exchange, key)
    }

    async fn bind_exchange(&self, to: &str, from: &str, key: &str) -> Result<(), Lost> {
        self.open()?.bind_exchange(to, from, key)
    }

    async fn unbind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        self.open()?.unbind(queue, exchange, key);
        Ok(())
    }

    async fn publish(&self, publish: Publish<'_>) -> Result<(), PublishError> {
        // A real broker is never answered within the same poll; neither may code rely on it here.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            reason = self.closed() => return Err(Lost::Connection(reason).into()),
            () = self.0.broker.blocked.wait_for(|blocked| blocked.is_none().then_some(())) => {}
        }
        self.open()?.publish(publish, &self.0.broker.clock)
    }

    fn notify(&self, publish: Publish<'_>) -> bool {
        if self.blocked().is_some() {
            return false;
        }
        let Ok(mut state) = self.open() else { return false };
        // Nobody waits for a notice, so nobody hears that no queue took it.
        let _ = state.publish(publish, &self.0.broker.clock);
        true
    }

    async fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<MemoryConsumer, ConsumeError> {
        let (id, deliveries) = self.open()?.consume(queue, options, self.0.id, &self.0.broker.clock)?;
        let acks = MemoryAcks { id, broker: self.0.broker.clone(), closed: self.0.closed.clone() };
        Ok(MemoryConsumer { deliveries, acks })
    }

    async fn discard_head(&self, queue: &str) -> Result<bool, Lost> {
        Ok(self.open()?.discard_head(queue))
    }

    async fn closed(&self) -> String {
        self.0.closed.wait_for(Clone::clone).await
    }

    fn blocked(&self) -> Option<String> {
        self.0.broker.blocked.get()
    }

    async fn close(&self) {
        lock(&self.0.broker.state).end_session(self.0.id, "the connection was closed", &self.0.broker.clock);
    }
}

/// A consumer of one queue in memory.
pub struct MemoryConsumer {
    /// Boxed: the channel has room for some before any has come.
    deliveries: mpsc::UnboundedReceiver<Box<Delivery>>,
    acks: MemoryAcks,
}

/// Acknowledges what one consumer was given.
#[derive(Clone)]
pub struct MemoryAcks {
    id: Id,
    broker: MemoryBroker,
    closed: Current<Option<String>>,
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        lock(&self.acks.broker.state).end_consumer(self.acks.id, &self.acks.broker.clock);
    }
}

impl Consumer for MemoryConsumer {
    type Acks = MemoryAcks;

    async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await.map(|delivery| *delivery)
    }

    fn acks(&self) -> MemoryAcks {
        self.acks.clone()
    }

    async fn close(self) {
        // Dropping it is closing it.
    }
}

impl Acks for MemoryAcks {
    async fn ack(&self, tags: &[u64]) -> Result<(), Lost> {
        if let Some(reason) = self.closed.get() {
            return Err(Lost::Connection(reason));
        }
        lock(&self.broker.state).ack(self.id, tags, &self.broker.clock)
    }
}
