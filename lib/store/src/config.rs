//! The section `store` of the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vogeler_process::address::BadAddress;
use vogeler_process::secret::UnreadFile;
use vogeler_process::{Address, Flag, Secret, duration};

use crate::Database;
use crate::couch::{Couch, CouchSettings, NoCouch};
use crate::sqlite::Sqlite;

/// Where the database is, and who we are there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreSection {
    /// `http://host:5984`, `https://…` or `couch://…`, where a path names the database; or `sqlite:///path`.
    pub url: String,
    /// The database, where the URL names none.
    pub database: String,
    /// The login.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// A file that holds nothing but the password.
    pub password_file: Option<PathBuf>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long an answer may take, in full; the first answer of a view, which builds it, may take more.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:5984".into(),
            database: "system_records".into(),
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            // A batch takes tens of milliseconds; a database that needs half a minute for one is away.
            timeout: Duration::from_secs(30),
        }
    }
}

/// Flags that say where the database is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct StoreFlags {
    /// The database to use: http://host:5984, http://host:5984/name or sqlite:///path
    ///
    /// A CouchDB may also be written as host, host:port and couch://host. It may name a login, never a password: that
    /// goes into store.password of the configuration file, a file named by store.password_file, or
    /// VOGELER_STORE_PASSWORD. sqlite:///path is a file on this machine.
    #[arg(long = "dbhost", visible_alias = "couchdb-url", value_name = "URL", global = true)]
    pub dbhost: Option<String>,
}

impl StoreFlags {
    /// The flags that were given.
    pub fn flags(&self) -> impl Iterator<Item = Flag> {
        Flag::given("store.url", "--dbhost", self.dbhost.clone()).into_iter()
    }
}

/// Why the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadStoreSection {
    /// The URL is none.
    #[error("store.url")]
    Url(#[from] BadAddress),
    /// The password file cannot be read.
    #[error("store.password_file")]
    PasswordFile(#[from] UnreadFile),
    /// A file without a name.
    #[error("store.url names no file: write it as sqlite:///var/lib/vogeler/records.db")]
    NoPath,
    /// There is no client for it.
    #[error(transparent)]
    Couch(#[from] NoCouch),
}

impl StoreSection {
    /// The database that the section names. Nothing is connected or opened yet.
    ///
    /// # Errors
    /// What [`BadStoreSection`] lists.
    pub fn open(&self) -> Result<Database, BadStoreSection> {
        let Some(rest) = self.url.strip_prefix("sqlite:") else { return Ok(Database::Couch(self.couch()?)) };
        match rest.strip_prefix("//") {
            Some("") | None => Err(BadStoreSection::NoPath),
            Some(path) => Ok(Database::Sqlite(Sqlite::new(Path::new(path)))),
        }
    }

    /// The CouchDB that the section names. Nothing is connected yet.
    ///
    /// # Errors
    /// What [`BadStoreSection`] lists.
    pub fn couch(&self) -> Result<Couch, BadStoreSection> {
        let text = match self.url.strip_prefix("couch://") {
            Some(rest) => format!("http://{rest}"),
            None => self.url.clone(),
        };
        let address = Address::parse(&text, &["http", "https"])?;
        let (set, file) = (self.password.as_ref(), self.password_file.as_deref());
        let password = Secret::choose(set, file, address.password())?;
        let path = address.url().path().trim_matches('/').to_owned();
        let (prefix, database) = match path.rsplit_once('/') {
            _ if path.is_empty() => (String::new(), self.database.clone()),
            Some((prefix, database)) => (format!("/{prefix}"), database.to_owned()),
            None => (String::new(), path),
        };
        let settings = CouchSettings {
            url: address.url().clone(),
            prefix,
            database,
            username: self.username.clone().or_else(|| address.username()),
            password,
            ca_file: self.ca_file.clone(),
            timeout: self.timeout,
        };
        Ok(Couch::new(settings)?)
    }
}
