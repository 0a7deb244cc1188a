//! Server, nodes and broker under one roof.
//!
//! Start at [`House::open`]. The programs are the real ones, over the broker in memory and a database in a file; they
//! live as long as the house does. A question that needs no nodes is asked of [`parts`] alone.

use std::path::Path;
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
use vogeler_protocol::{Clock, Group, NodeName, Random, Timestamp};
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
    /// The database or a state directory cannot be used; or a program ended.
    pub async fn open(
        parts: Parts<MemoryBroker, Sqlite>,
        home: &Home,
        residents: &[Resident],
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let session = parts.broker.connect().await?;
        setup::declare(&session, &parts.topology).await?;
        session.close().await;
        adopt_strays()?;
        let names: Vec<NodeName> = residents.iter().map(|resident| resident.node.clone()).collect();
        let known = epochs(&parts.store, &names).await?;
        let mut house = Self {
            parts,
            residents: names,
            server: JoinSet::new(),
            agents: JoinSet::new(),
            agents_stop: CancellationToken::new(),
            server_stop: CancellationToken::new(),
        };
        house.start_server();
        let concurrency = if residents.len() == 1 { CONCURRENCY } else { 1 };
        let mut awaited = Vec::new();
        for (Resident { node, groups }, known) in residents.iter().zip(known) {
            // A state that was deleted, or a clock that was ahead: what stands in the record is outrun all the same.
            let after = known.map_or(0, |epoch| i64::try_from(epoch.saturating_mul(1000)).unwrap_or(i64::MAX));
            let now = house.parts.clock.now().max(Timestamp::from_millisecond(after).after(Duration::from_secs(1)));
            let state = State::open(&home.state(node), now).with_context(|| format!("{node} cannot be started"))?;
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
            let mut known = epochs(&self.parts.store, &names).await?.into_iter();
            awaited.retain(|(_, epoch)| known.next().flatten() != Some(*epoch));
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
        let _ = timeout(patience, async { while self.server.join_next().await.is_some() {} }).await;
    }
}

/// The start of each node that its record tells of.
async fn epochs(store: &Sqlite, nodes: &[NodeName]) -> anyhow::Result<Vec<Option<u64>>> {
    let of_record = |text: String| {
        let record: Value = serde_json::from_str(&text).ok()?;
        record.pointer("/vogeler/client/epoch")?.as_u64()
    };
    Ok(store.fetch(nodes).await?.into_iter().map(|record| record.and_then(of_record)).collect())
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
