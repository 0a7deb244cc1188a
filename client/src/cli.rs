//! The command line of `vogeler-client`.

use clap::{Parser, Subcommand};
use vogeler_messaging::config::{BrokerFlags, BrokerSection};
use vogeler_process::config::ConfigError;
use vogeler_process::{Flag, Known, ProcessFlags, Settings};
use vogeler_protocol::NodeName;

use crate::config::ClientSection;

/// Runs this machine's plugins when a vogeler-runner asks for them and sends what they print
///
/// Runs in the foreground until TERM or INT. HUP reads plugins and groups anew. Only what the plugin directory of this
/// machine names is ever run, whatever a message says.
#[derive(Debug, Parser)]
#[command(name = "vogeler-client", version)]
pub struct Cli {
    /// What to do; run, unless said
    #[command(subcommand)]
    pub action: Option<Action>,

    /// Run the commands that wait for this node, answer them and exit
    ///
    /// For machines that are asked by a timer instead of staying connected.
    #[arg(long)]
    pub oneshot: bool,

    /// Who this node is and where things are
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

    /// The node's name [default: this machine's fully qualified name]
    ///
    /// Lower case; also the id of the node's record.
    #[arg(long, value_name = "NAME", global = true)]
    pub node_name: Option<String>,

    /// Where the plugins' descriptors are (*.yaml, and *.cfg of 2010)
    ///
    /// A descriptor that others can write is refused, and so is the directory.
    #[arg(long, visible_alias = "plugin_dir", value_name = "DIR", global = true)]
    pub plugin_dir: Option<String>,

    /// Where programs that a descriptor names without a slash are looked for first
    ///
    /// Then in the system's own directories.
    #[arg(long, value_name = "DIR", global = true)]
    pub program_dir: Option<String>,

    /// Where the client keeps what it must not forget between starts
    ///
    /// Each client needs one of its own.
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<String>,
}

/// What the client can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Wait for commands and answer them (what it does when nothing is said)
    Run,
    /// List the plugins: alias, key, format, command; and why one is broken
    ///
    /// Exit status 1 if one is.
    List,
    /// Run one plugin here and print the field that would land in the record
    ///
    /// Needs no broker. Exit status 1 if it fails, with the reason and the end of what it wrote to standard error.
    Exec {
        /// The alias to run
        ///
        /// `list` shows which there are.
        alias: String,
    },
    /// Look at everything that the client needs, one line each
    ///
    /// Exit status 1 if something is not as it should be.
    Check,
    /// Print the configuration in force and where each value came from
    Config,
    /// Print the routing key by which results of a node are published
    ///
    /// For producers that are no client: amqp-publish -r "$(vogeler-client slot NODE)" …
    Slot {
        /// The node's name
        ///
        /// The result has to name the same node.
        node: NodeName,
    },
}

/// The sections in force.
pub struct Loaded {
    /// All of it, for `config`.
    pub settings: Settings,
    /// The broker.
    pub broker: BrokerSection,
    /// The client.
    pub client: ClientSection,
}

impl Flags {
    /// The configuration with these flags over it.
    ///
    /// # Errors
    /// What [`ConfigError`] lists.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let known = Known::default()
            .section("broker", &BrokerSection::default())
            .section("client", &ClientSection::default())
            .variable("VOGELER_QHOST", "broker.url")
            .variable("VOGELER_NODE_NAME", "client.node_name")
            .variable("VOGELER_PLUGIN_DIR", "client.plugin_dir")
            .variable("VOGELER_LOGLEVEL", "client.loglevel");
        let own = [
            Flag::given("client.node_name", "--node-name", self.node_name.as_ref().map(|name| name.to_lowercase())),
            Flag::given("client.plugin_dir", "--plugin-dir", self.plugin_dir.clone()),
            Flag::given("client.program_dir", "--program-dir", self.program_dir.clone()),
            Flag::given("client.state_dir", "--state-dir", self.state_dir.clone()),
        ];
        let flags = self.broker.flags().chain(own.into_iter().flatten()).chain(self.process.flags("client"));
        let settings = Settings::load(&known, self.process.config.as_deref(), std::env::vars(), flags)?;
        let (broker, client) = (settings.section("broker")?, settings.section("client")?);
        Ok(Loaded { settings, broker, client })
    }
}
