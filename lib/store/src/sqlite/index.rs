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

use super::documents::{rev, whole};
use super::error::Trouble;
use crate::design_docs::DesignDoc;
use crate::view::{IndexRow, Mapper, Placed, Plan, Reducer, Refusal, Uncompilable, arranged, fingerprint};
use crate::{Synced, ViewQuery, ViewRow};

#[cfg(test)]
mod tests;

/// So many documents are mapped and written at once.
const BATCH: i64 = 200;

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
        let order = if plan.descending() { "DESC" } else { "ASC" };
        let mut asked = database.prepare_cached(&format!(
            "SELECT sort, document, key, value FROM rows
             WHERE number = ?1 AND view = ?2 AND (?3 IS NULL OR sort >= ?3) AND (?4 IS NULL OR sort <= ?4)
             ORDER BY sort {order}, document {order}, place {order}"
        ))?;
        let range = plan.range();
        let rows = asked.query_map(params![number, place, range.low, range.high], |row| {
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
        transaction.execute(
            "DELETE FROM rows WHERE number IN (SELECT number FROM indexes WHERE design = ?1 AND number != ?2)",
            params![doc.name(), number],
        )?;
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

/// Maps what has changed since.
fn refresh(database: &mut Connection, number: i64, design: &str, functions: &mut Functions) -> Result<(), Trouble> {
    loop {
        let (built, spoilt) = state(database, number)?;
        if let Some(words) = spoilt {
            return Err(Trouble::Spoilt(words));
        }
        let mut step = Step { number, built, last: built, mapped: Vec::new(), spoilt: None };
        let changed = changed(database, built)?;
        if changed.is_empty() {
            return Ok(());
        }
        for document in changed {
            let seq = document.seq;
            match document.mapped(functions, design) {
                Ok(mapped) => step.mapped.push(mapped),
                Err(words) => {
                    step.spoilt = Some((seq, words));
                    break;
                }
            }
            step.last = seq;
        }
        step.write(database)?;
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

/// An index on its way from one write to a later one.
struct Step {
    number: i64,
    built: i64,
    last: i64,
    mapped: Vec<Mapped>,
    /// The write that it cannot get past, and why.
    spoilt: Option<(i64, String)>,
}

impl Step {
    /// Puts the rows of the documents in the place of what they had, unless another process was faster.
    fn write(&self, database: &mut Connection) -> Result<(), Trouble> {
        let Self { number, built, last, mapped, spoilt } = self;
        let (spoilt_by, words) = spoilt.as_ref().map(|(seq, words)| (*seq, words.as_str())).unzip();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let moved = transaction.execute(
            "UPDATE indexes SET seq = ?3, spoilt_by = ?4, spoilt = ?5 WHERE number = ?1 AND seq = ?2",
            params![number, built, last, spoilt_by, words],
        )?;
        if moved == 0 {
            return Ok(());
        }
        {
            let mut removing = transaction.prepare_cached("DELETE FROM rows WHERE number = ?1 AND document = ?2")?;
            let mut adding = transaction.prepare_cached(
                "INSERT INTO rows (number, view, sort, document, place, key, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for (id, views) in mapped {
                removing.execute(params![number, id])?;
                for (view, rows) in (0_i64..).zip(views) {
                    for (place, row) in (0_i64..).zip(rows) {
                        adding.execute(params![number, view, row.sort, id, place, row.key, row.value])?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
