//! What the nodes and the server say of a run.
//!
//! Start at [`Listener::wait`]. Events may be lost; an entry of the run in a record counts as much.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until};
use vogeler_messaging::topology::{run_key, run_queue};
use vogeler_messaging::{Backoff, Broker, ConsumeOptions, Consumer, Session};
use vogeler_protocol::message::{self, Event};
use vogeler_protocol::{Alias, NodeName, Record, RunId, Timestamp};
use vogeler_store::Store;

use crate::history::{self, Entry, History};
use crate::progress::Progress;
use crate::run::Parts;
use crate::tallies::Tallies;

/// Records that are read in one request.
const PAGE: usize = 200;

type ConsumerOf<B> = <<B as Broker>::Session as Session>::Consumer;

/// Listens to the events of one run, on as many connections as it takes.
pub(crate) struct Listener<'a, B: Broker, St> {
    parts: &'a Parts<B, St>,
    run: RunId,
    commands: &'a [Alias],
    progress: &'a Progress,
    history: &'a RefCell<History>,
    listening: Option<(B::Session, ConsumerOf<B>)>,
}

/// For whom and how long events are taken.
struct Wait<'w> {
    /// Everybody, unless said.
    asked: Option<&'w [NodeName]>,
    deadline: Instant,
    /// How long nobody new may accept, where whoever accepts is waited for.
    quiet: Option<Duration>,
    /// When somebody new last did.
    last_new: Instant,
}

/// Why a wait ended.
enum End {
    /// Everybody has ended.
    Over,
    /// The time is up.
    TimeUp,
    /// The connection is lost.
    Lost,
}

impl<'a, B: Broker, St: Store> Listener<'a, B, St> {
    pub(crate) fn start(
        parts: &'a Parts<B, St>,
        run: RunId,
        commands: &'a [Alias],
        progress: &'a Progress,
        history: &'a RefCell<History>,
    ) -> Self {
        Self { parts, run, commands, progress, history, listening: None }
    }

    /// Begins to listen on that connection.
    pub(crate) async fn listen(&mut self, session: &B::Session) -> anyhow::Result<()> {
        let queue = run_queue(self.run);
        session.declare_queue(&queue).await?;
        session.bind(&queue.name, &self.parts.topology.events, &run_key(self.run)).await?;
        // The queue goes with the connection, and under a broker's alarm no acknowledgement would leave it.
        let options = ConsumeOptions { prefetch: 0, exclusive: true, no_ack: true };
        let consumer = session.consume(&queue.name, options).await?;
        self.listening = Some((session.clone(), consumer));
        Ok(())
    }

    /// The connection that is listened on; another one where that is lost, within `patience`.
    ///
    /// # Errors
    /// The broker is not back in time.
    pub(crate) async fn session(&mut self, patience: Duration) -> anyhow::Result<B::Session> {
        let is_lost = |session: &B::Session| session.closed().now_or_never().is_some();
        if self.listening.as_ref().is_none_or(|(session, _)| is_lost(session)) {
            self.listening = None;
            self.listen_again(Instant::now() + patience).await;
        }
        let listening = self.listening.as_ref().map(|(session, _)| session.clone());
        listening.context("the connection to the broker was lost, and there is none again in time")
    }

    /// The connection, while it lasts.
    pub(crate) fn into_session(self) -> Option<B::Session> {
        self.listening.map(|(session, _)| session)
    }

