//! What Vogeler's programs say to each other, and what becomes of it in a record.
//!
//! Start at [`message`] for what travels, at [`record`] for what is kept. [`mod@format`] turns what
//! a plugin printed into JSON; [`data`] is that JSON, scanned and known to be storable.
//! There is no I/O here: no broker, no database, no clock that is not handed in. Everything can
//! be tested with nothing running.

pub mod data;
pub mod digest;
pub mod format;
pub mod message;
pub mod names;
mod object;
pub mod random;
pub mod record;
mod sentence;
pub mod target;
pub mod time;
mod yaml;

pub use data::Data;
pub use digest::Digest;
pub use format::Format;
pub use names::{Alias, Group, Key, NodeName, RunId};
pub use random::Random;
pub use record::Record;
pub use sentence::sentence;
pub use target::{Glob, Target};
pub use time::{Clock, Timestamp};
