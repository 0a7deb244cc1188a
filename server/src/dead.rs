//! What an operator does with the dead letters: look, send back, throw away.
//!
//! Start at [`DeadLetters`]. Nothing leaves the queue before it is elsewhere: a replay acknowledges
//! after the confirm, and what is only looked at returns when the channel closes. Not always to its place:
//! RabbitMQ puts what is returned alone behind what was returned before. Order means nothing here.

mod act;
mod choice;
mod visit;
mod words;

pub use act::act;
pub use choice::Choice;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::timeout;
use vogeler_messaging::{Broker, ConsumeOptions, Consumer, Message, Publish, PublishError, Session, Topology};
use vogeler_protocol::Random;

use crate::letter::{self, Letter};
use choice::whole_id;
use visit::{NEXT, Seen, Visit};

/// How long the confirm of a replayed letter may take; under an alarm the broker gives none.
const CONFIRM: Duration = Duration::from_secs(30);

/// How long acknowledgements have before the channel closes. A quorum queue takes 32 at a time, and RabbitMQ
/// forgets the others with the channel.
const SETTLING: Duration = Duration::from_millis(300);

/// How often what came back all the same is taken away again.
const AGAIN: usize = 20;

/// The queue of dead letters of a broker.
pub struct DeadLetters<'a, B> {
    /// The broker.
    pub broker: &'a B,
    /// Names of exchanges and queues.
    pub topology: &'a Topology,
}

/// The letters, as far as they can be read.
#[derive(Debug, Default)]
pub struct Listing {
    /// The oldest first, copies of one message folded into one.
    pub letters: Vec<Letter>,
    /// How many deliveries they are.
    pub deliveries: u32,
    /// The identity of each of these.
    identities: Vec<String>,
    /// Why there are more that cannot be listed.
    pub cut: Option<String>,
}

/// What could not be dealt with.
#[derive(Debug)]
pub struct Dealt {
    /// Chosen ones that the broker would not take, with its words; they are still there.
    pub stayed: Vec<(Letter, String)>,
    /// Why there are more that could not be looked at.
    pub cut: Option<String>,
}

/// What is done to a letter that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was sent back to where results come in.
    Replayed,
    /// It was thrown away.
    Dropped,
}

