//! The traits that programs are written against.

use std::future::Future;

use crate::message::{Delivery, Publish};
use crate::topology::{Exchange, Queue};

/// A broker that can be connected to.
pub trait Broker: Clone + Send + Sync + 'static {
    /// A connection to it.
    type Session: Session;

    /// Connects and logs in. Does not try twice.
    fn connect(&self) -> impl Future<Output = Result<Self::Session, ConnectError>> + Send;

    /// Where it is, without secrets.
    fn address(&self) -> String;

    /// The login that results are sent as; what `user_id` may say.
    fn login(&self) -> String;
}

/// One connection. Clones share it; it ends when all are gone, or when it is lost.
pub trait Session: Clone + Send + Sync + 'static {
    /// What [`Session::consume`] returns.
    type Consumer: Consumer;

    /// Declares a durable exchange.
    fn declare_exchange(&self, exchange: &Exchange) -> impl Future<Output = Result<Declared, Lost>> + Send;

    /// Whether there is an exchange of that name, asked without rights to declare it.
    fn exchange_exists(&self, name: &str) -> impl Future<Output = Result<bool, Lost>> + Send;

    /// Declares a queue. One that exists with other arguments is left as it is; one that is another connection's
    /// alone is refused.
    fn declare_queue(&self, queue: &Queue) -> impl Future<Output = Result<Declared, Lost>> + Send;

    /// What is in a queue and who consumes it; none where there is no such queue. Counts as use of
    /// the queue.
    fn queue_status(&self, name: &str) -> impl Future<Output = Result<Option<QueueStatus>, Lost>> + Send;

    /// The same of many queues at once, in their order.
    fn queue_statuses(&self, names: &[String]) -> impl Future<Output = Result<Vec<Option<QueueStatus>>, Lost>> + Send;

    /// Deletes a queue with what is in it; how many messages that were. None where there is no such queue.
    fn delete_queue(&self, name: &str) -> impl Future<Output = Result<Option<u32>, Lost>> + Send;

    /// Binds a queue to an exchange. Binding twice is binding once.
    fn bind(&self, queue: &str, exchange: &str, key: &str) -> impl Future<Output = Result<(), Lost>> + Send;

    /// Binds an exchange behind another: what that one gets by `key` goes on to it.
    fn bind_exchange(&self, to: &str, from: &str, key: &str) -> impl Future<Output = Result<(), Lost>> + Send;

    /// Takes a queue's binding away, if it is there.
    fn unbind(&self, queue: &str, exchange: &str, key: &str) -> impl Future<Output = Result<(), Lost>> + Send;

    /// Publishes and waits until the broker has it: on disk, in every queue that it is routed to,
    /// if it is persistent.
    fn publish(&self, publish: Publish<'_>) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Hands a notice to the connection and waits for nothing; false where it was dropped because
    /// the broker takes nothing now. A notice may be lost.
    fn notify(&self, publish: Publish<'_>) -> bool;

    /// Begins to consume a queue, on a channel of its own.
    fn consume(
        &self,
        queue: &str,
        options: ConsumeOptions,
    ) -> impl Future<Output = Result<Self::Consumer, ConsumeError>> + Send;

    /// Takes the message at the head of a queue away without looking at it: one that cannot be read ends
    /// the connection of whoever looks. It is lost, and this session may be, too. False where there was none.
    fn discard_head(&self, queue: &str) -> impl Future<Output = Result<bool, Lost>> + Send;

    /// Waits until the connection is gone and returns why, in words.
    fn closed(&self) -> impl Future<Output = String> + Send;

    /// Why the broker takes nothing on this connection now; none while it does.
    fn blocked(&self) -> Option<String>;

    /// Says goodbye. What is unsettled returns to its queue.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A consumer of one queue, on a channel of its own.
pub trait Consumer: Send + 'static {
    /// The way to acknowledge what this consumer was given.
    type Acks: Acks;

    /// The next delivery; none when the channel or the queue is gone. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Delivery>> + Send;

    /// A handle that acknowledges this consumer's deliveries, from any task.
    fn acks(&self) -> Self::Acks;

    /// Closes the channel: every delivery that is unsettled returns to its place in the queue.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Acknowledges deliveries of one consumer.
pub trait Acks: Clone + Send + Sync + 'static {
    /// Acknowledges these. A tag that was acknowledged before is passed over.
    fn ack(&self, tags: &[u64]) -> impl Future<Output = Result<(), Lost>> + Send;
}

/// How to consume.
#[derive(Debug, Clone, Copy)]
pub struct ConsumeOptions {
    /// How many deliveries may be unsettled at once; 0 is any number.
    pub prefetch: u16,
    /// Whether nobody else may consume that queue meanwhile.
    pub exclusive: bool,
    /// Whether a delivery counts as settled once it was sent. Nothing is acknowledged then, and nothing comes again.
    pub no_ack: bool,
}

/// Whether a declaration found what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// It is there, as asked.
    AsAsked,
    /// It was there before, with other arguments, in the broker's words; it stays so.
    Differs(String),
}

/// What is known of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    /// Messages that wait, deliveries in flight not counted.
    pub messages: u32,
    /// Consumers that are there; of a queue with a single active one, that one alone, whoever waits behind it.
    pub consumers: u32,
}

impl QueueStatus {
    /// Whether somebody takes what comes into it.
    pub fn is_consumed(self) -> bool {
        self.consumers > 0
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Wrong login or password, or no right to that virtual host. Trying again is of no use.
    #[error("the broker at {address} refused the login: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// The broker's words.
        reason: String,
    },
    /// It was not reached.
    #[error("cannot reach the broker at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// What was configured cannot be used.
    #[error("cannot use the broker at {address}: {reason}")]
    Configuration {
        /// Where.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An operation that did not succeed: the connection is gone, or the broker refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// The connection, or the channel, ended meanwhile.
    #[error("the connection to the broker was lost: {0}")]
    Connection(String),
    /// A permission is missing.
    #[error("the broker refused: {0}")]
    Denied(String),
    /// What it was about is not there.
    #[error("the broker has no such thing: {0}")]
    NotFound(String),
}

/// Why a message is not with the broker.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No queue is bound for that key.
    #[error("no queue takes {exchange:?} {routing_key:?}")]
    Unroutable {
        /// Where it was published.
        exchange: String,
        /// With which key.
        routing_key: String,
    },
    /// A queue would not take it: it is full.
    #[error("a queue behind {exchange:?} is full and refused the message")]
    Full {
        /// Where it was published.
        exchange: String,
    },
    /// Not known: the connection ended before the broker said.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Why a queue cannot be consumed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsumeError {
    /// Somebody else consumes it exclusively.
    #[error("queue {0:?} is consumed by another connection")]
    InUse(String),
    /// The connection, a permission, or the queue is missing.
    #[error(transparent)]
    Lost(#[from] Lost),
}
