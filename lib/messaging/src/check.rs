//! Whether what a program needs of the broker is there. Changes nothing.

use vogeler_process::Finding;

use crate::{Broker, Session};

const MEND: &str = "run vogeler-server setup";

/// Connects and looks for these exchanges and queues, by name; one line each.
pub async fn check<B: Broker>(broker: &B, exchanges: &[&str], queues: &[&str]) -> Vec<Finding> {
    let session = match broker.connect().await {
        Ok(session) => session,
        Err(reason) => return vec![Finding::bad(format!("broker: {reason}"))],
    };
    let mut findings = vec![Finding::good(format!("broker: {} as {}", broker.address(), broker.login()))];
    for name in exchanges {
        let there = session.exchange_exists(name).await.map(|found| found.then_some(()));
        findings.push(Finding::existing(&format!("exchange {name}"), there, MEND));
    }
    for name in queues {
        findings.push(Finding::existing(&format!("queue {name}"), session.queue_status(name).await, MEND));
    }
    session.close().await;
    findings
}
