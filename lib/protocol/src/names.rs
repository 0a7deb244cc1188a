//! The names that everything else is addressed by, as types that cannot be wrong.
//!
//! Each is parsed once, at the edge; nothing behind the edge checks a name again.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Random, Timestamp};

/// Number of slots that results are spread over; a node's results always take the same one.
pub const SLOTS: u32 = 64;

/// A name that was refused: what kind of name, the text, and the rule it broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {rule}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

fn refuse<T>(kind: &'static str, text: &str, rule: &'static str) -> Result<T, NameError> {
    Err(NameError { kind, text: text.chars().take(300).collect(), rule })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn lower_word(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    starts && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn word(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    starts && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

name_type!(
    /// A machine, by its lower-case fully qualified name; also the id of its record.
    NodeName,
    |text| {
        const KIND: &str = "node name";
        match text {
            "" => refuse(KIND, text, "is empty"),
            // A routing key holds 255 bytes, five of them for `node.`.
            _ if text.len() > 250 => refuse(KIND, text, "is longer than 250 bytes"),
            "all" => refuse(KIND, text, "is the word for every node"),
            _ if !lower_word(text) => {
                refuse(KIND, text, "may hold a-z, 0-9, '.', '_' and '-' and starts with a letter or digit")
            }
            _ => Ok(()),
        }
    }
);

name_type!(
    /// What an operator types after `-c`, and what a plugin registers.
    Alias,
    |text| {
        const KIND: &str = "command alias";
        match text {
            "" => refuse(KIND, text, "is empty"),
            _ if text.len() > 128 => refuse(KIND, text, "is longer than 128 bytes"),
            _ if !word(text) => {
                refuse(KIND, text, "may hold letters, digits, '.', '_' and '-' and starts with a letter or digit")
            }
            _ => Ok(()),
        }
    }
);

name_type!(
    /// A named set of nodes; each node's configuration says which it is in.
    Group,
    |text| {
        const KIND: &str = "group";
        match text {
            "" => refuse(KIND, text, "is empty"),
            _ if text.len() > 128 => refuse(KIND, text, "is longer than 128 bytes"),
            // A dot would be a word boundary in the topic `group.<name>`; `*` and `#` are wildcards.
            _ if !word(text) || text.contains('.') => {
                refuse(KIND, text, "may hold letters, digits, '_' and '-' and starts with a letter or digit")
            }
            _ => Ok(()),
        }
    }
);

/// Top-level fields of a record that are not a plugin's to fill.
pub const RESERVED_KEYS: [&str; 5] = ["doc_type", "system_name", "created_at", "updated_at", "vogeler"];

name_type!(
    /// The top-level field of a record that holds one plugin's data.
    Key,
    |text| {
        const KIND: &str = "key";
        match text {
            "" => refuse(KIND, text, "is empty"),
            _ if text.len() > 250 => refuse(KIND, text, "is longer than 250 bytes"),
            _ if text.starts_with('_') => refuse(KIND, text, "starts with '_', which CouchDB keeps for itself"),
            _ if text.chars().any(char::is_control) => refuse(KIND, text, "holds a control character"),
            _ if RESERVED_KEYS.contains(&text) => refuse(KIND, text, "is a reserved field of every record"),
            _ => Ok(()),
        }
    }
);

impl NodeName {
    /// The slot (0 to 63) that carries this node's results: CRC-32 (IEEE 802.3) modulo [`SLOTS`].
    pub fn slot(&self) -> u32 {
        crc32fast::hash(self.0.as_bytes()) % SLOTS
    }
}

impl From<&Alias> for Key {
    /// The key of a plugin that names none. An alias that is no key (`vogeler`) is caught by the caller's parse.
    fn from(alias: &Alias) -> Self {
        Self(alias.as_str().into())
    }
}

/// One invocation of the runner: a UUIDv7, so that runs sort by the time they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id for a run that begins `now`.
    pub fn new(now: Timestamp, random: &Random) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random.bytes()).into_uuid())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names() {
        for good in ["web01", "web01.example.com", "0a", "a_b-c.d", &"a".repeat(250)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good} is a node name");
        }
        for bad in ["", "all", "Web01", ".web", "-web", "web 01", "web*", "wéb", "a/b", &"a".repeat(251)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad} is no node name");
        }
    }

    #[test]
    fn keys_leave_the_record_its_own_fields() {
        for good in ["packages", "my key", "ключ", "a.b"] {
            assert!(good.parse::<Key>().is_ok(), "{good} is a key");
        }
        for bad in ["", "_id", "_rev", "doc_type", "vogeler", "created_at", "a\nb"] {
            assert!(bad.parse::<Key>().is_err(), "{bad} is no key");
        }
    }

    #[test]
    fn slots_are_those_the_shell_computes() {
        // printf %s NODE | gzip -c | tail -c8 | od -An -N4 -tu4, modulo 64
        for (node, slot) in [("web01.example.com", 11), ("localhost.localdomain", 11), ("a", 3)] {
            assert_eq!(node.parse::<NodeName>().unwrap().slot(), slot, "{node}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_refused_and_why() {
        let error = "Web01".parse::<NodeName>().unwrap_err().to_string();
        assert!(error.starts_with("node name \"Web01\" may hold a-z"), "{error}");
    }
}
