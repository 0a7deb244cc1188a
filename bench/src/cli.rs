//! The command line of `vogeler-blowout`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, Parser, Subcommand, ValueEnum};
use vogeler_process::config::ConfigError;
use vogeler_process::duration;
use vogeler_process::logging::{self, LogLevel};
use vogeler_server::cli::{Loaded, Place};
use vogeler_server::config::ServerSection;

use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::profile::{Profile, size_of};
use crate::report::Threshold;

/// Tries a broker and a database with a fleet, before a real one depends on them
///
/// Simulates nodes on this machine, has them asked, and says what came of it: rates, latencies, memory, and the best that
/// broker and database do with the same bodies by themselves. Server and nodes are the code that ships; plugins start no
/// process. It needs a virtual host of its own with `blowout` in its name, whose queues it deletes, and makes a database of
/// its own, which it deletes, too; also when it is interrupted. For what broker and database do by themselves it keeps what
/// was sent in a temporary folder: results times the size of a record. Run it from the machine that the server will be on.
/// Exit status 2 if a --require is not met.
#[derive(Debug, Parser)]
#[command(name = "vogeler-blowout", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to measure; the fleet, unless said
    #[command(subcommand)]
    pub action: Option<Action>,

    /// The fleet
    #[command(flatten)]
    pub fleet: FleetFlags,

    /// What is shown
    #[command(flatten)]
    pub showing: Showing,

    /// Draw what waited and what was stored over time into this file
    ///
    /// As SVG.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Where it takes place
    #[command(flatten)]
    pub place: Place,
}

/// What else it can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// What else can be measured
    #[command(flatten)]
    Measure(Measure),
    /// A part of a blowout, which is started by itself
    #[command(hide = true)]
    Part {
        /// Which
        ///
        /// Told on its standard input what to do.
        which: Part,
    },
}

/// What else can be measured.
#[derive(Debug, Clone, Subcommand)]
pub enum Measure {
    /// How fast a server stores results that wait in the queue
    ///
    /// The queue is filled first; the clock runs from the first delivery to the last acknowledgement. Then the very
    /// documents that the server sent are written once more, by nothing but `_bulk_docs`.
    Ingest {
        /// The results
        #[command(flatten)]
        ingest: IngestFlags,

        /// What is shown
        #[command(flatten)]
        showing: Showing,
    },
    /// Whether cost grows as the fleet does
    ///
    /// One broadcast to each of several fleets; --svg puts them on one plot.
    Scale {
        /// How many nodes, one fleet after the other
        ///
        /// Each gets a database of its own.
        #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_value = "1000,5000,10000,20000")]
        sizes: Vec<usize>,

        /// The fleet
        #[command(flatten)]
        fleet: FleetFlags,

        /// What is shown
        #[command(flatten)]
        showing: Showing,

        /// Draw what fleets of each size took into this file
        ///
        /// As SVG.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// How soon the installed programs are there, and how much an idle agent takes
    ///
    /// Starts vogeler-client and vogeler-runner twenty times each.
    Programs {
        /// Where they are [default: beside this program]
        ///
        /// They have to be release builds for the figures to mean anything.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,

        /// The plugins that the agent has; none unless said
        ///
        /// DIR/*.yaml are the descriptors, DIR/bin the programs.
        #[arg(long, value_name = "DIR")]
        plugins: Option<PathBuf>,

        /// What is shown
        #[command(flatten)]
        showing: Showing,
    },
}

/// The parts.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Part {
    /// Takes results.
    Server,
    /// Are asked.
    Nodes,
}

/// What the fleet is.
#[derive(Debug, Clone, Args)]
pub struct FleetFlags {
    /// How many nodes
    ///
    /// Each takes some 50 KB here, and with --real-connections some 160 KB and an open file.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000)]
    pub nodes: usize,

    /// Give every node a connection of its own
    ///
    /// As real ones have. Without it a thousand share one, by channels.
    #[arg(long)]
    pub real_connections: bool,

    /// What plugins bring: aliases and sizes
    ///
    /// The runners ask for each in turn.
    #[arg(long, value_name = "ALIAS=SIZE,…", default_value = "facts=8k,packages=60k,ps=30k")]
    pub profile: String,

    /// One alias alone, that brings so much
    ///
    /// The same as --profile facts=SIZE.
    #[arg(long, value_name = "SIZE", conflicts_with = "profile")]
    pub payload: Option<String>,

    /// How many runners ask at the same time
    ///
    /// Each asks all nodes. Commands for an alias that a node is busy with are answered by one result.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub runners: usize,

    /// How many commands each runner gives, one after the other
    ///
    /// The next when all nodes have answered the one before, or the time was up.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub commands: usize,

    /// How many of a hundred nodes leave every ten seconds
    ///
    /// They come back within five seconds, as after a restart.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub churn: f64,

    /// How many of a hundred plugins fail
    ///
    /// Drawn at random for each execution.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub failures: f64,

    /// How long a runner waits for the answers to a command
    ///
    /// Who has not answered by then counts as silent.
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub timeout: String,

    /// Publish commands that do not survive a restart of the broker
    ///
    /// vogeler-runner never does; this shows what the broker's disk costs.
    #[arg(long)]
    pub transient: bool,

    /// Leave out what broker and database do by themselves
    ///
    /// That takes as long as the rest; without it no ratios are given.
    #[arg(long)]
    pub no_limits: bool,
}

