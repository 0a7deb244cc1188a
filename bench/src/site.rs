//! Where a blowout takes place: a virtual host and a database of its own, beside what a site has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::warn;
use url::Url;
use vogeler_messaging::amqp::{AmqpBroker, AmqpSession, Frames};
use vogeler_messaging::config::BrokerSection;
use vogeler_messaging::topology::{node_queue, servers_queue, switching_queue};
use vogeler_messaging::{Broker as _, Session, Topology, results};
use vogeler_process::Secret;
use vogeler_protocol::names::SLOTS;
use vogeler_store::Store as _;
use vogeler_store::config::StoreSection;
use vogeler_store::couch::Couch;

use crate::couch::RawCouch;
use crate::part::nodes;
use crate::programs::{AGENT, LISTENER};

/// What the names of virtual host and databases have to hold, so that nobody's own nodes are asked for anything.
const MARK: &str = "blowout";

/// So many nodes are looked for at once when queues are taken away, and so many times in vain.
const SWEEP: (usize, u32) = (250, 4);

/// A virtual host and a database.
#[derive(Debug, Clone)]
pub struct Site {
    /// The broker.
    pub broker: BrokerSection,
    /// The database, under the name of this blowout.
    pub store: StoreSection,
    /// How many queues of results there are.
    pub queues: u32,
    /// What both call themselves.
    pub versions: String,
    /// The databases that were made here and not taken away; clones have the same.
    made: Made,
}

/// Databases that have to go in the end.
#[derive(Debug, Clone, Default)]
struct Made(Arc<Mutex<Vec<StoreSection>>>);

impl Made {
    fn lock(&self) -> MutexGuard<'_, Vec<StoreSection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Site {
    /// Where this is the configuration, with nothing made yet.
    pub fn new(broker: BrokerSection, store: StoreSection, queues: u32) -> Self {
        Self { broker, store, queues, versions: String::new(), made: Made::default() }
    }

    /// Takes what the configuration names, makes a database, and sees that nobody else is there.
    ///
    /// # Errors
    /// A virtual host that is somebody's own; a broker or a database that is not there.
    pub async fn take(broker: BrokerSection, store: StoreSection, queues: u32) -> anyhow::Result<Self> {
        ensure!(
            !store.url.starts_with("sqlite:"),
            "store.url is a file; a blowout is for a CouchDB: --dbhost http://host:5984"
        );
        let mut site = Self::new(broker, store, queues);
        let vhost = site.amqp("vogeler-blowout")?.vhost();
        ensure!(
            vhost.contains(MARK),
            "the virtual host {vhost:?} may have nodes of yours, which would be asked, too; a blowout wants one of its own, with {MARK:?} \
             in its name: rabbitmqctl add_vhost {MARK}; rabbitmqctl set_permissions -p {MARK} LOGIN '.*' '.*' '.*'; then --qhost \
             amqp://host/{MARK}"
        );
        site.rename()?;
        let session = site.amqp("vogeler-blowout")?.connect().await?;
        let found = results::in_force(&session, &site.topology()).await?;
        ensure!(
            found.iter().all(|status| status.consumers == 0),
            "a server is at work in the virtual host {vhost:?}; it would take what is measured"
        );
        if !found.is_empty() {
            warn!("taking away the queues that an earlier blowout has left in the virtual host {vhost:?}");
            site.sweep(&session).await?;
        }
        session.close().await;
        site.versions = format!("{}, {}", site.couch()?.describe().await?, site.rabbitmq().await);
        Ok(site)
    }

    /// Another database at the same place.
    fn rename(&mut self) -> anyhow::Result<()> {
        let name = format!("vogeler_{MARK}_{}", crate::latency::now());
        let text = self.store.url.replacen("couch://", "http://", 1);
        let text = if text.contains("://") { text } else { format!("http://{text}") };
        let mut url: Url = text.parse().context("store.url")?;
        let path = url.path().trim_matches('/').to_owned();
        let prefix = path.rsplit_once('/').map_or(String::new(), |(prefix, _)| format!("{prefix}/"));
        url.set_path(&format!("/{prefix}{name}"));
        self.store.url = url.into();
        self.store.database = name;
        Ok(())
    }

    /// The same site with a database of another name, not made yet.
    ///
    /// # Errors
    /// The configuration names none.
    pub fn renamed(&self) -> anyhow::Result<Self> {
        let mut site = self.clone();
        site.rename()?;
        Ok(site)
    }

    /// The broker, for a connection of that name.
    ///
    /// # Errors
    /// The configuration does not name one.
    pub fn amqp(&self, name: &str) -> anyhow::Result<AmqpBroker> {
        Ok(self.broker.amqp(name, Frames::Large)?)
    }

    /// The database, as a server has it.
    ///
    /// # Errors
    /// The configuration does not name one.
    pub fn couch(&self) -> anyhow::Result<Couch> {
        Ok(self.store.couch()?)
    }

    /// The database with nothing of ours between.
    ///
    /// # Errors
    /// The configuration does not name one.
    pub fn raw(&self) -> anyhow::Result<RawCouch> {
        RawCouch::new(&self.store)
    }

    /// Names of exchanges and queues.
    pub fn topology(&self) -> Topology {
        Topology { queues: self.queues, ..self.broker.topology() }
    }

    /// The queues of results, by name.
    pub fn results_queues(&self) -> Vec<String> {
        (0..self.queues).map(|number| self.topology().results_queue(number).name).collect()
    }

