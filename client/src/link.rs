//! The connection to the broker, kept up: session after session, the node's queue declared, bound
//! and consumed on each.
//!
//! Start at [`Link::run`]. What it receives goes to the dispatcher, with the number of the session
//! that it came by: a delivery can only be acknowledged on its own.

use std::time::Duration;

use anyhow::bail;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use vogeler_messaging::amqp::HEARTBEAT;
use vogeler_messaging::topology::{EVERY_NODE, group_key, node_key, node_queue};
use vogeler_messaging::{
    Backoff, Broker, ConnectError, ConsumeError, ConsumeOptions, Consumer, Current, Declared, Delivery, Lost, Publish,
    Session, Topology,
};
use vogeler_process::supervisor;
use vogeler_protocol::{Group, NodeName, Random};

use crate::outbox::Letter;
use crate::state::State;

/// Enough that commands which wait for one slow alias hold up no other.
const PREFETCH: u16 = 64;

/// How long our own dead connection may still hold the queue: the broker gives it up within three
/// heartbeats.
const IN_USE_PATIENCE: Duration = Duration::from_secs(3 * HEARTBEAT as u64 + 10);

/// How long the server is tried to be told of another client in our place.
const CONTEND: Duration = Duration::from_secs(5);

/// What the dispatcher hears.
pub enum Heard<A> {
    /// Commands can come now; deliveries of this session are acknowledged through this.
    Up {
        /// Counts sessions.
        session: u64,
        /// The way to acknowledge.
        acks: A,
    },
    /// A delivery of that session.
    Delivery {
        /// The session that it came by.
        session: u64,
        /// The delivery.
        delivery: Box<Delivery>,
    },
}

/// What a session's consumer acknowledges through.
pub type AcksOf<S> = <<S as Session>::Consumer as Consumer>::Acks;

/// Keeps the connection up.
pub struct Link<'a, B: Broker> {
    /// The broker.
    pub broker: &'a B,
    /// Names of exchanges.
    pub topology: &'a Topology,
    /// The node whose queue it is.
    pub node: &'a NodeName,
    /// What to say where another client has this node's queue.
    pub contention: Letter,
    /// Remembers which groups the queue is bound to.
    pub state: &'a State,
    /// For waits.
    pub random: Random,
    /// The groups to be in; may change.
    pub groups: watch::Receiver<Vec<Group>>,
    /// Tells everybody the session of the moment.
    pub session: Current<Option<B::Session>>,
    /// The dispatcher's ear.
    pub ear: mpsc::Sender<Heard<AcksOf<B::Session>>>,
}

/// How a session ended.
enum End {
    /// The connection was lost, or something is not there yet.
    Lost(String),
    /// Somebody else consumes the node's queue.
    InUse,
}

