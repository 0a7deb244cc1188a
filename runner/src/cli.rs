//! The command line of `vogeler-runner`.

use std::time::Duration;

use clap::{Parser, Subcommand};
use vogeler_messaging::config::{BrokerFlags, BrokerSection};
use vogeler_process::config::ConfigError;
use vogeler_process::{Flag, Known, ProcessFlags, Settings, duration};
use vogeler_protocol::message::LONGEST_SPLAY;
use vogeler_protocol::{Alias, Target};
use vogeler_store::config::{StoreFlags, StoreSection};

use crate::config::RunnerSection;
use crate::progress::Output;

/// Asks nodes to run a command alias and says who stored what, who did not, and why
///
/// The exit status is 0 when all that are on line have stored their result (or it was unchanged), 1 for usage,
/// configuration or connection, 2 when some failed, 3 when some are silent or nobody is on line, 4 when there is no such
/// node or nobody knows the alias, 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "vogeler-runner", version, subcommand_negates_reqs = true)]
pub struct Cli {
    /// What else the runner can do
    #[command(subcommand)]
    pub action: Option<Action>,

    /// The command alias to run, as a plugin on the nodes registers it
    ///
    /// `ping` is known to every client.
    #[arg(short = 'c', long, value_name = "ALIAS", required = true)]
    pub command: Option<Alias>,

    /// The nodes to ask: all, NODE[,NODE…], group:NAME, or a pattern such as 'web*'
    ///
    /// A pattern goes to every node, and each decides for itself.
    #[arg(short = 'n', long = "nodes", value_name = "TARGET", required = true)]
    pub target: Option<Target>,

    /// How long to wait for the nodes that are on line, such as 90s or 5m
    ///
    /// Nodes that are off line hold nothing up.
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,

    /// Leave as soon as the broker has the command
    ///
    /// Queued is not run: the exit status then says only that the broker took it.
    #[arg(long)]
    pub detach: bool,

    /// How long the command waits for a node that is off line, such as 24h
    ///
    /// A node that comes back later refuses it.
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<String>,

    /// How long nobody new may accept before everybody counts as having done so
    ///
    /// Only where the database cannot be read; with it at hand the runner knows whom to wait for.
    #[arg(long, value_name = "TIME")]
    pub quiet: Option<String>,

    /// Let each node begin after a random wait of up to TIME (five minutes at most)
    ///
    /// For commands that weigh on something the nodes share. The time-out counts from the end of it.
    #[arg(long, value_name = "TIME", value_parser = splay)]
    pub splay: Option<Duration>,

    /// Fail also for nodes that lack the alias (2) or are off line (3)
    ///
    /// Unless said, they are only reported.
    #[arg(long)]
    pub strict: bool,

    /// How to show the outcome
    ///
    /// JSON is one object at the end, complete; notices go to standard error either way.
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// Where broker and database are
    #[command(flatten)]
    pub flags: Flags,
}

fn splay(text: &str) -> Result<Duration, String> {
    let splay = duration::parse(text).map_err(|error| error.to_string())?;
    if splay > LONGEST_SPLAY {
        return Err(format!("the longest splay is {}", duration::format(LONGEST_SPLAY)));
    }
    Ok(splay)
}

/// Flags that every action takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// The process
    #[command(flatten)]
    pub process: ProcessFlags,

    /// The broker
    #[command(flatten)]
    pub broker: BrokerFlags,

    /// The database
    #[command(flatten)]
    pub store: StoreFlags,
}

/// What else the runner can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Print the configuration in force and where each value came from
    Config,
}

/// The sections in force.
pub struct Loaded {
    /// All of it, for `config`.
    pub settings: Settings,
    /// The broker.
    pub broker: BrokerSection,
    /// The database.
    pub store: StoreSection,
    /// The runner.
    pub runner: RunnerSection,
}

impl Cli {
    /// The configuration with these flags over it.
    ///
    /// # Errors
    /// What [`ConfigError`] lists.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let known = Known::default()
            .section("broker", &BrokerSection::default())
            .section("store", &StoreSection::default())
            .section("runner", &RunnerSection::default())
            .variable("VOGELER_QHOST", "broker.url")
            .variable("VOGELER_DBHOST", "store.url")
            .variable("VOGELER_LOGLEVEL", "runner.loglevel");
        let own = [
            Flag::given("runner.timeout", "--timeout", self.timeout.clone()),
            Flag::given("runner.ttl", "--ttl", self.ttl.clone()),
            Flag::given("runner.quiet", "--quiet", self.quiet.clone()),
        ];
        let Flags { process, broker, store } = &self.flags;
        let flags = broker.flags().chain(store.flags()).chain(own.into_iter().flatten()).chain(process.flags("runner"));
        let settings = Settings::load(&known, process.config.as_deref(), std::env::vars(), flags)?;
        let (broker, store, runner) =
            (settings.section("broker")?, settings.section("store")?, settings.section("runner")?);
        Ok(Loaded { settings, broker, store, runner })
    }
}