    /// Takes events until all of `asked` (everybody, unless said) have ended, or the time is up. With `quiet`, whoever
    /// accepts is waited for, until nobody new has for so long.
    pub(crate) async fn wait(
        &mut self,
        asked: Option<&[NodeName]>,
        tallies: &mut Tallies,
        patience: Duration,
        quiet: Option<Duration>,
    ) {
        let now = Instant::now();
        let mut wait = Wait { asked, deadline: now + patience, quiet, last_new: now };
        while let Some((session, mut consumer)) = self.listening.take() {
            let end = self.take(&session, &mut consumer, &mut wait, tallies).await;
            self.listening = Some((session, consumer));
            match end {
                End::Over => return,
                End::TimeUp => {
                    self.read_records(tallies).await;
                    return;
                }
                End::Lost => {
                    self.listening = None;
                    self.read_records(tallies).await;
                    if tallies.are_over_for(asked) && quiet.is_none() {
                        return;
                    }
                    self.progress.notice(
                        "the connection to the broker was lost; what was told meanwhile is read from the records",
                    );
                    self.listen_again(wait.deadline).await;
                    self.read_records(tallies).await;
                }
            }
        }
    }

    async fn take(
        &self,
        session: &B::Session,
        consumer: &mut ConsumerOf<B>,
        wait: &mut Wait<'_>,
        tallies: &mut Tallies,
    ) -> End {
        loop {
            let over = tallies.are_over_for(wait.asked);
            if over && wait.quiet.is_none() {
                return End::Over;
            }
            let still = wait.last_new + wait.quiet.unwrap_or_default();
            tokio::select! {
                biased;
                next = consumer.next() => {
                    let Some(delivery) = next else { return End::Lost };
                    let (before, _) = tallies.progress();
                    if let Ok(event) = message::decode::<Event>(&delivery.message.body) && self.is_ours(&event) {
                        self.hear(event, tallies);
                    }
                    if tallies.progress().0 > before {
                        wait.last_new = Instant::now();
                    }
                }
                _ = session.closed() => return End::Lost,
                () = sleep_until(still), if wait.quiet.is_some() && over => return End::Over,
                () = sleep_until(wait.deadline) => return End::TimeUp,
            }
        }
    }

    fn is_ours(&self, event: &Event) -> bool {
        event.run == self.run && self.commands.contains(&event.command)
    }

    fn hear(&self, event: Event, tallies: &mut Tallies) {
        if tallies.hear(&event, self.parts.clock.now()) {
            self.progress.event(&event, tallies);
        }
        history::note(self.history, &Entry::Event(event), self.progress);
    }

    async fn listen_again(&mut self, deadline: Instant) {
        let mut backoff = Backoff::new(self.parts.random.clone(), Duration::from_millis(200), Duration::from_secs(5));
        while Instant::now() < deadline {
            sleep(backoff.next_wait()).await;
            if let Ok(session) = self.parts.broker.connect().await
                && self.listen(&session).await.is_ok()
            {
                return;
            }
        }
    }

    /// An entry of our own run in a record counts as much as its event, which may have been lost.
    async fn read_records(&self, tallies: &mut Tallies) {
        read_records(&self.parts.store, self.run, self.commands, tallies, false, self.parts.clock.now()).await;
        self.progress.count(tallies);
    }
}

/// Takes from the records what they say of a run: those of the nodes that are awaited, or of all that have not ended;
/// whether they could be read.
pub(crate) async fn read_records<St: Store>(
    store: &St,
    run: RunId,
    commands: &[Alias],
    tallies: &mut Tallies,
    all: bool,
    now: Timestamp,
) -> bool {
    for command in commands {
        let Some(tally) = tallies.of(command) else { continue };
        let unanswered = if all { tally.unanswered() } else { tally.outstanding().iter().cloned().collect() };
        for page in unanswered.chunks(PAGE) {
            let Ok(documents) = store.fetch(page).await else { return false };
            for (node, document) in page.iter().zip(documents) {
                let record = document.and_then(|text| Record::from_document(node.clone(), &text, now).ok());
                let Some(record) = record else { continue };
                match (record.answers(run, command.as_str()), record.answered_later(run, command.as_str())) {
                    (Some(answer), _) => _ = tallies.read(command, node, answer, None),
                    (None, Some(by)) if all => tallies.replace(command, node, by),
                    (None, _) => {}
                }
            }
        }
    }
    true
}
