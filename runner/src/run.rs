//! One run, from the command line to the exit status.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use vogeler_messaging::topology::{routes, run_key, run_queue};
use vogeler_messaging::{
    Backoff, Broker, ConsumeOptions, Consumer, Lost, Message, Properties, Publish, PublishError, Session, Topology,
};
use vogeler_protocol::message::{self, Command, Event, Version};
use vogeler_protocol::{Alias, Clock, NodeName, Random, Record, RunId, Target, Timestamp};
use vogeler_store::Store;

use crate::expected::{self, Expected, Known};
use crate::progress::{About, Progress};
use crate::tally::{self, Tally};

/// Ended by Ctrl-C, as a shell reports it.
pub const INTERRUPTED: u8 = 130;

/// How long the database may take to say which nodes there are.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a confirm may be missing before the runner says what it waits for.
const BLOCKED_AFTER: Duration = Duration::from_secs(2);

/// What an operator asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The alias.
    pub command: Alias,
    /// The nodes.
    pub target: Target,
    /// How long to wait.
    pub timeout: Duration,
    /// How long nobody new may accept, where it is not known who will.
    pub quiet: Duration,
    /// How long the command stays good.
    pub ttl: Duration,
    /// Over how long the nodes spread their start.
    pub splay: Duration,
    /// Whether to leave once the broker has it.
    pub detach: bool,
    /// Whether nodes that lack the alias or are off line fail the run.
    pub strict: bool,
    /// Who asks.
    pub issuer: String,
}

/// The parts that a run needs.
pub struct Parts<B, St> {
    /// The broker.
    pub broker: B,
    /// The database, if one is configured; it may well be out of reach.
    pub store: St,
    /// Names of exchanges.
    pub topology: Topology,
    /// The wall clock.
    pub clock: Clock,
    /// For identifiers and waits.
    pub random: Random,
}

/// Runs a command and returns the exit status.
///
/// # Errors
/// The broker cannot be reached, or does not take the command.
pub async fn run<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    request: &Request,
    progress: &Progress,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<u8> {
    let begun = parts.clock.now();
    let command = Command {
        v: Version,
        run: RunId::new(begun, &parts.random),
        command: request.command.clone(),
        target: request.target.clone(),
        issued_at: begun,
        expires_at: begun.after(request.ttl),
        splay_ms: u64::try_from(request.splay.as_millis()).unwrap_or(u64::MAX),
        issuer: request.issuer.clone(),
        want_events: !request.detach,
    };
    let about = About {
        run: command.run,
        command: command.command.clone(),
        target: command.target.clone(),
        expires_at: command.expires_at,
    };
    let running = Running { parts, request, progress, command, about };
    tokio::pin!(interrupted);
    tokio::select! {
        biased;
        () = &mut interrupted => {
            progress.notice(&format!("the run goes on without us; what comes of it lands in the records (run {})", running.about.run));
            Ok(INTERRUPTED)
        }
        status = running.run(begun) => status,
    }
}

struct Running<'a, B, St> {
    parts: &'a Parts<B, St>,
    request: &'a Request,
    progress: &'a Progress,
    command: Command,
    about: About,
}

