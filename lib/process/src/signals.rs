//! The signals that supervisors send.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::supervisor;

/// TERM and INT: stop taking work, finish what was begun, exit.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for either. Cancel-safe; may be called again for a second one.
    pub async fn recv(&mut self) {
        let name = tokio::select! {
            biased;
            _ = self.terminate.recv() => "TERM",
            _ = self.interrupt.recv() => "INT",
        };
        info!(signal = name, "asked to stop");
        supervisor::stopping();
    }
}

/// HUP: read the configuration of plugins again.
pub struct ReloadSignal(Signal);

impl ReloadSignal {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for one. Cancel-safe.
    pub async fn recv(&mut self) {
        self.0.recv().await;
    }
}
