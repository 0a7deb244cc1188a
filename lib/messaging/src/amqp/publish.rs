//! Publishing: confirmed and routed, or handed over and forgotten.

use std::sync::Arc;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::BasicProperties;
use lapin::{Channel, Confirmation, Connection, Error};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tracing::debug;

use super::channel;
use super::connection::Ending;
use super::convert;
use crate::PublishError;
use crate::message::Publish;

/// Notices that may wait to be written; beyond that they are dropped.
const NOTICES: usize = 10_000;

pub(super) struct Publisher {
    connection: Arc<Connection>,
    ending: Ending,
    /// One bad publish closes the channel and fails every confirm that is outstanding on it; the
    /// next publish opens another.
    confirmed: Mutex<Option<Channel>>,
    notices: mpsc::Sender<Notice>,
}

struct Notice {
    exchange: String,
    routing_key: String,
    body: Vec<u8>,
    properties: BasicProperties,
}

impl Publisher {
    pub(super) fn new(connection: Arc<Connection>, ending: Ending, tasks: &mut JoinSet<()>) -> Self {
        let (notices, waiting) = mpsc::channel(NOTICES);
        tasks.spawn(write_notices(Arc::downgrade(&connection), ending.clone(), waiting));
        Self { connection, ending, confirmed: Mutex::default(), notices }
    }

    async fn channel(&self) -> Result<Channel, Error> {
        let mut kept = self.confirmed.lock().await;
        if let Some(channel) = kept.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = channel::open(&self.connection, &self.ending).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(kept.insert(channel).clone())
    }

    pub(super) async fn publish(&self, publish: Publish<'_>) -> Result<(), PublishError> {
        let Publish { exchange, routing_key, mandatory, message } = publish;
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let properties = convert::to_properties(&message.properties);
        let confirmation = async {
            let channel = self.channel().await?;
            channel.basic_publish(exchange.into(), routing_key.into(), options, &message.body, properties).await?.await
        };
        match self.ending.or_answer(confirmation).await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => {
                Err(PublishError::Unroutable { exchange: exchange.to_owned(), routing_key: routing_key.to_owned() })
            }
            Ok(Confirmation::Nack(_)) => Err(PublishError::Full { exchange: exchange.to_owned() }),
            Ok(Confirmation::NotRequested) => {
                unreachable!("the channel was put into confirm mode before it was kept")
            }
            Err(error) => Err(convert::lost(&error).into()),
        }
    }

    pub(super) fn notify(&self, publish: Publish<'_>) -> bool {
        let notice = Notice {
            exchange: publish.exchange.to_owned(),
            routing_key: publish.routing_key.to_owned(),
            body: publish.message.body,
            properties: convert::to_properties(&publish.message.properties),
        };
        self.notices.try_send(notice).is_ok()
    }
}

/// Writes notices on a channel of their own, which the broker does not confirm.
async fn write_notices(connection: std::sync::Weak<Connection>, ending: Ending, mut waiting: mpsc::Receiver<Notice>) {
    let mut channel: Option<Channel> = None;
    while let Some(notice) = waiting.recv().await {
        let open = match channel.take() {
            Some(open) if open.status().connected() => open,
            _ => {
                let Some(connection) = connection.upgrade() else { return };
                match channel::open(&connection, &ending).await {
                    Ok(open) => open,
                    Err(error) => {
                        debug!(error = convert::words(&error), "a notice was lost with its connection");
                        continue;
                    }
                }
            }
        };
        let Notice { exchange, routing_key, body, properties } = notice;
        let options = BasicPublishOptions::default();
        match open.basic_publish(exchange.into(), routing_key.into(), options, &body, properties).await {
            // Resolves at once: there is no confirm to wait for on this channel.
            Ok(confirm) => drop(confirm.await),
            Err(error) => debug!(error = convert::words(&error), "a notice was lost with its channel"),
        }
        channel = Some(open);
    }
}