impl<B: Broker> Link<'_, B> {
    /// Connects, again and again.
    ///
    /// # Errors
    /// A configuration that no waiting will mend, and another client that has this node's name.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut backoff = Backoff::new(self.random.clone(), Duration::from_secs(1), Duration::from_secs(60));
        let mut in_use_since: Option<Instant> = None;
        let mut number = 0;
        let mut last = String::new();
        loop {
            number += 1;
            let end = match self.broker.connect().await {
                Ok(session) => {
                    let end = self.serve(&session, number, &mut backoff, &mut in_use_since).await;
                    self.session.set(None);
                    session.close().await;
                    end
                }
                Err(ConnectError::Configuration { address, reason }) => {
                    bail!("cannot use the broker at {address}: {reason}")
                }
                Err(reason) => End::Lost(reason.to_string()),
            };
            let wait = match end {
                End::Lost(reason) => {
                    // A change is told once, not once an attempt.
                    if reason != last {
                        warn!(reason, "not connected; trying again");
                        supervisor::status("not connected; trying again");
                        last = reason;
                    }
                    in_use_since = None;
                    backoff.next_wait()
                }
                End::InUse => {
                    let since = *in_use_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > IN_USE_PATIENCE {
                        bail!(
                            "another vogeler-client is connected as {}; each node needs a name of its own: set \
                             client.node_name on one of the two machines",
                            self.node
                        );
                    }
                    let reason = format!("another client is connected as {}", self.node);
                    if reason != last {
                        warn!(reason, "waiting: it may be our own dead connection, or a second machine of that name");
                        last = reason;
                    }
                    Duration::from_secs(2) + self.random.up_to(Duration::from_secs(1))
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn serve(
        &mut self,
        session: &B::Session,
        number: u64,
        backoff: &mut Backoff,
        in_use_since: &mut Option<Instant>,
    ) -> End {
        if let Err(reason) = self.prepare(session).await {
            return End::Lost(reason);
        }
        let queue = node_queue(self.node);
        let options = ConsumeOptions { prefetch: PREFETCH, exclusive: true, no_ack: false };
        let mut consumer = match session.consume(&queue.name, options).await {
            Ok(consumer) => consumer,
            Err(ConsumeError::InUse(_)) => {
                // When it begins, and again when patience ends: by then the other has said hello.
                if in_use_since.is_none_or(|since| since.elapsed() > IN_USE_PATIENCE) {
                    self.contend(session).await;
                }
                return End::InUse;
            }
            Err(ConsumeError::Lost(reason)) => return End::Lost(reason.to_string()),
        };
        info!(node = %self.node, broker = self.broker.address(), "connected");
        supervisor::status("connected");
        backoff.reset();
        *in_use_since = None;
        self.session.set(Some(session.clone()));
        if self.ear.send(Heard::Up { session: number, acks: consumer.acks() }).await.is_err() {
            return End::Lost("the program ends".to_owned());
        }
        loop {
            tokio::select! {
                biased;
                reason = session.closed() => return End::Lost(reason),
                changed = self.groups.changed() => {
                    if changed.is_err() {
                        return End::Lost("the program ends".to_owned());
                    }
                    if let Err(reason) = self.bind(session).await {
                        return End::Lost(reason);
                    }
                }
                next = consumer.next() => match next {
                    Some(delivery) => {
                        if self.ear.send(Heard::Delivery { session: number, delivery: Box::new(delivery) }).await.is_err() {
                            return End::Lost("the program ends".to_owned());
                        }
                    }
                    // Also when somebody deletes the queue: it is declared anew.
                    None => return End::Lost("the broker ended the consumer".to_owned()),
                },
            }
        }
    }

    /// Tells the server, so that the record names the second machine. It is a note, not waited for beyond its
    /// confirm: the log here says the same.
    async fn contend(&self, session: &B::Session) {
        let Letter { exchange, routing_key, message, .. } = &self.contention;
        let publish = Publish { exchange, routing_key, mandatory: true, message: message.clone() };
        match tokio::time::timeout(CONTEND, session.publish(publish)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => debug!(%reason, "the server was not told"),
            Err(_) => debug!("the server was not told: no confirm in time"),
        }
    }

    /// Everything that has to be there: the server's exchanges, our queue, its bindings.
    async fn prepare(&mut self, session: &B::Session) -> Result<(), String> {
        let words = |lost: Lost| lost.to_string();
        for exchange in [&self.topology.broadcast, &self.topology.master, &self.topology.events] {
            if !session.exchange_exists(exchange).await.map_err(words)? {
                return Err(format!("the broker has no exchange {exchange:?}; run vogeler-server setup"));
            }
        }
        let queue = node_queue(self.node);
        if let Declared::Differs(difference) = session.declare_queue(&queue).await.map_err(words)? {
            warn!(queue = queue.name, difference, "the node's queue has other arguments and is used as it is");
        }
        self.bind(session).await
    }

    /// Binds to what the node is in now and unbinds what it was in before: bindings outlive both
    /// the group and the client, and cannot be listed.
    async fn bind(&mut self, session: &B::Session) -> Result<(), String> {
        let words = |lost: Lost| lost.to_string();
        let queue = node_queue(self.node).name;
        let groups = self.groups.borrow_and_update().clone();
        let noted =
            |groups: &[Group]| self.state.set_bound_groups(groups).map_err(|error| vogeler_protocol::sentence(&error));
        let before = self.state.bound_groups();
        let new: Vec<Group> = groups.iter().filter(|group| !before.contains(group)).cloned().collect();
        // Before it is bound: what is bound and not noted, because the connection was lost between, is unbound by nobody.
        if !new.is_empty() {
            noted(&[before.clone(), new].concat())?;
        }
        let mut keys = vec![EVERY_NODE.to_owned(), node_key(self.node)];
        keys.extend(groups.iter().map(group_key));
        for key in &keys {
            session.bind(&queue, &self.topology.broadcast, key).await.map_err(words)?;
        }
        for gone in before.iter().filter(|group| !groups.contains(group)) {
            session.unbind(&queue, &self.topology.broadcast, &group_key(gone)).await.map_err(words)?;
        }
        noted(&groups)
    }
}
