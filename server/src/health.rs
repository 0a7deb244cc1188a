//! Whether the database is there, as the workers find it; a change is logged once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{error, info};
use vogeler_protocol::{Clock, Timestamp};
use vogeler_store::StoreError;

/// The state of the database. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    clock: Clock,
    away_since: Arc<Mutex<Option<Timestamp>>>,
}

impl Health {
    /// A database that is thought to be there.
    pub fn new(clock: Clock) -> Self {
        Self { clock, away_since: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.away_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database did not answer as a database does.
    pub fn away(&self, reason: &StoreError) {
        let mut since = self.lock();
        if since.is_none() {
            *since = Some(self.clock.now());
            error!(%reason, "results wait until the database is back");
        }
    }

    /// The database answered.
    pub fn back(&self) {
        if let Some(since) = self.lock().take() {
            let seconds = self.clock.now().since(since).as_secs();
            info!(seconds, "the database is back");
        }
    }

    /// For how long it has been away; none while it is there.
    pub fn away_for(&self) -> Option<std::time::Duration> {
        self.lock().map(|since| self.clock.now().since(since))
    }
}
