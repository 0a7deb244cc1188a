//! `vogeler-server setup` changes how many queues results are spread over, and neither loses nor reorders one.
//!
//! Start at [`arrange`]. Old queues are closed and worked off before a result reaches a new one, and what comes
//! meanwhile waits in a queue of its own, which is worked off before servers take from the new ones: so of each slot
//! everything is merged in the order in which it came. Where a slot has no queue the alternate exchange sends its
//! results to that queue, so that none is ever in two places or in none. Every step may be the last of a `setup`; what
//! the next one does is decided by what it finds ([`found`]).

mod found;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, sleep};
use vogeler_messaging::topology::{key_of, queue_of, servers_queue, setup_queue, slots, switching_queue};
use vogeler_messaging::{Broker, Declared, Lost, Queue, QueueStatus, Session, Topology, results};
use vogeler_protocol::names::SLOTS;
use vogeler_store::Store;

use self::found::{Found, Next};
use crate::metrics::Metrics;
use crate::run::{self, Parts};
use crate::setup;

/// How long servers may take to stand aside.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long another `setup` that was killed may still have the lock.
const LINGERING: Duration = Duration::from_secs(10);

/// Between two looks at what changes by itself.
const LOOK: Duration = Duration::from_millis(250);

/// So many looks in a row find nothing in the queue and nothing in hand before it counts as worked off: a delivery may be
/// between the two. Where that was wrong, it is twice as many the next time, up to [`MOST_CALM`].
const CALM: u32 = 4;

/// A minute of looks, in which 5 MiB come over the slowest of links.
const MOST_CALM: u32 = 240;

/// Between two words about how far it is.
const WORD: Duration = Duration::from_secs(10);

/// Makes the queues of results as many as the topology says, and binds each slot to its own; tells `say` what takes time.
///
/// # Errors
/// The connection is lost, or a permission is missing; another `setup` is at work; a server does not stand aside. It may
/// be run again after each of these.
pub(crate) async fn arrange<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    session: &B::Session,
    say: &mut impl FnMut(String),
) -> anyhow::Result<()> {
    let mut mover = Mover { parts, session, topology: &parts.topology, say };
    mover.lock().await?;
    loop {
        let found = mover.look().await?;
        match found.next(parts.topology.queues) {
            Next::Rest => break,
            Next::Create => {
                setup::declare_queues(session, &parts.topology).await?;
                // A server that has made its own at the same moment counts them again.
                mover.delete(&servers_queue().name).await?;
            }
            Next::Unmark => mover.delete(&switching_queue().name).await?,
            Next::Begin => mover.begin(&found).await?,
            Next::Finish(count) => mover.finish(count).await?,
        }
    }
    mover.put_right().await?;
    // Whoever runs it again at once need not wait for this connection to be gone.
    session.delete_queue(&setup_queue().name).await?;
    Ok(())
}

struct Mover<'a, B: Broker, St, F> {
    parts: &'a Parts<B, St>,
    session: &'a B::Session,
    topology: &'a Topology,
    say: &'a mut F,
}

