//! Where records are kept.
//!
//! Start at [`Store`]. [`couch`] is CouchDB; [`memory`] is the same in this process; one
//! conformance suite (in the tests crate) holds both to it. [`design_docs`] reads the folders that
//! become design documents. Documents pass as JSON text: nothing here parses a plugin's data.

pub mod config;
pub mod couch;
pub mod design_docs;
pub mod memory;
mod store;

pub use store::{Fate, KnownNode, PutError, Row, Store, StoreError, Synced};
