//! The command line of `vogeler-runner`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{ArgGroup, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use vogeler_messaging::config::{BrokerFlags, BrokerSection};
use vogeler_messaging::topology::NODE_QUEUE_EXPIRES;
use vogeler_process::config::ConfigError;
use vogeler_process::{Flag, Known, ProcessFlags, Settings, duration};
use vogeler_protocol::Alias;
use vogeler_protocol::message::LONGEST_SPLAY;
use vogeler_store::condition::Condition;
use vogeler_store::config::{StoreFlags, StoreSection};

use crate::ask::Ask;
use crate::complete;
use crate::config::RunnerSection;
use crate::progress::Output;
use crate::run::Request;
use crate::select::{Choice, Limit};
use crate::wanted::Wanted;

/// Asks nodes to run a command alias and says who stored what, who did not, and why
///
/// The exit status is 0 when all that are on line have stored their result (or it was unchanged), 1 for usage,
/// configuration or connection, 2 when some failed, 3 when some are silent or nobody is on line, 4 when there is no such
/// node or nobody knows the alias, 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "vogeler-runner", version, subcommand_negates_reqs = true)]
#[command(group = ArgGroup::new("whom").args(["target", "condition"]).multiple(true).required(true))]
pub struct Cli {
    /// What else the runner can do
    #[command(subcommand)]
    pub action: Option<Action>,

    /// A run
    #[command(flatten)]
    pub run: RunFlags,

    /// Where broker and database are
    #[command(flatten)]
    pub flags: Flags,
}

/// What is asked of whom, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct RunFlags {
    /// The command alias to run, as a plugin on the nodes registers it
    ///
    /// `ping` is known to every client. It may be given several times: several aliases are one run, and each has its own answers.
    #[arg(short = 'c', long, value_name = "ALIAS", required = true, add = ArgValueCompleter::new(complete::aliases))]
    pub command: Vec<Alias>,

    /// Whom to ask: all, names, group:NAME, patterns, @FILE, -, and !WORD to leave out
    ///
    /// Separated by commas: 'web*,group:db,!web07.example.com'. A file, and `-` for standard input, has one a line, of which the first
    /// word counts, so that tables will do. What is put together of several words, or leaves some out, is decided by the
    /// records; a single word goes out as it is, and each node decides for itself.
    #[arg(short = 'n', long = "nodes", value_name = "TARGET")]
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    pub target: Vec<String>,

    /// Of these nodes, those whose record is like this: 'facts.os.family == "Debian"'
    ///
    /// See docs/EXPRESSIONS.md for the language. Without -n, of all nodes.
    #[arg(long = "where", value_name = "EXPR")]
    pub condition: Option<Condition>,

    /// Of these nodes, no more than so many: 10, or 10%
    ///
    /// Drawn by the checksum of their names: spread over names that are alike, and the same each time.
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<Limit>,

    /// Ask so many nodes at once, and the next when these have ended
    ///
    /// The time-out counts for each batch. A batch that has nodes that failed or are silent does not stop the next.
    #[arg(long, value_name = "COUNT", conflicts_with = "detach")]
    pub batch: Option<NonZeroUsize>,

    /// How long to wait between two batches, such as 5s
    ///
    /// From the end of one to the beginning of the next.
    #[arg(long, value_name = "TIME", requires = "batch", value_parser = duration::parse)]
    pub pause: Option<Duration>,

    /// Print who would be asked, and ask nobody
    ///
    /// One node a line, with whether it is on line.
    #[arg(long)]
    pub dry_run: bool,

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

    /// How to show the outcome [default: text]
    ///
    /// JSON is one object at the end, complete; notices go to standard error either way.
    #[arg(short = 'o', long, value_enum)]
    pub output: Option<Output>,
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
    /// Show again what came of a run: the last one, unless another is named
    ///
    /// From the runner's own notes and from the records. Of a run that was started on another machine, or by another
    /// login, only the records tell.
    Status(LookBack),
    /// Questions about nodes and their records
    #[command(flatten)]
    Ask(Box<Ask>),
    /// Print the configuration in force and where each value came from
    Config,
}

/// Which run to look at again.
#[derive(Debug, Clone, clap::Args)]
pub struct LookBack {
    /// The run, by its id, or by the beginning or end of it
    ///
    /// Four characters or more are enough where no other run has them.
    #[arg(value_name = "RUN", add = ArgValueCompleter::new(complete::runs))]
    pub run: Option<String>,