impl<B: Broker> DeadLetters<'_, B> {
    /// Every letter, up to one that cannot be read: whoever is handed that by the broker loses the
    /// connection over it.
    ///
    /// # Errors
    /// There is no such queue, somebody else is at it, or there is no connection.
    pub async fn list(&self) -> anyhow::Result<Listing> {
        let mut listing = Listing::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut visit = Visit::begin(self, None).await?;
        loop {
            let delivery = match visit.next().await {
                Ok(Some(seen)) => seen.delivery,
                Ok(None) => break,
                Err(reason) => {
                    ensure!(visit.is_lost().await, reason);
                    listing.cut = Some(format!("{reason:#}"));
                    break;
                }
            };
            listing.deliveries += 1;
            let letter = Letter::read(&delivery);
            listing.identities.push(letter.identity.clone());
            match known.get(&letter.fingerprint) {
                Some(position) => listing.letters[*position].copies += 1,
                None => {
                    known.insert(letter.fingerprint.clone(), listing.letters.len());
                    listing.letters.push(letter);
                }
            }
        }
        visit.end().await;
        tell_apart(&mut listing.letters);
        listing.letters.sort_by_key(|letter| letter.at);
        Ok(listing)
    }

    /// One letter with its message.
    ///
    /// # Errors
    /// As [`DeadLetters::list`]; or no letter, or several, have an id that begins so.
    pub async fn show(&self, id: &str) -> anyhow::Result<(Letter, Message)> {
        let listing = self.list().await?;
        let id = whole_id(id, &listing)?;
        let mut visit = Visit::begin(self, Some(listing.deliveries)).await?;
        let mut found = None;
        while let Some(Seen { delivery, .. }) = visit.next().await? {
            let letter = Letter::read(&delivery);
            if letter.fingerprint == id {
                found = Some((letter, delivery.message));
                break;
            }
        }
        visit.end().await;
        found.context("somebody has taken it away meanwhile")
    }

    /// Sends the chosen letters back to where results come in, each acknowledged after its confirm;
    /// `done` hears of each. Those that come meanwhile are left for the next time.
    ///
    /// # Errors
    /// As [`DeadLetters::show`]. What was done before stays done.
    pub async fn replay(&self, choice: Choice, done: impl FnMut(&Letter)) -> anyhow::Result<Dealt> {
        self.deal(choice, Fate::Replayed, done).await
    }

    /// Throws the chosen letters away for good.
    ///
    /// # Errors
    /// As [`DeadLetters::show`]. What was done before stays done.
    pub async fn discard(&self, choice: Choice, done: impl FnMut(&Letter)) -> anyhow::Result<Dealt> {
        self.deal(choice, Fate::Dropped, done).await
    }

    async fn deal(&self, choice: Choice, fate: Fate, mut done: impl FnMut(&Letter)) -> anyhow::Result<Dealt> {
        let listing = self.list().await?;
        let choice = choice.looked_up(&listing)?;
        let (mut stayed, mut waiting, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
        let replay = Random::from_system().uuid().to_string();
        let mut dealt_with: HashMap<String, bool> = HashMap::new();
        let mut visit = Visit::begin(self, Some(listing.deliveries)).await?;
        while let Some(Seen { delivery, consumer }) = visit.next().await? {
            let letter = Letter::read(&delivery);
            if !choice.means(&letter) {
                continue;
            }
            let tag = delivery.tag;
            // A second copy of what is done already goes with the first, and stays with it where that stays.
            let gone = match (dealt_with.get(&letter.fingerprint), fate) {
                (Some(gone), _) => *gone,
                (None, Fate::Dropped) => true,
                (None, Fate::Replayed) => {
                    match self.send_back(&visit.session, &letter, delivery.message, &replay).await? {
                        Ok(()) => true,
                        Err(reason) => {
                            stayed.push((letter.clone(), reason));
                            false
                        }
                    }
                }
            };
            if gone {
                taken.insert(letter.identity.clone());
                // Each that is taken away lets the broker hand out one more; where that would be the one that
                // cannot be read, all wait until the end.
                if listing.cut.is_none() {
                    visit.take_away(consumer, tag).await?;
                } else {
                    waiting.push((consumer, tag));
                }
            }
            if dealt_with.insert(letter.fingerprint.clone(), gone).is_none() && gone {
                done(&letter);
            }
        }
        for (consumer, tag) in waiting {
            visit.take_away(consumer, tag).await?;
        }
        tokio::time::sleep(SETTLING).await;
        visit.end().await;
        self.see_gone(&taken).await?;
        Ok(Dealt { stayed, cut: listing.cut })
    }

    /// Looks whether these very letters are gone, and takes away what the broker has forgotten to. One that was
    /// sent back and has died again meanwhile is another letter.
    async fn see_gone(&self, gone: &HashSet<String>) -> anyhow::Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        for _ in 0..AGAIN {
            let listing = self.list().await?;
            if !listing.identities.iter().any(|identity| gone.contains(identity)) {
                return Ok(());
            }
            let mut visit = Visit::begin(self, Some(listing.deliveries)).await?;
            while let Some(Seen { delivery, consumer }) = visit.next().await? {
                if gone.contains(&Letter::read(&delivery).identity) {
                    visit.take_away(consumer, delivery.tag).await?;
                }
            }
            tokio::time::sleep(SETTLING).await;
            visit.end().await;
        }
        bail!("the broker keeps letters that were dealt with; list them before you replay anything again")
    }

    /// Publishes it and waits for the confirm; the inner error is the broker's word on this letter alone.
    async fn send_back(
        &self,
        session: &B::Session,
        letter: &Letter,
        message: Message,
        replay: &str,
    ) -> anyhow::Result<Result<(), String>> {
        let key = letter.way_back();
        let message = letter::revive(message, &self.broker.login(), replay);
        let publish = Publish { exchange: &self.topology.master, routing_key: &key, mandatory: true, message };
        let Ok(published) = timeout(CONFIRM, session.publish(publish)).await else {
            let why = session.blocked().unwrap_or_else(|| "no confirm".to_owned());
            bail!("the broker does not take messages ({why}); what was not replayed yet is still there");
        };
        match published {
            Ok(()) => Ok(Ok(())),
            Err(reason @ (PublishError::Unroutable { .. } | PublishError::Full { .. })) => Ok(Err(reason.to_string())),
            Err(PublishError::Lost(reason)) => {
                Err(reason).context("replaying was cut short; what was not replayed yet is still there")
            }
        }
    }

    /// Throws away, unseen, the first letter that cannot be read; how many can be read before it. None
    /// where all can.
    ///
    /// Those before it are held meanwhile, so that it stands at the head of what the broker has to give; and it is
    /// taken in the one way in which the broker does not wait for it to be understood.
    ///
    /// # Errors
    /// As [`DeadLetters::list`].
    pub async fn discard_unreadable(&self) -> anyhow::Result<Option<u32>> {
        let listing = self.list().await?;
        if listing.cut.is_none() {
            return Ok(None);
        }
        let before = match listing.deliveries {
            0 => None,
            deliveries => {
                let mut visit = Visit::begin(self, Some(deliveries)).await?;
                while visit.next().await?.is_some() {}
                Some(visit)
            }
        };
        let gone = self.discard_if_unreadable().await;
        if let Some(visit) = before {
            visit.end().await;
        }
        gone.map(|()| Some(listing.deliveries))
    }

    /// Looks at the head once more, alone: a connection may be lost for other reasons, too.
    async fn discard_if_unreadable(&self) -> anyhow::Result<()> {
        let queue = self.topology.dead_queue().name;
        let looking = self.broker.connect().await?;
        let mut consumer =
            looking.consume(&queue, ConsumeOptions { prefetch: 1, exclusive: false, no_ack: false }).await?;
        let readable = timeout(NEXT, consumer.next()).await.is_ok_and(|next| next.is_some());
        let ended = timeout(Duration::from_secs(1), looking.closed()).await;
        consumer.close().await;
        looking.close().await;
        ensure!(
            !readable && ended.is_ok(),
            "nothing was dropped: the next letter can be read after all; list them again"
        );
        let taking = self.broker.connect().await?;
        let taken = taking.discard_head(&queue).await.context("the letter could not be taken away")?;
        taking.close().await;
        ensure!(taken, "nothing was dropped: somebody has taken it away meanwhile");
        Ok(())
    }
}

/// Ids that different messages share are made longer, so that each letter has one of its own.
fn tell_apart(letters: &mut [Letter]) {
    let mut count: HashMap<String, usize> = HashMap::new();
    for letter in letters.iter() {
        *count.entry(letter.id.clone()).or_default() += 1;
    }
    for letter in letters.iter_mut().filter(|letter| count[&letter.id] > 1) {
        letter.id = format!("{}-{}", letter.id, &letter.fingerprint[..8]);
    }
}

#[cfg(test)]
mod tests;
