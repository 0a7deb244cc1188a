//! Messages on their way to the server, kept until the broker has them.

use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{debug, warn};
use vogeler_messaging::{Backoff, Current, Lost, Message, Publish, PublishError, Session};
use vogeler_protocol::Random;

use crate::journal::Asked;

/// Bytes that may wait for the broker. Beyond, no new plugin is started; commands wait unanswered
/// in the queue, where they are not lost.
pub const MOST_BYTES: usize = 16 << 20;

/// What is published, and which commands it answers.
#[derive(Debug)]
pub struct Letter {
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The message.
    pub message: Message,
    /// The commands whose deliveries may be acknowledged once it is there.
    pub answers: Vec<Asked>,
}

/// A letter that the broker has.
#[derive(Debug)]
pub struct Sent {
    /// The commands that it answered.
    pub answers: Vec<Asked>,
    bytes: usize,
}

/// Publishes letters on whatever session there is, again and again until the broker has them.
pub struct Outbox<S> {
    session: Current<Option<S>>,
    random: Random,
    waiting: JoinSet<Sent>,
    bytes: usize,
    answers: usize,
}

impl<S: Session> Outbox<S> {
    /// An outbox that publishes on the session of the moment.
    pub fn new(session: Current<Option<S>>, random: Random) -> Self {
        Self { session, random, waiting: JoinSet::new(), bytes: 0, answers: 0 }
    }

    /// Takes a letter.
    pub fn post(&mut self, letter: Letter) {
        self.bytes += letter.message.body.len();
        self.answers += letter.answers.len();
        self.waiting.spawn(deliver(self.session.clone(), self.random.clone(), letter));
    }

    /// Whether it holds as much as it may.
    pub fn is_full(&self) -> bool {
        self.bytes >= MOST_BYTES
    }

    /// Whether everything is with the broker.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether every answer is with the broker. A hello is nothing to stay for.
    pub fn has_no_answers(&self) -> bool {
        self.answers == 0
    }

    /// The next letter that the broker has; waits for ever while there is none. Cancel-safe.
    pub async fn sent(&mut self) -> Sent {
        loop {
            match self.waiting.join_next().await {
                Some(Ok(sent)) => {
                    self.bytes -= sent.bytes;
                    self.answers -= sent.answers.len();
                    return sent;
                }
                Some(Err(error)) => warn!(%error, "a message was lost on its way out"),
                None => std::future::pending().await,
            }
        }
    }
}

async fn deliver<S: Session>(session: Current<Option<S>>, random: Random, letter: Letter) -> Sent {
    let mut backoff = Backoff::new(random, Duration::from_millis(200), Duration::from_secs(30));
    let Letter { exchange, routing_key, message, answers } = letter;
    let bytes = message.body.len();
    let mut told = false;
    loop {
        let current = session.wait_for(Clone::clone).await;
        let publish =
            Publish { exchange: &exchange, routing_key: &routing_key, mandatory: true, message: message.clone() };
        match current.publish(publish).await {
            Ok(()) => return Sent { answers, bytes },
            Err(PublishError::Lost(reason @ Lost::Connection(_))) => {
                debug!(%reason, "a message has to be published again");
            }
            Err(reason) if !told => {
                warn!(%reason, "a message waits until the broker takes it; vogeler-client check says what is missing");
                told = true;
            }
            Err(reason) => debug!(%reason, "a message still waits"),
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}