    /// List the runs that were begun here instead, the newest first
    ///
    /// Those of this login; the newest 500 are kept, under $XDG_STATE_HOME/vogeler/runs.
    #[arg(long, conflicts_with = "run")]
    pub list: bool,

    /// How to show it [default: text]
    ///
    /// JSON is complete, as at the end of a run.
    #[arg(short = 'o', long, value_enum)]
    pub output: Option<Output>,
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
        self.flags.load(self.run.settings())
    }
}

impl RunFlags {
    /// A flag that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (!self.command.is_empty(), "-c"),
            (!self.target.is_empty(), "-n"),
            (self.condition.is_some(), "--where"),
            (self.limit.is_some(), "--limit"),
            (self.batch.is_some(), "--batch"),
            (self.pause.is_some(), "--pause"),
            (self.dry_run, "--dry-run"),
            (self.timeout.is_some(), "--timeout"),
            (self.detach, "--detach"),
            (self.ttl.is_some(), "--ttl"),
            (self.quiet.is_some(), "--quiet"),
            (self.splay.is_some(), "--splay"),
            (self.strict, "--strict"),
            (self.output.is_some(), "-o"),
        ];
        given.into_iter().find_map(|(is_given, flag)| is_given.then_some(flag))
    }

    /// What is asked for, by these flags and the configuration; reads the files that targets name. `history` is where
    /// the run is noted.
    ///
    /// # Errors
    /// A target that cannot be read.
    pub fn request(&self, runner: &RunnerSection, issuer: String, history: Option<PathBuf>) -> anyhow::Result<Request> {
        for (flag, time) in [("timeout", runner.timeout), ("ttl", runner.ttl)] {
            ensure!(!time.is_zero(), "runner.{flag} is 0: there has to be some time for an answer");
        }
        ensure!(
            runner.ttl <= NODE_QUEUE_EXPIRES,
            "runner.ttl is more than {}, and a queue is gone after so long without its client",
            duration::format(NODE_QUEUE_EXPIRES)
        );
        let wanted = if self.target.is_empty() { Wanted::all() } else { Wanted::read(&self.target)? };
        let mut commands: Vec<Alias> = Vec::new();
        for command in &self.command {
            if !commands.contains(command) {
                commands.push(command.clone());
            }
        }
        Ok(Request {
            commands,
            choice: Choice { wanted, condition: self.condition.clone(), limit: self.limit },
            timeout: runner.timeout,
            quiet: runner.quiet,
            ttl: runner.ttl,
            splay: self.splay.unwrap_or_default(),
            batch: self.batch,
            pause: self.pause.unwrap_or_default(),
            detach: self.detach,
            strict: self.strict,
            outlived: true,
            issuer,
            history,
        })
    }

    /// Refuses them before another action, where they would mean nothing.
    ///
    /// # Errors
    /// Names one that was given.
    pub fn refuse(&self) -> anyhow::Result<()> {
        match self.given() {
            Some(flag) => bail!("{flag} belongs to a run; what is given to another command comes after its name"),
            None => Ok(()),
        }
    }

    /// What they set of the section `runner`.
    pub fn settings(&self) -> impl Iterator<Item = Flag> {
        let own = [
            Flag::given("runner.timeout", "--timeout", self.timeout.clone()),
            Flag::given("runner.ttl", "--ttl", self.ttl.clone()),
            Flag::given("runner.quiet", "--quiet", self.quiet.clone()),
        ];
        own.into_iter().flatten()
    }
}

impl Flags {
    /// The configuration with these flags and those over it.
    ///
    /// # Errors
    /// What [`ConfigError`] lists.
    pub fn load(&self, own: impl IntoIterator<Item = Flag>) -> Result<Loaded, ConfigError> {
        let known = Known::default()
            .section("broker", &BrokerSection::default())
            .section("store", &StoreSection::default())
            .section("runner", &RunnerSection::default())
            .variable("VOGELER_QHOST", "broker.url")
            .variable("VOGELER_DBHOST", "store.url")
            .variable("VOGELER_LOGLEVEL", "runner.loglevel");
        let Self { process, broker, store } = self;
        let flags = broker.flags().chain(store.flags()).chain(own).chain(process.flags("runner"));
        let settings = Settings::load(&known, process.config.as_deref(), std::env::vars(), flags)?;
        let (broker, store, runner) =
            (settings.section("broker")?, settings.section("store")?, settings.section("runner")?);
        Ok(Loaded { settings, broker, store, runner })
    }
}