    /// The broker's URL with its virtual host, the login and its password.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn login(&self) -> anyhow::Result<(Url, String, Secret)> {
        let (mut url, username, password) = self.broker.login()?;
        url.set_path(&self.amqp("vogeler-blowout")?.vhost().replace('/', "%2f"));
        Ok((url, username, password))
    }

    /// What the broker calls itself in its first words, before anybody logs in; by TLS it is not asked.
    async fn rabbitmq(&self) -> String {
        let asked = tokio::time::timeout(Duration::from_secs(5), self.first_words()).await;
        let words = asked.ok().and_then(Result::ok).unwrap_or_default();
        version_in(&words)
            .map_or_else(|| "a broker of unknown version".to_owned(), |version| format!("RabbitMQ {version}"))
    }

    async fn first_words(&self) -> anyhow::Result<Vec<u8>> {
        let (url, ..) = self.login()?;
        ensure!(url.scheme() == "amqp", "it is reached by TLS");
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let mut stream = TcpStream::connect((host, url.port().unwrap_or(5672))).await?;
        stream.write_all(b"AMQP\0\0\x09\x01").await?;
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]).min(8192);
        let mut words = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut words).await?;
        Ok(words)
    }

    /// Exchanges, queues and the database.
    ///
    /// # Errors
    /// What cannot be made.
    pub async fn set_up(&self) -> anyhow::Result<()> {
        let session = self.amqp("vogeler-blowout setup")?.connect().await?;
        vogeler_server::setup::declare(&session, &self.topology())
            .await
            .context("cannot declare exchanges and queues")?;
        session.close().await;
        self.make().await
    }

    /// Makes the database. It is ours to delete, whatever comes of it.
    ///
    /// # Errors
    /// It is not to be had.
    pub async fn make(&self) -> anyhow::Result<()> {
        self.made.lock().push(self.store.clone());
        self.couch()?.create().await.context("cannot create the database")?;
        Ok(())
    }

    /// Deletes the database, if it is there.
    ///
    /// # Errors
    /// It is still there.
    pub async fn unmake(&self) -> anyhow::Result<()> {
        self.raw()?.delete().await?;
        self.made.lock().retain(|made| made.database != self.store.database);
        Ok(())
    }

    /// Takes away what was made: the queues of nodes and server, the databases.
    ///
    /// # Errors
    /// What is still there.
    pub async fn clear(&self) -> anyhow::Result<()> {
        let made = self.made.lock().clone();
        for store in made {
            Self { store, ..self.clone() }.unmake().await?;
        }
        let session = self.amqp("vogeler-blowout clear")?.connect().await?;
        let swept = self.sweep(&session).await;
        session.close().await;
        swept
    }

    /// Deletes the queues of the server, and those of all nodes that have one.
    async fn sweep(&self, session: &AmqpSession) -> anyhow::Result<()> {
        let topology = self.topology();
        let results = (0..SLOTS).map(|number| topology.results_queue(number).name);
        let others =
            [servers_queue().name, switching_queue().name, topology.moving_queue().name, topology.dead_queue().name];
        let programs = [AGENT, LISTENER].into_iter().filter_map(|name| Some(node_queue(&name.parse().ok()?).name));
        let mut queues: Vec<String> = results.chain(others).chain(programs).collect();
        let (at_once, patience) = SWEEP;
        let (mut from, mut in_vain) = (0, 0);
        while in_vain < patience {
            queues.extend((from..from + at_once).map(|number| node_queue(&nodes::name(number)).name));
            let there = session.queue_statuses(&queues).await?.into_iter().map(|status| status.is_some());
            let there: Vec<String> =
                queues.drain(..).zip(there).filter(|(_, is)| *is).map(|(queue, _)| queue).collect();
            in_vain = if there.iter().any(|queue| queue.starts_with("vogeler.node.")) { 0 } else { in_vain + 1 };
            from += at_once;
            let deleted: Vec<_> = stream::iter(there)
                .map(async |queue| session.delete_queue(&queue).await)
                .buffer_unordered(16)
                .collect()
                .await;
            if let Some(reason) = deleted.into_iter().find_map(Result::err) {
                bail!("not all queues could be deleted: {reason}");
            }
        }
        Ok(())
    }
}

/// The property `version` among those that a broker begins with: its name, then `S` and a length, then its text.
fn version_in(words: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    let at = words.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let length = u32::from_be_bytes(words.get(at..at + 4)?.try_into().ok()?);
    let text = words.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_among_the_first_words() {
        assert_eq!(version_in(b"..\x07versionS\0\0\0\x063.10.8\x08platform").as_deref(), Some("3.10.8"));
        assert_eq!(version_in(b"nothing"), None);
        assert_eq!(version_in(b"\x07versionS\0\0\xff\xff1"), None);
    }

    #[tokio::test]
    async fn a_virtual_host_that_may_be_somebodys_is_refused() {
        let broker = BrokerSection { url: "amqp://127.0.0.1:1/production".into(), ..BrokerSection::default() };
        let refused = Site::take(broker, StoreSection::default(), 1).await.unwrap_err().to_string();
        assert!(refused.contains("\"production\"") && refused.contains("add_vhost"), "{refused}");
    }

    #[test]
    fn a_database_of_its_own_beside_the_one_that_is_configured() {
        for (url, begins) in [
            ("http://db:5984", "http://db:5984/vogeler_blowout_"),
            ("db", "http://db/vogeler_blowout_"),
            ("couch://admin@db/records", "http://admin@db/vogeler_blowout_"),
            ("https://db/couch/records", "https://db/couch/vogeler_blowout_"),
        ] {
            let store = StoreSection { url: url.into(), ..StoreSection::default() };
            let site = Site::new(BrokerSection::default(), store, 1);
            let renamed = site.renamed().unwrap();
            assert!(renamed.store.url.starts_with(begins), "{} of {url}", renamed.store.url);
        }
    }
}
