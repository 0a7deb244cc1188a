//! Which queues there are, and who consumes them: many questions at once.
//!
//! Start at [`Statuses`]. A passive declare of a queue that is missing is answered by closing its channel, and whatever
//! else was asked on that channel gets no answer. So each channel has one question at a time, and there are several.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::try_join_all;
use lapin::options::QueueDeclareOptions;
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Error};

use super::channel;
use super::connection::Ending;
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

/// What is known of many queues so far.
pub(super) struct Statuses<'a> {
    names: &'a [String],
    answers: Vec<Option<QueueStatus>>,
    /// The first that nobody has asked about.
    next: AtomicUsize,
}

impl<'a> Statuses<'a> {
    pub(super) fn new(names: &'a [String]) -> Self {
        Self { names, answers: vec![None; names.len()], next: AtomicUsize::new(0) }
    }

    /// Whether all were asked about.
    pub(super) fn are_complete(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.names.len()
    }

    /// In the order of the names; none where there is no such queue.
    pub(super) fn into_answers(self) -> Vec<Option<QueueStatus>> {
        self.answers
    }

    /// Asks until all are told or about `most` channels were lost; how many were.
    pub(super) async fn ask(&mut self, connection: &Connection, ending: &Ending, most: usize) -> Result<usize, Error> {
        let lost = AtomicUsize::new(0);
        let (names, next, lost) = (self.names, &self.next, &lost);
        let asking = (0..ASKING.min(names.len())).map(|_| async move {
            let mut answers = Vec::with_capacity(names.len() / ASKING + 1);
            let mut kept: Option<Channel> = None;
            while lost.load(Ordering::Relaxed) < most {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(name) = names.get(place) else { break };
                let channel = match kept.take() {
                    Some(channel) => channel,
                    None => channel::open(connection, ending).await?,
                };
                match status(&channel, name).await {
                    Ok(status) => {
                        answers.push((place, Some(status)));
                        kept = Some(channel);
                    }
                    Err(error) if convert::soft_error(&error) == Some(AMQPSoftError::NOTFOUND) => {
                        answers.push((place, None));
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(answers)
        });
        let answers = try_join_all(asking).await?;
        for (place, status) in answers.into_iter().flatten() {
            self.answers[place] = status;
        }
        Ok(lost.load(Ordering::Relaxed))
    }
}
