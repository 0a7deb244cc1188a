//! `vogeler-server check`: one line for each thing that has to be right.

use std::fmt::Display;

use vogeler_messaging::{Broker, Topology};
use vogeler_process::Finding;
use vogeler_store::{Store, StoreError, design_docs};

use crate::config::{Identity, ServerSection};

/// Looks at everything that the server needs. Changes nothing, but for a local document of no content,
/// which tells whether the database takes what is written to it.
pub async fn check<B: Broker, St: Store>(
    broker: &B,
    topology: &Topology,
    store: &St,
    config: &ServerSection,
) -> Vec<Finding> {
    let (exchanges, queues) = (topology.exchanges(), [topology.results_queue(), topology.dead_queue()]);
    let exchanges = exchanges.each_ref().map(|exchange| exchange.name.as_str());
    let queues = queues.each_ref().map(|queue| queue.name.as_str());
    let mut findings = vogeler_messaging::check(broker, &exchanges, &queues).await;
    let server = store.describe().await;
    // A login that was refused is not tried again: CouchDB locks it out after a few.
    let refused = matches!(server, Err(StoreError::Denied { .. }));
    findings.push(finding("database server", server, |name| name));
    if !refused {
        findings.push(finding("database", store.probe_write().await, |()| "can be written to".to_owned()));
    }
    let docs = design_docs::read_all(&config.design_docs).map_err(|error| vogeler_protocol::sentence(&error));
    findings
        .push(finding("design documents", docs, |docs| format!("{} in {}", docs.len(), config.design_docs.display())));
    findings.push(Finding::good(match config.identity {
        Identity::None => "identity: none; whoever may publish results may do so for any node".to_owned(),
        Identity::Login => format!("identity: results have to come from the login {:?}", config.identity_login),
    }));
    findings
}

fn finding<T, E: Display>(what: &str, outcome: Result<T, E>, words: impl FnOnce(T) -> String) -> Finding {
    match outcome {
        Ok(found) => Finding::good(format!("{what}: {}", words(found))),
        Err(reason) => Finding::bad(format!("{what}: {reason}")),
    }
}
