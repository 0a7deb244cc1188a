//! The queues of results beside each other, over the same two connections.
//!
//! Start at [`Ways::run`]. Each queue has a tenure; what ends one for good ends all. A server makes room twice: it
//! stands aside while results are moved to other queues, and it passes a queue on where it holds more than its share
//! and other servers wait.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use vogeler_messaging::topology::slots_of;
use vogeler_messaging::{Broker, Current, Lost, Session, results};
use vogeler_process::supervisor;
use vogeler_protocol::names::SLOTS;
use vogeler_store::Store;

use crate::prefetch;
use crate::roll::{self, Roll};
use crate::run::{Parts, Sessions};
use crate::setup;
use crate::tenure::{End, Entry, Leave, Over, Tenure};

/// How often whoever stands aside asks whether results are still being moved.
const ASK: Duration = Duration::from_secs(2);

/// How often a server looks whether it holds more than its share, and what chance adds, so that two servers do not go on
/// doing the same at the same time.
const BALANCE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(2));

/// Which queues are consumed.
pub(crate) enum Course {
    /// Those that are in force; whoever moves results is made room for.
    InForce,
    /// These and no others: it is we who move them.
    These(Vec<String>),
}

/// What is done over a pair of connections.
pub(crate) struct Ways<'a, B: Broker, St> {
    pub(crate) parts: &'a Parts<B, St>,
    pub(crate) sessions: &'a Sessions<B::Session>,
    pub(crate) course: &'a Course,
    pub(crate) stopping: &'a CancellationToken,
    /// Whether these are some of many connections that end at once.
    pub(crate) quiet: bool,
    /// Whether to begin with one delivery at a time.
    pub(crate) cautious: bool,
    /// Whether anything was taken.
    pub(crate) took: bool,
    /// For which number of queues it was told that another is configured.
    pub(crate) told: Option<u32>,
}

impl<B: Broker, St: Store> Ways<'_, B, St> {
    /// Consumes the queues until the connections are to be closed.
    pub(crate) async fn run(&mut self) -> Over {
        loop {
            match self.consume().await {
                Ok(Leave::Over(over)) => return over,
                Ok(Leave::Moving) => {}
                Err(lost) => return lost.into(),
            }
            if let Err(over) = self.stand_aside().await {
                return over;
            }
        }
    }

    /// Consumes the queues that there are, until all of them are left.
    async fn consume(&mut self) -> Result<Leave, Lost> {
        let roll = match self.course {
            Course::InForce => Some(Roll::join(&self.sessions.consuming).await?),
            Course::These(_) => None,
        };
        let Some(entries) = self.entries().await? else {
            if let Some(roll) = roll {
                roll.leave().await;
            }
            return Ok(Leave::Moving);
        };
        let count = entries.len();
        let mut abreast = Abreast {
            parts: Arc::new(Parts { config: self.parts.config.share(count), ..self.parts.clone() }),
            sessions: self.sessions,
            stopping: self.stopping,
            quiet: self.quiet,
            ways: Vec::with_capacity(count),
            running: JoinSet::new(),
            turns: Arc::default(),
            leaving: Current::new(None),
        };
        let first = if self.cautious { prefetch::CAUTIOUS } else { prefetch::first(count) };
        for (number, (queue, entry)) in entries.into_iter().enumerate() {
            let again = match entry {
                Entry::Unasked => Entry::Unasked,
                Entry::First { .. } | Entry::Again => Entry::Again,
            };
            abreast.ways.push(Way { queue, again, turn: Arc::default(), pass_on: CancellationToken::new() });
            abreast.start(number, first.min(self.parts.config.prefetch), entry);
        }
        let leave = abreast.run(roll).await;
        self.took |= abreast.turns.load(Ordering::Relaxed) > 0;
        Ok(leave)
    }

    /// The queues, and what is to be seen to before anything is taken from them; none while results are being moved.
    async fn entries(&mut self) -> Result<Option<Vec<(String, Entry)>>, Lost> {
        if let Course::These(queues) = self.course {
            return Ok(Some(queues.iter().map(|queue| (queue.clone(), Entry::Unasked)).collect()));
        }
        let (session, topology) = (&self.sessions.consuming, &self.parts.topology);
        if results::are_moving(session, topology).await? {
            return Ok(None);
        }
        let mut found = results::in_force(session, topology).await?;
        if found.is_empty() {
            setup::create_queues(session, topology).await?;
            found = results::in_force(session, topology).await?;
        }
        let count = u32::try_from(found.len()).unwrap_or(SLOTS);
        if count == 0 {
            return Err(Lost::NotFound("the queue of results was deleted as soon as it was there".to_owned()));
        }
        if count != topology.queues && self.told != Some(count) {
            self.told = Some(count);
            warn!(
                "the broker has results in {count} queues, server.queues says {}; vogeler-server setup moves them",
                topology.queues
            );
        }
        let entry = |number| {
            let queue = topology.results_queue(number);
            (queue.name.clone(), Entry::First { queue, slots: slots_of(number, count).collect(), count })
        };
        Ok(Some((0..count).map(entry).collect()))
    }

    /// Waits until results are no longer being moved.
    async fn stand_aside(&self) -> Result<(), Over> {
        let mut told = false;
        while results::are_moving(&self.sessions.consuming, &self.parts.topology).await? {
            if !told {
                warn!(
                    "vogeler-server setup moves results to other queues; standing aside until that is done. Where none \
                     runs any more it was interrupted, and has to be run again"
                );
                supervisor::status("standing aside while vogeler-server setup moves results");
                told = true;
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Err(Over::Stopped),
                reason = self.sessions.lost() => return Err(Over::Lost(reason)),
                () = sleep(ASK) => {}
            }
        }
        if told {
            info!("results are where they are to be");
        }
        Ok(())
    }
}

