use std::fmt;

use serde::{Deserialize, Serialize};

use super::Version;
use crate::{Alias, NodeName, RunId, Timestamp};

/// How the detail of a refusal begins when the node lacks the alias; what follows is what it has.
pub const UNKNOWN_ALIAS: &str = "unknown alias";

/// A small notice to a waiting runner about one node. Never relied upon: it may be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The message's version.
    pub v: Version,
    /// The run that it belongs to.
    pub run: RunId,
    /// The alias that was asked for.
    pub command: Alias,
    /// The node that it is about.
    pub node: NodeName,
    /// What happened.
    pub event: Notice,
    /// When, by the clock of whoever says so.
    pub at: Timestamp,
    /// More words for a person, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What may happen to a command on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notice {
    /// The node runs the plugin, or will when its turn comes.
    Accepted,
    /// The node will not: it lacks the alias, or the command has expired.
    Refused,
    /// The command was not for this node.
    Skipped,
    /// The plugin failed, and the record says so.
    Failed,
    /// The data is committed in the database.
    Stored,
    /// The data is what the record already had, or the record has a newer result.
    Unchanged,
    /// The server could not store it; it went to the dead letters.
    Rejected,
}

impl Notice {
    /// The word that messages and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Stored => "stored",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
        }
    }

    /// Whether nothing more is to come from that node for this command.
    pub fn ends(self) -> bool {
        match self {
            Self::Accepted => false,
            Self::Refused | Self::Skipped | Self::Failed | Self::Stored | Self::Unchanged | Self::Rejected => true,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
