//! The rules: what is where, and who gets what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::sync::mpsc;
use vogeler_protocol::{Clock, Timestamp};

use super::routing;
use crate::message::{Delivery, Header, Message, Publish};
use crate::topology::{Exchange, ExchangeKind, Queue, QueueKind};
use crate::{ConsumeError, ConsumeOptions, Current, Declared, Lost, PublishError, QueueStatus};

/// Names a session or a consumer.
pub(super) type Id = u64;

#[derive(Default)]
pub(super) struct State {
    last_id: Id,
    exchanges: BTreeMap<String, Routes>,
    queues: BTreeMap<String, Waiting>,
    consumers: BTreeMap<Id, Consuming>,
    sessions: BTreeMap<Id, Open>,
}

/// A session, and what ends with it.
struct Open {
    closed: Current<Option<String>>,
    consumers: BTreeSet<Id>,
    /// Queues of runs.
    queues: BTreeSet<String>,
}

struct Routes {
    kind: ExchangeKind,
    alternate: Option<String>,
    /// (queue, key)
    bindings: BTreeSet<(String, String)>,
    /// (exchange, key)
    onward: BTreeSet<(String, String)>,
}

struct Waiting {
    queue: Queue,
    ready: Ready,
    /// In the order in which they came.
    consumers: Vec<Id>,
}

/// What waits to be delivered, in order.
#[derive(Default)]
struct Ready {
    messages: VecDeque<Stored>,
    /// Of all bodies.
    bytes: usize,
}

impl Ready {
    fn push_back(&mut self, stored: Stored) {
        self.bytes += stored.message.body.len();
        self.messages.push_back(stored);
    }

    fn push_front(&mut self, stored: Stored) {
        self.bytes += stored.message.body.len();
        self.messages.push_front(stored);
    }

    fn pop_front(&mut self) -> Option<Stored> {
        let stored = self.messages.pop_front()?;
        self.bytes -= stored.message.body.len();
        Some(stored)
    }

    fn front(&self) -> Option<&Stored> {
        self.messages.front()
    }

    fn len(&self) -> usize {
        self.messages.len()
    }
}

struct Consuming {
    session: Id,
    queue: String,
    options: ConsumeOptions,
    out: mpsc::UnboundedSender<Box<Delivery>>,
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

    pub(super) fn begin_session(&mut self) -> (Id, Current<Option<String>>) {
        let id = self.next_id();
        let closed = Current::new(None);
        let open = Open { closed: closed.clone(), consumers: BTreeSet::new(), queues: BTreeSet::new() };
        self.sessions.insert(id, open);
        (id, closed)
    }

    pub(super) fn sessions(&self) -> BTreeSet<Id> {
        self.sessions.keys().copied().collect()
    }