/// One queue.
struct Way {
    queue: String,
    /// What the next consumer sees to.
    again: Entry,
    /// Which of all it was that began to take; 0 while nothing was taken by the consumer that it has now.
    turn: Arc<AtomicU64>,
    /// Tells that consumer to make room.
    pass_on: CancellationToken,
}

/// Tenures beside each other.
struct Abreast<'a, B: Broker, St> {
    /// With the share of one queue.
    parts: Arc<Parts<B, St>>,
    sessions: &'a Sessions<B::Session>,
    stopping: &'a CancellationToken,
    quiet: bool,
    ways: Vec<Way>,
    running: JoinSet<(usize, u16, End)>,
    turns: Arc<AtomicU64>,
    leaving: Current<Option<Leave>>,
}

impl<B: Broker, St: Store> Abreast<'_, B, St> {
    fn start(&mut self, number: usize, prefetch: u16, entry: Entry) {
        let way = &mut self.ways[number];
        way.turn = Arc::default();
        way.pass_on = CancellationToken::new();
        let tenure = Tenure {
            parts: Arc::clone(&self.parts),
            sessions: self.sessions.clone(),
            queue: way.queue.clone(),
            prefetch,
            quiet: self.quiet,
            turn: Arc::clone(&way.turn),
            turns: Arc::clone(&self.turns),
            leaving: self.leaving.clone(),
            pass_on: way.pass_on.clone(),
            stopping: self.stopping.clone(),
        };
        self.running.spawn(async move { (number, prefetch, tenure.run(&entry).await) });
    }

    /// Returns when every tenure has ended: why.
    async fn run(&mut self, mut roll: Option<Roll<B::Session>>) -> Leave {
        let mut look = Instant::now() + self.until_next_look();
        loop {
            let stays = self.leaving.get().is_none();
            tokio::select! {
                biased;
                ended = self.running.join_next() => match ended {
                    Some(ended) => self.ended(ended),
                    None => break,
                },
                () = called(roll.as_mut()), if stays => self.answer().await,
                () = sleep_until(look), if stays && roll.is_some() && self.ways.len() > 1 => {
                    look = Instant::now() + self.until_next_look();
                    if let Err(lost) = self.balance().await {
                        self.leave(Leave::Over(lost.into()));
                    }
                }
            }
        }
        if let Some(roll) = roll {
            roll.leave().await;
        }
        self.leaving.get().unwrap_or(Leave::Over(Over::Stopped))
    }

    /// The first reason counts.
    fn leave(&self, leave: Leave) {
        if self.leaving.get().is_none() {
            self.leaving.set(Some(leave));
        }
    }

    fn ended(&mut self, ended: Result<(usize, u16, End), JoinError>) {
        match ended {
            Ok((_, _, End::Leave(leave))) => self.leave(leave),
            Ok((number, prefetch, end)) if self.leaving.get().is_none() => {
                let prefetch = match end {
                    End::Resize(fits) => fits,
                    End::PassedOn | End::Leave(_) => prefetch,
                };
                self.start(number, prefetch, self.ways[number].again.clone());
            }
            Ok(_) => {}
            Err(reason) => {
                error!(%reason, "a consumer has failed; what it held comes again");
                self.leave(Leave::Over(Over::Lost("a consumer has failed".to_owned())));
            }
        }
    }

    /// The queue of the servers is gone: because results are moved, or were; the queues are to be counted again. Or the
    /// connection is.
    async fn answer(&self) {
        match roll::servers(&self.sessions.consuming).await {
            Ok(_) => self.leave(Leave::Moving),
            Err(lost) => self.leave(Leave::Over(lost.into())),
        }
    }

    /// Passes one queue on where this server holds more than its share. It drains, and consumes again behind those that
    /// wait for it.
    async fn balance(&mut self) -> Result<(), Lost> {
        let servers = roll::servers(&self.sessions.consuming).await?;
        let turns: Vec<u64> = self.ways.iter().map(|way| way.turn.load(Ordering::Relaxed)).collect();
        if let Some(number) = to_pass_on(&turns, fair_share(self.ways.len(), servers)) {
            let way = &self.ways[number];
            if !way.pass_on.is_cancelled() {
                info!(queue = way.queue, servers, "passing a queue on to another server");
            }
            way.pass_on.cancel();
        }
        Ok(())
    }

    fn until_next_look(&self) -> Duration {
        // Chance is drawn only where it counts, so that a simulation of one queue has none of it.
        let by_chance = if self.ways.len() > 1 { self.parts.random.up_to(BALANCE.1) } else { Duration::ZERO };
        BALANCE.0 + by_chance
    }
}

