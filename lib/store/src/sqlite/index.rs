//! Views: an index for each design document, brought up to date before it answers.
//!
//! Start at [`Indexer::answer`]. An index belongs to the functions that made it, by their signature; changed documents are
//! mapped again, and no others. A design document with other functions has another index, which is built before it counts.
//!
//! As in CouchDB one document can spoil an index: over an exception it is left out, but where a map does not come to an end,
//! or a reduce cannot take what it emitted, no question to the design document is answered until either is changed. That is
//! noted in the file, so that nobody waits for the same function twice.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::Deserialize;
use tracing::warn;
use vogeler_protocol::Digest;

use self::step::Step;
use super::documents::{rev, whole};
use super::error::Trouble;
use crate::design_docs::DesignDoc;
use crate::view::{IndexRow, Mapper, Placed, Plan, Reducer, Refusal, Uncompilable, arranged, fingerprint};
use crate::{Synced, ViewQuery, ViewRow};

mod step;
#[cfg(test)]
mod tests;

/// So many documents are read at once.
const BATCH: i64 = 200;

/// So many rows, some 40 MB, are written at once: a batch touches pages all over the index, whatever its size.
const ROWS: usize = 200_000;

/// What is read of a design document.
#[derive(Deserialize)]
struct Design {
    #[serde(default)]
    views: BTreeMap<String, View>,
}

#[derive(Deserialize)]
struct View {
    map: String,
    reduce: Option<String>,
}

impl Design {
    /// Of what its functions are, and of how keys are ordered.
    fn signature(&self) -> String {
        let functions: BTreeMap<&str, [Option<&str>; 2]> = self
            .views
            .iter()
            .map(|(name, view)| (name.as_str(), [Some(view.map.as_str()), view.reduce.as_deref()]))
            .collect();
        let text = serde_json::json!([fingerprint(), functions]).to_string();
        Digest::of_bytes(text.as_bytes()).as_str().to_owned()
    }
}

/// The functions of a design document, compiled, in the order of its views.
struct Functions {
    mapper: Mapper,
    reducers: Vec<Option<Reducer>>,
}

impl Functions {
    fn compile(design: &Design) -> Result<Self, Uncompilable> {
        let maps: Vec<(&str, &str)> =
            design.views.iter().map(|(name, view)| (name.as_str(), view.map.as_str())).collect();
        let reducer = |(name, view): (&String, &View)| view.reduce.as_deref().map(|reduce| Reducer::new(name, reduce));
        let reducers = design.views.iter().map(|view| reducer(view).transpose()).collect::<Result<_, _>>()?;
        Ok(Self { mapper: Mapper::new(&maps)?, reducers })
    }

    /// Whether a view's reduce looks at no row.
    fn counts(&self, view: usize) -> bool {
        matches!(self.reducers.get(view), Some(Some(reducer)) if reducer.is_count())
    }
}

/// Keeps the indexes. It holds on to the functions that it has compiled.
#[derive(Default)]
pub(super) struct Indexer {
    functions: BTreeMap<String, Functions>,
}

impl Indexer {
    /// Answers as CouchDB does.
    pub(super) fn answer(
        &mut self,
        database: &mut Connection,
        design: &str,
        name: &str,
        query: &ViewQuery,
    ) -> Result<Vec<ViewRow>, Trouble> {
        let body: Option<String> = database
            .prepare_cached("SELECT body FROM designs WHERE name = ?1")?
            .query_row([design], |row| row.get(0))
            .optional()?;
        let Some(body) = body else { return Err(Trouble::Refused(404, "missing".to_owned())) };
        let read: Design = serde_json::from_str(&body).map_err(|error| Trouble::Damaged(error.to_string()))?;
        let Some(((place, (_, view)), index)) =
            (0_i64..).zip(&read.views).zip(0..).find(|((_, (view, _)), _)| *view == name)
        else {
            return Err(Trouble::Refused(404, "missing_named_view".to_owned()));
        };
        let plan = match Plan::new(query, view.reduce.is_some()) {
            // This is found out later: a spoilt index comes first.
            Err(refusal @ Refusal::NoRange { .. }) => Err(refusal),
            other => Ok(other?),
        };
        let signature = read.signature();
        let functions = self.compiled(&signature, &read)?;
        let number = number(database, design, &signature)?;
        refresh(database, number, design, functions)?;
        let plan = plan?;
        let part = Part::of(number, place, &plan);
        if plan.is_reduced() && functions.counts(index) {
            return part.counted(database, &plan);
        }
        let order = part.order;
        let mut asked = database.prepare_cached(&format!(
            "SELECT sort, document, key, value FROM rows WHERE number = ?1 AND view = ?2 AND sort BETWEEN ?3 AND ?4
             ORDER BY sort {order}, document {order}, place {order}"
        ))?;
        let rows = asked.query_map(params![part.number, part.view, part.low, part.high], |row| {
            Ok(IndexRow { sort: row.get(0)?, id: row.get(1)?, key: row.get(2)?, value: row.get(3)? })
        })?;
        let mut reducer = functions.reducers.get_mut(index).and_then(Option::as_mut);
        let answer = plan.answer(reducer.as_deref_mut().filter(|_| plan.is_reduced()), rows)?;
        if let Some(failure) = reducer.and_then(Reducer::thrown) {
            warn!(design, view = name, reason = %failure, "a reduce has thrown");
        }
        Ok(answer)
    }

