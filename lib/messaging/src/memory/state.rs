//! The rules: what is where, and who gets what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::sync::{mpsc, watch};
use vogeler_protocol::{Clock, Timestamp};

use super::routing;
use crate::message::{Delivery, Header, Message, Publish};
use crate::topology::{Exchange, ExchangeKind, Queue, QueueKind};
use crate::{ConsumeError, ConsumeOptions, Declared, Lost, PublishError, QueueStatus};

/// Names a session or a consumer.
pub(super) type Id = u64;

#[derive(Default)]
pub(super) struct State {
    last_id: Id,
    exchanges: BTreeMap<String, Routes>,
    queues: BTreeMap<String, Waiting>,
    consumers: BTreeMap<Id, Consuming>,
    sessions: BTreeMap<Id, watch::Sender<Option<String>>>,
}

struct Routes {
    kind: ExchangeKind,
    /// (queue, key)
    bindings: BTreeSet<(String, String)>,
}

struct Waiting {
    queue: Queue,
    ready: VecDeque<Stored>,
    /// In the order in which they came.
    consumers: Vec<Id>,
    /// The session that a run's queue ends with.
    owner: Id,
}

struct Consuming {
    session: Id,
    queue: String,
    options: ConsumeOptions,
    out: mpsc::UnboundedSender<Delivery>,
    last_tag: u64,
    unsettled: BTreeMap<u64, Stored>,
}

#[derive(Clone)]
struct Stored {
    exchange: String,
    routing_key: String,
    message: Message,
    expires_at: Option<Timestamp>,
    redelivered: bool,
    count: u64,
}

impl State {
    fn next_id(&mut self) -> Id {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn begin_session(&mut self) -> (Id, watch::Receiver<Option<String>>) {
        let id = self.next_id();
        let (sender, receiver) = watch::channel(None);
        self.sessions.insert(id, sender);
        (id, receiver)
    }

    pub(super) fn sessions(&self) -> BTreeSet<Id> {
        self.sessions.keys().copied().collect()
    }

    pub(super) fn end_session(&mut self, session: Id, reason: &str, clock: &Clock) {
        let Some(closed) = self.sessions.remove(&session) else { return };
        closed.send_replace(Some(reason.to_owned()));
        let ended: Vec<Id> =
            self.consumers.iter().filter(|(_, consuming)| consuming.session == session).map(|(id, _)| *id).collect();
        for consumer in ended {
            self.end_consumer(consumer, clock);
        }
        let gone: Vec<String> = self
            .queues
            .iter()
            .filter(|(_, waiting)| waiting.queue.kind == QueueKind::Run && waiting.owner == session)
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.delete_queue(&name);
        }
    }

