//! What every broker and every store has to do.

pub mod messaging;
pub mod store;
