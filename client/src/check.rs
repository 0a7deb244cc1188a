//! `vogeler-client check`: one line for each thing that has to be right.

use std::path::Path;

use vogeler_messaging::{Broker, Topology};
use vogeler_process::Finding;
use vogeler_protocol::NodeName;

use crate::config::ClientSection;
use crate::plugin::registry::Registry;

/// Looks at everything that the client needs. Changes nothing but the modification time of the
/// state directory.
pub async fn check<B: Broker>(
    broker: &B,
    topology: &Topology,
    config: &ClientSection,
    node: &anyhow::Result<NodeName>,
) -> Vec<Finding> {
    let mut findings = vec![match node {
        Ok(node) => Finding::good(format!("node name: {node}")),
        Err(reason) => Finding::bad(format!("node name: {reason:#}")),
    }];
    let registry = Registry::read(&config.plugin_dir, &config.program_dir);
    findings.push(Finding::good(format!("plugins: {} in {}", registry.names(), config.plugin_dir.display())));
    findings.extend(registry.broken().iter().map(|broken| Finding::bad(format!("plugin: {broken}"))));
    let dir = config.state_dir.display();
    findings.push(match writable(&config.state_dir) {
        Ok(()) => Finding::good(format!("state directory: {dir}")),
        Err(reason) => Finding::bad(format!("state directory {dir}: {reason}")),
    });
    let exchanges = [&topology.broadcast, &topology.master, &topology.events].map(String::as_str);
    findings.extend(vogeler_messaging::check(broker, &exchanges, &[]).await);
    findings
}

fn writable(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let probe = dir.join("probe");
    std::fs::write(&probe, "")?;
    std::fs::remove_file(probe)
}
