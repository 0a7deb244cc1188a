//! CouchDB over HTTP.
//!
//! Start at [`Couch`]. couch_rs knows the address and builds requests; bodies, time-outs, the HTTP
//! status and every row of an answer are handled here, because the library's own calls pair rows by
//! position and do not look at the status. [`bulk`](self) is the hot path.

mod bulk;
mod client;
mod design;
mod find;
mod query;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Url;
use vogeler_process::Secret;
use vogeler_protocol::{Group, NodeName};

use crate::condition::{Condition, Path};
use crate::design_docs::DesignDoc;
use crate::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};

/// Where a CouchDB is and who we are there.
#[derive(Debug, Clone)]
pub struct CouchSettings {
    /// The server.
    pub url: Url,
    /// What a proxy puts before every path; empty, or `/…`.
    pub prefix: String,
    /// The database.
    pub database: String,
    /// The login; none for a server that needs none.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Why there is no client for that CouchDB.
#[derive(Debug, thiserror::Error)]
pub enum NoCouch {
    /// The CA file cannot be read.
    #[error("cannot read store.ca_file {}", path.display())]
    CaFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client cannot be made of these settings.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

/// One database of a CouchDB. Clones share connections.
#[derive(Clone)]
pub struct Couch(Arc<Inner>);

struct OwnCa {
    client: reqwest::Client,
    login: Option<(String, Option<Secret>)>,
}

struct Inner {
    client: couch_rs::Client,
    /// The client that trusts a CA of one's own; couch_rs makes its own and takes none.
    own_ca: Option<OwnCa>,
    /// `/prefix/database`, percent-encoded.
    path: String,
    prefix: String,
    address: String,
    timeout: Duration,
    requests: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Couch {
    /// How many HTTP requests were sent so far.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// How many bytes the bodies of its `_bulk_docs` had.
    pub fn sent_bytes(&self) -> u64 {
        self.0.sent_bytes.load(Ordering::Relaxed)
    }

    /// Where the database is, without secrets.
    pub fn address(&self) -> &str {
        &self.0.address
    }
}

impl Store for Couch {
    async fn probe(&self) -> Result<(), StoreError> {
        self.probe_database().await
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        self.write_local().await
    }

    async fn describe(&self) -> Result<String, StoreError> {
        self.server().await
    }

    async fn create(&self) -> Result<bool, StoreError> {
        self.create_database().await
    }

    async fn fetch(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        self.all_docs(ids).await
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        self.bulk_docs(rows).await
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        self.known_nodes().await
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        self.in_group(group).await
    }

    async fn find(&self, condition: Option<&Condition>, fields: &[Path]) -> Result<Vec<Found>, StoreError> {
        self.select(condition, fields).await
    }

    async fn view(&self, design: &str, view: &str, query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        self.rows(design, view, query).await
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        self.sync(doc).await
    }
}
