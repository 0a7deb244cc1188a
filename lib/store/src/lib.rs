//! Where records are kept.
//!
//! Start at [`Store`]. [`couch`] is CouchDB, [`sqlite`] a file, [`memory`] the same in this process; one conformance
//! suite (in the tests crate) holds them all to it, and [`Database`] is the one that a configuration names.
//! [`design_docs`] reads the folders that become design documents, which CouchDB runs itself and [`view`] runs for the
//! others; [`condition`] is what is asked of records. On the way into a database documents pass as JSON text: nothing here
//! parses a plugin's data.

pub mod condition;
pub mod config;
pub mod couch;
mod database;
pub mod design_docs;
pub mod memory;
pub mod sqlite;
mod store;
pub mod view;

pub use database::Database;
pub use store::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};
