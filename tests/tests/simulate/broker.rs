//! The broker in memory as a part meets it: calls come late, fail, or are the last that the part makes.
//!
//! Order is never changed within a queue: what comes twice or later does so because a connection ended, as with a real
//! broker, or because a producer published it twice.

use std::sync::Arc;
use std::time::Duration;

use vogeler_messaging::memory::{MemoryBroker, MemorySession};
use vogeler_messaging::{
    Broker, ConnectError, ConsumeError, ConsumeOptions, Declared, Exchange, Lost, Publish, PublishError, Queue,
    QueueStatus, Session,
};

use super::consumer::SimConsumer;
use super::life::Life;
use super::world::{Sabotage, World};

/// The broker, as one life of a part reaches it.
#[derive(Clone)]
pub(super) struct SimBroker {
    pub(super) inner: MemoryBroker,
    pub(super) world: World,
    pub(super) life: Life,
    /// The login of that part.
    pub(super) login: String,
}

impl Broker for SimBroker {
    type Session = SimSession;

    async fn connect(&self) -> Result<SimSession, ConnectError> {
        let connect = async {
            let session = Arc::new(self.inner.connect().await?);
            self.life.owns(&session);
            Ok(SimSession { inner: session, world: self.world.clone(), life: self.life.clone() })
        };
        let failed = |reason: &str| ConnectError::Unreachable { address: self.address(), reason: reason.to_owned() };
        self.world.call(&self.life, "connect", connect, |reason| Err(failed(reason))).await
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn login(&self) -> String {
        self.login.clone()
    }
}

/// One connection of a part.
#[derive(Clone)]
pub(super) struct SimSession {
    inner: Arc<MemorySession>,
    world: World,
    life: Life,
}

fn lost(reason: &str) -> Lost {
    Lost::Connection(reason.to_owned())
}

impl SimSession {
    /// A call that is made on a channel: where it fails, the connection has ended.
    async fn on_channel<T, E: From<Lost>>(
        &self,
        what: &str,
        effect: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.may_be_cut(what).await;
        let answer = self.world.call(&self.life, what, effect, |reason| Err(lost(reason).into())).await;
        if answer.is_err() {
            self.inner.close().await;
        }
        answer
    }

    async fn may_be_cut(&self, what: &str) {
        self.life.go_on().await;
        if self.world.happens(|rates| rates.cut) {
            self.world.trouble(&self.life, "cut", what);
            self.inner.close().await;
        }
    }

    /// Publishes, and keeps account of it.
    async fn put(&self, publish: Publish<'_>) -> Result<(), PublishError> {
        let dropped = self.world.is_sabotaged(Sabotage::BrokerDrops) && self.world.below(10) == 0;
        let copy = publish.clone();
        if !dropped {
            self.inner.publish(publish).await?;
        }
        self.life.go_on().await;
        self.world.ledger().published(&self.world, &copy);
        Ok(())
    }
}

/// What a message is, for the history.
fn words(publish: &Publish<'_>) -> String {
    let kind = publish.message.properties.kind.as_deref().unwrap_or("message");
    format!("publish {kind} to {}", publish.routing_key)
}

impl Session for SimSession {
    type Consumer = SimConsumer;

    async fn declare_exchange(&self, exchange: &Exchange) -> Result<Declared, Lost> {
        let what = format!("declare exchange {}", exchange.name);
        self.on_channel(&what, self.inner.declare_exchange(exchange)).await
    }

    async fn exchange_exists(&self, name: &str) -> Result<bool, Lost> {
        self.on_channel(&format!("look for exchange {name}"), self.inner.exchange_exists(name)).await
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<Declared, Lost> {
        self.on_channel(&format!("declare queue {}", queue.name), self.inner.declare_queue(queue)).await
    }

    async fn queue_status(&self, name: &str) -> Result<Option<QueueStatus>, Lost> {
        self.on_channel(&format!("look at queue {name}"), self.inner.queue_status(name)).await
    }

    async fn queue_statuses(&self, names: &[String]) -> Result<Vec<Option<QueueStatus>>, Lost> {
        self.on_channel("look at queues", self.inner.queue_statuses(names)).await
    }

    async fn delete_queue(&self, name: &str) -> Result<Option<u32>, Lost> {
        self.on_channel(&format!("delete queue {name}"), self.inner.delete_queue(name)).await
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        let bind = async {
            self.inner.bind(queue, exchange, key).await?;
            self.world.ledger().bound(queue, exchange, key);
            Ok(())
        };
        self.on_channel(&format!("bind {queue} to {key}"), bind).await
    }

    async fn bind_exchange(&self, to: &str, from: &str, key: &str) -> Result<(), Lost> {
        self.on_channel(&format!("bind {to} to {from}"), self.inner.bind_exchange(to, from, key)).await
    }

    async fn unbind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        let unbind = async {
            self.inner.unbind(queue, exchange, key).await?;
            self.world.ledger().unbound(queue, exchange, key);
            Ok(())
        };
        self.on_channel(&format!("unbind {queue} from {key}"), unbind).await
    }

    async fn publish(&self, publish: Publish<'_>) -> Result<(), PublishError> {
        let what = words(&publish);
        self.may_be_cut(&what).await;
        if self.world.happens(|rates| rates.full) {
            self.world.trouble(&self.life, "full", &what);
            return Err(PublishError::Full { exchange: publish.exchange.to_owned() });
        }
        let copy = publish.clone();
        let twice = self.world.happens(|rates| rates.twice);
        let put = async {
            if twice {
                self.world.trouble(&self.life, "twice", &what);
                self.put(copy.clone()).await?;
            }
            self.put(publish).await
        };
        // Whoever loses a confirm may have lost the connection with it, or that channel alone.
        let answer = self.world.call(&self.life, &what, put, |reason| Err(lost(reason).into())).await;
        self.world.note(&self.life, format_args!("{what}: {}", told(&answer)));
        if answer.is_ok() {
            self.world.ledger().confirmed(&copy);
        }
        answer
    }

    fn notify(&self, publish: Publish<'_>) -> bool {
        if self.life.is_over() {
            return false;
        }
        self.world.ledger().told(&publish);
        if self.world.happens(|rates| rates.full) {
            self.world.trouble(&self.life, "dropped", &words(&publish));
            // Half of those that are lost are lost later, where nobody hears of it.
            return self.world.below(2) == 0;
        }
        self.inner.notify(publish)
    }

    async fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<SimConsumer, ConsumeError> {
        let consume = async {
            let consumer = self.inner.consume(queue, options).await?;
            Ok(SimConsumer::new(consumer, queue, &self.inner, &self.world, &self.life))
        };
        let what = format!("consume {queue}");
        self.may_be_cut(&what).await;
        let answer = self.world.call(&self.life, &what, consume, |reason| Err(lost(reason).into())).await;
        self.world.note(&self.life, format_args!("{what}: {}", told(&answer)));
        answer
    }

    async fn discard_head(&self, queue: &str) -> Result<bool, Lost> {
        self.on_channel(&format!("discard the head of {queue}"), self.inner.discard_head(queue)).await
    }

    async fn closed(&self) -> String {
        let reason = self.inner.closed().await;
        self.life.go_on().await;
        reason
    }

    fn blocked(&self) -> Option<String> {
        self.inner.blocked()
    }

    async fn close(&self) {
        // The kernel says goodbye where the program does not come to it.
        self.world.pass(&self.life, Duration::from_millis(2)).await;
        self.inner.close().await;
    }
}

fn told<T, E: std::fmt::Display>(answer: &Result<T, E>) -> String {
    match answer {
        Ok(_) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}
