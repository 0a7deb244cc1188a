//! The server: results in, records out.
//!
//! A delivery's way is [`intake`] → [`batch`] → [`worker`] → [`settle`]; [`run`] keeps the
//! connections under it. Start at [`run::run`]. [`setup`] and [`check`] are the other things an
//! operator asks of this program. Nothing here names RabbitMQ or CouchDB: it is all written
//! against the traits, so that tests run it in memory.

pub mod batch;
pub mod check;
pub mod cli;
pub mod config;
pub mod health;
pub mod intake;
pub mod records;
pub mod run;
pub mod settle;
pub mod setup;
pub mod worker;
