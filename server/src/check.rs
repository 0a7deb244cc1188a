//! `vogeler-server check`: one line for each thing that has to be right.

use std::fmt::Display;

use vogeler_messaging::{Broker, Session, Topology};
use vogeler_store::Store;
use vogeler_store::design_docs;

use crate::config::{Identity, ServerSection};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is as it should be.
    pub good: bool,
    /// What was looked at, and what was found.
    pub text: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}  {}", if self.good { "ok  " } else { "FAIL" }, self.text)
    }
}

fn finding<T, E: Display>(what: &str, outcome: Result<T, E>, words: impl FnOnce(T) -> String) -> Finding {
    match outcome {
        Ok(found) => Finding { good: true, text: format!("{what}: {}", words(found)) },
        Err(reason) => Finding { good: false, text: format!("{what}: {reason}") },
    }
}

/// Looks at everything that the server needs. Changes nothing.
pub async fn check<B: Broker, St: Store>(
    broker: &B,
    topology: &Topology,
    store: &St,
    config: &ServerSection,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match broker.connect().await {
        Err(reason) => findings.push(Finding { good: false, text: format!("broker: {reason}") }),
        Ok(session) => {
            findings.push(Finding { good: true, text: format!("broker: {} as {}", broker.address(), broker.login()) });
            for exchange in topology.exchanges() {
                let exists = session.exchange_exists(&exchange.name).await;
                findings
                    .push(existing(&format!("exchange {}", exchange.name), exists.map(|found| found.then_some(()))));
            }
            for queue in [topology.results_queue(), topology.dead_queue()] {
                let status = session.queue_status(&queue.name).await;
                findings.push(existing(&format!("queue {}", queue.name), status));
            }
            session.close().await;
        }
    }
    findings.push(finding("database server", store.describe().await, |name| name));
    findings.push(finding("database", store.probe().await, |()| "readable".to_owned()));
    let docs = design_docs::read_all(&config.design_docs);
    findings.push(finding("design documents", docs.map_err(|error| vogeler_protocol::sentence(&error)), |docs| {
        format!("{} in {}", docs.len(), config.design_docs.display())
    }));
    findings.push(Finding {
        good: true,
        text: match config.identity {
            Identity::None => "identity: none; whoever may publish results may do so for any node".to_owned(),
            Identity::Login => format!("identity: results have to come from the login {:?}", config.identity_login),
        },
    });
    findings
}

fn existing<T, E: Display>(what: &str, found: Result<Option<T>, E>) -> Finding {
    match found {
        Ok(Some(_)) => Finding { good: true, text: format!("{what}: there") },
        Ok(None) => Finding { good: false, text: format!("{what}: missing; run vogeler-server setup") },
        Err(reason) => Finding { good: false, text: format!("{what}: {reason}") },
    }
}
