//! The document of one node, and the merge of what arrives into it.
//!
//! Start at [`Record::apply`]. A record is kept as the JSON text of its members; nothing that
//! Vogeler does not own is parsed, changed or dropped. The order in which results arrive does not
//! decide what stands: see [`Order`].

mod entry;
mod merge;

pub use entry::Order;
pub use merge::{Arrival, Change};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::object::Object;
use crate::{NodeName, RunId, Timestamp};

/// One node's document.
#[derive(Debug, Clone)]
pub struct Record {
    id: NodeName,
    /// The revision it was read at; none while the database has no such document.
    rev: Option<Box<str>>,
    /// Every member but `_id`, `_rev` and `vogeler`.
    fields: Object,
    client: Option<Box<RawValue>>,
    results: Object,
    errors: Object,
    /// Members of `vogeler` that this version does not know.
    others: Object,
}

/// The members that every record has.
const COMPLETE: [&str; 4] = ["doc_type", "system_name", "created_at", "updated_at"];

/// A document that is no record.
#[derive(Debug, thiserror::Error)]
#[error("the document is no record")]
pub struct BadRecord(#[from] serde_json::Error);

impl Record {
    /// A record for a node that has none.
    pub fn new(id: NodeName, now: Timestamp) -> Self {
        let mut record = Self {
            rev: None,
            fields: Object::default(),
            client: None,
            results: Object::default(),
            errors: Object::default(),
            others: Object::default(),
            id,
        };
        record.complete(now);
        record
    }

    /// A record as the database has it.
    ///
    /// # Errors
    /// Text that is no JSON object. A `vogeler` member that is no object counts as none.
    pub fn from_document(id: NodeName, document: &str, now: Timestamp) -> Result<Self, BadRecord> {
        let mut fields: Object = serde_json::from_str(document)?;
        fields.remove("_id");
        let rev = fields.remove("_rev").and_then(|rev| serde_json::from_str(rev.get()).ok());
        let mut vogeler = object(fields.remove("vogeler"));
        let mut record = Self {
            id,
            rev,
            fields,
            client: vogeler.remove("client"),
            results: object(vogeler.remove("results")),
            errors: object(vogeler.remove("errors")),
            others: vogeler,
        };
        record.complete(now);
        Ok(record)
    }

    /// Adds the members that every record has, where they are missing.
    fn complete(&mut self, now: Timestamp) {
        let now = now.to_string();
        for (name, value) in COMPLETE.into_iter().zip(["SystemRecord", self.id.as_str(), &now, &now]) {
            if self.fields.get(name).is_none() {
                self.fields.set(name, text(value));
            }
        }
    }

    /// The node that it is of.
    pub fn id(&self) -> &NodeName {
        &self.id
    }

    /// The revision that the database gave it.
    pub fn rev(&self) -> Option<&str> {
        self.rev.as_deref()
    }

    /// Notes the revision that the database gave it.
    pub fn set_rev(&mut self, rev: &str) {
        self.rev = Some(rev.into());
    }

    /// The document as JSON, `vogeler` last.
    pub fn to_document(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("raw members under string keys are an object")
    }

    /// Roughly how many bytes of memory it takes.
    pub fn weight(&self) -> usize {
        let members =
            |object: &Object| object.iter().map(|(key, value)| key.len() + value.get().len() + 64).sum::<usize>();
        256 + members(&self.fields)
            + members(&self.results)
            + members(&self.errors)
            + members(&self.others)
            + self.client.as_ref().map_or(0, |client| client.get().len())
    }

    /// The names of the largest members that hold somebody's data, with their size in bytes, the largest first.
    pub fn largest(&self, count: usize) -> Vec<(String, usize)> {
        let data = self.fields.iter().filter(|(key, _)| !COMPLETE.contains(key));
        let mut sizes: Vec<_> = data.map(|(key, value)| (key.to_owned(), value.get().len())).collect();
        sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        sizes.truncate(count);
        sizes
    }

    /// Whether the entry of some key, good or bad, came of that run and command.
    pub fn answers(&self, run: RunId, command: &str) -> Option<Answer> {
        entry::answers(&self.results, &self.errors, run, command)
    }

    /// The run that answered a command after this one did or might have, by the entry that stands.
    pub fn answered_later(&self, run: RunId, command: &str) -> Option<RunId> {
        entry::answered_later(&self.results, &self.errors, run, command)
    }

    /// The aliases that its client knows; none where no client has said hello.
    pub fn aliases(&self) -> Option<Vec<String>> {
        let client: Object = serde_json::from_str(self.client.as_ref()?.get()).ok()?;
        let aliases: Object = serde_json::from_str(client.get("aliases")?.get()).ok()?;
        Some(aliases.iter().map(|(alias, _)| alias.to_owned()).collect())
    }
}

/// What a record says of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its data stands.
    Stored,
    /// Its data stands and is what was there before.
    Unchanged,
    /// It failed, in these words.
    Failed(String),
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("_id", &self.id)?;
        if let Some(rev) = &self.rev {
            map.serialize_entry("_rev", rev)?;
        }
        for (name, value) in self.fields.iter() {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("vogeler", &Vogeler(self))?;
        map.end()
    }
}

struct Vogeler<'a>(&'a Record);

impl Serialize for Vogeler<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(client) = &self.0.client {
            map.serialize_entry("client", client)?;
        }
        map.serialize_entry("results", &self.0.results)?;
        if !self.0.errors.is_empty() {
            map.serialize_entry("errors", &self.0.errors)?;
        }
        for (name, value) in self.0.others.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn object(raw: Option<Box<RawValue>>) -> Object {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

fn text(value: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("a string is JSON")
}
