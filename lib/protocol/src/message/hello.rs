use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Version;
use crate::{Alias, Group, Key, NodeName};

/// What a client says of itself when it starts or reloads. It makes the node's record exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The message's version.
    pub v: Version,
    /// Who says it.
    pub node: NodeName,
    /// The client's version, as `vogeler-client --version` prints it.
    pub version: String,
    /// Made anew at every start of the client.
    pub instance: Uuid,
    /// A fingerprint of the machine, by which two machines of one name are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// How often a client has started with that state directory.
    pub epoch: u64,
    /// Place in that epoch, drawn from the counter that results use.
    pub seq: u64,
    /// Another client has the node's queue, and this one was turned away: two machines of one name.
    /// Such a hello changes nothing that stands of the other.
    #[serde(default, skip_serializing_if = "is_false")]
    pub contends: bool,
    /// The groups that the node is in.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// What it can run.
    #[serde(default)]
    pub aliases: BTreeMap<Alias, AliasInfo>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// One alias that a client knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasInfo {
    /// The field of the record that it fills.
    pub key: Key,
    /// The descriptor's words about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}
