//! `vogeler-client check`: one line for each thing that has to be right.

use std::path::Path;

use nix::unistd::{AccessFlags, access};
use vogeler_messaging::{Broker, Topology};
use vogeler_process::Finding;
use vogeler_protocol::NodeName;

use crate::config::ClientSection;
use crate::plugin::registry::Registry;

/// Looks at everything that the client needs. Changes nothing.
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
    findings.push(state_dir(&config.state_dir));
    let exchanges = [&topology.broadcast, &topology.master, &topology.events].map(String::as_str);
    findings.extend(vogeler_messaging::check(broker, &exchanges, &[]).await);
    findings
}

/// Whether the state directory can be written, or made. Makes nothing: who checks may be somebody
/// else than who will run.
fn state_dir(dir: &Path) -> Finding {
    let there = dir.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let shown = dir.display();
    match access(there, AccessFlags::W_OK) {
        Ok(()) if there == dir => Finding::good(format!("state directory: {shown}")),
        Ok(()) => Finding::good(format!("state directory: {shown}, which is made at the first start")),
        Err(reason) => {
            Finding::bad(format!("state directory {shown}: {} cannot be written: {reason}", there.display()))
        }
    }
}
