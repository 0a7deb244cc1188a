//! The command line of `vogeler-server`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use vogeler_messaging::config::{BrokerFlags, BrokerSection};
use vogeler_process::config::ConfigError;
use vogeler_process::{Known, ProcessFlags, Settings};
use vogeler_store::config::{StoreFlags, StoreSection};

use crate::config::ServerSection;

/// Takes the results of vogeler clients from RabbitMQ and keeps them in CouchDB, one document a node
///
/// Runs in the foreground until TERM or INT, and then settles what it has begun. Several servers may run: one works,
/// the others stand by.
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
    /// Says what it did. What is there already stays as it is, so it can be run again at any time.
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
    /// Look at everything that the server needs, one line each; changes nothing
    ///
    /// Exit status 1 if something is not as it should be.
    Check,
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
    /// The server.
    pub server: ServerSection,
}

impl Flags {
    /// The configuration with these flags over it.
    ///
    /// # Errors
    /// What [`ConfigError`] lists.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let known = Known::default()
            .section("broker", &BrokerSection::default())
            .section("store", &StoreSection::default())
            .section("server", &ServerSection::default())
            .variable("VOGELER_QHOST", "broker.url")
            .variable("VOGELER_DBHOST", "store.url")
            .variable("VOGELER_LOGLEVEL", "server.loglevel");
        let flags = self.broker.flags().chain(self.store.flags()).chain(self.process.flags("server"));
        let settings = Settings::load(&known, self.process.config.as_deref(), std::env::vars(), flags)?;
        let (broker, store, server) =
            (settings.section("broker")?, settings.section("store")?, settings.section("server")?);
        Ok(Loaded { settings, broker, store, server })
    }
}
