//! The server as a process: signals, the supervisor and monitoring around [`crate::run`].

use anyhow::{Context as _, bail, ensure};
use tracing::info;
use vogeler_messaging::{Broker, Topology};
use vogeler_process::signals::{ReloadSignal, StopSignals};
use vogeler_process::supervisor;
use vogeler_store::Store;

use crate::config::ServerSection;
use crate::http;
use crate::run::{Parts, run};

/// Serves until TERM or INT, and answers for its health meanwhile where it is told to.
///
/// # Errors
/// A limit of 0; what [`run`] says; or the address for monitoring is not to be had.
pub async fn serve<B: Broker, St: Store>(
    broker: B,
    store: St,
    topology: Topology,
    config: ServerSection,
) -> anyhow::Result<()> {
    for (key, value) in [
        ("prefetch", usize::from(config.prefetch)),
        ("held_bytes", config.held_bytes),
        ("batch_rows", config.batch_rows),
        ("batch_bytes", config.batch_bytes),
        ("workers", config.workers),
    ] {
        ensure!(value > 0, "server.{key} is 0; it has to be 1 or more");
    }
    if let Some(bad) = config.bad_queues() {
        bail!(bad);
    }
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    let mut hangup = ReloadSignal::listen().context("cannot listen for signals")?;
    let address = config.http;
    let parts = Parts::new(broker, store, topology, config);
    let monitored = (parts.store.clone(), parts.health.clone(), parts.metrics.clone());
    let stop = async move {
        loop {
            tokio::select! {
                biased;
                () = signals.recv() => return,
                () = hangup.recv() => info!("HUP: there is nothing to read anew; a changed configuration needs a restart"),
            }
        }
    };
    let serving = http::beside(run(parts, stop), address, monitored.0, monitored.1, monitored.2);
    supervisor::guard(Box::pin(serving)).await
}
