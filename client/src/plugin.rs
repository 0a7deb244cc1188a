//! Plugins: what a descriptor says ([`descriptor`]), which there are ([`registry`]), and running
//! one ([`execute`]), on what runs programs ([`programs`]).

pub mod descriptor;
pub mod execute;
pub mod legacy;
pub mod programs;
pub mod registry;
mod safe;
mod strays;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use vogeler_protocol::{Alias, Format, Key};

/// The alias that every client has built in. It tells whether a node is alive, end to end.
pub const PING: &str = "ping";

pub use strays::adopt as adopt_strays;

/// A plugin that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// What an operator types.
    pub alias: Alias,
    /// One line about it.
    pub description: String,
    /// The field of the record that it fills.
    pub key: Key,
    /// How what it prints is read.
    pub format: Format,
    /// What is run.
    pub action: Action,
    /// How long it may run.
    pub timeout: Duration,
    /// How many bytes it may print.
    pub max_output: usize,
}

/// What running a plugin means.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The client's own answer.
    Ping,
    /// A program.
    Program(Program),
}

/// A program and the circumstances it runs in.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments. They come from the descriptor alone, never from a message.
    pub args: Vec<String>,
    /// The login it runs as; the client's own unless said.
    pub user: Option<String>,
    /// Most bytes of address space; none for no limit.
    pub memory: Option<u64>,
    /// By how much it yields to others.
    pub nice: i32,
    /// What it finds in its environment beside the usual.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: PathBuf,
}
