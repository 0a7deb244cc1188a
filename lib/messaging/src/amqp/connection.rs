//! One connection: declarations, questions, and how it ends.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use futures_util::StreamExt;
use lapin::options::{
    BasicGetOptions, ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionState, ConnectionStatus, Error, ErrorKind, Event};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::channel;
use super::consume::AmqpConsumer;
use super::convert;
use super::presence::{self, Statuses};
use super::publish::Publisher;
use super::{AmqpBroker, GOODBYE};
use crate::message::Publish;
use crate::topology::{Exchange, Queue, QueueKind};
use crate::{Broker as _, ConsumeError, ConsumeOptions, Declared, Lost, PublishError, QueueStatus, Session};

/// How many channels of a connection may be lost to questions about many queues; of 2,047, most stay for the rest.
const SPENDABLE: usize = 1000;

/// A connection to RabbitMQ.
#[derive(Clone)]
pub struct AmqpSession(Arc<Inner>);

struct Inner {
    connection: Arc<Connection>,
    /// Where another connection comes from.
    broker: AmqpBroker,
    publisher: Publisher,
    /// For what may close its channel: declarations and questions.
    asking: Mutex<Option<Channel>>,
    /// Channels that questions about many queues have cost.
    spent: AtomicUsize,
    ending: Ending,
    /// The watcher and the notifier; they end with the session.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    closed: Option<String>,
    blocked: Option<String>,
}

/// Knows when the connection has ended.
///
/// lapin gives no answer to a call that it took up in the moment in which the connection was lost, nor to some that
/// come right after it. So no call is waited for any longer than its connection lasts.
#[derive(Clone)]
pub(super) struct Ending {
    state: watch::Receiver<State>,
    /// Gone with the watcher, and so with the session.
    report: Weak<watch::Sender<State>>,
}

impl Ending {
    /// Returns once it has ended: why.
    pub(super) async fn reached(&self) -> String {
        let mut state = self.state.clone();
        let closed = state.wait_for(|state| state.closed.is_some()).await;
        closed.ok().and_then(|state| state.closed.clone()).unwrap_or_else(|| "the connection was closed".to_owned())
    }

    /// Says that it is over, for a reason that is found on our side.
    pub(super) fn reach(&self, reason: &str) {
        if let Some(report) = self.report.upgrade() {
            report.send_modify(|state| state.closed = Some(reason.to_owned()));
        }
    }

    /// What a call comes to, or the error that a connection which has ended answers each call with.
    pub(super) async fn or_answer<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            answer = call => answer,
            _ = self.reached() => Err(ErrorKind::InvalidConnectionState(ConnectionState::Error).into()),
        }
    }
}

impl AmqpSession {
    pub(super) fn new(connection: Connection, broker: AmqpBroker) -> Self {
        let connection = Arc::new(connection);
        let (report, state) = watch::channel(State::default());
        let report = Arc::new(report);
        let ending = Ending { state, report: Arc::downgrade(&report) };
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_events(connection.events_listener(), connection.status().clone(), report));
        let publisher = Publisher::new(Arc::clone(&connection), ending.clone(), &mut tasks);
        let (asking, spent) = Default::default();
        Self(Arc::new(Inner { connection, broker, publisher, asking, spent, ending, _tasks: tasks }))
    }

    /// Asks as much of it as this connection has channels to spend on.
    async fn ask_many(&self, asked: &mut Statuses<'_>) -> Result<(), Lost> {
        let left = SPENDABLE.saturating_sub(self.0.spent.load(Ordering::Relaxed));
        let asking = Box::pin(asked.ask(&self.0.connection, &self.0.ending, left));
        let spent = self.0.ending.or_answer(asking).await.map_err(|error| convert::lost(&error))?;
        self.0.spent.fetch_add(spent, Ordering::Relaxed);
        Ok(())
    }

    /// Runs one exchange of words on the channel for questions. A refusal closes that channel; the
    /// next question opens another.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&Channel) -> Result<T, Error>) -> Result<T, Error> {
        let asked = async {
            let mut asking = self.0.asking.lock().await;
            let channel = match asking.take() {
                Some(channel) if channel.status().connected() => channel,
                _ => channel::open(&self.0.connection, &self.0.ending).await?,
            };
            let answer = question(&channel).await;
            if channel.status().connected() {
                *asking = Some(channel);
            }
            answer
        };
        self.0.ending.or_answer(asked).await
    }
}

async fn watch_events(
    events: impl futures_util::Stream<Item = Event>,
    status: ConnectionStatus,
    report: Arc<watch::Sender<State>>,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => {
                warn!(%reason, "the broker takes no messages for now");
                report.send_modify(|state| state.blocked = Some(reason));
            }
            Event::ConnectionUnblocked => {
                info!("the broker takes messages again");
                report.send_modify(|state| state.blocked = None);
            }
            // A channel that the broker closed is told here, too, and whoever used it hears of it.
            Event::Error(error) if !status.connected() => {
                report.send_modify(|state| state.closed = Some(convert::words(&error)));
                return;
            }
            _ => {}
        }
    }
    report.send_modify(|state| state.closed = Some("the connection was closed".to_owned()));
}

impl Session for AmqpSession {
    type Consumer = AmqpConsumer;

