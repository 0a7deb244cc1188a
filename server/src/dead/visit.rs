//! One walk along the queue of dead letters.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, timeout};
use vogeler_messaging::{Acks, Broker, ConsumeOptions, Consumer, Delivery, QueueStatus, Session};

use super::DeadLetters;

/// How long the broker may take to hand over the next letter.
pub(super) const NEXT: Duration = Duration::from_secs(30);

/// How long somebody else's consumer is waited for; the broker forgets one that has gone a moment later.
const BUSY: Duration = Duration::from_secs(3);

/// The most that a quorum queue hands to one consumer, whatever its prefetch (RabbitMQ 3.10.8).
const WINDOW: u16 = 2000;

async fn look<S: Session>(session: &S, queue: &str) -> anyhow::Result<QueueStatus> {
    let status = session.queue_status(queue).await.context("cannot look into the queue of dead letters")?;
    status.with_context(|| format!("there is no queue {queue:?}; run vogeler-server setup"))
}

/// One walk along the queue, from its head to what was its end when it began, or to a limit.
///
/// Everything is handed over unsettled, bodies included, as fast as it is read, on a connection that
/// does nothing else: a letter that cannot be read ends it.
pub(super) struct Visit<S: Session> {
    /// For questions, and for what is sent back.
    pub(super) session: S,
    consuming: S,
    queue: String,
    /// One after the other, the last of them reads: a quorum queue hands each no more than [`WINDOW`].
    consumers: Vec<S::Consumer>,
    /// What the last may still be handed.
    window: u32,
    left: u32,
}

/// A delivery, and which consumer it came by.
pub(super) struct Seen {
    pub(super) delivery: Delivery,
    pub(super) consumer: usize,
}

impl<S: Session> Visit<S> {
    /// Beyond `most` the broker hands out nothing: what stands there may be unreadable.
    pub(super) async fn begin<B: Broker<Session = S>>(
        letters: &DeadLetters<'_, B>,
        most: Option<u32>,
    ) -> anyhow::Result<Self> {
        let (session, queue) = (letters.broker.connect().await?, letters.topology.dead_queue().name);
        let deadline = Instant::now() + BUSY;
        loop {
            let status = look(&session, &queue).await?;
            if status.consumers == 0 {
                let consuming = letters.broker.connect().await?;
                let left = most.map_or(status.messages, |most| most.min(status.messages));
                let (queue, consumers) = (queue.clone(), Vec::new());
                let mut visit = Self { session: session.clone(), consuming, queue, consumers, window: 0, left };
                if left == 0 {
                    return Ok(visit);
                }
                visit.read_on().await?;
                if look(&session, &visit.queue).await?.consumers <= 1 {
                    return Ok(visit);
                }
                visit.let_go().await;
            }
            ensure!(
                Instant::now() < deadline,
                "somebody else consumes {queue}, another `vogeler-server dead` perhaps; try again when it is through"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// With one more consumer.
    async fn read_on(&mut self) -> anyhow::Result<()> {
        let prefetch = u16::try_from(self.left).unwrap_or(WINDOW).min(WINDOW);
        let options = ConsumeOptions { prefetch, exclusive: false, no_ack: false };
        let consumer = self.consuming.consume(&self.queue, options).await.context("cannot read the dead letters")?;
        self.consumers.push(consumer);
        self.window = u32::from(prefetch);
        Ok(())
    }

    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Seen>> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.window == 0 {
            self.read_on().await?;
        }
        self.left -= 1;
        self.window -= 1;
        let Some(last) = self.consumers.last_mut() else { return Ok(None) };
        match timeout(NEXT, last.next()).await {
            Ok(Some(delivery)) => Ok(Some(Seen { delivery, consumer: self.consumers.len() - 1 })),
            Ok(None) => bail!("the connection was lost over it: {}", self.consuming.closed().await),
            Err(_) => bail!("the broker hands over no more letters, though {} are said to be left", self.left + 1),
        }
    }

    /// Whether the connection has ended that letters are read by.
    pub(super) async fn is_lost(&self) -> bool {
        timeout(Duration::from_millis(500), self.consuming.closed()).await.is_ok()
    }

    pub(super) async fn take_away(&mut self, consumer: usize, tag: u64) -> anyhow::Result<()> {
        let acks = self.consumers[consumer].acks();
        acks.ack(&[tag]).await.context("a letter was dealt with and could not be taken away")?;
        if consumer + 1 == self.consumers.len() {
            self.window += 1;
        }
        Ok(())
    }

    /// What was not taken away returns.
    async fn let_go(self) {
        for consumer in self.consumers {
            consumer.close().await;
        }
        self.consuming.close().await;
    }

    pub(super) async fn end(self) {
        let session = self.session.clone();
        self.let_go().await;
        session.close().await;
    }
}
