//! Who this machine is.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};
use vogeler_protocol::NodeName;

/// The node's name: the configured one, or the machine's own in full and lower case.
///
/// # Errors
/// The machine has no name of its own, or none that can be a node's.
pub fn node_name(configured: Option<NodeName>) -> anyhow::Result<NodeName> {
    if let Some(name) = configured {
        return Ok(name);
    }
    const MEND: &str = "set client.node_name, VOGELER_NODE_NAME or --node-name";
    let name = machine_name().with_context(|| format!("cannot tell this machine's name; {MEND}"))?.to_lowercase();
    if name == "localhost" || name.starts_with("localhost.") {
        bail!("this machine calls itself {name:?}, as many do; {MEND}");
    }
    name.parse().with_context(|| format!("this machine's name is no node name; {MEND}"))
}

fn machine_name() -> anyhow::Result<String> {
    let short = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    if short.contains('.') {
        return Ok(short);
    }
    // What the domain is only the resolver knows, and the platform's own tool asks it.
    let asked = Command::new("hostname").arg("-f").output();
    let full =
        asked.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    let full = full.map(|full| full.trim().to_owned()).filter(|full| full.starts_with(&short) && !full.is_empty());
    Ok(full.unwrap_or(short))
}

/// A fingerprint of the machine, by which two machines that claim one name are told apart.
///
/// Derived from the content of `file`, `/etc/machine-id` as a rule, by hashing, because that id is not
/// to leave the machine as it is (machine-id(5)). None where there is none.
pub fn machine_id(file: &Path) -> Option<String> {
    let id = fs::read_to_string(file).ok().filter(|id| !id.trim().is_empty())?;
    let digest = Sha256::digest(format!("vogeler:{}", id.trim()));
    Some(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_id_is_hashed_and_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("machine-id");
        assert_eq!(machine_id(&file), None);
        fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        let id = machine_id(&file).unwrap();
        assert_eq!(id.len(), 32);
        assert_ne!(id, "0123456789abcdef0123456789abcdef");
    }
}
