//! A fleet of nodes in one process, against a real broker and a real database: what they hold, before they have to.
//!
//! Start at [`act::act`]. Server and nodes are the code that ships, each in a process of its own ([`part`]), so that what each
//! of them takes can be told apart ([`meter`]). [`limits`] measures what broker and database take of the very same
//! bodies with nothing of ours between, so that every figure is a ratio, too.
//!
//! The state of a simulated node is kept in memory and its plugins start no process: a fleet shares one machine, and neither a
//! thousand disks nor a thousand package lists are what is asked about.

pub mod act;
pub mod cli;
pub mod couch;
pub mod fill;
pub mod fleet;
pub mod ingest;
pub mod latency;
pub mod limits;
pub mod meter;
pub mod part;
pub mod plot;
pub mod profile;
pub mod programs;
pub mod progress;
pub mod report;
pub mod runner;
pub mod scale;
pub mod servers;
pub mod site;
pub mod tap;
