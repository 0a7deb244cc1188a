//! Where records are kept.
//!
//! Start at [`Store`]. [`couch`] is CouchDB; [`memory`] is the same in this process; one
//! conformance suite (in the tests crate) holds both to it. [`design_docs`] reads the folders that
//! become design documents, [`condition`] what is asked of records. Documents pass as JSON text: nothing here parses a plugin's data.

pub mod condition;
pub mod config;
pub mod couch;
pub mod design_docs;
pub mod memory;
mod store;

pub use store::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};
