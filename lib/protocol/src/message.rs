//! The messages that travel, one file each: version 1, JSON.
//!
//! [`Command`] goes from the runner to the nodes, [`CommandResult`] and [`Hello`] from a node to
//! the server, [`Event`] from both to whoever waits. Unknown fields are ignored, so that a newer
//! program can say more; an unknown version is refused, because its fields may mean something else.

mod command;
mod event;
mod hello;
mod result;

pub use command::{Command, LONGEST_SPLAY};
pub use event::{Event, Notice, UNKNOWN_ALIAS};
pub use hello::{AliasInfo, Hello};
pub use result::{BadResult, CommandResult, Failure, FailureKind, Payload, TextHeaders, failure_words};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most bytes of an encoded result. RabbitMQ 4 takes 16 MiB; a record of CouchDB holds 8 MB.
pub const MAX_RESULT_BYTES: usize = 6 << 20;

/// Content type of every JSON message.
pub const JSON: &str = "application/json";

/// The version of the messages that this program speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version;

impl Version {
    const NUMBER: u64 = 1;
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(Self::NUMBER)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            Self::NUMBER => Ok(Self),
            other => Err(serde::de::Error::custom(format_args!(
                "message version {other} is unknown; this program speaks version {}",
                Self::NUMBER
            ))),
        }
    }
}

/// Encodes a message.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages hold string keys and finite numbers only")
}

/// Decodes a command, hello or event.
///
/// # Errors
/// Not a JSON object, a field missing or of the wrong kind, an unknown version.
pub fn decode<'a, M: Deserialize<'a>>(body: &'a [u8]) -> serde_json::Result<M> {
    // serde would take the fields from an array, too, in the order in which they are declared here.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(serde::de::Error::custom("a message is a JSON object, not an array"));
    }
    serde_json::from_slice(body)
}
