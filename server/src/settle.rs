//! The end of a delivery: its event, then its acknowledgement; or its copy among the dead letters,
//! then its acknowledgement.
//!
//! Nothing is acknowledged before the database, or the queue of dead letters, has it. Events are
//! handed over and never waited for: under a broker alarm that would wait for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};
use vogeler_messaging::topology::run_key;
use vogeler_messaging::{Acks, Backoff, Header, Message, Properties, Publish, PublishError, Session, Topology};
use vogeler_protocol::message::{self, Event, Notice, Version};
use vogeler_protocol::{Alias, Clock, NodeName, Random, RunId};

use crate::intake::{Content, Incoming, Parcel, Unusable};

/// Settles the deliveries of one consumer.
pub struct Settler<S, A>(Arc<Inner<S, A>>);

struct Inner<S, A> {
    publishing: S,
    acks: A,
    topology: Topology,
    clock: Clock,
    random: Random,
    /// Dead letters on their way; they may wait for the broker without holding up a worker.
    burials: TaskTracker,
}

impl<S, A> Clone for Settler<S, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Who waits for word of a result.
#[derive(Debug, Clone)]
struct Askers {
    node: NodeName,
    command: Alias,
    runs: Vec<RunId>,
}

impl<S: Session, A: Acks> Settler<S, A> {
    /// Publishes on `publishing`, acknowledges through `acks`.
    pub fn new(publishing: S, acks: A, topology: Topology, clock: Clock, random: Random) -> Self {
        Self(Arc::new(Inner { publishing, acks, topology, clock, random, burials: TaskTracker::new() }))
    }

    /// These were merged: tells their runs and acknowledges them.
    pub async fn done(&self, settled: Vec<(Incoming, Notice, Option<String>)>) {
        let mut tags = Vec::with_capacity(settled.len());
        for (incoming, notice, detail) in &settled {
            if let Some(askers) = askers(incoming) {
                self.tell(&askers, *notice, detail.as_deref());
            }
            tags.push(incoming.parcel.tag);
        }
        self.ack(&tags).await;
    }

    /// This one can never be merged: moves it to the dead letters.
    pub fn bury(&self, incoming: Incoming, unusable: Unusable) {
        let askers = askers(&incoming);
        self.bury_parcel(incoming.parcel, Some(incoming.node), askers, unusable);
    }

    /// This one could not even be read.
    pub fn bury_unread(&self, parcel: Parcel, unusable: Unusable) {
        self.bury_parcel(parcel, None, None, unusable);
    }

    fn bury_parcel(&self, parcel: Parcel, node: Option<NodeName>, askers: Option<Askers>, unusable: Unusable) {
        warn!(
            node = node.as_ref().map(tracing::field::display),
            key = parcel.routing_key,
            reason = unusable.reason,
            detail = unusable.detail,
            "a message goes to the dead letters"
        );
        let settler = self.clone();
        self.0.burials.spawn(async move {
            let tag = parcel.tag;
            let letter = settler.letter(parcel, node.as_ref(), &unusable);
            if settler.publish_dead(letter).await {
                if let Some(askers) = askers {
                    settler.tell(&askers, Notice::Rejected, Some(&unusable.detail));
                }
                settler.ack(&[tag]).await;
            }
        });
    }

    /// A copy that says why it is here; without what the broker would act on again.
    fn letter(&self, parcel: Parcel, node: Option<&NodeName>, unusable: &Unusable) -> Message {
        let Message { body, mut properties } = parcel.message;
        let count = i64::try_from(parcel.count).unwrap_or(i64::MAX);
        let text = |text: &str| Header::Text(text.chars().take(4000).collect());
        let headers = [
            ("vogeler-reason", Some(text(unusable.reason))),
            ("vogeler-detail", Some(text(&unusable.detail))),
            ("vogeler-dead-node", node.map(|node| text(node.as_str()))),
            ("vogeler-exchange", Some(text(&parcel.exchange))),
            ("vogeler-routing-key", Some(text(&parcel.routing_key))),
            ("vogeler-user-id", properties.user_id.as_deref().map(text)),
            ("vogeler-delivery-count", Some(Header::Number(count))),
            ("vogeler-dead-at", Some(text(&self.0.clock.now().to_string()))),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                properties.headers.insert(name.to_owned(), value);
            }
        }
        properties.headers.remove("x-delivery-count");
        properties.message_id.get_or_insert_with(|| self.0.random.uuid().to_string());
        Message { body, properties: Properties { user_id: None, expiration: None, persistent: true, ..properties } }
    }

    /// True once the queue of dead letters has it. False when the connection ended: the delivery
    /// comes again then.
    async fn publish_dead(&self, letter: Message) -> bool {
        let mut backoff = Backoff::new(self.0.random.clone(), Duration::from_secs(1), Duration::from_secs(60));
        loop {
            let publish =
                Publish { exchange: &self.0.topology.dead, routing_key: "", mandatory: true, message: letter.clone() };
            match self.0.publishing.publish(publish).await {
                Ok(()) => return true,
                Err(PublishError::Lost(reason)) => {
                    debug!(%reason, "a dead letter was not published; its delivery comes again");
                    return false;
                }
                Err(reason @ (PublishError::Full { .. } | PublishError::Unroutable { .. })) => {
                    error!(%reason, "a dead letter waits; make room in the queue of dead letters, or run setup");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    fn tell(&self, askers: &Askers, event: Notice, detail: Option<&str>) {
        for run in &askers.runs {
            let event = Event {
                v: Version,
                run: *run,
                command: askers.command.clone(),
                node: askers.node.clone(),
                event,
                at: self.0.clock.now(),
                detail: detail.map(str::to_owned),
            };
            let properties = Properties {
                correlation_id: Some(run.to_string()),
                kind: Some("event".into()),
                content_type: Some(message::JSON.into()),
                app_id: Some("vogeler-server".into()),
                timestamp: Some(event.at.as_second()),
                ..Properties::default()
            };
            let message = Message { body: message::encode(&event), properties };
            let key = run_key(*run);
            let publish = Publish { exchange: &self.0.topology.events, routing_key: &key, mandatory: false, message };
            if !self.0.publishing.notify(publish) {
                debug!(%run, node = %askers.node, "an event was dropped; the run reads the record instead");
            }
        }
    }

    async fn ack(&self, tags: &[u64]) {
        if let Err(reason) = self.0.acks.ack(tags).await {
            // They are merged; that they come again changes nothing.
            debug!(%reason, count = tags.len(), "deliveries were not acknowledged and come again");
        }
    }

    /// Waits until every dead letter is either published or given up with its connection.
    pub async fn finish(&self) {
        self.0.burials.close();
        self.0.burials.wait().await;
    }
}

fn askers(incoming: &Incoming) -> Option<Askers> {
    match &incoming.content {
        Content::Hello(_) => None,
        Content::Result(arrival) => Some(Askers {
            node: incoming.node.clone(),
            command: arrival.result.command.clone(),
            runs: arrival.result.runs().collect(),
        }),
    }
}
