//! The section `broker` of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;
use vogeler_process::address::BadAddress;
use vogeler_process::secret::UnreadFile;
use vogeler_process::{Address, Flag, Secret};

use crate::Topology;
use crate::amqp::{AmqpBroker, AmqpSettings, Frames};

/// RabbitMQ's own login for a machine that talks to itself; it is refused from anywhere else.
const LOCAL_LOGIN: &str = "guest";

/// Where the broker is, who we are there, and what its exchanges are called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BrokerSection {
    /// `amqp://host:5672` or `amqps://…`; a path names the virtual host.
    pub url: String,
    /// The virtual host, where the URL names none.
    pub vhost: Option<String>,
    /// The login.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// A file that holds nothing but the password.
    pub password_file: Option<PathBuf>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The names of the exchanges.
    pub exchanges: Exchanges,
}

/// The names of the exchanges, for a site that has them taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exchanges {
    /// Commands.
    pub broadcast: String,
    /// Results.
    pub master: String,
    /// Events.
    pub events: String,
    /// Dead letters, and the queue that keeps them.
    pub dead: String,
}

impl Default for BrokerSection {
    fn default() -> Self {
        let Topology { broadcast, master, events, dead, .. } = Topology::default();
        Self {
            url: "amqp://127.0.0.1:5672".into(),
            vhost: None,
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            exchanges: Exchanges { broadcast, master, events, dead },
        }
    }
}

/// Flags that say where the broker is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BrokerFlags {
    /// The RabbitMQ to use, as amqp://host:5672/vhost
    ///
    /// Also host, host:port and amqps://host. It may name a login, never a password: that goes into broker.password of
    /// the configuration file, a file named by broker.password_file, or VOGELER_BROKER_PASSWORD.
    #[arg(long = "qhost", visible_alias = "amqp-url", value_name = "URL", global = true)]
    pub qhost: Option<String>,
}

impl BrokerFlags {
    /// The flags that were given.
    pub fn flags(&self) -> impl Iterator<Item = Flag> {
        Flag::given("broker.url", "--qhost", self.qhost.clone()).into_iter()
    }
}

/// Why the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadBrokerSection {
    /// The URL is none.
    #[error("broker.url")]
    Url(#[from] BadAddress),
    /// The password file cannot be read.
    #[error("broker.password_file")]
    PasswordFile(#[from] UnreadFile),
}

impl BrokerSection {
    /// The broker that the section names; its list of connections will call us `name`. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// What [`BadBrokerSection`] lists.
    pub fn amqp(&self, name: &str, frames: Frames) -> Result<AmqpBroker, BadBrokerSection> {
        let (url, username, password) = self.login()?;
        Ok(AmqpBroker::new(AmqpSettings {
            url,
            vhost: self.vhost.clone(),
            username,
            password,
            ca_file: self.ca_file.clone(),
            name: name.to_owned(),
            frames,
        }))
    }

    /// The broker's URL without a password, the login and its password.
    ///
    /// # Errors
    /// What [`BadBrokerSection`] lists.
    pub fn login(&self) -> Result<(Url, String, Secret), BadBrokerSection> {
        let address = Address::parse(&self.url, &["amqp", "amqps"])?;
        let (set, file) = (self.password.as_ref(), self.password_file.as_deref());
        let password = Secret::choose(set, file, address.password())?.unwrap_or_else(|| Secret::new(LOCAL_LOGIN));
        let username = self.username.clone().or_else(|| address.username()).unwrap_or_else(|| LOCAL_LOGIN.into());
        Ok((address.url().clone(), username, password))
    }

    /// The topology under the section's names.
    pub fn topology(&self) -> Topology {
        let Exchanges { broadcast, master, events, dead } = self.exchanges.clone();
        Topology { broadcast, master, events, dead, ..Topology::default() }
    }
}