    /// Brings a design document to what `doc` says; its index is whole before it counts.
    pub(super) fn sync(&mut self, database: &mut Connection, doc: &DesignDoc) -> Result<Synced, Trouble> {
        let body = doc.to_document().to_string();
        let before: Option<String> = database
            .query_row("SELECT body FROM designs WHERE name = ?1", [doc.name()], |row| row.get(0))
            .optional()?;
        if before.as_deref() == Some(&body) {
            return Ok(Synced::Unchanged);
        }
        let read: Design = serde_json::from_str(&body).map_err(|error| Trouble::Damaged(error.to_string()))?;
        let signature = read.signature();
        let functions = self.compiled(&signature, &read)?;
        let number = number(database, doc.name(), &signature)?;
        match refresh(database, number, doc.name(), functions) {
            // There is nothing that it would take the place of; who asks is told.
            Err(Trouble::Spoilt(_)) if before.is_none() => {}
            other => other?,
        }
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction
            .execute("INSERT OR REPLACE INTO designs (name, body) VALUES (?1, ?2)", params![doc.name(), body])?;
        for table in ["rows", "spots", "tallies"] {
            transaction.execute(
                &format!("DELETE FROM {table} WHERE number IN (SELECT number FROM indexes WHERE design = ?1 AND number != ?2)"),
                params![doc.name(), number],
            )?;
        }
        transaction.execute("DELETE FROM indexes WHERE design = ?1 AND number != ?2", params![doc.name(), number])?;
        transaction.commit()?;
        Ok(if before.is_some() { Synced::Updated } else { Synced::Created })
    }

    fn compiled(&mut self, signature: &str, design: &Design) -> Result<&mut Functions, Uncompilable> {
        match self.functions.entry(signature.to_owned()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(Functions::compile(design)?)),
        }
    }
}

/// The number of an index, which may be one of nothing yet.
fn number(database: &Connection, design: &str, signature: &str) -> Result<i64, Trouble> {
    let mut known = database.prepare_cached("SELECT number FROM indexes WHERE design = ?1 AND signature = ?2")?;
    let mut find = || known.query_row([design, signature], |row| row.get(0)).optional();
    if let Some(number) = find()? {
        return Ok(number);
    }
    database.execute(
        "INSERT OR IGNORE INTO indexes (design, signature, seq) VALUES (?1, ?2, 0)",
        params![design, signature],
    )?;
    find()?.ok_or_else(|| Trouble::Damaged("an index is gone".to_owned()))
}

/// The part of a view that a question is about.
struct Part<'a> {
    number: i64,
    view: i64,
    low: &'a [u8],
    high: &'a [u8],
    order: &'static str,
}

impl<'a> Part<'a> {
    fn of(number: i64, view: i64, plan: &'a Plan) -> Self {
        let range = plan.range();
        // No key begins with such a byte.
        let (low, high) = (range.low.as_deref().unwrap_or_default(), range.high.as_deref().unwrap_or(&[u8::MAX]));
        Self { number, view, low, high, order: if plan.descending() { "DESC" } else { "ASC" } }
    }

