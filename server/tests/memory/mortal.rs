//! A broker as somebody meets it whose life ends with a call.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::{Future, pending};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use vogeler_messaging::memory::{MemoryBroker, MemoryConsumer, MemorySession};
use vogeler_messaging::topology::servers_queue;
use vogeler_messaging::{
    Broker, ConnectError, ConsumeError, ConsumeOptions, Declared, Exchange, Lost, Publish, PublishError, Queue,
    QueueStatus, Session,
};

/// One life. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Life {
    /// The calls that were made, by their kinds.
    calls: Arc<Mutex<Vec<&'static str>>>,
    /// Which call is the last; none while it does not end.
    last: Option<usize>,
    over: CancellationToken,
    /// Whether a queue that nobody consumes is said to be empty, as by a broker whose quorum does not answer.
    dazed: bool,
    /// How long it stands still as soon as it would consume a queue of results, and since when it does.
    stall: Duration,
    stalled: Arc<OnceLock<Instant>>,
}

impl Life {
    /// One that ends with the call of that number, from 0 on.
    pub(crate) fn until(call: usize) -> Self {
        Self { last: Some(call), ..Self::default() }
    }

    /// One that sees nothing in a queue unless it is consumed.
    pub(crate) fn dazed() -> Self {
        Self { dazed: true, ..Self::default() }
    }

    /// One that stands still for so long before it consumes.
    pub(crate) fn stalled(stall: Duration) -> Self {
        Self { stall, ..Self::default() }
    }

    /// Waits until it is over.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// The kinds of the calls that were made.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    /// The last call has its effect, and nobody hears of it.
    async fn call<T>(&self, kind: &'static str, effect: impl Future<Output = T>) -> T {
        if self.over.is_cancelled() {
            return pending().await;
        }
        if let Some(since) = self.stalled.get() {
            sleep_until(*since + self.stall).await;
        }
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(kind);
            calls.len() - 1
        };
        let answer = effect.await;
        if self.last.is_some_and(|last| number >= last) {
            self.over.cancel();
            return pending().await;
        }
        answer
    }
}

/// The broker, as one life reaches it.
#[derive(Clone)]
pub(crate) struct Mortal {
    pub(crate) inner: MemoryBroker,
    pub(crate) life: Life,
}

impl Broker for Mortal {
    type Session = MortalSession;

    async fn connect(&self) -> Result<MortalSession, ConnectError> {
        let inner = self.life.call("connect", self.inner.connect()).await?;
        Ok(MortalSession { inner, life: self.life.clone() })
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn login(&self) -> String {
        self.inner.login()
    }
}

/// One of its connections.
#[derive(Clone)]
pub(crate) struct MortalSession {
    inner: MemorySession,
    life: Life,
}

impl Session for MortalSession {
    type Consumer = MemoryConsumer;

    async fn declare_exchange(&self, exchange: &Exchange) -> Result<Declared, Lost> {
        self.life.call("declare an exchange", self.inner.declare_exchange(exchange)).await
    }

    async fn exchange_exists(&self, name: &str) -> Result<bool, Lost> {
        self.life.call("look for an exchange", self.inner.exchange_exists(name)).await
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<Declared, Lost> {
        self.life.call("declare a queue", self.inner.declare_queue(queue)).await
    }

    async fn queue_status(&self, name: &str) -> Result<Option<QueueStatus>, Lost> {
        let status = self.life.call("look at a queue", self.inner.queue_status(name)).await?;
        let nothing = QueueStatus { messages: 0, consumers: 0 };
        Ok(status.map(|status| if self.life.dazed && !status.is_consumed() { nothing } else { status }))
    }

    async fn queue_statuses(&self, names: &[String]) -> Result<Vec<Option<QueueStatus>>, Lost> {
        self.life.call("look at queues", self.inner.queue_statuses(names)).await
    }

    async fn delete_queue(&self, name: &str) -> Result<Option<u32>, Lost> {
        self.life.call("delete a queue", self.inner.delete_queue(name)).await
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        self.life.call("bind", self.inner.bind(queue, exchange, key)).await
    }

    async fn bind_exchange(&self, to: &str, from: &str, key: &str) -> Result<(), Lost> {
        self.life.call("bind an exchange", self.inner.bind_exchange(to, from, key)).await
    }

    async fn unbind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        self.life.call("unbind", self.inner.unbind(queue, exchange, key)).await
    }

    async fn publish(&self, publish: Publish<'_>) -> Result<(), PublishError> {
        self.life.call("publish", self.inner.publish(publish)).await
    }

    fn notify(&self, publish: Publish<'_>) -> bool {
        self.inner.notify(publish)
    }

    async fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<MemoryConsumer, ConsumeError> {
        if queue.starts_with("master.in.") && queue != servers_queue().name {
            self.life.stalled.get_or_init(Instant::now);
        }
        self.life.call("consume", self.inner.consume(queue, options)).await
    }

    async fn discard_head(&self, queue: &str) -> Result<bool, Lost> {
        self.life.call("discard", self.inner.discard_head(queue)).await
    }

    async fn closed(&self) -> String {
        self.inner.closed().await
    }

    fn blocked(&self) -> Option<String> {
        self.inner.blocked()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
