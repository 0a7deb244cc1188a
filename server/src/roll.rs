//! Which servers there are: each consumes one queue that no message is ever in.
//!
//! Start at [`Roll::join`]. The broker counts those who do, which is how a server knows its share (of a queue with a
//! single active consumer it would count that one alone); and it tells all of them when the queue is deleted, which is
//! how they hear at once that something changes. To ask again and again whether results are moved would cost a channel
//! each time: the broker closes it to say no, and a connection has 2,047.

use vogeler_messaging::topology::servers_queue;
use vogeler_messaging::{ConsumeError, ConsumeOptions, Consumer, Lost, Session};

/// A place among the servers.
pub(crate) struct Roll<S: Session> {
    consumer: S::Consumer,
}

impl<S: Session> Roll<S> {
    /// Takes one.
    pub(crate) async fn join(session: &S) -> Result<Self, Lost> {
        let queue = servers_queue();
        session.declare_queue(&queue).await?;
        let options = ConsumeOptions { prefetch: 1, exclusive: false, no_ack: true };
        let consumer = session.consume(&queue.name, options).await.map_err(|error| match error {
            ConsumeError::Lost(lost) => lost,
            ConsumeError::InUse(_) => Lost::Denied(error.to_string()),
        })?;
        Ok(Self { consumer })
    }

    /// Waits until the queue is gone. Cancel-safe.
    pub(crate) async fn is_called(&mut self) {
        while self.consumer.next().await.is_some() {}
    }

    /// Gives it up.
    pub(crate) async fn leave(self) {
        self.consumer.close().await;
    }
}

/// How many servers there are.
pub(crate) async fn servers<S: Session>(session: &S) -> Result<u32, Lost> {
    let status = session.queue_status(&servers_queue().name).await?;
    Ok(status.map_or(0, |status| status.consumers))
}
