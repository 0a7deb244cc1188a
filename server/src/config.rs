//! The section `server` of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vogeler_process::duration;
use vogeler_process::logging::LogLevel;
use vogeler_protocol::names::SLOTS;

/// What can be set of the server. The defaults are meant to be right.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerSection {
    /// Where the design documents are that `setup` loads.
    pub design_docs: PathBuf,
    /// How many queues results are spread over, 1 to 64: what `setup` makes, and what a server makes on a broker that
    /// has none. A server consumes those that are there.
    pub queues: u32,
    /// How many batches of one queue may be on their way to the database at once.
    pub workers: usize,
    /// Most rows of one batch.
    pub batch_rows: usize,
    /// Most bytes of one batch.
    pub batch_bytes: usize,
    /// How long a batch waits for more.
    #[serde(with = "duration")]
    pub linger: Duration,
    /// Most deliveries of one queue that are held at once, whatever their size.
    pub prefetch: u16,
    /// How many bytes of deliveries the server aims to hold, of all queues together; large results shrink the prefetch.
    pub held_bytes: usize,
    /// How many bytes of recent records are kept in memory, of all queues together.
    pub cache_bytes: usize,
    /// How many bytes of results each queue keeps while the server is away.
    pub queue_max_bytes: u64,
    /// Whether a result has to come with the broker login of its node.
    pub identity: Identity,
    /// What that login is; `{node}` stands for the node's name.
    pub identity_login: String,
    /// The address to answer `/healthz` and `/metrics` on; none unless said.
    pub http: Option<SocketAddr>,
    /// How long TERM waits for what was begun.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// How much the server says.
    pub loglevel: LogLevel,
}

impl ServerSection {
    /// What one of so many queues has of it: what is bounded in bytes is bounded for all of them together.
    #[must_use]
    pub fn share(&self, queues: usize) -> Self {
        let queues = queues.max(1);
        Self { held_bytes: (self.held_bytes / queues).max(1), cache_bytes: self.cache_bytes / queues, ..self.clone() }
    }

    /// What is wrong with the number of queues, in words; nothing where it can be.
    pub fn bad_queues(&self) -> Option<String> {
        let can_be = (1..=SLOTS).contains(&self.queues);
        (!can_be).then(|| format!("server.queues is {}; it has to be 1 to {SLOTS}", self.queues))
    }
}

/// What vouches for the node that a result names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// Nothing: whoever may publish results may publish them for any node.
    None,
    /// The login that the broker validated (`user_id`).
    Login,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            design_docs: "/usr/share/vogeler/design-docs".into(),
            queues: 1,
            workers: 2,
            batch_rows: 500,
            // Where CouchDB 3.5 writes fastest, whatever the size of documents (bench/RESULTS.md).
            batch_bytes: 1 << 20,
            linger: Duration::from_millis(5),
            prefetch: 2000,
            held_bytes: 32 << 20,
            cache_bytes: 64 << 20,
            queue_max_bytes: 8 << 30,
            identity: Identity::None,
            identity_login: "{node}".into(),
            http: None,
            drain: Duration::from_secs(20),
            loglevel: LogLevel::Info,
        }
    }
}
