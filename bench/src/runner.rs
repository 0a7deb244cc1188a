//! An operator of a blowout: asks all nodes, and times what is told of each.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use vogeler_messaging::topology::{EVERY_NODE, run_key, run_queue};
use vogeler_messaging::{ConsumeOptions, Consumer as _, Message, Properties, Publish, Session, Topology};
use vogeler_protocol::message::{self, Command, Event, Notice, Version};
use vogeler_protocol::{Alias, Clock, Random, RunId, Target};

use crate::latency::Latencies;

/// What came of one command.
#[derive(Debug, Clone, Default)]
pub struct Answered {
    /// Nodes whose data is in the database.
    pub stored: usize,
    /// Nodes whose plugin failed.
    pub failed: usize,
    /// Nodes that refused, and results that the server refused.
    pub refused: usize,
    /// Nodes that had not ended when the time was up.
    pub silent: usize,
    /// From the command's publish to the word that a node's result is stored.
    pub latencies: Latencies,
    /// From the command's publish to its confirm: every queue has it.
    pub confirmed: Duration,
}

/// An operator.
#[derive(Debug, Clone)]
pub struct Runner<'a, S> {
    /// The connection to the broker.
    pub session: &'a S,
    /// Names of exchanges.
    pub topology: &'a Topology,
    /// The broker's login.
    pub login: &'a str,
    /// How many nodes there are.
    pub nodes: usize,
    /// How long they are waited for.
    pub patience: Duration,
    /// Whether commands survive a restart of the broker, as those of `vogeler-runner` do.
    pub persistent: bool,
}

impl<S: Session> Runner<'_, S> {
    /// Asks every node for `alias`, and waits until all have ended.
    ///
    /// # Errors
    /// The broker does not take part.
    pub async fn ask(&self, alias: &Alias) -> anyhow::Result<Answered> {
        let Self { session, topology, nodes, patience, .. } = *self;
        let (now, random) = (Clock::system().now(), Random::from_system());
        let run = RunId::new(now, &random);
        let queue = run_queue(run);
        session.declare_queue(&queue).await?;
        session.bind(&queue.name, &topology.events, &run_key(run)).await?;
        let options = ConsumeOptions { prefetch: 0, exclusive: true, no_ack: true };
        let mut consumer = session.consume(&queue.name, options).await?;
        let command = Command {
            v: Version,
            run,
            command: alias.clone(),
            target: Target::All,
            issued_at: now,
            expires_at: now.after(patience),
            splay_ms: 0,
            issuer: "blowout".to_owned(),
            want_events: true,
        };
        let properties = Properties {
            message_id: Some(random.uuid().to_string()),
            correlation_id: Some(run.to_string()),
            kind: Some("command".to_owned()),
            timestamp: Some(now.as_second()),
            content_type: Some(message::JSON.to_owned()),
            expiration: Some(patience),
            user_id: Some(self.login.to_owned()),
            persistent: self.persistent,
            ..Properties::default()
        };
        let message = Message { body: message::encode(&command), properties };
        let publish = Publish { exchange: &topology.broadcast, routing_key: EVERY_NODE, mandatory: true, message };
        let begun = Instant::now();
        let mut answered = Answered::default();
        let confirm = async { session.publish(publish).await.map(|()| begun.elapsed()) };
        let events = async {
            let mut ended = BTreeSet::new();
            let deadline = begun + patience;
            while ended.len() < nodes
                && let Ok(Some(delivery)) = timeout_at(deadline, consumer.next()).await
            {
                let Ok(event) = message::decode::<Event>(&delivery.message.body) else { continue };
                let count = match event.event {
                    Notice::Stored | Notice::Unchanged => {
                        answered.latencies.took(begun.elapsed());
                        &mut answered.stored
                    }
                    Notice::Failed => &mut answered.failed,
                    Notice::Refused | Notice::Rejected | Notice::Skipped => &mut answered.refused,
                    Notice::Accepted => continue,
                };
                if ended.insert(event.node) {
                    *count += 1;
                }
            }
            ended.len()
        };
        let (confirmed, ended) = tokio::join!(confirm, events);
        answered.confirmed = confirmed?;
        answered.silent = nodes.saturating_sub(ended);
        answered.latencies.never(answered.silent);
        consumer.close().await;
        Ok(answered)
    }
}
