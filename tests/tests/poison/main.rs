//! Messages that are of no use, or worse: each ends in a place that is known, and nothing else is
//! the worse for it.
//!
//! Start at [`table`], which says what is fed and where the design says that it ends; [`mixed`] feeds
//! all of it at once. [`batches`] and [`stubs`] hold what CouchDB refuses a whole batch for,
//! [`nesting`] what its views break over, [`frames`] what can be done to the properties of a message,
//! [`bounds`] what is small on its way in and large inside. A server that crashes is seen by its exit
//! status: nobody starts it again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod batches;
mod bounds;
mod ends;
mod frames;
mod letters;
mod messages;
mod mixed;
mod nesting;
mod stubs;
mod table;
