//! One worker: takes batches of its own nodes, merges them, writes them, settles each delivery by
//! its own row.
//!
//! Start at [`Worker::run`]. A node always has the same worker, so that no two writes of one
//! record are ever on their way at once. What goes wrong with a write is told apart by row and by
//! request; see `Worker::write`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use vogeler_messaging::{Acks, Backoff, Session};
use vogeler_protocol::{Clock, NodeName, Random, Record};
use vogeler_store::{Fate, PutError, Row, Store, StoreError};

use crate::batch::Batches;
use crate::group::{Group, halve, overtaken, take_apart, unread};
use crate::health::Health;
use crate::intake::{Content, Incoming};
use crate::metrics::Metrics;
use crate::newcomers::Newcomers;
use crate::notice::notice;
use crate::records::Records;
use crate::settle::Settler;

/// Most bytes of documents in one request that has several. CouchDB 3.5 writes fastest where requests have about a megabyte
/// (bench/RESULTS.md); more of it is only more memory.
const MOST_BYTES: usize = 2 << 20;

/// How often a row that fails for no known reason is tried, with pauses of 1, 2, 4 and 8 s: what runs the
/// database's functions may have to be started anew.
const TRIES: u32 = 5;

/// How often all rows of a request may fail, at 2 s each, before they are tried by halves: two minutes, in which what runs
/// the database's functions can be back.
const ROUNDS: u32 = 60;

/// How often a document may stand alone before a database that answers every trial write and never this
/// one. With the waits between, which grow to 10 s, that is well over half a minute.
const UNANSWERED: u32 = 10;

/// The database stayed away; what is unsettled goes back to the queue.
#[derive(Debug)]
pub struct GivenUp;

/// What a worker needs.
pub struct Worker<St, S, A> {
    /// The database.
    pub store: St,
    /// The way out.
    pub settler: Settler<S, A>,
    /// Recent records of this worker's nodes.
    pub records: Records,
    /// Whether nodes that are not among them are likely to be new.
    pub newcomers: Newcomers,
    /// What the workers know of the database.
    pub health: Health,
    /// Says when to begin nothing more, nor to wait for the database.
    pub give_up: CancellationToken,
    /// The wall clock.
    pub clock: Clock,
    /// For waits.
    pub random: Random,
    /// What is counted.
    pub metrics: Metrics,
    /// Requests that failed one after the other although the database answers.
    pub setbacks: u32,
}

