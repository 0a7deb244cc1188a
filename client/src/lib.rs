//! The node agent: commands in, plugins run, results out.
//!
//! A command's way is [`link`] → [`dispatch`] → [`plugin::execute`] → [`answers`], and then its
//! acknowledgement. Start at [`run::Agent::run`]. [`journal`] remembers across restarts what was begun
//! and what was answered. Nothing here knows of a database, and no message can make it run
//! anything but what [`plugin::registry`] found on this machine.

pub mod answers;
pub mod check;
pub mod cli;
pub mod config;
pub mod disk;
pub mod dispatch;
pub mod identity;
pub mod journal;
pub mod link;
pub mod memory;
pub mod outbox;
pub mod plugin;
pub mod run;
pub mod show;
pub mod state;
