//! Which nodes this process is.

use vogeler_client::identity;
use vogeler_protocol::{Group, NodeName};

/// What the nodes of a fleet are called and grouped by, in turn.
const ROLES: [&str; 3] = ["web", "app", "db"];

/// A node of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Its name.
    pub node: NodeName,
    /// Its groups.
    pub groups: Vec<Group>,
}

/// This machine, or a fleet of so many.
///
/// # Errors
/// The machine's name is none that a node can have.
pub fn of(fleet: Option<u16>) -> anyhow::Result<Vec<Resident>> {
    match fleet {
        None => Ok(vec![Resident { node: this_machine()?, groups: Vec::new() }]),
        Some(count) => (0..usize::from(count)).map(member).collect(),
    }
}

/// Its name; many a laptop has none of its own.
fn this_machine() -> anyhow::Result<NodeName> {
    identity::node_name(None).or_else(|_| Ok("localhost".parse()?))
}

fn member(number: usize) -> anyhow::Result<Resident> {
    let role = ROLES[number % ROLES.len()];
    let node = format!("{role}{:02}.example.com", number / ROLES.len() + 1).parse()?;
    Ok(Resident { node, groups: vec![role.parse()?] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_has_as_many_nodes_as_were_asked_for_in_three_groups() {
        let residents = of(Some(20)).unwrap();
        let names: Vec<_> = residents.iter().map(|resident| resident.node.as_str()).collect();
        assert_eq!(names[..4], ["web01.example.com", "app01.example.com", "db01.example.com", "web02.example.com"]);
        assert_eq!((names.len(), names[19]), (20, "app07.example.com"));
        assert_eq!(residents[2].groups, ["db".parse().unwrap()]);
        assert_eq!(of(None).unwrap().len(), 1);
    }
}
