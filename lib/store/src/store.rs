//! The trait that programs are written against.

use std::future::Future;

use serde::Deserialize;
use serde_json::Value;
use vogeler_protocol::{Group, NodeName, Timestamp};

use crate::condition::{Condition, Path};
use crate::design_docs::DesignDoc;

/// A database of records.
pub trait Store: Clone + Send + Sync + 'static {
    /// Asks the database whether it is there, by its cheapest read.
    fn probe(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Asks the database whether it can write, by the smallest write that leaves no trace among the
    /// records. A full disk still answers every read.
    fn probe_write(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What the database calls itself, with its version.
    fn describe(&self) -> impl Future<Output = Result<String, StoreError>> + Send;

    /// Creates the database if it is not there; true if it was not.
    fn create(&self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The documents of these ids, in their order; none where there is none, or a deleted one.
    fn fetch(&self, ids: &[NodeName]) -> impl Future<Output = Result<Vec<Option<String>>, StoreError>> + Send;

    /// Writes a batch of documents, each with the revision it was read at, and says each one's
    /// fate, in order. Not atomic: some may be stored although others are not.
    fn put(&self, rows: &[Row]) -> impl Future<Output = Result<Vec<Fate>, PutError>> + Send;

    /// Every node that has a record and is not retired.
    fn nodes(&self) -> impl Future<Output = Result<Vec<KnownNode>, StoreError>> + Send;

    /// The nodes whose client says that they are in a group, retired ones left out.
    fn members(&self, group: &Group) -> impl Future<Output = Result<Vec<NodeName>, StoreError>> + Send;

    /// The records that meet the condition, or all of them, with the fields that are asked for, in the order of their
    /// ids. Other fields may be there or not.
    fn find(
        &self,
        condition: Option<&Condition>,
        fields: &[Path],
    ) -> impl Future<Output = Result<Vec<Found>, StoreError>> + Send;

    /// Asks a view of a design document.
    fn view(
        &self,
        design: &str,
        view: &str,
        query: &ViewQuery,
    ) -> impl Future<Output = Result<Vec<ViewRow>, StoreError>> + Send;

    /// Brings a design document to what `doc` says. Readers of its views never wait for an index:
    /// it is built under another name first.
    fn sync_design(&self, doc: &DesignDoc) -> impl Future<Output = Result<Synced, StoreError>> + Send;
}

/// One document to write.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its id.
    pub id: NodeName,
    /// The whole document as JSON, `_id` and, if it is not new, `_rev` included.
    pub document: Vec<u8>,
}

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is committed; this is its revision now.
    Stored {
        /// The new revision.
        rev: String,
    },
    /// Somebody else has written it since it was read.
    Conflict,
    /// A validation function of the database refused it.
    Forbidden {
        /// In these words.
        reason: String,
    },
    /// Something else was wrong with it.
    Failed {
        /// The database's name for it.
        error: String,
        /// The database's words.
        reason: String,
    },
}

/// A node that has a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// Its name.
    pub node: NodeName,
    /// When it was last heard of; none where the database cannot say.
    pub updated_at: Option<Timestamp>,
}

/// A record that was found, or what was asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its node.
    pub node: NodeName,
    /// An object, with members as in the record.
    pub record: Value,
}

/// What is asked of a view. The names are CouchDB's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ViewQuery {
    /// Only this key.
    pub key: Option<Value>,
    /// From this key on.
    pub startkey: Option<Value>,
    /// Up to this key, itself included.
    pub endkey: Option<Value>,
    /// Whether the view's reduce function is applied; where it has one, it is, unless said.
    pub reduce: Option<bool>,
    /// Whether it is applied to each key by itself.
    pub group: bool,
    /// To how many elements of keys that are arrays it is applied by themselves.
    pub group_level: Option<u32>,
    /// From the last key to the first.
    pub descending: bool,
    /// No more than so many rows.
    pub limit: Option<u64>,
}

/// One row of a view.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ViewRow {
    /// The document that emitted it; none for a reduced row.
    #[serde(default)]
    pub id: Option<String>,
    /// The key.
    pub key: Value,
    /// The value.
    pub value: Value,
}

/// What became of a design document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// It is new.
    Created,
    /// It was there and has changed.
    Updated,
    /// It was there already, as it is.
    Unchanged,
}

/// Why the database did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or is too busy to answer.
    #[error("the database at {address} is away: {reason}")]
    Away {
        /// Where.
        address: String,
        /// In which way.
        reason: String,
    },
    /// Wrong login, or no right to the database.
    #[error("the database at {address} refuses this login: {reason}")]
    Denied {
        /// Where.
        address: String,
        /// Its words.
        reason: String,
    },
    /// The server is there, the database is not.
    #[error("there is no database at {address}; run vogeler-server setup")]
    Missing {
        /// Where.
        address: String,
    },
    /// It answered that the request was wrong, or that it failed over it.
    #[error("the database at {address} answered {status}: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// It is a database that cannot do this.
    #[error("the database at {address} cannot do that: {reason}")]
    Unable {
        /// Where.
        address: String,
        /// What, and what to do instead.
        reason: String,
    },
    /// What it answered cannot be understood.
    #[error("the database at {address} answered what cannot be understood: {reason}")]
    Garbled {
        /// Where.
        address: String,
        /// In which way.
        reason: String,
    },
}

/// Why a whole batch was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// A document is larger than the database takes; nothing of the batch is stored.
    #[error("a document is larger than the database takes: {reason}")]
    TooLarge {
        /// The first culprit, where the database names it.
        id: Option<String>,
        /// The database's words.
        reason: String,
    },
    /// The batch was refused for one of its documents, which is not named; nothing of it is stored.
    #[error("the database refused the batch with {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The database's words.
        reason: String,
    },
    /// The database is away, or was while it answered; some rows may be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}
