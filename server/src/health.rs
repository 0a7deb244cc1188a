//! Whether the database and the broker are there, as the server finds them; a change is logged once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tracing::{error, info};
use vogeler_process::supervisor;
use vogeler_protocol::{Clock, Timestamp};
use vogeler_store::StoreError;

/// The state of both. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when the database has been away, and why.
    away: Option<(Timestamp, String)>,
    /// Whether it has ever answered.
    met: bool,
    /// Why there is no broker; none while there is.
    no_broker: Option<String>,
}

impl Health {
    /// A database and a broker that nobody has met yet.
    pub fn new(clock: Clock) -> Self {
        let state = State { no_broker: Some("not connected yet".to_owned()), ..State::default() };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database did not answer as a database does.
    pub fn away(&self, reason: &StoreError) {
        let mut state = self.lock();
        if state.away.is_none() {
            error!(%reason, "results wait until the database is back");
            supervisor::status("waiting for the database");
        }
        let since = state.away.take().map_or_else(|| self.clock.now(), |(since, _)| since);
        state.away = Some((since, reason.to_string()));
    }

    /// The database answered.
    pub fn back(&self) {
        let mut state = self.lock();
        state.met = true;
        if let Some((since, _)) = state.away.take() {
            let seconds = self.clock.now().since(since).as_secs();
            info!(seconds, "the database is back");
            supervisor::status("the database is back");
        }
    }

    /// For how long the database has been away; none while it is there.
    pub fn away_for(&self) -> Option<std::time::Duration> {
        self.lock().away.as_ref().map(|(since, _)| self.clock.now().since(*since))
    }

    /// The broker is there.
    pub fn connected(&self) {
        self.lock().no_broker = None;
    }

    /// The broker is not there.
    pub fn disconnected(&self, reason: &str) {
        self.lock().no_broker = Some(reason.to_owned());
        supervisor::status("waiting for the broker");
    }

    /// Whether both are there, and the same as a JSON object for people and programs.
    pub fn told(&self) -> (bool, String) {
        let state = self.lock();
        let broker = state.no_broker.as_deref().unwrap_or("connected");
        let database = match (&state.away, state.met) {
            (Some((since, reason)), _) => format!("away since {since}: {reason}"),
            (None, false) => "not asked yet".to_owned(),
            (None, true) => "there".to_owned(),
        };
        let well = state.no_broker.is_none() && state.met && state.away.is_none();
        let told = json!({ "status": if well { "ok" } else { "waiting" }, "broker": broker, "database": database });
        (well, format!("{told}\n"))
    }
}
