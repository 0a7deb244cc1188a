//! `vogeler-server check`: one line for each thing that has to be right.

use std::fmt::Display;

use vogeler_messaging::{Broker, Lost, Session, Topology, results};
use vogeler_process::{Finding, Grade};
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
    let dead = topology.dead_queue();
    let exchanges = topology.exchanges().into_iter().chain([topology.slots_exchange(), topology.moving_exchange()]);
    let exchanges: Vec<String> = exchanges.map(|exchange| exchange.name).collect();
    let exchanges: Vec<&str> = exchanges.iter().map(String::as_str).collect();
    let mut findings = vogeler_messaging::check(broker, &exchanges, &[&dead.name]).await;
    match config.bad_queues() {
        Some(bad) => findings.push(Finding::bad(bad)),
        // Whether the broker is there at all was told above.
        None => findings.extend(queues_of_results(broker, topology).await.unwrap_or_default()),
    }
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

/// How many queues results are in, and whether that is what is configured.
async fn queues_of_results<B: Broker>(broker: &B, topology: &Topology) -> Option<Vec<Finding>> {
    let session = broker.connect().await.ok()?;
    let asked = async {
        let found = results::in_force(&session, topology).await?;
        Ok::<_, Lost>((found, results::are_moving(&session, topology).await?))
    };
    let asked = asked.await;
    session.close().await;
    let (found, moving) = match asked {
        Ok(answers) => answers,
        Err(reason) => return Some(vec![Finding::bad(format!("queues of results: {reason}"))]),
    };
    let count = found.len();
    let (place, mend) = (results::place(topology, count), "vogeler-server setup");
    let mut findings = vec![match count {
        0 => Finding::bad(format!("queue {place}: missing; run {mend}")),
        1 => Finding::good(format!("queue {place}: there")),
        _ => Finding::good(format!("queues {place}: there")),
    }];
    if moving {
        let text = format!("results are being moved to other queues; where no {mend} runs any more, run it again");
        findings.push(Finding { grade: Grade::Warning, text });
    } else if count > 0 && count != topology.queues as usize {
        let text = format!("results are in {count} queues, server.queues says {}; {mend} moves them", topology.queues);
        findings.push(Finding { grade: Grade::Hint, text });
    }
    Some(findings)
}

fn finding<T, E: Display>(what: &str, outcome: Result<T, E>, words: impl FnOnce(T) -> String) -> Finding {
    match outcome {
        Ok(found) => Finding::good(format!("{what}: {}", words(found))),
        Err(reason) => Finding::bad(format!("{what}: {reason}")),
    }
}