/// What waits in the queue.
#[derive(Debug, Clone, Args)]
pub struct IngestFlags {
    /// Bytes of the data of each result
    ///
    /// 2000, 2k or 1m; text that compresses as a list of packages does.
    #[arg(long, value_name = "SIZE", default_value = "2k")]
    pub payload: String,

    /// How many nodes have a result waiting
    ///
    /// They are new to the database.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20_000)]
    pub nodes: usize,

    /// How many servers share the work
    ///
    /// Over as many queues as server.queues says (VOGELER_SERVER_QUEUES). They are started before, and share the queues out among
    /// themselves; they are held while the queues are filled.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub servers: usize,

    /// How many further results each of them has waiting
    ///
    /// Behind the first ones: these are updates of records that the server has just written.
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub updates: usize,
}

/// What is shown of what was found.
#[derive(Debug, Clone, Args)]
pub struct Showing {
    /// How to show it
    ///
    /// JSON has everything: figures, processes, and what waited and was stored over time.
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Table)]
    pub output: Output,

    /// What a figure has to be, as stored_p99<=3 or rate>=2000
    ///
    /// By the names and in the units of the table; FIGURE_of_raw is its part of the limit, as rate_of_raw>=0.7. May be given several times;
    /// exit status 2 if one is not met.
    #[arg(long, value_name = "FIGURE<=NUMBER")]
    pub require: Vec<Threshold>,
}

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a person.
    Table,
    /// For a program.
    Json,
}

impl Cli {
    /// The configuration. Warnings are told unless it says more, but none of plugins that fail: they were asked to.
    ///
    /// # Errors
    /// It cannot be read, or says something that is no setting.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let quiet = ServerSection { loglevel: LogLevel::Warn, ..ServerSection::default() };
        let loaded = self.place.load(&quiet, [])?;
        match loaded.server.loglevel {
            level @ (LogLevel::Debug | LogLevel::Trace) => logging::start(level),
            level @ (LogLevel::Error | LogLevel::Warn | LogLevel::Info) => {
                logging::start_but(level, &[("vogeler_client", LogLevel::Error)]);
            }
        }
        Ok(loaded)
    }

    /// The flags that say where, for another process of this program.
    pub fn again(&self) -> Vec<String> {
        let Place { process, broker, store } = &self.place;
        let given = [
            ("--config", process.config.as_ref().map(|path| path.display().to_string())),
            ("--loglevel", process.loglevel.clone()),
            ("--qhost", broker.qhost.clone()),
            ("--dbhost", store.dbhost.clone()),
        ];
        given.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
    }
}

impl FleetFlags {
    /// What it comes to.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub fn fleet(&self) -> anyhow::Result<Fleet> {
        let profile: Profile = match &self.payload {
            Some(size) => format!("facts={size}").parse()?,
            None => self.profile.parse()?,
        };
        for (flag, value) in [("--nodes", self.nodes), ("--runners", self.runners), ("--commands", self.commands)] {
            ensure!(value > 0, "{flag} is 0; it has to be 1 or more");
        }
        for (flag, value) in [("--churn", self.churn), ("--failures", self.failures)] {
            ensure!((0.0..=100.0).contains(&value), "{flag} is {value}; it is a percentage, from 0 to 100");
        }
        let timeout: Duration = duration::parse(&self.timeout)?;
        ensure!(!timeout.is_zero(), "--timeout is 0; nobody answers in no time");
        Ok(Fleet {
            nodes: self.nodes,
            connections: if self.real_connections { 0 } else { self.nodes.div_ceil(1000) },
            profile,
            runners: self.runners,
            commands: self.commands,
            churn: self.churn,
            failures: self.failures,
            transient: self.transient,
            timeout,
            limits: !self.no_limits,
        })
    }
}

impl IngestFlags {
    /// What it comes to where results are in so many queues.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub fn ingest(&self, queues: u32) -> anyhow::Result<Ingest> {
        for (flag, value) in [("--nodes", self.nodes), ("--servers", self.servers)] {
            ensure!(value > 0, "{flag} is 0; it has to be 1 or more");
        }
        ensure!(
            self.servers <= usize::try_from(queues)?,
            "--servers {} share {queues} queues, and somebody would have none; server.queues (VOGELER_SERVER_QUEUES) says how \
             many there are",
            self.servers
        );
        Ok(Ingest { bytes: size_of(&self.payload)?, nodes: self.nodes, updates: self.updates, servers: self.servers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_fleet_as_it_is_typed() {
        let fleet = |line: &str| {
            let cli = Cli::try_parse_from(std::iter::once("vogeler-blowout").chain(line.split_whitespace()));
            cli.map_err(anyhow::Error::from).and_then(|cli| cli.fleet.fleet())
        };
        let asked = fleet("-n 2500 --payload 2k --runners 3 --timeout 30s").unwrap();
        assert_eq!((asked.nodes, asked.connections, asked.runners), (2500, 3, 3));
        assert_eq!(asked.profile.kinds[0].bytes, 2000);
        assert_eq!(fleet("--real-connections").unwrap().connections, 0);
        for wrong in
            ["-n 0", "--churn 101", "--failures -1", "--profile facts", "--timeout soon", "--payload 2k --profile a=2k"]
        {
            assert!(fleet(wrong).is_err(), "{wrong}");
        }
    }
}
