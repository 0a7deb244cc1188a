//! The command line of `vogeler-server`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use vogeler_messaging::config::{BrokerFlags, BrokerSection};
use vogeler_process::config::ConfigError;
use vogeler_process::{Flag, Known, ProcessFlags, Settings};
use vogeler_store::config::{StoreFlags, StoreSection};

use crate::config::ServerSection;
use crate::dead::Choice;

/// Takes the results of vogeler clients from RabbitMQ and keeps them in CouchDB, one document a node
///
/// Runs in the foreground until TERM or INT, and then settles what it has begun. Several servers may run: each queue of
/// results has one that works and others that stand by, and `server.queues` says how many there are.
#[derive(Debug, Parser)]
#[command(name = "vogeler-server", version)]
pub struct Cli {
    /// What to do; run, unless said
    #[command(subcommand)]
    pub action: Option<Action>,

    /// Load the design documents in DIR and exit; the same as `load DIR`
    ///
    /// Kept from the first Vogeler.
    #[arg(short = 'l', value_name = "DIR")]
    pub load: Option<PathBuf>,

    /// Where the server is found and what it says
    #[command(flatten)]
    pub flags: Flags,
}

/// Flags that every action takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Process, broker and database
    #[command(flatten)]
    pub place: Place,

    /// Answer /healthz and /metrics on ADDRESS, as 127.0.0.1:9187 [default: on none]
    ///
    /// For monitoring; there is no login and no TLS, so it should be an address of this machine. Only for `run`.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub http: Option<String>,
}

/// Flags that say where a server is at home, also one that is part of another program.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
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

/// What the server can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Take results and keep them (what it does when nothing is said)
    Run,
    /// Create exchanges, queues and the database, and load the design documents
    ///
    /// Says what it did. What is there already stays as it is, so it can be run again at any time. Only the queues of results
    /// are made as many as server.queues says: it moves what waits in them, in order, while servers stand aside. Where that is
    /// interrupted it has to be run again.
    Setup,
    /// Load design documents: a folder of them, or one
    ///
    /// A changed view is built under another name first, so that nobody who queries it waits. A typing mistake is
    /// reported with its file and line before anything is uploaded.
    Load {
        /// A design document's folder, or a folder of such folders
        ///
        /// A design document's folder has views/, filters/ or validate_doc_update.js; its name is the document's.
        dir: PathBuf,
    },
    /// Look at everything that the server needs, one line each
    ///
    /// Whether the database can be written to is tried with a local document, which is in no view; nothing else is changed.
    /// Exit status 1 if something is not as it should be.
    Check {
        /// Run the design documents in DIR over sample records, and look at nothing else
        ///
        /// Here and now: neither broker nor database is needed. Tells what CouchDB would not take, exceptions, functions that do not end,
        /// documents emitted whole and large values, with file and line; exit status 1 for those that leave rows out or
        /// spoil a view. DIR is what `load` takes.
        #[arg(long, value_name = "DIR")]
        design_docs: Option<PathBuf>,

        /// Records to run them over, beside those that come along
        ///
        /// JSON: one record, an array of them, or one after the other, as `vogeler-runner show NODE -o json` prints them.
        #[arg(long, value_name = "FILE", requires = "design_docs")]
        samples: Option<PathBuf>,
    },
    /// Look at the dead letters, send them back or throw them away
    ///
    /// A dead letter is a message that could not become part of a record. It says why.
    #[command(subcommand)]
    Dead(Dead),
    /// Print the configuration in force and where each value came from
    Config,
}

/// What can be done with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum Dead {
    /// List them, the oldest first, and count them by reason
    ///
    /// Of each: time, id, node, size, and why it is here.
    List {
        /// Which
        #[command(flatten)]
        choice: Chosen,

        /// How to show them
        ///
        /// JSON is an array of objects.
        #[arg(short = 'o', long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Show one with everything that is known of it, and its body
    Show {
        /// Its id, or the beginning of it
        ///
        /// `dead list` shows the ids; four characters or more are enough where no other begins so.
        id: String,

        /// Print the body alone, as it is
        ///
        /// For a file or another program; a body may hold anything, and a terminal acts on some of it.
        #[arg(long)]
        body: bool,
    },
    /// Send them back to where results come in; all of them, unless said
    ///
    /// Each is gone from here once the broker has confirmed it there. What came since is not rolled back: a later result
    /// stays in its place. What is still of no use becomes a dead letter again.
    Replay {
        /// Which
        #[command(flatten)]
        choice: Chosen,
    },
    /// Throw them away for good
    ///
    /// Some have to be named, by id, node or reason.
    Drop {
        /// Which
        #[command(flatten)]
        choice: Chosen,

        /// Drop, unseen, the first that cannot be read
        ///
        /// A message whose properties are no text ends the connection of whoever reads it, and hides those behind it.
        /// RabbitMQ's management interface can show it before.
        #[arg(long, conflicts_with_all = ["ids", "node", "reason"])]
        unreadable: bool,
    },
}

/// Which dead letters; every condition that is given has to hold.
#[derive(Debug, Clone, clap::Args)]
pub struct Chosen {
    /// Their ids, or the beginnings of them
    ///
    /// `dead list` shows the ids; four characters or more are enough where no other begins so.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,

    /// Only those of that node
    ///
    /// Its whole name, as `dead list` shows it.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,

    /// Only those with that reason
    ///
    /// The word before the colon in `dead list`, as forbidden or record_too_large.
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
}

impl From<Chosen> for Choice {
    fn from(Chosen { ids, node, reason }: Chosen) -> Self {
        Self { ids, node, reason }
    }
}

/// How to show a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For a person
    Text,
    /// For a program
    Json,
}

/// The sections in force.
pub struct Loaded {
    /// All of it, for `config`.
    pub settings: Settings,
    /// The broker.
    pub broker: BrokerSection,
    /// The database.
    pub store: StoreSection,
    /// The server.
    pub server: ServerSection,
}

impl Flags {
    /// The configuration with these flags over it.
    ///
    /// # Errors
    /// What [`ConfigError`] lists.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        self.place.load(&ServerSection::default(), Flag::given("server.http", "--http", self.http.clone()))
    }
}

impl Place {
    /// The configuration over these built-in values, with these flags and `more` over it.
    ///
    /// # Errors
    /// What [`ConfigError`] lists.
    pub fn load(&self, server: &ServerSection, more: impl IntoIterator<Item = Flag>) -> Result<Loaded, ConfigError> {
        let known = Known::default()
            .section("broker", &BrokerSection::default())
            .section("store", &StoreSection::default())
            .section("server", server)
            .variable("VOGELER_QHOST", "broker.url")
            .variable("VOGELER_DBHOST", "store.url")
            .variable("VOGELER_LOGLEVEL", "server.loglevel");
        let flags = self.broker.flags().chain(self.store.flags()).chain(self.process.flags("server"));
        let settings = Settings::load(&known, self.process.config.as_deref(), std::env::vars(), flags.chain(more))?;
        let (broker, store, server) =
            (settings.section("broker")?, settings.section("store")?, settings.section("server")?);
        Ok(Loaded { settings, broker, store, server })
    }
}
