//! Views: an index for each design document, brought up to date before it answers.
//!
//! Start at [`Indexer::answer`]. An index belongs to the maps that made it, by their signature; changed documents are
//! mapped again, and no others. A design document with other maps has another index, which is built before it counts.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::Deserialize;
use tracing::warn;
use vogeler_protocol::Digest;

use super::documents::{rev, whole};
use super::error::Trouble;
use crate::design_docs::DesignDoc;
use crate::view::{IndexRow, Mapper, Placed, Plan, Reducer, arranged, fingerprint};
use crate::{Synced, ViewQuery, ViewRow};

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
    /// Of what its maps are, and of how keys are ordered.
    fn signature(&self) -> String {
        let maps: BTreeMap<&str, &str> =
            self.views.iter().map(|(name, view)| (name.as_str(), view.map.as_str())).collect();
        let text = serde_json::json!([fingerprint(), maps]).to_string();
        Digest::of_bytes(text.as_bytes()).as_str().to_owned()
    }
}

/// Keeps the indexes. It holds on to the maps that it has compiled.
#[derive(Default)]
pub(super) struct Indexer {
    mappers: BTreeMap<String, Mapper>,
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
        let Some((place, (_, view))) = (0_i64..).zip(&read.views).find(|(_, (view, _))| *view == name) else {
            return Err(Trouble::Refused(404, "missing_named_view".to_owned()));
        };
        let plan = Plan::new(query, view.reduce.is_some())?;
        let mut reducer = view.reduce.as_deref().map(|reduce| Reducer::new(name, reduce)).transpose()?;
        let number = self.refresh(database, design, &read)?;
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
        let answer = plan.answer(reducer.as_mut().filter(|_| plan.is_reduced()), rows)?;
        if let Some(failure) = reducer.as_mut().and_then(Reducer::thrown) {
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
        for (name, view) in &read.views {
            view.reduce.as_deref().map(|reduce| Reducer::new(name, reduce)).transpose()?;
        }
        let number = self.refresh(database, doc.name(), &read)?;
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

    /// Maps what has changed since; the number of the index.
    fn refresh(&mut self, database: &mut Connection, design: &str, read: &Design) -> Result<i64, Trouble> {
        let signature = read.signature();
        database.execute(
            "INSERT OR IGNORE INTO indexes (design, signature, seq) VALUES (?1, ?2, 0)",
            params![design, signature],
        )?;
        let mapper = match self.mappers.entry(signature.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let maps: Vec<(&str, &str)> =
                    read.views.iter().map(|(name, view)| (name.as_str(), view.map.as_str())).collect();
                new.insert(Mapper::new(&maps)?)
            }
        };
        loop {
            let (number, built): (i64, i64) = database.query_row(
                "SELECT number, seq FROM indexes WHERE design = ?1 AND signature = ?2",
                params![design, signature],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let changed = changed(database, built)?;
            let Some(last) = changed.last().map(|document| document.seq) else { return Ok(number) };
            let mapped: Vec<(String, Vec<Vec<Placed>>)> =
                changed.into_iter().map(|document| document.mapped(mapper, design)).collect();
            write(database, number, built, last, &mapped)?;
        }
    }
}

/// A document that was written after an index was built.
struct Changed {
    id: String,
    seq: i64,
    /// As CouchDB would give it; none where it was deleted.
    document: Option<String>,
}

impl Changed {
    /// The rows of each view.
    fn mapped(self, mapper: &mut Mapper, design: &str) -> (String, Vec<Vec<Placed>>) {
        let Self { id, document, .. } = self;
        let Some(document) = document else { return (id, Vec::new()) };
        let views: Vec<String> = mapper.views().map(str::to_owned).collect();
        let rows = mapper.map(&document).into_iter().zip(views).map(|(emitted, view)| {
            let placed = match emitted {
                Ok(emitted) => arranged(emitted).map_err(|error| error.to_string()),
                Err(failure) => Err(failure.to_string()),
            };
            // As in CouchDB: a document over which a map fails is not in its view.
            placed.unwrap_or_else(|reason| {
                warn!(design, view, document = id, reason, "a map has failed over a document, which is left out");
                Vec::new()
            })
        });
        let rows = rows.collect();
        (id, rows)
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

/// Puts the rows of some documents in the place of what they had, unless another process was faster.
fn write(
    database: &mut Connection,
    number: i64,
    built: i64,
    last: i64,
    mapped: &[(String, Vec<Vec<Placed>>)],
) -> Result<(), Trouble> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let moved = transaction
        .execute("UPDATE indexes SET seq = ?3 WHERE number = ?1 AND seq = ?2", params![number, built, last])?;
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
