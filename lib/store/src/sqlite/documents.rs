//! Documents and their revisions.

use std::borrow::Cow;
use std::fmt;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use vogeler_protocol::{Group, NodeName};

use super::error::Trouble;
use crate::{Fate, KnownNode, Row};

pub(super) fn probe(database: &mut Connection) -> Result<(), Trouble> {
    database.query_row("SELECT 1 FROM documents LIMIT 1", [], |_| Ok(())).optional()?;
    Ok(())
}

/// Writes a page and takes it back: a full disk says so.
pub(super) fn probe_write(database: &mut Connection) -> Result<(), Trouble> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("INSERT OR REPLACE INTO designs (name, body) VALUES ('', '')", [])?;
    transaction.execute("DELETE FROM designs WHERE name = ''", [])?;
    transaction.commit()?;
    Ok(())
}

/// The documents with their id and revision.
pub(super) fn fetch(database: &mut Connection, ids: &[NodeName]) -> Result<Vec<Option<String>>, Trouble> {
    let transaction = database.transaction()?;
    let mut asked =
        transaction.prepare_cached("SELECT generation, seq, body FROM documents WHERE id = ?1 AND body IS NOT NULL")?;
    let document = |id: &NodeName| {
        let found = asked.query_row([id.as_str()], |row| {
            let body: String = row.get(2)?;
            Ok(whole(id.as_str(), &rev(row.get(0)?, row.get(1)?), &body))
        });
        found.optional()
    };
    Ok(ids.iter().map(document).collect::<Result<_, _>>()?)
}

/// A document as CouchDB would give it.
pub(super) fn whole(id: &str, rev: &str, body: &str) -> String {
    let comma = if body == "{}" { "" } else { "," };
    format!("{{\"_id\":{},\"_rev\":\"{rev}\"{comma}{}", Value::from(id), &body[1..])
}

/// A revision: how often the document was written, and which write of the database it was.
pub(super) fn rev(generation: i64, seq: i64) -> String {
    format!("{generation}-{seq:016x}")
}

/// Writes a batch. All that is stored of it is stored at once.
pub(super) fn put(database: &mut Connection, rows: &[Row]) -> Result<Vec<Fate>, Trouble> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut seq = last_seq(&transaction)?;
    let mut fates = Vec::with_capacity(rows.len());
    for row in rows {
        fates.push(one(&transaction, row, &mut seq)?);
    }
    transaction.commit()?;
    Ok(fates)
}

fn one(database: &Connection, row: &Row, seq: &mut i64) -> Result<Fate, Trouble> {
    let document = match serde_json::from_slice::<Members>(&row.document) {
        Ok(document) => document,
        Err(error) => return Ok(Fate::Failed { error: "bad_request".to_owned(), reason: error.to_string() }),
    };
    let mut standing =
        database.prepare_cached("SELECT generation, seq, body IS NOT NULL FROM documents WHERE id = ?1")?;
    let standing: Option<(i64, i64, bool)> =
        standing.query_row([row.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let expected = standing.filter(|(.., is_there)| *is_there).map(|(generation, seq, _)| rev(generation, seq));
    let given: Option<Cow<'_, str>> = document.get("_rev").and_then(|rev| serde_json::from_str(rev.get()).ok());
    if given.as_deref() != expected.as_deref() {
        return Ok(Fate::Conflict);
    }
    *seq += 1;
    let generation = standing.map_or(0, |(generation, ..)| generation) + 1;
    let body = document.body();
    let Listing { updated_at, listed, groups } = Listing::of(&document);
    database
        .prepare_cached(
            "INSERT OR REPLACE INTO documents (id, generation, seq, updated_at, listed, groups, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![row.id.as_str(), generation, *seq, updated_at, listed, groups, body])?;
    Ok(Fate::Stored { rev: rev(generation, *seq) })
}

/// Takes the body of a document away.
pub(super) fn delete(database: &mut Connection, id: &NodeName) -> Result<(), Trouble> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seq = last_seq(&transaction)? + 1;
    transaction.execute(
        "UPDATE documents SET generation = generation + 1, seq = ?2, listed = 0, groups = NULL, body = NULL
         WHERE id = ?1 AND body IS NOT NULL",
        params![id.as_str(), seq],
    )?;
    transaction.commit()?;
    Ok(())
}

/// The number of the last write.
fn last_seq(database: &Connection) -> Result<i64, Trouble> {
    Ok(database.query_row("SELECT COALESCE(MAX(seq), 0) FROM documents", [], |row| row.get(0))?)
}

pub(super) fn nodes(database: &mut Connection) -> Result<Vec<KnownNode>, Trouble> {
    let mut asked = database.prepare_cached("SELECT id, updated_at FROM documents WHERE listed = 1 ORDER BY id")?;
    let rows = asked.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)))?;
    let mut nodes = Vec::new();
    for row in rows {
        let (id, updated_at) = row?;
        let updated_at = updated_at.and_then(|at| serde_json::from_value(at.into()).ok());
        nodes.extend(id.parse().ok().map(|node| KnownNode { node, updated_at }));
    }
    Ok(nodes)
}

pub(super) fn members(database: &mut Connection, group: &Group) -> Result<Vec<NodeName>, Trouble> {
    let mut asked = database.prepare_cached(
        "SELECT DISTINCT documents.id FROM documents, json_each(documents.groups)
         WHERE documents.listed = 1 AND json_each.value = ?1 ORDER BY documents.id",
    )?;
    let ids = asked.query_map([group.as_str()], |row| row.get::<_, String>(0))?;
    let mut members = Vec::new();
    for id in ids {
        members.extend(id?.parse().ok());
    }
    Ok(members)
}

/// The members of a document in their order, their values untouched.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Members<'_> {
    /// Of members with one name the last counts, as in CouchDB.
    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// The document without its id and revision, which stand beside it.
    fn body(&self) -> String {
        let kept = self.0.iter().filter(|(name, _)| !matches!(name.as_ref(), "_id" | "_rev"));
        let members: Vec<String> =
            kept.map(|(name, value)| format!("{}:{}", Value::from(name.as_ref()), value.get())).collect();
        format!("{{{}}}", members.join(","))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A name, borrowed where it is spelt without escapes.
#[derive(Deserialize)]
pub(super) struct Name<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// As JavaScript has it, and so the views by which CouchDB lists nodes.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// What the lists of nodes are made of.
struct Listing {
    updated_at: Option<String>,
    listed: bool,
    groups: Option<String>,
}

impl Listing {
    fn of(document: &Members<'_>) -> Self {
        let member = |name: &str| document.get(name).and_then(|value| serde_json::from_str::<Value>(value.get()).ok());
        let vogeler = member("vogeler").unwrap_or_default();
        let is_record = member("doc_type").is_some_and(|kind| kind == "SystemRecord");
        let is_retired = vogeler.get("retired").is_some_and(is_truthy);
        let groups = vogeler.pointer("/client/groups").filter(|groups| groups.is_array());
        Self {
            updated_at: member("updated_at").and_then(|at| at.as_str().map(str::to_owned)),
            listed: is_record && !is_retired,
            groups: groups.map(Value::to_string),
        }
    }
}
