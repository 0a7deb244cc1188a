//! Which queues there are, and who consumes them: many questions at once.
//!
//! Start at [`statuses`]. A passive declare of a queue that is missing is answered by closing its channel, and whatever
//! else was asked on that channel gets no answer. So each channel has one question at a time, and there are several.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::try_join_all;
use lapin::options::QueueDeclareOptions;
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Error};

use super::convert;
use crate::QueueStatus;

/// Channels that ask at once.
const ASKING: usize = 16;

/// Asks about one queue.
pub(super) async fn status(channel: &Channel, name: &str) -> Result<QueueStatus, Error> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    Ok(QueueStatus { messages: queue.message_count(), consumers: queue.consumer_count() })
}

/// Asks about all of them, in their order; none where there is no such queue.
pub(super) async fn statuses(connection: &Connection, names: &[String]) -> Result<Vec<Option<QueueStatus>>, Error> {
    let next = AtomicUsize::new(0);
    let next = &next;
    let asking = (0..ASKING.min(names.len())).map(|_| async move {
        let mut answers = Vec::with_capacity(names.len() / ASKING + 1);
        let mut kept: Option<Channel> = None;
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(place) else { return Ok(answers) };
            let channel = match kept.take() {
                Some(channel) => channel,
                None => connection.create_channel().await?,
            };
            match status(&channel, name).await {
                Ok(status) => {
                    answers.push((place, Some(status)));
                    kept = Some(channel);
                }
                Err(error) if convert::soft_error(&error) == Some(AMQPSoftError::NOTFOUND) => {
                    answers.push((place, None));
                }
                Err(error) => return Err(error),
            }
        }
    });
    let mut statuses = vec![None; names.len()];
    for (place, status) in try_join_all(asking).await?.into_iter().flatten() {
        statuses[place] = status;
    }
    Ok(statuses)
}
