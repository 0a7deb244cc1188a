//! The broker as Vogeler sees it.
//!
//! Start at [`Broker`] and [`Session`]. [`amqp`] speaks to RabbitMQ, [`memory`] is a broker in
//! this process with the same semantics; one conformance suite (in the tests crate) holds both to
//! them. [`topology`] says, as data, which exchanges and queues there may be, [`results`] which queues of results there are.
//!
//! Nothing here reconnects by itself and nothing retries: a session that is lost says so, and its
//! owner, who knows what was in flight, opens another ([`Backoff`] says how long to wait).

pub mod amqp;
mod backoff;
mod broker;
mod check;
pub mod config;
mod current;
pub mod memory;
mod message;
pub mod results;
pub mod topology;

pub use backoff::Backoff;
pub use broker::{
    Acks, Broker, ConnectError, ConsumeError, ConsumeOptions, Consumer, Declared, Lost, PublishError, QueueStatus,
    Session,
};
pub use check::check;
pub use current::Current;
pub use message::{Delivery, Header, Message, Properties, Publish};
pub use topology::{Exchange, ExchangeKind, Queue, Topology};
