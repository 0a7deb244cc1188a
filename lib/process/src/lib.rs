//! What Vogeler's programs share as processes.
//!
//! [`config`] layers a file, the environment and flags, and knows no program's keys; [`logging`],
//! [`signals`], [`supervisor`] and [`exit`] are the rest of what a program under systemd, supervisord
//! or runit needs: it stays in the foreground, logs to standard error, drains on TERM.

pub mod address;
pub mod config;
pub mod duration;
pub mod exit;
mod finding;
mod flags;
pub mod logging;
pub mod secret;
pub mod signals;
pub mod supervisor;

pub use address::Address;
pub use config::{Flag, Known, Settings};
pub use finding::{Finding, Grade, print_findings};
pub use flags::ProcessFlags;
pub use secret::Secret;