/// Returns when the servers are called; never to whoever is none.
async fn called<S: Session>(roll: Option<&mut Roll<S>>) {
    match roll {
        Some(roll) => roll.is_called().await,
        None => pending().await,
    }
}

/// How many queues each server has to hold at most, so that all of them together hold all of them.
fn fair_share(queues: usize, servers: u32) -> usize {
    queues.div_ceil(usize::try_from(servers).unwrap_or(usize::MAX).max(1))
}

/// Which queue to pass on, by the turns in which they were taken up (0 where one is not held): where more than `share`
/// are held, the one that came last. So a server that has its share keeps what it has, and a queue that comes to it
/// goes on along its own row.
fn to_pass_on(turns: &[u64], share: usize) -> Option<usize> {
    let held = turns.iter().filter(|turn| **turn > 0).count();
    if held <= share {
        return None;
    }
    turns.iter().enumerate().max_by_key(|(_, turn)| **turn).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use vogeler_protocol::Random;

    use super::*;

    #[test]
    fn shares_leave_no_queue_without_a_server() {
        for queues in 1..=64 {
            for servers in 1..=70 {
                let share = fair_share(queues, servers);
                assert!(share * servers as usize >= queues, "{servers} servers hold {share} each of {queues}");
            }
        }
        assert_eq!(fair_share(4, 0), 4, "whoever counts nobody is alone");
        assert_eq!((fair_share(4, 2), fair_share(4, 3), fair_share(3, 2)), (2, 2, 2));
    }

    #[test]
    fn the_last_to_come_goes_on_and_nothing_below_the_share() {
        assert_eq!(to_pass_on(&[0, 0, 0], 1), None);
        assert_eq!(to_pass_on(&[0, 7, 0], 1), None);
        assert_eq!(to_pass_on(&[3, 7, 5], 2), Some(1));
        assert_eq!(to_pass_on(&[3, 7, 0], 1), Some(1));
        assert_eq!(to_pass_on(&[1, 2, 3, 4], 4), None);
    }

    /// Servers that look in any order, each queue with a row of its own: the head of it holds the queue.
    #[test]
    fn queues_settle_with_whoever_has_room() {
        let random = Random::seeded(11);
        let below = |most: usize| (random.uuid().as_u64_pair().1 % most as u64) as usize;
        for _ in 0..500 {
            let (queues, servers) = (1 + below(12), 1 + below(6));
            let mut turn = 0;
            let mut rows: Vec<(VecDeque<usize>, u64)> = Vec::new();
            for _ in 0..queues {
                let mut row: VecDeque<usize> = (0..servers).collect();
                // As after any number of servers that have come and gone.
                row.rotate_left(below(servers));
                if below(2) == 0 {
                    row.make_contiguous().reverse();
                }
                turn += 1;
                rows.push((row, turn));
            }
            let share = fair_share(queues, servers as u32);
            let mut passed = 0;
            loop {
                let over: Vec<usize> = (0..servers)
                    .filter(|server| rows.iter().filter(|(row, _)| row[0] == *server).count() > share)
                    .collect();
                if over.is_empty() {
                    break;
                }
                let server = over[below(over.len())];
                let turns: Vec<u64> = rows.iter().map(|(row, turn)| if row[0] == server { *turn } else { 0 }).collect();
                let (row, taken) = &mut rows[to_pass_on(&turns, share).unwrap()];
                row.rotate_left(1);
                turn += 1;
                *taken = turn;
                passed += 1;
                assert!(passed <= queues * servers, "{queues} queues and {servers} servers do not settle");
            }
        }
    }
}
