//! The nodes of a blowout: the client that ships, thousands of times in one process.
//!
//! What is not real: the state directory is kept in memory, and plugins start no process. Everything between is the client's own
//! code: its queue and bindings, its journal, digests, the outbox and confirms.

use std::collections::BTreeMap;
use std::future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use vogeler_client::disk::MemoryDisk;
use vogeler_client::plugin::Plugin;
use vogeler_client::plugin::programs::{Programs, Running};
use vogeler_client::plugin::registry::Registry;
use vogeler_client::run::Agent;
use vogeler_client::state::State;
use vogeler_messaging::Topology;
use vogeler_messaging::amqp::{AmqpBroker, Frames};
use vogeler_protocol::message::{Failure, FailureKind};
use vogeler_protocol::{Clock, NodeName, Random};

use crate::profile::{Bodies, Profile};
use crate::site::Site;
use crate::tap::Pool;

/// Nodes that are started at once; each has some ten questions to the broker before it serves.
const STARTING: usize = 200;

/// How long a node that leaves is away, at most.
const AWAY: Duration = Duration::from_secs(5);

/// What the nodes are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// How many there are.
    pub nodes: usize,
    /// Over how many connections; 0 for one each.
    pub connections: usize,
    /// What their plugins bring.
    pub profile: Profile,
    /// So many of a hundred plugins fail.
    pub failures: f64,
}

/// What they say of themselves.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Results that the broker has confirmed.
    pub published: u64,
    /// Nodes that run now.
    pub up: usize,
    /// How often one left.
    pub left: u64,
}

/// The name of a node, by its number.
///
/// # Panics
/// Never: what it makes is a name.
pub fn name(number: usize) -> NodeName {
    #[allow(clippy::expect_used, reason = "see there")]
    format!("n{number:06}.blowout.example").parse().expect("a node name")
}

struct Fleet {
    pool: Pool<AmqpBroker>,
    topology: Topology,
    registry: Registry,
    programs: Programs,
    up: AtomicUsize,
    left: AtomicU64,
    /// What ends the present life of each node.
    lives: Mutex<BTreeMap<usize, CancellationToken>>,
    ending: CancellationToken,
}

/// Lives until its input ends.
///
/// # Errors
/// It cannot begin, or a node ended for a reason that no waiting mends.
pub async fn live(site: Site) -> anyhow::Result<()> {
    let (order, mut input) = super::order::<Order>().await?;
    let frames = if order.connections == 0 { Frames::Small } else { Frames::Large };
    let broker = site.broker.amqp("vogeler-blowout nodes", frames)?;
    let fleet = Arc::new(Fleet {
        pool: Pool::new(broker, order.connections),
        topology: site.topology(),
        registry: registry(&order.profile),
        programs: programs(&order.profile, order.failures),
        up: AtomicUsize::new(0),
        left: AtomicU64::new(0),
        lives: Mutex::default(),
        ending: CancellationToken::new(),
    });
    let mut nodes = JoinSet::new();
    let starting = Arc::new(tokio::sync::Semaphore::new(STARTING));
    for number in 0..order.nodes {
        nodes.spawn(Arc::clone(&fleet).node(number, Arc::clone(&starting)));
    }
    loop {
        tokio::select! {
            biased;
            Some(ended) = nodes.join_next() => ended.context("a node has ended")??,
            word = input.next_line() => match word?.as_deref().map(|word| word.split_once(' ').unwrap_or((word, ""))) {
                None => break,
                Some(("leave", count)) => {
                    fleet.leave(count.parse()?);
                    super::answer(&())?;
                }
                Some(_) => super::answer(&Report {
                    published: fleet.pool.published(),
                    up: fleet.up.load(Ordering::Relaxed),
                    left: fleet.left.load(Ordering::Relaxed),
                })?,
            },
        }
    }
    fleet.ending.cancel();
    fleet.leave(usize::MAX);
    while let Some(ended) = nodes.join_next().await {
        ended.context("a node has ended")??;
    }
    Ok(())
}

impl Fleet {
    fn lives(&self) -> MutexGuard<'_, BTreeMap<usize, CancellationToken>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many nodes stop now, drawn at random.
    fn leave(&self, count: usize) {
        let lives = self.lives();
        let running: Vec<&CancellationToken> = lives.values().collect();
        let count = count.min(running.len());
        for life in fastrand::choose_multiple(running, count) {
            life.cancel();
        }
    }

    /// One node, from life to life, on the disk that it keeps.
    async fn node(self: Arc<Self>, number: usize, starting: Arc<tokio::sync::Semaphore>) -> anyhow::Result<()> {
        let (node, disk, clock) = (name(number), MemoryDisk::default(), Clock::system());
        while !self.ending.is_cancelled() {
            let turn = starting.acquire().await?;
            let life = CancellationToken::new();
            self.lives().insert(number, life.clone());
            if self.ending.is_cancelled() {
                return Ok(());
            }
            let agent = Agent {
                broker: self.pool.clone(),
                topology: self.topology.clone(),
                node: node.clone(),
                machine_id: Some(format!("machine of {node}")),
                state: State::on(Arc::new(disk.clone()), clock.now())?,
                concurrency: 4,
                registry: self.registry.clone(),
                programs: self.programs.clone(),
                groups: Vec::new(),
                oneshot: false,
                clock: clock.clone(),
                random: Random::from_system(),
            };
            self.up.fetch_add(1, Ordering::Relaxed);
            // Its turn is over when it has had time to say hello; that it has, the server's count says.
            let running = agent.run(life.cancelled_owned(), future::pending);
            tokio::pin!(running);
            let ended = match tokio::time::timeout(Duration::from_millis(500), &mut running).await {
                Ok(ended) => ended,
                Err(_) => {
                    drop(turn);
                    running.await
                }
            };
            self.up.fetch_sub(1, Ordering::Relaxed);
            ended.with_context(|| format!("{node} has ended"))?;
            if !self.ending.is_cancelled() {
                self.left.fetch_add(1, Ordering::Relaxed);
                let away = Random::from_system().up_to(AWAY);
                self.ending.run_until_cancelled(tokio::time::sleep(away)).await;
            }
        }
        Ok(())
    }
}

fn registry(profile: &Profile) -> Registry {
    Registry::of(profile.kinds.iter().map(|kind| {
        let key = kind.alias.as_str().parse().unwrap_or_else(|error| {
            warn!(%error, "this alias is no key; its results go to `blowout`");
            #[allow(clippy::expect_used, reason = "a constant")]
            "blowout".parse().expect("a key")
        });
        Plugin { max_output: 4 << 20, ..Plugin::simulated(kind.alias.clone(), key) }
    }))
}

/// Plugins that print at once.
fn programs(profile: &Profile, failures: f64) -> Programs {
    let seed = fastrand::u64(..);
    let bodies = profile.kinds.iter().map(|kind| (kind.alias.clone(), Bodies::new(kind.bytes, seed)));
    let bodies: Arc<BTreeMap<_, _>> = Arc::new(bodies.collect());
    Programs::simulated(move |plugin: &Plugin, _run: &str| -> Running {
        let (bodies, alias) = (Arc::clone(&bodies), plugin.alias.clone());
        Box::pin(async move {
            let Some(bodies) = bodies.get(&alias).filter(|_| fastrand::f64() * 100.0 >= failures) else {
                let message = "exited with status 1".to_owned();
                return (Some(1), Err(Failure { kind: FailureKind::Exit, message, stderr: "simulated".to_owned() }));
            };
            (Some(0), Ok(bodies.data(fastrand::u64(..))))
        })
    })
}