    /// With its bindings, its messages and its consumers.
    pub(super) fn delete_queue(&mut self, name: &str) -> Option<u32> {
        let gone = self.queues.remove(name)?;
        for routes in self.exchanges.values_mut() {
            routes.bindings.retain(|(queue, _)| queue != name);
        }
        for consumer in gone.consumers {
            self.consumers.remove(&consumer);
        }
        Some(u32::try_from(gone.ready.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn declare_exchange(&mut self, exchange: &Exchange) -> Declared {
        let routes = self
            .exchanges
            .entry(exchange.name.clone())
            .or_insert_with(|| Routes { kind: exchange.kind, bindings: BTreeSet::new() });
        if routes.kind == exchange.kind {
            Declared::AsAsked
        } else {
            Declared::Differs(format!("exchange '{}' is {:?}, not {:?}", exchange.name, routes.kind, exchange.kind))
        }
    }

    pub(super) fn exchange_exists(&self, name: &str) -> bool {
        self.exchanges.contains_key(name)
    }

    pub(super) fn declare_queue(&mut self, queue: &Queue, owner: Id) -> Declared {
        let waiting = self.queues.entry(queue.name.clone()).or_insert_with(|| Waiting {
            queue: queue.clone(),
            ready: VecDeque::new(),
            consumers: Vec::new(),
            owner,
        });
        if waiting.queue == *queue {
            Declared::AsAsked
        } else {
            Declared::Differs(format!("queue '{}' is {:?}, not {:?}", queue.name, waiting.queue.kind, queue.kind))
        }
    }

    pub(super) fn queue_status(&self, name: &str) -> Option<QueueStatus> {
        let waiting = self.queues.get(name)?;
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        Some(QueueStatus { messages: count(waiting.ready.len()), consumers: count(waiting.consumers.len()) })
    }

    pub(super) fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), Lost> {
        if !self.queues.contains_key(queue) {
            return Err(Lost::NotFound(format!("no queue '{queue}'")));
        }
        let routes =
            self.exchanges.get_mut(exchange).ok_or_else(|| Lost::NotFound(format!("no exchange '{exchange}'")))?;
        routes.bindings.insert((queue.to_owned(), key.to_owned()));
        Ok(())
    }

    pub(super) fn unbind(&mut self, queue: &str, exchange: &str, key: &str) {
        if let Some(routes) = self.exchanges.get_mut(exchange) {
            routes.bindings.remove(&(queue.to_owned(), key.to_owned()));
        }
    }

    pub(super) fn publish(&mut self, publish: Publish<'_>, clock: &Clock) -> Result<(), PublishError> {
        let Publish { exchange, routing_key, mandatory, message } = publish;
        let queues = self.route(exchange, routing_key)?;
        if queues.is_empty() && mandatory {
            return Err(PublishError::Unroutable {
                exchange: exchange.to_owned(),
                routing_key: routing_key.to_owned(),
            });
        }
        let stored = Stored {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            expires_at: message.properties.expiration.map(|after| clock.now().after(after)),
            message,
            redelivered: false,
            count: 0,
        };
        let full = queues.iter().any(|queue| self.is_full(queue, stored.message.body.len()));
        if full {
            return Err(PublishError::Full { exchange: exchange.to_owned() });
        }
        for queue in &queues {
            self.enqueue(queue, stored.clone());
            self.deliver(queue, clock);
        }
        Ok(())
    }

    fn route(&self, exchange: &str, key: &str) -> Result<BTreeSet<String>, Lost> {
        if exchange.is_empty() {
            return Ok(self.queues.contains_key(key).then(|| key.to_owned()).into_iter().collect());
        }
        let routes = self.exchanges.get(exchange).ok_or_else(|| Lost::NotFound(format!("no exchange '{exchange}'")))?;
        let met = routes.bindings.iter().filter(|(_, pattern)| routing::meets(routes.kind, pattern, key));
        Ok(met.map(|(queue, _)| queue.clone()).collect())
    }

    fn is_full(&self, queue: &str, bytes: usize) -> bool {
        let Some(waiting) = self.queues.get(queue) else { return false };
        match waiting.queue.kind {
            QueueKind::Results { max_bytes, .. } | QueueKind::Dead { max_bytes } => {
                let held: usize = waiting.ready.iter().map(|stored| stored.message.body.len()).sum();
                u64::try_from(held + bytes).unwrap_or(u64::MAX) > max_bytes
            }
            QueueKind::Node { .. } | QueueKind::Run => false,
        }
    }

    fn enqueue(&mut self, queue: &str, stored: Stored) {
        let Some(waiting) = self.queues.get_mut(queue) else { return };
        waiting.ready.push_back(stored);
        if let QueueKind::Node { max_length, .. } = waiting.queue.kind {
            while waiting.ready.len() > max_length as usize {
                waiting.ready.pop_front();
            }
        }
    }

    pub(super) fn consume(
        &mut self,
        queue: &str,
        options: ConsumeOptions,
        session: Id,
        clock: &Clock,
    ) -> Result<(Id, mpsc::UnboundedReceiver<Delivery>), ConsumeError> {
        let Some(waiting) = self.queues.get(queue) else {
            return Err(Lost::NotFound(format!("no queue '{queue}'")).into());
        };
        let taken = waiting.consumers.iter().any(|id| self.consumers.get(id).is_some_and(|c| c.options.exclusive));
        if taken || (options.exclusive && !waiting.consumers.is_empty()) {
            return Err(ConsumeError::InUse(queue.to_owned()));
        }
        let id = self.next_id();
        let (out, deliveries) = mpsc::unbounded_channel();
        let queue = queue.to_owned();
        if let Some(waiting) = self.queues.get_mut(&queue) {
            waiting.consumers.push(id);
        }
        let consuming =
            Consuming { session, queue: queue.clone(), options, out, last_tag: 0, unsettled: BTreeMap::new() };
        self.consumers.insert(id, consuming);
        self.deliver(&queue, clock);
        Ok((id, deliveries))
    }

    pub(super) fn end_consumer(&mut self, id: Id, clock: &Clock) {
        let Some(consuming) = self.consumers.remove(&id) else { return };
        let Some(waiting) = self.queues.get_mut(&consuming.queue) else { return };
        waiting.consumers.retain(|other| *other != id);
        let mut poison = Vec::new();
        for (_, mut stored) in consuming.unsettled.into_iter().rev() {
            stored.redelivered = true;
            stored.count += 1;
            match &waiting.queue.kind {
                QueueKind::Results { delivery_limit, dead_letter_exchange, .. }
                    if stored.count > u64::from(*delivery_limit) =>
                {
                    poison.push((dead_letter_exchange.clone(), stored));
                }
                _ => waiting.ready.push_front(stored),
            }
        }
        for (exchange, stored) in poison {
            self.dead_letter(&exchange, &consuming.queue, stored, clock);
        }
        self.deliver(&consuming.queue, clock);
    }

    fn dead_letter(&mut self, exchange: &str, queue: &str, stored: Stored, clock: &Clock) {
        let mut message = stored.message;
        message.properties.headers.insert("x-first-death-queue".into(), Header::Text(queue.to_owned()));
        message.properties.headers.insert("x-first-death-reason".into(), Header::Text("delivery_limit".into()));
        let publish = Publish { exchange, routing_key: &stored.routing_key, mandatory: false, message };
        // At least once in RabbitMQ means: kept out of sight until it can be routed. Here the
        // exchange is always declared before the queue that names it.
        let _ = self.publish(publish, clock);
    }

    pub(super) fn discard_head(&mut self, queue: &str) -> bool {
        self.queues.get_mut(queue).and_then(|waiting| waiting.ready.pop_front()).is_some()
    }

    pub(super) fn ack(&mut self, id: Id, tags: &[u64], clock: &Clock) -> Result<(), Lost> {
        let Some(consuming) = self.consumers.get_mut(&id) else {
            return Err(Lost::Connection("the consumer was closed".to_owned()));
        };
        for tag in tags {
            consuming.unsettled.remove(tag);
        }
        let queue = consuming.queue.clone();
        self.deliver(&queue, clock);
        Ok(())
    }

    /// Hands out what is ready, as far as consumers have room.
    fn deliver(&mut self, queue: &str, clock: &Clock) {
        let Some(waiting) = self.queues.get_mut(queue) else { return };
        let single = matches!(waiting.queue.kind, QueueKind::Results { .. });
        let mut turn = 0;
        while let Some(front) = waiting.ready.front() {
            // As in RabbitMQ, only what has come to the head can be found to have expired.
            if front.expires_at.is_some_and(|at| at <= clock.now()) {
                waiting.ready.pop_front();
                continue;
            }
            let candidates =
                if single { &waiting.consumers[..waiting.consumers.len().min(1)] } else { &waiting.consumers };
            let with_room = (0..candidates.len()).map(|step| candidates[(turn + step) % candidates.len()]).find(|id| {
                self.consumers
                    .get(id)
                    .is_some_and(|c| c.options.prefetch == 0 || c.unsettled.len() < usize::from(c.options.prefetch))
            });
            let Some(consuming) = with_room.and_then(|id| self.consumers.get_mut(&id)) else { return };
            turn += 1;
            let Some(stored) = waiting.ready.pop_front() else { return };
            consuming.last_tag += 1;
            if !consuming.options.no_ack {
                consuming.unsettled.insert(consuming.last_tag, stored.clone());
            }
            // A receiver that is gone has ended its consumer, or is about to.
            let _ = consuming.out.send(stored.into_delivery(consuming.last_tag));
        }
    }
}

impl Stored {
    fn into_delivery(self, tag: u64) -> Delivery {
        let mut message = self.message;
        if self.count > 0 {
            let count = i64::try_from(self.count).unwrap_or(i64::MAX);
            message.properties.headers.insert("x-delivery-count".into(), Header::Number(count));
        }
        Delivery {
            tag,
            exchange: self.exchange,
            routing_key: self.routing_key,
            redelivered: self.redelivered,
            count: self.count,
            message,
        }
    }
}