impl<B: Broker, St: Store> Running<'_, B, St> {
    async fn run(&self, begun: Timestamp) -> anyhow::Result<u8> {
        let (session, known) = tokio::join!(self.parts.broker.connect(), self.known());
        let session = session?;
        self.check_exchanges(&session).await?;
        let expected = expected::presence(&session, &self.request.target, &known, begun)
            .await
            .context("cannot ask which nodes are on line")?;
        let mut tally = Tally::new(&expected, known.is_none(), begun);
        if self.request.detach {
            return self.detach(&session, &expected, &tally).await;
        }
        // Listen first: an answer may be faster than the publisher confirm.
        let consumer = self.listen(&session).await.context("cannot listen for events")?;
        let routed = self.publish_in_time(&session, &expected).await?;
        self.progress.count(&tally);
        self.mind_the_server(&session).await;
        let named = matches!(self.request.target, Target::Nodes(_));
        let somebody_may_come = known.is_none() && !named;
        if somebody_may_come || tally.awaited() > 0 {
            self.wait(&session, consumer, &mut tally, somebody_may_come).await;
        }
        let silent = !tally.outstanding().is_empty();
        if silent {
            self.explain_silence(&session).await;
        }
        let nobody_meant = self.nobody_is_meant(&known) && tally.nobody_there();
        let status = if nobody_meant { tally::NO_SUCH } else { tally.exit_status(self.request.strict) };
        self.progress.end(&self.about, &tally, status);
        if nobody_meant {
            self.progress.notice(&format!("no node is meant by {}: no record and nobody on line", self.request.target));
        }
        if routed > 0 && tally.nobody_there() && status == tally::SILENT {
            self.progress.notice(&format!(
                "nobody that {} means is on line; the command waits for them until {}",
                self.request.target, self.about.expires_at
            ));
        }
        session.close().await;
        Ok(status)
    }

    /// Whether a group or pattern means none of the nodes that the database knows.
    fn nobody_is_meant(&self, known: &Known) -> bool {
        matches!(self.request.target, Target::Group(_) | Target::Glob(_)) && known.as_ref().is_some_and(Vec::is_empty)
    }

    /// Says at once what would otherwise only show when the time is up.
    async fn mind_the_server(&self, session: &B::Session) {
        let queue = self.parts.topology.results_queue().name;
        if let Ok(Some(status)) = session.queue_status(&queue).await
            && status.consumers == 0
        {
            self.progress.notice("no vogeler-server is connected; results wait until one is");
        }
    }

    async fn known(&self) -> Known {
        let asked = timeout(STORE_PATIENCE, expected::known(&self.parts.store, &self.request.target)).await;
        let reason = match asked {
            Ok(Ok(known)) => return Some(known),
            Ok(Err(reason)) => reason.to_string(),
            Err(_) => format!("no answer within {} s", STORE_PATIENCE.as_secs()),
        };
        let waiting = match self.request.target {
            Target::Nodes(_) => "asking the broker alone which of the nodes there are",
            Target::All | Target::Group(_) | Target::Glob(_) => "waiting for those that accept",
        };
        self.progress.notice(&format!("{reason}; {waiting}"));
        None
    }

    async fn check_exchanges(&self, session: &B::Session) -> anyhow::Result<()> {
        let topology = &self.parts.topology;
        for exchange in [&topology.broadcast, &topology.events] {
            if !session.exchange_exists(exchange).await? {
                bail!(
                    "the broker at {} has no exchange {exchange:?}; run vogeler-server setup",
                    self.parts.broker.address()
                );
            }
        }
        Ok(())
    }

    async fn detach(&self, session: &B::Session, expected: &Expected, tally: &Tally) -> anyhow::Result<u8> {
        let routed = self.publish_in_time(session, expected).await?;
        let status = match (expected.unknown.is_empty(), routed) {
            (false, _) => tally::NO_SUCH,
            (true, 0) => tally::SILENT,
            (true, _) => tally::GOOD,
        };
        self.progress.queued(&self.about, tally, routed, status);
        session.close().await;
        Ok(status)
    }

    async fn listen(&self, session: &B::Session) -> Result<<B::Session as Session>::Consumer, anyhow::Error> {
        let queue = run_queue(self.command.run);
        session.declare_queue(&queue).await?;
        session.bind(&queue.name, &self.parts.topology.events, &run_key(self.command.run)).await?;
        // Never acknowledged: the queue goes with the connection, and under a broker's alarm no
        // acknowledgement would leave it.
        let options = ConsumeOptions { prefetch: 0, exclusive: true };
        Ok(session.consume(&queue.name, options).await?)
    }

    async fn publish_in_time(&self, session: &B::Session, expected: &Expected) -> anyhow::Result<usize> {
        let published = timeout(self.request.timeout, self.publish(session, expected)).await;
        let routed = published.context("the broker has not taken the command in time")??;
        if routed == 0 {
            self.progress.notice("no queue takes the command: nobody gets it, now or later");
        }
        Ok(routed)
    }

    /// Publishes every message of the command; how many of them some queue took.
    async fn publish(&self, session: &B::Session, expected: &Expected) -> anyhow::Result<usize> {
        let mut routed = 0;
        for (key, target) in routes(&self.request.target) {
            if let Target::Nodes(nodes) = &target
                && nodes.iter().any(|node| expected.unknown.contains(node) || expected.gone.contains(node))
            {
                continue;
            }
            let command = Command { target, ..self.command.clone() };
            let properties = Properties {
                message_id: Some(self.parts.random.uuid().to_string()),
                correlation_id: Some(command.run.to_string()),
                kind: Some("command".to_owned()),
                timestamp: Some(command.issued_at.as_second()),
                content_type: Some(message::JSON.to_owned()),
                app_id: Some("vogeler-runner".to_owned()),
                expiration: Some(self.request.ttl),
                user_id: Some(self.parts.broker.login()),
                persistent: true,
                ..Properties::default()
            };
            let message = Message { body: message::encode(&command), properties };
            let publish =
                Publish { exchange: &self.parts.topology.broadcast, routing_key: &key, mandatory: true, message };
            match self.confirmed(session, publish).await {
                Ok(()) => routed += 1,
                Err(PublishError::Unroutable { .. }) => {}
                Err(reason @ (PublishError::Full { .. } | PublishError::Lost(_))) => {
                    return Err(reason).context("the broker does not take the command");
                }
            }
        }
        Ok(routed)
    }

    async fn confirmed(&self, session: &B::Session, publish: Publish<'_>) -> Result<(), PublishError> {
        let publishing = session.publish(publish);
        tokio::pin!(publishing);
        if let Ok(outcome) = timeout(BLOCKED_AFTER, &mut publishing).await {
            return outcome;
        }
        let why = session.blocked().unwrap_or_else(|| "it has not confirmed the command yet".to_owned());
        self.progress.notice(&format!("the broker takes no messages for now: {why}; waiting"));
        publishing.await
    }

    /// Takes events until everybody has ended, or the time is up.
    async fn wait(
        &self,
        session: &B::Session,
        consumer: <B::Session as Session>::Consumer,
        tally: &mut Tally,
        somebody_may_come: bool,
    ) {
        let deadline = Instant::now() + self.request.timeout + self.request.splay;
        let mut last_new = Instant::now();
        let mut listening = Some((session.clone(), consumer));
        loop {
            let Some((session, mut consumer)) = listening.take() else { break };
            let lost = loop {
                let everybody = tally.outstanding().is_empty();
                if everybody && !somebody_may_come {
                    return;
                }
                let quiet = last_new + self.request.quiet;
                tokio::select! {
                    biased;
                    next = consumer.next() => {
                        let Some(delivery) = next else { break true };
                        let before = tally.awaited();
                        if let Ok(event) = message::decode::<Event>(&delivery.message.body) && self.is_ours(&event) {
                            if tally.hear(&event, self.parts.clock.now()) {
                                self.progress.node(&event.node, tally);
                            }
                            if tally.awaited() > before {
                                last_new = Instant::now();
                            }
                        }
                    }
                    _ = session.closed() => break true,
                    () = sleep_until(quiet), if somebody_may_come && everybody => return,
                    () = sleep_until(deadline) => break false,
                }
            };
            self.read_records(tally).await;
            if !lost || tally.outstanding().is_empty() && !somebody_may_come {
                return;
            }
            self.progress
                .notice("the connection to the broker was lost; what was told meanwhile is read from the records");
            listening = self.listen_again(deadline).await;
            self.read_records(tally).await;
        }
    }

    fn is_ours(&self, event: &Event) -> bool {
        event.run == self.command.run && event.command == self.command.command
    }

    async fn listen_again(&self, deadline: Instant) -> Option<(B::Session, <B::Session as Session>::Consumer)> {
        let mut backoff = Backoff::new(self.parts.random.clone(), Duration::from_millis(200), Duration::from_secs(5));
        while Instant::now() < deadline {
            sleep(backoff.next_wait()).await;
            if let Ok(session) = self.parts.broker.connect().await
                && let Ok(consumer) = self.listen(&session).await
            {
                return Some((session, consumer));
            }
        }
        None
    }

    /// An entry of our own run in a record counts as much as its event, which may have been lost.
    async fn read_records(&self, tally: &mut Tally) {
        let outstanding: Vec<NodeName> = tally.outstanding();
        let Ok(documents) = self.parts.store.fetch(&outstanding).await else { return };
        let now = self.parts.clock.now();
        for (node, document) in outstanding.into_iter().zip(documents) {
            let record = document.and_then(|text| Record::from_document(node.clone(), &text, now).ok());
            let answer = record.and_then(|record| record.answers(self.command.run, self.command.command.as_str()));
            if answer.is_some_and(|answer| tally.read(&node, answer, now)) {
                self.progress.node(&node, tally);
            }
        }
    }

    /// What an operator can look at when nodes accept and nothing is stored.
    async fn explain_silence(&self, session: &B::Session) {
        let queue = self.parts.topology.results_queue().name;
        let sentence = match session.queue_status(&queue).await {
            Ok(Some(status)) if status.consumers == 0 => format!(
                "no vogeler-server is connected: {} results wait in {queue} and are stored once it is",
                status.messages
            ),
            Ok(Some(status)) if status.messages > 0 => {
                format!("{} results wait in {queue}; look at what vogeler-server says", status.messages)
            }
            Ok(Some(_)) => "a server is connected and nothing waits for it: the nodes have not answered yet".to_owned(),
            Ok(None) => format!("there is no queue {queue}; run vogeler-server setup"),
            Err(Lost::Connection(_) | Lost::Denied(_) | Lost::NotFound(_)) => return,
        };
        self.progress.notice(&sentence);
    }
}
