//! The section `client` of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vogeler_process::logging::LogLevel;
use vogeler_protocol::{Group, NodeName};

/// What can be set of the client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientSection {
    /// The node's name; the machine's fully qualified name unless said.
    pub node_name: Option<NodeName>,
    /// The groups that the node is in.
    pub groups: Vec<Group>,
    /// Where the descriptors are.
    pub plugin_dir: PathBuf,
    /// Where programs named without a slash are looked for before `PATH`.
    pub program_dir: PathBuf,
    /// Where the client keeps what it must not forget.
    pub state_dir: PathBuf,
    /// The file that tells this machine from others; its content is hashed and not sent as it is.
    pub machine_id_file: PathBuf,
    /// How many plugins run at once.
    pub concurrency: usize,
    /// How much the client says.
    pub loglevel: LogLevel,
}

impl Default for ClientSection {
    fn default() -> Self {
        Self {
            node_name: None,
            groups: Vec::new(),
            plugin_dir: "/etc/vogeler/plugins.d".into(),
            program_dir: "/usr/lib/vogeler/plugins".into(),
            state_dir: "/var/lib/vogeler".into(),
            machine_id_file: "/etc/machine-id".into(),
            concurrency: 4,
            loglevel: LogLevel::Info,
        }
    }
}
