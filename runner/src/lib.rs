//! The operator's tool: publishes a command, waits, and says who answered and who did not.
//!
//! Start at [`run::run`]; [`ask`] answers questions that need no run. [`expected`] finds out whom to wait for, [`tally`]
//! keeps count of what each node said and decides the exit status, [`progress`] shows it. Neither server nor client need
//! to be up: commands and results wait in the broker.

pub mod act;
pub mod ask;
pub mod cli;
pub mod complete;
pub mod config;
pub mod expected;
pub mod history;
mod listen;
pub mod output;
pub mod progress;
mod publish;
pub mod report;
pub mod run;
pub mod select;
pub mod status;
pub mod tallies;
pub mod tally;
pub mod wanted;
