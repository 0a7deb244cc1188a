//! Records in a file: SQLite, for a laptop, a small site and the tests.
//!
//! Start at [`Sqlite`]. The same promises as of CouchDB: revisions, conflicts, a row's own fate, views of the same design
//! documents; what is confirmed is on the disk. Several processes may use one file. Validation functions and filters are
//! not run.

mod documents;
mod error;
mod find;
mod index;
mod schema;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use vogeler_protocol::{Group, NodeName};

use self::error::Trouble;
use self::index::Indexer;
use self::worker::{Worker, at_work};
use crate::condition::{Condition, Path as Field};
use crate::design_docs::DesignDoc;
use crate::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};

/// A database in a file. Clones are the same database.
#[derive(Clone)]
pub struct Sqlite(Arc<Inner>);

struct Inner {
    path: PathBuf,
    address: String,
    /// Writes documents; nothing else keeps it from doing so.
    writer: Worker<()>,
    /// Reads.
    reader: Worker<()>,
    /// Keeps the indexes of views, which may take a while, and answers from them.
    viewer: Worker<Indexer>,
}

impl Sqlite {
    /// The database in that file. Nothing is opened yet.
    pub fn new(path: &Path) -> Self {
        let address = format!("sqlite://{}", path.display());
        let writer = Worker::start("vogeler-writes", path.to_owned(), || ());
        let reader = Worker::start("vogeler-reads", path.to_owned(), || ());
        let viewer = Worker::start("vogeler-views", path.to_owned(), Indexer::default);
        Self(Arc::new(Inner { path: path.to_owned(), address, writer, reader, viewer }))
    }

    /// Deletes one document, as a person may; its revisions go on where they were.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn delete(&self, id: &NodeName) -> Result<(), StoreError> {
        let id = id.clone();
        self.at(&self.0.writer, move |database, ()| documents::delete(database, &id)).await
    }

    async fn at<K: 'static, T: Send + 'static>(
        &self,
        worker: &Worker<K>,
        job: impl FnOnce(&mut Connection, &mut K) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        at_work(worker, job).await.map_err(|trouble| trouble.into_error(&self.0.address))
    }
}

impl Store for Sqlite {
    async fn probe(&self) -> Result<(), StoreError> {
        self.at(&self.0.reader, |database, ()| documents::probe(database)).await
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        self.at(&self.0.writer, |database, ()| documents::probe_write(database)).await
    }

    async fn describe(&self) -> Result<String, StoreError> {
        Ok(format!("SQLite {}", rusqlite::version()))
    }

    async fn create(&self) -> Result<bool, StoreError> {
        let path = self.0.path.clone();
        let created = tokio::task::spawn_blocking(move || schema::create(&path)).await;
        let created = created.unwrap_or_else(|error| Err(Trouble::Ended(error.to_string())));
        created.map_err(|trouble| trouble.into_error(&self.0.address))
    }

    async fn fetch(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        let ids = ids.to_vec();
        self.at(&self.0.reader, move |database, ()| documents::fetch(database, &ids)).await
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        let rows = rows.to_vec();
        Ok(self.at(&self.0.writer, move |database, ()| documents::put(database, &rows)).await?)
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        self.at(&self.0.reader, |database, ()| documents::nodes(database)).await
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        let group = group.clone();
        self.at(&self.0.reader, move |database, ()| documents::members(database, &group)).await
    }

    async fn find(&self, condition: Option<&Condition>, fields: &[Field]) -> Result<Vec<Found>, StoreError> {
        let (condition, fields) = (condition.cloned(), fields.to_vec());
        self.at(&self.0.reader, move |database, ()| find::find(database, condition.as_ref(), &fields)).await
    }

    async fn view(&self, design: &str, view: &str, query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        let (design, view, query) = (design.to_owned(), view.to_owned(), query.clone());
        self.at(&self.0.viewer, move |database, indexer| indexer.answer(database, &design, &view, &query)).await
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        let doc = doc.clone();
        self.at(&self.0.viewer, move |database, indexer| indexer.sync(database, &doc)).await
    }
}
