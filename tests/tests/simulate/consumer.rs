//! A consumer as a part meets it: deliveries take their time, and acknowledgements may never arrive.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use vogeler_messaging::memory::{MemoryAcks, MemoryConsumer, MemorySession};
use vogeler_messaging::{Acks, Consumer, Delivery, Lost, Session};

use super::life::Life;
use super::world::World;

/// How soon a connection ends that has lost an acknowledgement.
const ENDS: Duration = Duration::from_millis(20);

/// A consumer of one life of a part.
pub(super) struct SimConsumer {
    /// None once it is dropped.
    inner: Option<MemoryConsumer>,
    /// On its way through the network, and when it arrives.
    coming: Option<(Instant, Delivery)>,
    acks: SimAcks,
}

/// Acknowledges what one consumer was given. Small: channels have room for several before any has come.
#[derive(Clone)]
pub(super) struct SimAcks(Arc<Given>);

struct Given {
    inner: MemoryAcks,
    /// Names the consumer in the ledger.
    id: u64,
    queue: Arc<str>,
    session: Arc<MemorySession>,
    world: World,
    life: Life,
}

impl SimConsumer {
    pub(super) fn new(
        inner: MemoryConsumer,
        queue: &str,
        session: &Arc<MemorySession>,
        world: &World,
        life: &Life,
    ) -> Self {
        let acks = SimAcks(Arc::new(Given {
            inner: inner.acks(),
            id: world.ledger().consumer(),
            queue: queue.into(),
            session: Arc::clone(session),
            world: world.clone(),
            life: life.clone(),
        }));
        Self { inner: Some(inner), coming: None, acks }
    }
}

impl Drop for SimConsumer {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            self.acks.0.life.takes_leave(inner);
        }
    }
}

impl Consumer for SimConsumer {
    type Acks = SimAcks;

    async fn next(&mut self) -> Option<Delivery> {
        let Self { inner, coming, acks } = self;
        let Given { id, world, life, session, queue, .. } = &*acks.0;
        if coming.is_none() {
            let delivery = inner.as_mut()?.next().await?;
            let on_its_way = world.up_to(Duration::from_millis(2));
            *coming = Some((Instant::now() + on_its_way, delivery));
            if world.happens(|rates| rates.cut) {
                world.trouble(life, "cut", &format!("delivery from {queue}"));
                session.close().await;
            }
        }
        // It stays where it is if this is cancelled.
        let arrives = coming.as_ref()?.0;
        sleep_until(arrives).await;
        world.may_crash(life, &format!("delivery from {queue}")).await;
        let (_, delivery) = coming.take()?;
        world.ledger().delivered(*id, queue, &delivery);
        Some(delivery)
    }

    fn acks(&self) -> SimAcks {
        self.acks.clone()
    }

    async fn close(mut self) {
        self.acks.0.world.pass(&self.acks.0.life, Duration::from_millis(2)).await;
        if let Some(inner) = self.inner.take() {
            inner.close().await;
        }
    }
}

impl Acks for SimAcks {
    async fn ack(&self, tags: &[u64]) -> Result<(), Lost> {
        let Given { id, inner, world, life, session, queue } = &*self.0;
        let what = format!("acknowledge {} of {queue}", tags.len());
        life.go_on().await;
        if world.happens(|rates| rates.refused.max(rates.unanswered)) {
            // It left us well, and the connection ends before the broker has it: nobody hears of that.
            world.trouble(life, "acknowledgement lost", &what);
            if world.below(2) == 0 {
                world.pass(life, ENDS).await;
            }
            session.close().await;
            return Ok(());
        }
        world.may_crash(life, &what).await;
        world.pass(life, Duration::from_millis(2)).await;
        inner.ack(tags).await?;
        world.ledger().acknowledged(world, life, *id, queue, tags);
        world.may_crash(life, &what).await;
        Ok(())
    }
}
