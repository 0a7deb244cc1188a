//! `vogeler-client check`: one line for each thing that has to be right.

use std::fmt;
use std::path::Path;

use vogeler_messaging::{Broker, Session, Topology};
use vogeler_protocol::NodeName;

use crate::config::ClientSection;
use crate::plugin::registry::Registry;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is as it should be.
    pub good: bool,
    /// What was looked at, and what was found.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", if self.good { "ok  " } else { "FAIL" }, self.text)
    }
}

/// Looks at everything that the client needs. Changes nothing but the modification time of the
/// state directory.
pub async fn check<B: Broker>(
    broker: &B,
    topology: &Topology,
    config: &ClientSection,
    node: &anyhow::Result<NodeName>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |good, text| findings.push(Finding { good, text });
    match node {
        Ok(node) => note(true, format!("node name: {node}")),
        Err(reason) => note(false, format!("node name: {reason:#}")),
    }
    let registry = Registry::read(&config.plugin_dir, &config.program_dir);
    note(true, format!("plugins: {} in {}", registry.names(), config.plugin_dir.display()));
    for broken in registry.broken() {
        note(false, format!("plugin: {broken}"));
    }
    match writable(&config.state_dir) {
        Ok(()) => note(true, format!("state directory: {}", config.state_dir.display())),
        Err(reason) => note(false, format!("state directory {}: {reason}", config.state_dir.display())),
    }
    match broker.connect().await {
        Err(reason) => note(false, format!("broker: {reason}")),
        Ok(session) => {
            note(true, format!("broker: {} as {}", broker.address(), broker.login()));
            for exchange in [&topology.broadcast, &topology.master, &topology.events] {
                match session.exchange_exists(exchange).await {
                    Ok(true) => note(true, format!("exchange {exchange}: there")),
                    Ok(false) => note(false, format!("exchange {exchange}: missing; run vogeler-server setup")),
                    Err(reason) => note(false, format!("exchange {exchange}: {reason}")),
                }
            }
            session.close().await;
        }
    }
    findings
}

fn writable(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let probe = dir.join("probe");
    std::fs::write(&probe, "")?;
    std::fs::remove_file(probe)
}