    async fn declare_exchange(&self, exchange: &Exchange) -> Result<Declared, Lost> {
        let name = exchange.name.as_str();
        let kind = convert::exchange_kind(exchange.kind);
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let arguments = convert::exchange_arguments(exchange);
        let declared =
            self.ask(async |channel| channel.exchange_declare(name.into(), kind, options, arguments).await).await;
        as_asked(declared)
    }

    async fn exchange_exists(&self, name: &str) -> Result<bool, Lost> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        // A passive declaration looks at the name alone.
        let kind = lapin::ExchangeKind::Topic;
        let asked = self
            .ask(async |channel| channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await)
            .await;
        found(asked).map(|found| found.is_some())
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<Declared, Lost> {
        let options = match queue.kind {
            QueueKind::Run => QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() },
            QueueKind::Node { .. } | QueueKind::Results { .. } | QueueKind::Dead { .. } | QueueKind::Sign => {
                QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
            }
        };
        let arguments = convert::queue_arguments(queue);
        let name = queue.name.as_str();
        as_asked(self.ask(async |channel| channel.queue_declare(name.into(), options, arguments).await).await)
    }

    async fn queue_status(&self, name: &str) -> Result<Option<QueueStatus>, Lost> {
        found(self.ask(async |channel| presence::status(channel, name).await).await)
    }

    async fn queue_statuses(&self, names: &[String]) -> Result<Vec<Option<QueueStatus>>, Lost> {
        let mut asked = Statuses::new(names);
        self.ask_many(&mut asked).await?;
        while !asked.are_complete() {
            // The other connection is there for the questions alone, and goes with its channels.
            let other = self.0.broker.connect().await.map_err(|error| Lost::Connection(error.to_string()))?;
            other.ask_many(&mut asked).await?;
            other.close().await;
        }
        Ok(asked.into_answers())
    }

    async fn delete_queue(&self, name: &str) -> Result<Option<u32>, Lost> {
        // RabbitMQ says yes and 0 to a queue that is not there, so that it is looked at first.
        if self.queue_status(name).await?.is_none() {
            return Ok(None);
        }
        let deleted = self.ask(async |channel| channel.queue_delete(name.into(), QueueDeleteOptions::default()).await);
        found(deleted.await)
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        let options = QueueBindOptions::default();
        self.ask(async |channel| {
            channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await
        })
        .await
        .map_err(|error| convert::lost(&error))
    }

    async fn bind_exchange(&self, to: &str, from: &str, key: &str) -> Result<(), Lost> {
        let options = ExchangeBindOptions::default();
        self.ask(async |channel| {
            channel.exchange_bind(to.into(), from.into(), key.into(), options, FieldTable::default()).await
        })
        .await
        .map_err(|error| convert::lost(&error))
    }

    async fn unbind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        self.ask(async |channel| {
            channel.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default()).await
        })
        .await
        .map_err(|error| convert::lost(&error))
    }

    async fn publish(&self, publish: Publish<'_>) -> Result<(), PublishError> {
        self.0.publisher.publish(publish).await
    }

    fn notify(&self, publish: Publish<'_>) -> bool {
        self.blocked().is_none() && self.0.publisher.notify(publish)
    }

    async fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<AmqpConsumer, ConsumeError> {
        AmqpConsumer::start(&self.0.connection, &self.0.ending, queue, options).await
    }

    async fn discard_head(&self, queue: &str) -> Result<bool, Lost> {
        let ask = self.0.ending.or_answer(channel::open(&self.0.connection, &self.0.ending));
        let channel = ask.await.map_err(|error| convert::lost(&error))?;
        // Without acknowledgement it is gone once it was sent, whether it was understood or not.
        let taken = self.0.ending.or_answer(channel.basic_get(queue.into(), BasicGetOptions { no_ack: true })).await;
        match taken {
            Ok(message) => Ok(message.is_some()),
            Err(error) if convert::soft_error(&error).is_some() => Err(convert::lost(&error)),
            // It was the one that ends its connection.
            Err(_) => Ok(true),
        }
    }

    async fn closed(&self) -> String {
        self.0.ending.reached().await
    }

    fn blocked(&self) -> Option<String> {
        self.0.ending.state.borrow().blocked.clone()
    }

    async fn close(&self) {
        // Whether the broker hears the goodbye or the socket just ends, the outcome is the same; a
        // broker that blocks the connection never hears it.
        if self.0.connection.status().connected() {
            let _ = timeout(GOODBYE, self.0.connection.close(200, "goodbye".into())).await;
        }
    }
}

fn as_asked<T>(declared: Result<T, Error>) -> Result<Declared, Lost> {
    match declared {
        Ok(_) => Ok(Declared::AsAsked),
        Err(error) if convert::soft_error(&error) == Some(AMQPSoftError::PRECONDITIONFAILED) => {
            Ok(Declared::Differs(convert::words(&error)))
        }
        Err(error) => Err(convert::lost(&error)),
    }
}

pub(super) fn found<T>(asked: Result<T, Error>) -> Result<Option<T>, Lost> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if convert::soft_error(&error) == Some(AMQPSoftError::NOTFOUND) => Ok(None),
        Err(error) => Err(convert::lost(&error)),
    }
}