impl<St: Store, S: Session, A: Acks> Worker<St, S, A> {
    /// Works until the intake ends and everything is settled, or until it is told to give up.
    ///
    /// # Errors
    /// Given up; what was not settled has to go back to its queue.
    pub async fn run(mut self, mut batches: Batches) -> Result<(), GivenUp> {
        while let Some(batch) = batches.next().await {
            if self.give_up.is_cancelled() {
                return Err(GivenUp);
            }
            let (deliveries, begun) = (batch.len(), Instant::now());
            debug!(deliveries, "writing a batch");
            let mut by_node: BTreeMap<NodeName, Vec<Incoming>> = BTreeMap::new();
            for incoming in batch {
                by_node.entry(incoming.node.clone()).or_default().push(incoming);
            }
            let groups = by_node.into_iter().map(|(node, incoming)| Group::of(node, incoming)).collect();
            self.write(groups).await?;
            self.metrics.batch(deliveries, begun.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Brings every group to its end.
    ///
    /// The database refuses a whole request for one bad document. A request that is refused is
    /// halved until the culprit stands alone; a group that stands alone is taken apart into its
    /// deliveries; a delivery that is refused alone, while the database answers, is a dead letter.
    async fn write(&mut self, groups: Vec<Group>) -> Result<(), GivenUp> {
        let mut pending = vec![groups];
        while let Some(mut batch) = pending.pop() {
            self.read_and_merge(&mut batch).await?;
            let (mut writing, settled): (Vec<_>, Vec<_>) = batch.into_iter().partition(Group::writes);
            self.settle(settled.into_iter().map(|group| (group, None)).collect()).await;
            // Whoever has lost its consumer may be behind the next one, which has taken the same results and later ones. What
            // was read before this look meets a conflict if so.
            self.still_ours()?;
            let rows = request(&mut writing, &mut pending);
            if rows.is_empty() {
                continue;
            }
            match self.store.put(&rows).await {
                Ok(fates) => {
                    self.health.back();
                    self.setbacks = 0;
                    let again = self.by_fate(writing, fates, &mut pending).await?;
                    if !again.is_empty() {
                        pending.push(again);
                    }
                }
                Err(PutError::TooLarge { id: Some(id), reason }) => {
                    let (culprit, rest): (Vec<_>, Vec<_>) =
                        writing.into_iter().partition(|group| group.node.as_str() == id);
                    pending.push(rest);
                    for group in culprit {
                        self.too_large(group, &reason, &mut pending).await?;
                    }
                }
                Err(PutError::TooLarge { id: None, reason }) => {
                    if let Some(alone) = halve(writing, &mut pending) {
                        self.too_large(alone, &reason, &mut pending).await?;
                    }
                }
                Err(PutError::Refused { status, reason }) => {
                    if let Some(alone) = halve(writing, &mut pending) {
                        self.refused_alone(alone, status, &reason, &mut pending).await?;
                    }
                }
                Err(PutError::Store(reason)) => {
                    // It may have committed and only the answer was lost: read again before the
                    // next attempt, so that what is held already is seen to be.
                    self.wait_for_store(&reason).await?;
                    let again = writing.into_iter().map(unread).collect();
                    // What timed out may have been too much at once.
                    if let Some(alone) = halve(again, &mut pending) {
                        self.unanswered(alone, &reason, &mut pending);
                    }
                }
            }
        }
        Ok(())
    }

    fn still_ours(&self) -> Result<(), GivenUp> {
        if self.give_up.is_cancelled() { Err(GivenUp) } else { Ok(()) }
    }

    /// Reads the records that are not at hand, in one request, and merges.
    async fn read_and_merge(&mut self, batch: &mut [Group]) -> Result<(), GivenUp> {
        let clock = self.clock.clone();
        for group in batch.iter_mut().filter(|group| group.merged.is_none() && !group.stale) {
            if let Some(record) = self.records.take(&group.node) {
                group.merge(record, &clock);
            }
        }
        if self.newcomers.are_likely() {
            for group in batch.iter_mut().filter(|group| group.merged.is_none() && !group.stale) {
                let begun = group.begun(&clock);
                group.merge(Record::new(group.node.clone(), begun), &clock);
                group.guessed = group.writes();
                if !group.guessed {
                    // It would be settled with nobody having looked.
                    group.merged = None;
                }
            }
        }
        let missing: Vec<NodeName> =
            batch.iter().filter(|group| group.merged.is_none()).map(|group| group.node.clone()).collect();
        let documents = self.fetch(&missing).await?;
        self.newcomers.read(documents.len(), documents.iter().filter(|document| document.is_none()).count());
        for (group, document) in batch.iter_mut().filter(|group| group.merged.is_none()).zip(documents) {
            let now = group.begun(&clock);
            let read = document.map(|text| Record::from_document(group.node.clone(), &text, now));
            let record = match read {
                Some(Ok(record)) => record,
                // The database only holds JSON objects; one that is none is not there.
                Some(Err(_)) | None => Record::new(group.node.clone(), now),
            };
            group.merge(record, &clock);
        }
        Ok(())
    }

    async fn fetch(&mut self, ids: &[NodeName]) -> Result<Vec<Option<String>>, GivenUp> {
        let mut documents = Vec::with_capacity(ids.len());
        let mut at_once = ids.len().max(1);
        while documents.len() < ids.len() {
            let until = ids.len().min(documents.len() + at_once);
            match self.store.fetch(&ids[documents.len()..until]).await {
                Ok(more) => documents.extend(more),
                Err(reason) => {
                    self.wait_for_store(&reason).await?;
                    // What timed out may have been too much at once.
                    at_once = at_once.div_ceil(2);
                }
            }
        }
        Ok(documents)
    }

    /// Acts on each row's fate; what has to be written again.
    async fn by_fate(
        &mut self,
        writing: Vec<Group>,
        fates: Vec<Fate>,
        pending: &mut Vec<Vec<Group>>,
    ) -> Result<Vec<Group>, GivenUp> {
        let mut again = Vec::new();
        // Where every row fails, what runs the database's functions is gone, and no document is to blame.
        if fates.len() > 1 && fates.iter().all(|fate| matches!(fate, Fate::Failed { .. })) {
            warn!(rows = fates.len(), "the database failed over every record of a request; trying again");
            self.pause(1).await;
            self.still_ours()?;
            let again: Vec<Group> =
                writing.into_iter().map(|group| Group { rounds: group.rounds + 1, ..unread(group) }).collect();
            if again.iter().any(|group| group.rounds < ROUNDS) {
                return Ok(again);
            }
            // It may be each of them that it fails over. Those that stand alone are counted for themselves.
            halve(again, pending);
            return Ok(Vec::new());
        }
        let wrong = |(group, fate): &(&Group, &Fate)| group.guessed && **fate == Fate::Conflict;
        let wrong = writing.iter().zip(&fates).filter(wrong).count();
        self.newcomers.guessed(writing.iter().filter(|group| group.guessed).count(), wrong);
        let mut stored = Vec::with_capacity(writing.len());
        let mut failed = Vec::new();
        for (group, fate) in writing.into_iter().zip(fates) {
            match fate {
                Fate::Stored { rev } => stored.push((group, Some(rev))),
                Fate::Conflict => {
                    if group.guessed {
                        again.push(unread(group));
                    } else {
                        self.metrics.conflict();
                        debug!(node = %group.node, "somebody else has written this record; merging again");
                        again.push(overtaken(group));
                    }
                }
                Fate::Forbidden { reason } => {
                    if let Some(incoming) = take_apart(group, pending) {
                        self.bury(incoming, "forbidden", &reason);
                    }
                }
                Fate::Failed { error, reason } if group.failures + 1 >= TRIES => {
                    if let Some(incoming) = take_apart(group, pending) {
                        self.bury(incoming, "row_failed", &format!("{error}: {reason}"));
                    }
                }
                Fate::Failed { error, reason } => failed.push((group, error, reason)),
            }
        }
        // Together, so that one acknowledgement is enough; and before anything that has to wait.
        self.settle(stored).await;
        for (group, error, reason) in failed {
            warn!(node = %group.node, error, reason, "the database failed over a record; trying again");
            self.pause(group.failures).await;
            let failures = group.failures + 1;
            pending.push(vec![Group { failures, ..unread(group) }]);
        }
        Ok(again)
    }

    /// A document that stood alone when the database did not answer, and that answers others again.
    fn unanswered(&mut self, group: Group, reason: &StoreError, pending: &mut Vec<Vec<Group>>) {
        let failures = group.failures + 1;
        if failures < UNANSWERED {
            pending.push(vec![Group { failures, ..group }]);
        } else if let Some(incoming) = take_apart(group, pending) {
            self.bury(incoming, "refused", &format!("the database answers others and never for this record: {reason}"));
        }
    }

    /// A document that is refused alone. While the database answers, the document is to blame.
    /// Where it failed over the document (5xx), it has to take another write for that.
    async fn refused_alone(
        &mut self,
        group: Group,
        status: u16,
        reason: &str,
        pending: &mut Vec<Vec<Group>>,
    ) -> Result<(), GivenUp> {
        // A full disk answers reads, and fails every write with a 500: that is no fault of the document.
        let answers = if status >= 500 { self.store.probe_write().await } else { self.store.probe().await };
        if let Err(away) = answers {
            self.wait_for_store(&away).await?;
            pending.push(vec![unread(group)]);
        } else if !group.stale {
            // What is kept in memory may be what is wrong with it.
            pending.push(vec![unread(group)]);
        } else if let Some(incoming) = take_apart(group, pending) {
            let detail = format!("the database refuses this record with {status}: {reason}");
            self.bury(incoming, "refused", &detail);
        }
        Ok(())
    }

    /// A record that has become too large: notes so in it, and moves the result away.
    async fn too_large(&mut self, group: Group, reason: &str, pending: &mut Vec<Vec<Group>>) -> Result<(), GivenUp> {
        if !group.stale {
            // Somebody may have made it smaller since it was kept in memory.
            pending.push(vec![unread(group)]);
            return Ok(());
        }
        let Some(incoming) = take_apart(group, pending) else { return Ok(()) };
        let Content::Result(arrival) = &incoming.content else {
            self.bury(incoming, "record_too_large", reason);
            return Ok(());
        };
        let mut detail = format!("the record would be larger than the database takes; it says: {reason}");
        loop {
            let document = self.fetch(std::slice::from_ref(&incoming.node)).await?.pop().flatten();
            let now = self.clock.now();
            let read = document.and_then(|text| Record::from_document(incoming.node.clone(), &text, now).ok());
            let mut record = read.unwrap_or_else(|| Record::new(incoming.node.clone(), now));
            if record.apply_too_large(arrival).writes() {
                self.still_ours()?;
                let row = Row { id: incoming.node.clone(), document: record.to_document() };
                match self.store.put(&[row]).await {
                    Ok(fates) if fates.first() == Some(&Fate::Conflict) => continue,
                    Ok(_) => {}
                    Err(PutError::Store(away)) => {
                        self.wait_for_store(&away).await?;
                        continue;
                    }
                    Err(PutError::TooLarge { .. } | PutError::Refused { .. }) => {
                        detail.push_str("; the record is so full that not even this could be noted in it");
                    }
                }
            }
            self.bury(incoming, "record_too_large", &detail);
            return Ok(());
        }
    }

    fn bury(&self, incoming: Incoming, reason: &'static str, detail: &str) {
        let unusable = incoming.unusable(reason, detail);
        self.settler.bury(incoming.parcel, unusable);
    }

    /// Every delivery of these groups is settled by what it did; the records are kept at their revisions.
    async fn settle(&mut self, groups: Vec<(Group, Option<String>)>) {
        let mut settled = Vec::with_capacity(groups.len());
        for (group, rev) in groups {
            let Some((mut record, changes)) = group.merged else { continue };
            if let Some(rev) = rev {
                record.set_rev(&rev);
            }
            // A record that is not in the database has no place among those that are.
            if record.rev().is_some() {
                self.records.keep(record);
            }
            settled.extend(group.incoming.into_iter().zip(changes).map(|(incoming, change)| {
                let (notice, detail) = notice(&incoming, change);
                (incoming, notice, detail)
            }));
        }
        if !settled.is_empty() {
            self.settler.done(settled).await;
        }
    }

    /// Waits until the database answers again.
    async fn wait_for_store(&mut self, reason: &StoreError) -> Result<(), GivenUp> {
        let ceiling = match reason {
            // A login that fails too often is locked out; a database that is missing has to be made.
            StoreError::Denied { .. } | StoreError::Missing { .. } => Duration::from_secs(60),
            StoreError::Away { .. }
            | StoreError::Refused { .. }
            | StoreError::Garbled { .. }
            | StoreError::Unable { .. } => Duration::from_secs(10),
        };
        // The first failure may be an idle connection that the database closed; the next is news.
        self.setbacks += 1;
        self.metrics.retry();
        if self.setbacks == 2 {
            warn!(%reason, "requests to the database fail; trying again, with less at once");
        }
        let slow = ceiling > Duration::from_secs(10);
        let first = if slow { Duration::from_secs(10) } else { Duration::from_millis(50) };
        let first = first.saturating_mul(2u32.saturating_pow(self.setbacks.min(8))).min(ceiling);
        let mut backoff = Backoff::new(self.random.clone(), first, ceiling);
        loop {
            let wait = backoff.next_wait();
            let waited = self.give_up.run_until_cancelled(tokio::time::sleep(wait)).await;
            waited.ok_or(GivenUp)?;
            match self.store.probe_write().await {
                Ok(()) => {
                    self.health.back();
                    return Ok(());
                }
                // Only what a second look confirms is told: an idle connection that the database
                // closed fails the first request on it.
                Err(reason) => self.health.away(&reason),
            }
        }
    }

    async fn pause(&self, failures: u32) {
        let pause = Duration::from_secs(1).saturating_mul(2u32.saturating_pow(failures));
        // Who gives up meanwhile finds the next batch refused to it.
        let _ = self.give_up.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// What the next request writes. Batches are bounded by what came, and records may be much larger than what came for
/// them: groups that would be too much for one request are left for the next.
fn request(writing: &mut Vec<Group>, pending: &mut Vec<Vec<Group>>) -> Vec<Row> {
    let (mut rows, mut bytes) = (Vec::with_capacity(writing.len()), 0);
    for row in writing.iter().filter_map(Group::row) {
        bytes += row.document.len();
        if bytes > MOST_BYTES && !rows.is_empty() {
            pending.push(writing.split_off(rows.len()));
            break;
        }
        rows.push(row);
    }
    rows
}
