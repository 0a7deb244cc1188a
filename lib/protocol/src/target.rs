//! Whom a command is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{Group, NameError, NodeName};

/// The nodes that a command is meant for, as the operator said it after `-n`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Every node.
    All,
    /// These, by name.
    Nodes(Vec<NodeName>),
    /// Those whose configuration names this group.
    Group(Group),
    /// Those whose name matches; each client decides for itself.
    Glob(Glob),
}

impl Target {
    /// Whether a node of that name, in those groups, is meant.
    pub fn includes(&self, node: &NodeName, groups: &[Group]) -> bool {
        match self {
            Self::All => true,
            Self::Nodes(nodes) => nodes.contains(node),
            Self::Group(group) => groups.contains(group),
            Self::Glob(glob) => glob.matches(node.as_str()),
        }
    }
}

/// Why a text names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Nothing, or nothing between two commas.
    #[error("target {0:?} names no node: say all, NODE[,NODE…], group:NAME or a glob such as 'web*'")]
    Empty(String),
    /// A node or group that cannot exist.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A pattern that no node name can match.
    #[error(transparent)]
    Glob(#[from] BadGlob),
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some(group) = text.strip_prefix("group:") {
            return Ok(Self::Group(group.parse()?));
        }
        if text.contains(['*', '?', '[']) {
            return Ok(Self::Glob(text.parse()?));
        }
        if text.split(',').any(|name| name.trim().is_empty()) {
            return Err(BadTarget::Empty(text.to_owned()));
        }
        let mut nodes: Vec<NodeName> =
            text.split(',').map(|name| name.trim().to_lowercase().parse()).collect::<Result<_, NameError>>()?;
        nodes.sort();
        nodes.dedup();
        Ok(Self::Nodes(nodes))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Nodes(nodes) => {
                for (position, node) in nodes.iter().enumerate() {
                    write!(f, "{}{node}", if position > 0 { "," } else { "" })?;
                }
                Ok(())
            }
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Glob(glob) => write!(f, "{}", glob.0),
        }
    }
}

/// A shell pattern over node names: `*`, `?`, `[a-c]`, `[!a-c]`. A dot is an ordinary character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(Box<str>);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    /// A `[` with no `]` after it.
    #[error("pattern {0:?} has a '[' that no ']' closes")]
    OpenClass(String),
    /// Longer than any node name.
    #[error("pattern is longer than 1,000 bytes")]
    Long,
}

impl FromStr for Glob {
    type Err = BadGlob;

    fn from_str(text: &str) -> Result<Self, BadGlob> {
        if text.len() > 1000 {
            return Err(BadGlob::Long);
        }
        let mut rest = text;
        while let Some(start) = rest.find('[') {
            let class = Class::read(&rest[start + 1..]).ok_or_else(|| BadGlob::OpenClass(text.to_owned()))?;
            rest = class.rest;
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Glob {
    type Error = BadGlob;

    fn try_from(text: String) -> Result<Self, BadGlob> {
        text.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.0.into()
    }
}

impl Glob {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        // The last star, and how much of the name it has swallowed: enough to try again from there,
        // so that no pattern takes more than |pattern| × |name| steps.
        let (mut pattern, mut name) = (&*self.0, name);
        let mut retry: Option<(&str, &str)> = None;
        loop {
            if let Some(rest) = pattern.strip_prefix('*') {
                retry = Some((rest, name));
                pattern = rest;
                continue;
            }
            if pattern.is_empty() && name.is_empty() {
                return true;
            }
            if let Some((next_pattern, next_name)) = one(pattern, name) {
                (pattern, name) = (next_pattern, next_name);
                continue;
            }
            let Some((after_star, from)) = retry else { return false };
            let mut rest = from.chars();
            if rest.next().is_none() {
                return false;
            }
            retry = Some((after_star, rest.as_str()));
            (pattern, name) = (after_star, rest.as_str());
        }
    }
}

/// Matches one character; what is left of both.
fn one<'p, 'n>(pattern: &'p str, name: &'n str) -> Option<(&'p str, &'n str)> {
    let mut left = name.chars();
    let character = left.next()?;
    let mut rest = pattern.chars();
    let matched = match rest.next()? {
        '?' => true,
        '[' => {
            let class = Class::read(rest.as_str())?;
            return class.contains(character).then_some((class.rest, left.as_str()));
        }
        literal => literal == character,
    };
    matched.then_some((rest.as_str(), left.as_str()))
}

struct Class<'p> {
    inside: &'p str,
    negated: bool,
    rest: &'p str,
}

impl<'p> Class<'p> {
    /// Reads what follows a `[`. A `]` that comes first is a member, as in a shell.
    fn read(text: &'p str) -> Option<Self> {
        let body = text.strip_prefix(['!', '^']).unwrap_or(text);
        let first = body.chars().next()?.len_utf8();
        let end = first + body[first..].find(']')?;
        Some(Self { inside: &body[..end], negated: body.len() != text.len(), rest: &body[end + 1..] })
    }

    fn contains(&self, character: char) -> bool {
        let members: Vec<char> = self.inside.chars().collect();
        let mut position = 0;
        let mut found = false;
        while position < members.len() {
            if position + 2 < members.len() && members[position + 1] == '-' {
                found |= (members[position]..=members[position + 2]).contains(&character);
                position += 3;
            } else {
                found |= members[position] == character;
                position += 1;
            }
        }
        found != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn what_an_operator_types() {
        assert_eq!(target("all"), Target::All);
        assert_eq!(target("web02,Web01 ,web02").to_string(), "web01,web02");
        assert_eq!(target("group:db").to_string(), "group:db");
        assert!(matches!(target("web*"), Target::Glob(_)));
        for bad in ["", "a,,b", "group:", "group:a.b", "web[", "web/1"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?} is no target");
        }
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "web01.example.com", true),
            ("web*", "web01.example.com", true),
            ("web*", "xweb", false),
            ("*.com", "web01.example.com", true),
            ("*.com", "web01.example.org", false),
            ("web0?", "web01", true),
            ("web0?", "web0", false),
            ("web[0-2]*", "web1x", true),
            ("web[!0-2]*", "web1x", false),
            ("w*b*1", "web01.b1", true),
            ("[]a]", "]", true),
            ("*a*b", "aab", true),
            ("", "", true),
        ] {
            assert_eq!(pattern.parse::<Glob>().unwrap().matches(name), expected, "{pattern} {name}");
        }
        let hostile: Glob = "*a".repeat(400).parse().unwrap();
        assert!(!hostile.matches(&"a".repeat(250).replace('a', "ab")));
    }

    #[test]
    fn each_client_decides() {
        let (web, groups) = ("web01".parse().unwrap(), ["db".parse().unwrap()]);
        assert!(target("all").includes(&web, &[]));
        assert!(target("web01,web02").includes(&web, &[]));
        assert!(!target("web02").includes(&web, &groups));
        assert!(target("group:db").includes(&web, &groups));
        assert!(!target("group:db").includes(&web, &[]));
        assert!(target("web?1").includes(&web, &[]));
    }
}