    /// The answer of a view that counts: of the tallies, and of the first row of each group for its key.
    fn counted(&self, database: &Connection, plan: &Plan) -> Result<Vec<ViewRow>, Trouble> {
        let Self { number, view, low, high, order } = self;
        let mut asked = database.prepare_cached(&format!(
            "SELECT sort, count FROM tallies WHERE number = ?1 AND view = ?2 AND sort BETWEEN ?3 AND ?4 ORDER BY sort {order}"
        ))?;
        let tallies = asked.query_map(params![number, view, low, high], |row| {
            Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default()))
        })?;
        let mut first = database.prepare_cached(&format!(
            "SELECT key FROM rows WHERE number = ?1 AND view = ?2 AND sort = ?3
             ORDER BY document {order}, place {order} LIMIT 1"
        ))?;
        let key = |sort: &[u8]| first.query_row(params![number, view, sort], |row| row.get(0));
        Ok(plan.count(tallies, key)?)
    }
}

/// Maps what has changed since.
fn refresh(database: &mut Connection, number: i64, design: &str, functions: &mut Functions) -> Result<(), Trouble> {
    loop {
        let (built, spoilt) = state(database, number)?;
        if let Some(words) = spoilt {
            return Err(Trouble::Spoilt(words));
        }
        let mut step = Step { number, built, last: built, mapped: BTreeMap::new(), spoilt: None };
        let mut rows = 0;
        while rows < ROWS && step.spoilt.is_none() {
            let changed = changed(database, step.last)?;
            if changed.is_empty() {
                break;
            }
            for document in changed {
                let seq = document.seq;
                match document.mapped(functions, design) {
                    Ok((id, views)) => {
                        rows += views.iter().map(Vec::len).sum::<usize>();
                        // One that was changed meanwhile comes a second time.
                        step.mapped.insert(id, views);
                    }
                    Err(words) => {
                        step.spoilt = Some((seq, words));
                        break;
                    }
                }
                step.last = seq;
            }
        }
        if step.last == built && step.spoilt.is_none() {
            return Ok(());
        }
        let counted: Vec<bool> = (0..functions.reducers.len()).map(|view| functions.counts(view)).collect();
        step.write(database, &counted)?;
    }
}

/// Up to which write an index is built, and why it is of no use, if so.
fn state(database: &Connection, number: i64) -> Result<(i64, Option<String>), Trouble> {
    let mut asked = database.prepare_cached(
        "SELECT seq, (SELECT spoilt FROM documents WHERE documents.seq = spoilt_by) FROM indexes WHERE number = ?1",
    )?;
    Ok(asked.query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// A document that was written after an index was built.
struct Changed {
    id: String,
    seq: i64,
    /// As CouchDB would give it; none where it was deleted.
    document: Option<String>,
}

/// A document's id, and its rows in each view.
type Mapped = (String, Vec<Vec<Placed>>);

impl Changed {
    /// Its rows; or why it spoils the index.
    fn mapped(self, functions: &mut Functions, design: &str) -> Result<Mapped, String> {
        let Self { id, document, .. } = self;
        let Some(document) = document else { return Ok((id, Vec::new())) };
        let emitted = functions.mapper.map(&document);
        let mut all = Vec::with_capacity(emitted.len());
        for ((emitted, view), reducer) in emitted.into_iter().zip(functions.mapper.views()).zip(&functions.reducers) {
            let spoilt = |function: &str, reason: &dyn ToString| {
                let reason = reason.to_string();
                warn!(
                    design,
                    view,
                    document = id,
                    reason,
                    "a {function} fails over a document, and no view is answered"
                );
                format!(
                    "no view of {design} is answered, since the {function} of {view} fails over {id}: {reason}; the record \
                     or the design document has to be changed"
                )
            };
            let left_out = |reason: &dyn ToString| {
                let reason = reason.to_string();
                warn!(design, view, document = id, reason, "a map has failed over a document, which is left out");
                Vec::new()
            };
            let placed = match emitted {
                Ok(emitted) => arranged(emitted).unwrap_or_else(|error| left_out(&error)),
                Err(failure) if failure.spoils_the_view() => return Err(spoilt("map", &failure)),
                Err(failure) => left_out(&failure),
            };
            if let Some(reducer) = reducer {
                let taken = placed.iter().try_for_each(|row| reducer.takes(&row.value));
                taken.map_err(|reason| spoilt("reduce", &reason))?;
            }
            all.push(placed);
        }
        Ok((id, all))
    }
}

fn changed(database: &Connection, built: i64) -> Result<Vec<Changed>, Trouble> {
    let mut asked = database
        .prepare_cached("SELECT id, generation, seq, body FROM documents WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let rows = asked.query_map(params![built, BATCH], |row| {
        let (id, generation, seq): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let body: Option<String> = row.get(3)?;
        let document = body.map(|body| whole(&id, &rev(generation, seq), &body));
        Ok(Changed { id, seq, document })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
