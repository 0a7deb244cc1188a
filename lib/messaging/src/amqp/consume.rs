//! Consuming and acknowledging.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::timeout;
use tracing::debug;

use super::channel;
use super::connection::Ending;
use super::{GOODBYE, convert};
use crate::message::Delivery;
use crate::{Acks, ConsumeError, ConsumeOptions, Consumer, Lost};

/// A consumer on a channel of its own.
pub struct AmqpConsumer {
    consumer: lapin::Consumer,
    no_ack: bool,
    acks: AmqpAcks,
}

/// Acknowledges what one consumer was given.
#[derive(Clone)]
pub struct AmqpAcks {
    channel: Channel,
    ending: Ending,
    unsettled: Arc<Mutex<BTreeSet<u64>>>,
    /// One acknowledgement is on its way at a time: one for `multiple` that was overtaken by a
    /// higher one names tags that the broker no longer knows, and that closes the channel.
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
}

impl AmqpConsumer {
    pub(super) async fn start(
        connection: &Connection,
        ending: &Ending,
        queue: &str,
        options: ConsumeOptions,
    ) -> Result<Self, ConsumeError> {
        let refused = |error: lapin::Error| convert::consume_error(queue, &error);
        let ConsumeOptions { prefetch, exclusive, no_ack } = options;
        let consume = BasicConsumeOptions { exclusive, no_ack, ..BasicConsumeOptions::default() };
        let begun = async {
            let channel = channel::open(connection, ending).await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let consumer = channel.basic_consume(queue.into(), "".into(), consume, FieldTable::default()).await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = ending.or_answer(begun).await.map_err(refused)?;
        let (unsettled, one_at_a_time) = Default::default();
        Ok(Self { consumer, no_ack, acks: AmqpAcks { channel, ending: ending.clone(), unsettled, one_at_a_time } })
    }
}

impl Consumer for AmqpConsumer {
    type Acks = AmqpAcks;

    async fn next(&mut self) -> Option<Delivery> {
        let next = tokio::select! {
            biased;
            next = self.consumer.next() => next?,
            _ = self.acks.ending.reached() => return None,
        };
        match next {
            Ok(delivery) => {
                if !self.no_ack {
                    self.acks.unsettled().insert(delivery.delivery_tag);
                }
                Some(convert::from_delivery(delivery))
            }
            Err(error) => {
                debug!(error = convert::words(&error), "the consuming channel ended");
                None
            }
        }
    }

    fn acks(&self) -> AmqpAcks {
        self.acks.clone()
    }

    async fn close(self) {
        // The channel goes before the consumer is dropped: dropping cancels it first, and a queue
        // with a single active consumer would then pass to the next one while we hold deliveries.
        // A channel that is gone answers nobody.
        if self.acks.channel.status().connected() {
            let _ = timeout(GOODBYE, self.acks.channel.close(200, "goodbye".into())).await;
        }
    }
}

impl AmqpAcks {
    fn unsettled(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `tags` off the unsettled ones: the highest tag up to which everything is settled now,
    /// and those of `tags` that lie above it.
    fn settle(&self, tags: &[u64]) -> (Option<u64>, Vec<u64>) {
        let mut unsettled = self.unsettled();
        let mut settled: Vec<u64> = tags.iter().copied().filter(|tag| unsettled.remove(tag)).collect();
        settled.sort_unstable();
        let first_left = unsettled.first().copied().unwrap_or(u64::MAX);
        let above = settled.partition_point(|tag| *tag < first_left);
        let single = settled.split_off(above);
        (settled.last().copied(), single)
    }
}

impl Acks for AmqpAcks {
    async fn ack(&self, tags: &[u64]) -> Result<(), Lost> {
        let _turn = self.one_at_a_time.lock().await;
        let (up_to, single) = self.settle(tags);
        let acks = up_to.map(|tag| (tag, true)).into_iter().chain(single.into_iter().map(|tag| (tag, false)));
        for (tag, multiple) in acks {
            let acknowledged = self.ending.or_answer(self.channel.basic_ack(tag, BasicAckOptions { multiple })).await;
            acknowledged.map_err(|error| convert::lost(&error))?;
        }
        Ok(())
    }
}
