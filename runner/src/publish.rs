//! Commands on their way to the nodes' queues.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;
use vogeler_messaging::topology::routes;
use vogeler_messaging::{Broker, Message, Properties, Publish, PublishError, Session};
use vogeler_protocol::message::{self, Command};
use vogeler_protocol::{Target, Timestamp};

use crate::expected::Expected;
use crate::progress::Progress;
use crate::run::Parts;

/// How long a confirm may be missing before the runner says what it waits for.
const BLOCKED_AFTER: Duration = Duration::from_secs(2);

/// Confirms that may be outstanding at once, where each node is sent a message of its own.
const AT_ONCE: usize = 64;

/// Publishes commands.
pub(crate) struct Publisher<'a, B, St> {
    pub(crate) parts: &'a Parts<B, St>,
    pub(crate) progress: &'a Progress,
    /// How long the broker keeps a command.
    pub(crate) ttl: Duration,
    /// Whether it was told that the broker takes its time.
    pub(crate) told: Cell<bool>,
}

impl<B: Broker, St> Publisher<'_, B, St> {
    /// Publishes every message of a command; how many of them some queue took.
    ///
    /// # Errors
    /// The broker does not take them.
    pub(crate) async fn publish(
        &self,
        session: &B::Session,
        command: &Command,
        expected: &Expected,
    ) -> anyhow::Result<usize> {
        let reached = |target: &Target| match target {
            Target::Nodes(nodes) => {
                !nodes.iter().any(|node| expected.unknown.contains(node) || expected.gone.contains(node))
            }
            Target::All | Target::Group(_) | Target::Glob(_) => true,
        };
        let routes = routes(&command.target).into_iter().filter(|(_, target)| reached(target));
        let publishing = stream::iter(routes.map(|(key, target)| self.one(session, command, key, target)));
        let routed =
            publishing.buffer_unordered(AT_ONCE).try_fold(0, async |count, routed| Ok(count + usize::from(routed)));
        routed.await.context("the broker does not take the command")
    }

    /// Whether some queue took it.
    async fn one(
        &self,
        session: &B::Session,
        command: &Command,
        key: String,
        target: Target,
    ) -> Result<bool, PublishError> {
        let command = Command { target, ..command.clone() };
        let properties = Properties {
            message_id: Some(self.parts.random.uuid().to_string()),
            correlation_id: Some(command.run.to_string()),
            kind: Some("command".to_owned()),
            timestamp: Some(Timestamp::as_second(command.issued_at)),
            content_type: Some(message::JSON.to_owned()),
            app_id: Some("vogeler-runner".to_owned()),
            expiration: Some(self.ttl),
            user_id: Some(self.parts.broker.login()),
            persistent: true,
            ..Properties::default()
        };
        let message = Message { body: message::encode(&command), properties };
        let publish = Publish { exchange: &self.parts.topology.broadcast, routing_key: &key, mandatory: true, message };
        match self.confirmed(session, publish).await {
            Ok(()) => Ok(true),
            Err(PublishError::Unroutable { .. }) => Ok(false),
            Err(reason @ (PublishError::Full { .. } | PublishError::Lost(_))) => Err(reason),
        }
    }

    async fn confirmed(&self, session: &B::Session, publish: Publish<'_>) -> Result<(), PublishError> {
        let publishing = session.publish(publish);
        tokio::pin!(publishing);
        if let Ok(outcome) = timeout(BLOCKED_AFTER, &mut publishing).await {
            return outcome;
        }
        if !self.told.replace(true) {
            let why = session.blocked().unwrap_or_else(|| "it has not confirmed the command yet".to_owned());
            self.progress.notice(&format!("the broker takes no messages for now: {why}; waiting"));
        }
        publishing.await
    }
}