    pub(super) fn end_session(&mut self, session: Id, reason: &str, clock: &Clock) {
        let Some(open) = self.sessions.remove(&session) else { return };
        open.closed.set(Some(reason.to_owned()));
        for consumer in open.consumers {
            self.end_consumer(consumer, clock);
        }
        for name in open.queues {
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
        if gone.queue.kind == QueueKind::Run {
            self.sessions.values_mut().for_each(|open| _ = open.queues.remove(name));
        }
        Some(u32::try_from(gone.ready.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn declare_exchange(&mut self, exchange: &Exchange) -> Declared {
        let routes = self.exchanges.entry(exchange.name.clone()).or_insert_with(|| Routes {
            kind: exchange.kind,
            alternate: exchange.alternate.clone(),
            bindings: BTreeSet::new(),
            onward: BTreeSet::new(),
        });
        let (is, asked) = ((routes.kind, &routes.alternate), (exchange.kind, &exchange.alternate));
        if is == asked {
            Declared::AsAsked
        } else {
            Declared::Differs(format!("exchange '{}' is {is:?}, not {asked:?}", exchange.name))
        }
    }

    pub(super) fn exchange_exists(&self, name: &str) -> bool {
        self.exchanges.contains_key(name)
    }

    pub(super) fn declare_queue(&mut self, queue: &Queue, owner: Id) -> Result<Declared, Lost> {
        if self.sessions.iter().any(|(session, open)| *session != owner && open.queues.contains(&queue.name)) {
            return Err(Lost::Denied(format!("RESOURCE_LOCKED - queue '{}' is another connection's", queue.name)));
        }
        let waiting = self.queues.entry(queue.name.clone()).or_insert_with(|| {
            if let (QueueKind::Run, Some(open)) = (&queue.kind, self.sessions.get_mut(&owner)) {
                open.queues.insert(queue.name.clone());
            }
            Waiting { queue: queue.clone(), ready: Ready::default(), consumers: Vec::new() }
        });
        Ok(if waiting.queue == *queue {
            Declared::AsAsked
        } else {
            Declared::Differs(format!("queue '{}' is {:?}, not {:?}", queue.name, waiting.queue.kind, queue.kind))
        })
    }

    pub(super) fn queue_status(&self, name: &str) -> Option<QueueStatus> {
        let waiting = self.queues.get(name)?;
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let consumers = match waiting.queue.kind {
            // As in RabbitMQ: those behind the active one are not counted.
            QueueKind::Results { .. } => waiting.consumers.len().min(1),
            QueueKind::Node { .. } | QueueKind::Dead { .. } | QueueKind::Run | QueueKind::Sign => {
                waiting.consumers.len()
            }
        };
        Some(QueueStatus { messages: count(waiting.ready.len()), consumers: count(consumers) })
    }

    pub(super) fn unsettled(&self, queue: &str) -> usize {
        let Some(waiting) = self.queues.get(queue) else { return 0 };
        let held = waiting.consumers.iter().filter_map(|id| self.consumers.get(id));
        waiting.ready.len() + held.map(|consuming| consuming.unsettled.len()).sum::<usize>()
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

    pub(super) fn bind_exchange(&mut self, to: &str, from: &str, key: &str) -> Result<(), Lost> {
        if !self.exchanges.contains_key(to) {
            return Err(Lost::NotFound(format!("no exchange '{to}'")));
        }
        let routes = self.exchanges.get_mut(from).ok_or_else(|| Lost::NotFound(format!("no exchange '{from}'")))?;
        routes.onward.insert((to.to_owned(), key.to_owned()));
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
        let met = |(_, pattern): &&(String, String)| routing::meets(routes.kind, pattern, key);
        let mut queues: BTreeSet<String> = routes.bindings.iter().filter(met).map(|(queue, _)| queue.clone()).collect();
        let mut onward: Vec<&String> = routes.onward.iter().filter(met).map(|(exchange, _)| exchange).collect();
        // As in RabbitMQ, an alternate that is missing takes nothing.
        let alternate = routes.alternate.as_ref().filter(|alternate| self.exchanges.contains_key(*alternate));
        if queues.is_empty() && onward.is_empty() {
            onward.extend(alternate);
        }
        for exchange in onward {
            queues.extend(self.route(exchange, key)?);
        }
        Ok(queues)
    }

    fn is_full(&self, queue: &str, bytes: usize) -> bool {
        let Some(waiting) = self.queues.get(queue) else { return false };
        match waiting.queue.kind {
            QueueKind::Results { max_bytes, .. } | QueueKind::Dead { max_bytes } => {
                u64::try_from(waiting.ready.bytes + bytes).unwrap_or(u64::MAX) > max_bytes
            }
            QueueKind::Node { .. } | QueueKind::Run | QueueKind::Sign => false,
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
    ) -> Result<(Id, mpsc::UnboundedReceiver<Box<Delivery>>), ConsumeError> {
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
        if let Some(open) = self.sessions.get_mut(&session) {
            open.consumers.insert(id);
        }
        self.deliver(&queue, clock);
        Ok((id, deliveries))
    }

    pub(super) fn end_consumer(&mut self, id: Id, clock: &Clock) {
        let Some(consuming) = self.consumers.remove(&id) else { return };
        if let Some(open) = self.sessions.get_mut(&consuming.session) {
            open.consumers.remove(&id);
        }
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
            let _ = consuming.out.send(Box::new(stored.into_delivery(consuming.last_tag)));
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
