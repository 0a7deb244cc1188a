//! The server: results in, records out.
//!
//! A delivery's way is [`intake`] → [`batch`] → [`worker`] → [`settle`]; [`run`] keeps the
//! connections under it. Start at [`run::run`]. [`setup`], which also changes the number of queues, [`check`],
//! [`rehearse`] and [`dead`] are the other things an operator asks of this program; [`http`] is what a monitoring system
//! asks. Nothing here names RabbitMQ or CouchDB: it is all written against the traits, so that tests run it in memory.

pub mod batch;
pub mod check;
pub mod cli;
pub mod config;
pub mod dead;
pub mod group;
pub mod health;
pub mod http;
pub mod intake;
pub mod letter;
pub mod losses;
pub mod metrics;
mod moving;
pub mod newcomers;
mod notice;
pub mod prefetch;
pub mod records;
pub mod rehearse;
mod roll;
pub mod run;
pub mod serve;
pub mod settle;
pub mod setup;
mod tenure;
mod ways;
pub mod worker;
