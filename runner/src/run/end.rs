//! The end of a run: what came of it, and what an operator can look at next.

use std::io;
use std::time::Duration;

use tokio::time::timeout;
use vogeler_messaging::{Broker, Lost, QueueStatus, results};
use vogeler_protocol::NodeName;
use vogeler_store::Store;

use super::{INTERRUPTED, Prepared, Running};
use crate::ask;
use crate::expected::{self, Expected};
use crate::output;
use crate::report::About;
use crate::tallies::Tallies;
use crate::tally;

/// Of so many unknown names at most, others that come near are looked for.
const SUGGESTED: usize = 5;

/// How long that may take.
const SUGGESTING: Duration = Duration::from_secs(2);

impl<B: Broker, St: Store> Running<'_, B, St> {
    /// Tells the end; the exit status.
    pub(super) async fn end(
        &self,
        session: Option<&B::Session>,
        prepared: &Prepared<B::Session>,
        tallies: &mut Tallies,
        routed: usize,
    ) -> anyhow::Result<u8> {
        let Self { request, progress, about, .. } = self;
        let has_expired = self.parts.clock.now() > about.expires_at;
        let about = &About { has_expired, ..about.clone() };
        let is_over = tallies.are_over();
        if let Some(session) = session.filter(|_| !is_over) {
            self.ask_who_left(session, tallies).await;
        }
        let nobody_meant =
            prepared.selection.nobody_known() && prepared.expected.unknown.is_empty() && tallies.nobody_there();
        let no_such = nobody_meant || !prepared.selection.strangers.is_empty();
        let status = if no_such { tally::NO_SUCH } else { tallies.exit_status(request.strict) };
        progress.end(about, tallies, status)?;
        if let Some(session) = session.filter(|_| !is_over && request.outlived) {
            self.explain_silence(session).await;
            progress.notice(&format!(
                "what comes later is in the records; to look: {} status {}",
                output::program(),
                about.run
            ));
        }
        self.suggest_names(&prepared.expected).await;
        if nobody_meant {
            progress.notice(&format!("no node is meant by {}: no record and nobody on line", about.target));
        } else if routed > 0 && tallies.nobody_there() && !prepared.expected.off_line.is_empty() {
            progress.notice(&format!(
                "nobody that {} means is on line; the command waits for them until {}",
                about.target, about.expires_at
            ));
        }
        Ok(status)
    }

    /// The operator has had enough; the exit status.
    pub(super) fn interrupted(&self, tallies: Option<&Tallies>) -> io::Result<u8> {
        if !self.sent.get() {
            self.progress.given_up();
            return Ok(INTERRUPTED);
        }
        if let Some(tallies) = tallies {
            self.progress.end(&self.about, tallies, INTERRUPTED)?;
        }
        self.progress.interrupted(&self.about, self.request);
        Ok(INTERRUPTED)
    }

    /// Of the nodes that owe an answer, those whose client is not connected any more.
    async fn ask_who_left(&self, session: &B::Session, tallies: &mut Tallies) {
        let nodes = tallies.outstanding();
        let Ok(statuses) = expected::queues(session, &nodes).await else { return };
        for (node, status) in nodes.iter().zip(statuses) {
            if !status.is_some_and(QueueStatus::is_consumed) {
                tallies.leave(node);
            }
        }
    }

    /// For a name that nobody knows, one that comes near.
    async fn suggest_names(&self, expected: &Expected) {
        if expected.unknown.len() > SUGGESTED {
            return;
        }
        let unknown: Vec<NodeName> = expected.unknown.iter().cloned().collect();
        let Ok(Ok(sentences)) = timeout(SUGGESTING, ask::unknown(&self.parts.store, &unknown)).await else { return };
        sentences.iter().for_each(|sentence| self.progress.notice(sentence));
    }

    /// What an operator can look at when nodes accept and nothing is stored.
    async fn explain_silence(&self, session: &B::Session) {
        let topology = &self.parts.topology;
        let asked = async {
            let queues = results::in_force(session, topology).await?;
            Ok::<_, Lost>((queues, results::are_moving(session, topology).await?))
        };
        let Ok((queues, moving)) = asked.await else { return };
        let (place, waiting) = (results::place(topology, queues.len()), results::waiting(&queues));
        let consumed = queues.iter().any(|queue| queue.is_consumed());
        let sentence = match (queues.len(), moving, consumed, waiting) {
            (_, true, _, _) => {
                "results wait until vogeler-server setup has moved them to other queues; where none runs \
                                any more it was interrupted, and has to be run again"
                    .to_owned()
            }
            (0, ..) => format!("there is no queue {place}; run vogeler-server setup"),
            (_, _, false, _) => {
                format!("no vogeler-server is connected: {waiting} results wait in {place} and are stored once it is")
            }
            (_, _, true, 0) => {
                "a server is connected and nothing waits for it: the nodes have not answered yet".to_owned()
            }
            (_, _, true, _) => format!("{waiting} results wait in {place}; look at what vogeler-server says"),
        };
        self.progress.notice(&sentence);
    }
}