impl<B: Broker, St: Store, F: FnMut(String)> Mover<'_, B, St, F> {
    /// Two that move results at once would take each other's new queues for old ones.
    async fn lock(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            match self.session.declare_queue(&setup_queue()).await {
                Ok(_) => return Ok(()),
                Err(Lost::Denied(reason)) if reason.contains("RESOURCE_LOCKED") => {
                    ensure!(since.elapsed() < LINGERING, "another vogeler-server setup is at work on this broker");
                    sleep(LOOK).await;
                }
                Err(lost) => return Err(lost.into()),
            }
        }
    }

    async fn look(&self) -> Result<Found, Lost> {
        let names: Vec<String> = (0..SLOTS).map(|number| self.topology.results_queue(number).name).collect();
        let statuses = self.session.queue_statuses(&names).await?;
        let there = (0..SLOTS).zip(statuses).filter(|(_, status)| status.is_some());
        Ok(Found {
            queues: there.map(|(number, _)| number).collect(),
            moving: self.is_there(&self.topology.moving_queue()).await?,
            switching: self.is_there(&switching_queue()).await?,
        })
    }

    async fn is_there(&self, queue: &Queue) -> Result<bool, Lost> {
        Ok(self.session.queue_status(&queue.name).await?.is_some())
    }

    /// Up to the sign that the queues are what they are to be: old queues take nothing new, and have nothing left.
    async fn begin(&mut self, found: &Found) -> anyhow::Result<()> {
        let (from, to) = (found.in_force(), self.topology.queues);
        let slots_exchange = self.topology.slots_exchange();
        if let Declared::Differs(difference) = self.session.declare_exchange(&slots_exchange).await? {
            bail!(
                "results cannot be moved: exchange {} was not made by Vogeler ({difference}); delete it, and run setup \
                 again",
                slots_exchange.name
            );
        }
        (self.say)(format!(
            "moving results from {from} to {to} queues; it may be interrupted, and has to be run again then: servers \
             stand aside until it is done"
        ));
        if !found.moving && from > 0 {
            // What an earlier version has bound goes the way of today first. With both ways, and none of the slots bound, a
            // result would come to the first queue and to the one behind the exchange of the slots.
            setup::bind_queues(self.session, self.topology, from).await?;
            self.free_of_master().await?;
        }
        let moving = self.topology.moving_queue();
        self.session.declare_queue(&moving).await?;
        self.session.bind(&moving.name, &self.topology.moving_exchange().name, "").await?;
        // Each server hears that it is gone, looks, and finds the queue that was just declared.
        self.session.delete_queue(&servers_queue().name).await?;
        let old: Vec<String> = found.queues.iter().map(|number| self.topology.results_queue(*number).name).collect();
        self.wait_for_servers(&old).await?;
        self.free_of_master().await?;
        for queue in &old {
            for slot in slots() {
                self.session.unbind(queue, &slots_exchange.name, &key_of(slot)).await?;
            }
        }
        self.work_off(&old).await?;
        // The highest first, and then up: the queues that there are have no gap at any moment.
        for number in found.queues.range(to..).rev() {
            self.delete(&self.topology.results_queue(*number).name).await?;
        }
        for number in (0..to).filter(|number| !found.queues.contains(number)) {
            self.session.declare_queue(&self.topology.results_queue(number)).await?;
        }
        self.session.declare_queue(&switching_queue()).await?;
        Ok(())
    }

    /// From that sign to the end: the new queues take what comes, and what waited meanwhile is worked off before servers
    /// take from them.
    async fn finish(&mut self, count: u32) -> anyhow::Result<()> {
        (self.say)(format!("moving results to {count} queues: binding the slots to them"));
        setup::bind_queues(self.session, self.topology, count).await?;
        let moving = self.topology.moving_queue().name;
        self.work_off(std::slice::from_ref(&moving)).await?;
        self.delete(&moving).await?;
        self.delete(&switching_queue().name).await?;
        (self.say)(format!("moving results to {count} queues: done"));
        Ok(())
    }

    /// Waits until nobody consumes these queues.
    async fn wait_for_servers(&mut self, queues: &[String]) -> anyhow::Result<()> {
        let since = Instant::now();
        let mut told = false;
        loop {
            let Some(queue) = self.consumed(queues).await? else { return Ok(()) };
            ensure!(
                since.elapsed() < PATIENCE,
                "{queue} is still consumed after {} s: a server of an earlier version has to be stopped, one that waits \
                 for its database, too; then run setup again",
                PATIENCE.as_secs()
            );
            if !told && since.elapsed() > LOOK {
                (self.say)(format!("moving results: waiting for the servers to stand aside ({queue} is consumed)"));
                told = true;
            }
            sleep(LOOK).await;
        }
    }

    /// The first of them that somebody consumes.
    async fn consumed<'q>(&self, queues: &'q [String]) -> Result<Option<&'q String>, Lost> {
        for queue in queues {
            if self.session.queue_status(queue).await?.is_some_and(QueueStatus::is_consumed) {
                return Ok(Some(queue));
            }
        }
        Ok(None)
    }

    /// Merges what is in these queues, as a server does, until nothing is left and nobody has anything of it.
    ///
    /// They are consumed whatever is said to be in them: a broker says 0 of a queue whose quorum does not answer.
    async fn work_off(&mut self, queues: &[String]) -> anyhow::Result<()> {
        let mut calm = CALM;
        loop {
            self.wait_for_servers(queues).await?;
            let waiting = results::waiting(&self.statuses(queues).await?);
            if waiting > 0 {
                (self.say)(format!("moving results: working off {waiting}"));
            }
            self.take(queues, calm).await?;
            // What was given back, and a server that was not seen before, show now.
            sleep(LOOK).await;
            let idle = |status: &QueueStatus| status.messages == 0 && !status.is_consumed();
            if self.statuses(queues).await?.iter().all(idle) {
                return Ok(());
            }
            calm = (calm * 2).min(MOST_CALM);
        }
    }

    /// Runs a server on exactly these queues until they are empty.
    async fn take(&mut self, queues: &[String], calm: u32) -> anyhow::Result<()> {
        // What it counts is its own: it is asked whether anything is in hand.
        let parts = Parts { metrics: Metrics::default(), ..self.parts.clone() };
        let mut outcome = Ok(());
        let empty = async {
            outcome = self.until_empty(queues, &parts.metrics, calm).await;
        };
        Box::pin(run::work_off(&parts, queues.to_vec(), empty)).await?;
        outcome
    }

    /// Waits until nothing waits and nothing is in hand, for so many looks. Of a queue that is said to have no consumer
    /// nothing is known: ours is there.
    async fn until_empty(&mut self, queues: &[String], metrics: &Metrics, looks: u32) -> anyhow::Result<()> {
        let (mut calm, mut before, mut told) = (0, 0, Instant::now());
        while calm < looks {
            sleep(LOOK).await;
            let statuses = self.statuses(queues).await?;
            let waiting = results::waiting(&statuses);
            let known = statuses.iter().all(|status| status.is_consumed());
            let (taken, in_hand) = metrics.in_hand();
            calm = if known && waiting == 0 && in_hand == 0 && taken == before { calm + 1 } else { 0 };
            before = taken;
            if told.elapsed() > WORD {
                (self.say)(format!("moving results: {waiting} wait, {in_hand} are being stored"));
                told = Instant::now();
            }
        }
        Ok(())
    }

    /// Of those that are there: one that somebody has deleted has nothing.
    async fn statuses(&self, queues: &[String]) -> Result<Vec<QueueStatus>, Lost> {
        let mut statuses = Vec::with_capacity(queues.len());
        for queue in queues {
            statuses.extend(self.session.queue_status(queue).await?);
        }
        Ok(statuses)
    }

    async fn delete(&self, queue: &str) -> anyhow::Result<()> {
        let left = self.session.delete_queue(queue).await?.unwrap_or(0);
        ensure!(left == 0, "{queue} was empty, and had {left} results when it was deleted");
        Ok(())
    }

    /// A server of an earlier version binds the first queue where results come in, by all slots. No message is twice in it
    /// for that, but no slot would ever be without a queue.
    async fn free_of_master(&self) -> Result<(), Lost> {
        let first = self.topology.results_queue(0).name;
        for slot in slots() {
            self.session.unbind(&first, &self.topology.master, &key_of(slot)).await?;
        }
        Ok(())
    }

    /// Each slot bound to its own queue and to no other.
    async fn put_right(&mut self) -> anyhow::Result<()> {
        let (count, exchange) = (self.topology.queues, self.topology.slots_exchange().name);
        for number in 0..count {
            let queue = self.topology.results_queue(number);
            if let Declared::Differs(difference) = self.session.declare_queue(&queue).await? {
                (self.say)(format!(
                    "notice: queue {} exists with other arguments and is used as it is: {difference}",
                    queue.name
                ));
            }
        }
        setup::bind_queues(self.session, self.topology, count).await?;
        for slot in slots() {
            for other in (0..count).filter(|number| *number != queue_of(slot, count)) {
                let queue = self.topology.results_queue(other).name;
                self.session.unbind(&queue, &exchange, &key_of(slot)).await?;
            }
        }
        self.free_of_master().await.context("cannot take bindings away")?;
        Ok(())
    }
}
