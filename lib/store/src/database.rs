//! The database that a configuration names, whichever it is.

use vogeler_protocol::{Group, NodeName};

use crate::condition::{Condition, Path};
use crate::couch::Couch;
use crate::design_docs::DesignDoc;
use crate::sqlite::Sqlite;
use crate::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};

/// One of them. Clones are the same database.
#[derive(Clone)]
pub enum Database {
    /// Over HTTP.
    Couch(Couch),
    /// In a file.
    Sqlite(Sqlite),
}

/// The same of whichever it is.
macro_rules! whichever {
    ($database:expr, $store:ident => $act:expr) => {
        match $database {
            Database::Couch($store) => $act,
            Database::Sqlite($store) => $act,
        }
    };
}

impl Store for Database {
    async fn probe(&self) -> Result<(), StoreError> {
        whichever!(self, store => store.probe().await)
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        whichever!(self, store => store.probe_write().await)
    }

    async fn describe(&self) -> Result<String, StoreError> {
        whichever!(self, store => store.describe().await)
    }

    async fn create(&self) -> Result<bool, StoreError> {
        whichever!(self, store => store.create().await)
    }

    async fn fetch(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        whichever!(self, store => store.fetch(ids).await)
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        whichever!(self, store => store.put(rows).await)
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        whichever!(self, store => store.nodes().await)
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        whichever!(self, store => store.members(group).await)
    }

    async fn find(&self, condition: Option<&Condition>, fields: &[Path]) -> Result<Vec<Found>, StoreError> {
        whichever!(self, store => store.find(condition, fields).await)
    }

    async fn view(&self, design: &str, view: &str, query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        whichever!(self, store => store.view(design, view, query).await)
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        whichever!(self, store => store.sync_design(doc).await)
    }
}
