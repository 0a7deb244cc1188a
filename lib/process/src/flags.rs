//! The flags that every program has.

use std::path::PathBuf;

use crate::Flag;

/// Where the configuration is and how much to say.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ProcessFlags {
    /// The configuration file [default: /etc/vogeler/vogeler.yaml, if it is there]
    ///
    /// The environment goes over it and flags over that. `config` prints what is in force.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// How much to say: error, warn, info, debug or trace
    ///
    /// One line an event, to standard error.
    #[arg(long, value_name = "LEVEL", global = true)]
    pub loglevel: Option<String>,
}

impl ProcessFlags {
    /// The flags that were given, for a program whose own section is `section`.
    pub fn flags(&self, section: &str) -> impl Iterator<Item = Flag> {
        Flag::given(format!("{section}.loglevel"), "--loglevel", self.loglevel.clone()).into_iter()
    }
}
