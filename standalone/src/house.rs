//! Server, nodes and broker under one roof.
//!
//! Start at [`House::open`]. The programs are the real ones, over the broker in memory and a database in a file; they
//! live as long as the house does. A question that needs no nodes is asked of [`parts`] alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use vogeler_client::plugin::adopt_strays;
use vogeler_client::plugin::programs::Programs;
use vogeler_client::plugin::registry::Registry;
use vogeler_client::run::Agent;
use vogeler_client::state::State;
use vogeler_messaging::memory::MemoryBroker;
use vogeler_messaging::{Broker as _, Session as _, Topology};
use vogeler_protocol::{Clock, Group, NodeName, Random};
use vogeler_runner::output;
use vogeler_runner::run::Parts;
use vogeler_server::config::ServerSection;
use vogeler_server::health::Health;
use vogeler_server::metrics::Metrics;
use vogeler_server::{run as server, setup};
use vogeler_store::Store as _;
use vogeler_store::sqlite::Sqlite;

use crate::home::Home;
use crate::residents::Resident;

/// How long the nodes may take to say hello. It takes them milliseconds each.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Plugins that a node runs at once, where it is alone.
const CONCURRENCY: usize = 4;

/// Where plugins and design documents are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The descriptors; programs are in `bin` below.
    pub plugins: PathBuf,
    /// The design documents.
    pub design_docs: PathBuf,
}

/// Programs that run.
pub struct House {
    parts: Parts<MemoryBroker, Sqlite>,
    residents: Vec<NodeName>,
    server: JoinSet<anyhow::Result<()>>,
    agents: JoinSet<anyhow::Result<()>>,
    agents_stop: CancellationToken,
    server_stop: CancellationToken,
}

/// What the runner's code needs, with nobody behind the broker.
pub fn parts(database: &Path) -> Parts<MemoryBroker, Sqlite> {
    let clock = Clock::system();
    Parts {
        broker: MemoryBroker::new(clock.clone()),
        store: Sqlite::new(database),
        topology: Topology::default(),
        clock,
        random: Random::from_system(),
    }
}

impl House {
    /// Starts everything and waits until each node's hello is in its record.
    ///
    /// # Errors
    /// The database, a design document or a state directory cannot be used; or a program ended.
    pub async fn open(home: &Home, residents: &[Resident], folders: &Folders) -> anyhow::Result<Self> {
        let parts = parts(&home.database);
        let session = parts.broker.connect().await?;
        setup::run(&session, &parts.topology, &parts.store, &folders.design_docs, |_| {}).await?;
        session.close().await;
        let mut house = Self {
            parts,
            residents: residents.iter().map(|resident| resident.node.clone()).collect(),
            server: JoinSet::new(),
            agents: JoinSet::new(),
            agents_stop: CancellationToken::new(),
            server_stop: CancellationToken::new(),
        };
        house.start_server();
        adopt_strays()?;
        let registry = Registry::read(&folders.plugins, &folders.plugins.join("bin"));
        for broken in registry.broken() {
            output::notice(&format!("{broken}; it is left out, the others serve on"));
        }
        let concurrency = if residents.len() == 1 { CONCURRENCY } else { 1 };
        let mut awaited = Vec::new();
        for Resident { node, groups } in residents {
            let state = State::open(&home.state(node), house.parts.clock.now()).with_context(|| {
                format!("{node} cannot be started; is another vogeler at work on {}?", home.database.display())
            })?;
            awaited.push((node.clone(), state.epoch()));
            house.start_agent(node, groups, state, registry.clone(), concurrency);
        }
        house.wait_for(awaited).await?;
        Ok(house)
    }

    fn start_server(&mut self) {
        let Parts { broker, store, topology, clock, random } = &self.parts;
        let parts = server::Parts {
            broker: broker.clone(),
            store: store.clone(),
            topology: topology.clone(),
            config: ServerSection::default(),
            health: Health::new(clock.clone()),
            metrics: Metrics::default(),
            clock: clock.clone(),
            random: random.clone(),
        };
        let stop = self.server_stop.clone().cancelled_owned();
        self.server.spawn(server::run(parts, stop));
    }

    fn start_agent(&mut self, node: &NodeName, groups: &[Group], state: State, registry: Registry, concurrency: usize) {
        let Parts { broker, topology, clock, random, .. } = &self.parts;
        let agent = Agent {
            broker: broker.clone(),
            topology: topology.clone(),
            node: node.clone(),
            machine_id: None,
            state,
            concurrency,
            registry,
            programs: Programs::of_machine(),
            groups: groups.to_vec(),
            oneshot: false,
            clock: clock.clone(),
            random: random.clone(),
        };
        let stop = self.agents_stop.clone().cancelled_owned();
        self.agents.spawn(agent.run(stop, std::future::pending));
    }

    /// Waits until these starts are in the records.
    async fn wait_for(&mut self, mut awaited: Vec<(NodeName, u64)>) -> anyhow::Result<()> {
        let deadline = Instant::now() + ARRIVAL;
        loop {
            let names: Vec<NodeName> = awaited.iter().map(|(node, _)| node.clone()).collect();
            let records = self.parts.store.fetch(&names).await?;
            let mut records = records.into_iter();
            awaited.retain(|(_, epoch)| {
                let record = records.next().flatten();
                let record: Value = record.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
                record.pointer("/vogeler/client/epoch").and_then(Value::as_u64) != Some(*epoch)
            });
            let Some((node, _)) = awaited.first() else { return Ok(()) };
            if Instant::now() > deadline {
                bail!("{node} has not said hello within {} s", ARRIVAL.as_secs());
            }
            tokio::select! {
                biased;
                ended = failure(&mut self.server, &mut self.agents) => return Err(ended),
                () = sleep(Duration::from_millis(5)) => {}
            }
        }
    }

    /// Does something with them, unless one of them ends meanwhile.
    ///
    /// # Errors
    /// A program ended, or `work` says so.
    pub async fn attend<T>(
        &mut self,
        work: impl AsyncFnOnce(&Parts<MemoryBroker, Sqlite>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let Self { parts, server, agents, .. } = self;
        tokio::select! {
            biased;
            ended = failure(server, agents) => Err(ended),
            done = work(parts) => done,
        }
    }

    /// Ends the nodes, then the server. What still runs after `patience` is ended with force.
    pub async fn close(mut self, patience: Duration) {
        self.agents_stop.cancel();
        // What an agent says at its end is in its log; nobody waits for an answer any more.
        let _ = timeout(patience, async { while self.agents.join_next().await.is_some() {} }).await;
        self.agents.shutdown().await;
        for node in &self.residents {
            Programs::of_machine().end_all(node).await;
        }
        self.server_stop.cancel();
        while self.server.join_next().await.is_some() {}
    }
}

/// Resolves when one of the programs has ended, which none does of itself.
async fn failure(server: &mut JoinSet<anyhow::Result<()>>, agents: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    let (program, ended) = tokio::select! {
        biased;
        Some(ended) = server.join_next() => ("the server", ended),
        Some(ended) = agents.join_next() => ("a node", ended),
        else => ("everything", Ok(Ok(()))),
    };
    let ended = ended.map_err(anyhow::Error::from).flatten();
    let reason = ended.err().unwrap_or_else(|| anyhow::anyhow!("nobody asked it to"));
    reason.context(format!("{program} has ended"))
}
