//! Views: map, order, reduce and answer as CouchDB 3.5 does, with no storage.
//!
//! A store that has views of its own keeps for each an index of [`IndexRow`]s and this module does the rest. Start at
//! [`Mapper`], which makes rows of a document; [`arranged`] gives them their place; [`Plan`] answers a question from them,
//! with a [`Reducer`] where the view has one. [`rehearse`] tries a design document before anything is stored.
//!
//! An index is ordered by sort key, then by the bytes of the id, then as [`arranged`] has the rows of one document; it is
//! read backwards for a descending answer. It is worthless under another [`fingerprint`]. Numbers keep their last digit only
//! with serde_json's `float_roundtrip`.
//!
//! What CouchDB answered was tried on version 3.5.0 with QuickJS and ICU 72; tests say where.

mod answer;
mod builtin;
mod collate;
mod distinct;
mod engine;
mod prelude;
mod reduce;
mod rehearse;
mod sandbox;
mod terms;

pub use answer::{IndexRow, NoAnswer, Plan, Range, Refusal};
pub use collate::{fingerprint, sort_key};
pub use engine::{Emitted, Mapper, Placed, Uncompilable, arranged};
pub use reduce::{NoReduction, Reducer};
pub use rehearse::{Part, Remark, Severity, rehearse, rehearse_within};
pub use sandbox::{Failure, Limits};
