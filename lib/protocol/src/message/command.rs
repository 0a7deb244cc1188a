use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Version;
use crate::{Alias, RunId, Target, Timestamp};

/// The longest splay: with a plugin's time limit it stays under the 30 minutes after which RabbitMQ
/// takes an unacknowledged delivery away.
pub const LONGEST_SPLAY: Duration = Duration::from_secs(300);

/// What a runner asks of nodes: an alias, never arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The message's version.
    pub v: Version,
    /// The run that this belongs to.
    pub run: RunId,
    /// Which plugin is to run.
    pub command: Alias,
    /// Which nodes are meant; a node that is not refuses.
    pub target: Target,
    /// When the runner sent it, by the runner's clock.
    pub issued_at: Timestamp,
    /// After this nobody runs it any more.
    pub expires_at: Timestamp,
    /// Nodes begin after a random wait of up to so many milliseconds.
    #[serde(default)]
    pub splay_ms: u64,
    /// Who asked, as `user@host`; for people to read, never a right.
    #[serde(default)]
    pub issuer: String,
    /// Whether somebody waits for events of this run.
    #[serde(default)]
    pub want_events: bool,
}
