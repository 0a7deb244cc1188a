//! The section `runner` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use vogeler_process::duration;
use vogeler_process::logging::LogLevel;

/// What can be set of the runner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunnerSection {
    /// How long to wait for the nodes that are on line.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Where the database cannot be read: how long nobody new may accept before everybody has.
    #[serde(with = "duration")]
    pub quiet: Duration,
    /// How long a command waits for a node that is off line.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// How much the runner says.
    pub loglevel: LogLevel,
}

impl Default for RunnerSection {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(90),
            quiet: Duration::from_secs(2),
            ttl: Duration::from_secs(24 * 3600),
            loglevel: LogLevel::Warn,
        }
    }
}
