//! The parts that are simulated: the code of server, client and runner as it ships, on a virtual outside.

use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use vogeler_client::plugin::Plugin;
use vogeler_client::plugin::programs::{Programs, Running};
use vogeler_client::plugin::registry::Registry;
use vogeler_client::run::Agent;
use vogeler_client::state::State;
use vogeler_messaging::Topology;
use vogeler_messaging::memory::MemoryBroker;
use vogeler_protocol::message::{Failure, FailureKind};
use vogeler_protocol::{Data, Group, NodeName};
use vogeler_runner::progress::{Output, Progress, Told};
use vogeler_runner::run::Request;
use vogeler_runner::select::Choice;
use vogeler_runner::wanted::Wanted;
use vogeler_server::config::ServerSection;
use vogeler_server::dead::{self as letters, DeadLetters};
use vogeler_server::health::Health;
use vogeler_server::metrics::Metrics;
use vogeler_store::memory::MemoryStore;

use super::broker::SimBroker;
use super::life::{Life, Part};
use super::plan::{ALIASES, Asked};
use super::store::SimStore;
use super::world::{Machine, World};
use vogeler_client::disk::MemoryDisk;

/// The broker and the database, and everything that parts share.
#[derive(Clone)]
pub(super) struct Outside {
    pub(super) world: World,
    pub(super) broker: MemoryBroker,
    pub(super) store: MemoryStore,
}

impl Outside {
    fn broker(&self, life: &Life, login: &str) -> SimBroker {
        let (inner, world, life, login) = (self.broker.clone(), self.world.clone(), life.clone(), login.to_owned());
        SimBroker { inner, world, life, login }
    }

    fn store(&self, life: &Life) -> SimStore {
        SimStore { inner: self.store.clone(), world: self.world.clone(), life: life.clone() }
    }

    /// A server, from its start to its end.
    pub(super) fn server(&self, life: &Life) -> Part {
        let clock = self.world.true_clock();
        let parts = vogeler_server::run::Parts {
            broker: self.broker(life, "server"),
            store: self.store(life),
            topology: Topology::default(),
            config: ServerSection::default(),
            health: Health::new(clock.clone()),
            metrics: Metrics::default(),
            clock,
            random: self.world.random(),
        };
        let life = life.clone();
        Box::pin(async move {
            let ended = vogeler_server::run::run(parts, async { life.stopping().await }).await;
            ended.map_err(|error| format!("{error:#}"))
        })
    }

    /// The client of a node, from its start to its end.
    pub(super) fn client(&self, life: &Life, machine: &Arc<Machine>, disk: &MemoryDisk) -> Part {
        let clock = self.world.clock(&machine.skew);
        let groups = |machine: &Machine| machine.groups.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let agent = State::on(Arc::new(disk.clone()), clock.now()).map(|state| Agent {
            broker: self.broker(life, machine.node.as_str()),
            topology: Topology::default(),
            node: machine.node.clone(),
            machine_id: Some(format!("machine of {}", machine.node)),
            state,
            concurrency: 2,
            registry: registry(),
            programs: programs(&self.world, life, &machine.node),
            groups: groups(machine),
            oneshot: false,
            clock,
            random: self.world.random(),
        });
        let (life, machine) = (life.clone(), Arc::clone(machine));
        Box::pin(async move {
            let mut read = machine.reloads.get();
            let reload = async || {
                read = machine.reloads.wait_for(|reloads| (*reloads > read).then_some(*reloads)).await;
                (registry(), groups(&machine))
            };
            let agent = agent.map_err(|error| error.to_string())?;
            let ended = agent.run(async { life.stopping().await }, reload).await;
            ended.map_err(|error| format!("{error:#}"))
        })
    }

    /// An operator sends every dead letter back to where results come in.
    pub(super) async fn replay(&self, life: &Life) -> Result<(), String> {
        let (broker, topology) = (self.broker(life, "server"), Topology::default());
        let letters = DeadLetters { broker: &broker, topology: &topology };
        let replayed = letters.replay(letters::Choice::default(), |letter| {
            self.world.note(life, format_args!("replayed {}", letter.id));
        });
        let dealt = Box::pin(replayed).await.map_err(|error| format!("{error:#}"))?;
        dealt.stayed.first().map_or(Ok(()), |(letter, reason)| Err(format!("{} stays: {reason}", letter.id)))
    }

    /// A runner, from its start to its exit status; what it tells is kept in `told`.
    pub(super) async fn runner(&self, life: &Life, asked: &Asked, told: &Told) -> Result<u8, String> {
        let parts = vogeler_runner::run::Parts {
            broker: self.broker(life, "operator"),
            store: self.store(life),
            topology: Topology::default(),
            clock: self.world.true_clock(),
            random: self.world.random(),
        };
        let progress = Progress::untold(Output::Json, false, told);
        let enough = async {
            match asked.patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let request = request(asked);
        let ended = Box::pin(vogeler_runner::run::run(&parts, &request, &progress, enough)).await;
        ended.map_err(|error| format!("{error:#}"))
    }
}

/// What was typed.
pub(super) fn request(asked: &Asked) -> Request {
    Request {
        commands: asked.aliases.iter().map(|alias| alias.parse().expect("an alias")).collect(),
        choice: Choice {
            wanted: Wanted::read(std::slice::from_ref(&asked.target)).expect("a target"),
            condition: None,
            limit: None,
        },
        timeout: Duration::from_secs(90),
        quiet: Duration::from_secs(2),
        ttl: asked.ttl,
        splay: asked.splay,
        batch: asked.batch.and_then(NonZeroUsize::new),
        pause: Duration::from_secs(1),
        detach: asked.detach,
        strict: false,
        outlived: true,
        issuer: "op@admin".to_owned(),
        history: None,
    }
}

/// Groups by their names.
pub(super) fn groups(names: &[&str]) -> Vec<Group> {
    names.iter().map(|name| name.parse().expect("a group")).collect()
}

fn registry() -> Registry {
    Registry::of(
        ALIASES.map(|(alias, key)| Plugin::simulated(alias.parse().expect("an alias"), key.parse().expect("a key"))),
    )
}

/// Plugins that take a moment, seldom a minute, and now and then fail.
fn programs(world: &World, life: &Life, node: &NodeName) -> Programs {
    let (world, life, node) = (world.clone(), life.clone(), node.clone());
    Programs::simulated(move |plugin: &Plugin, run: &str| -> Running {
        let (world, life, node, alias) = (world.clone(), life.clone(), node.clone(), plugin.alias.clone());
        let run = run.to_owned();
        Box::pin(async move {
            let what = format!("run {alias}");
            world.may_crash(&life, &what).await;
            world.ledger().starts(&node, &alias, &run);
            world.note(&life, format_args!("{what} for {run}"));
            let most = if world.below(20) == 0 { 60 } else { 3 };
            world.pass(&life, Duration::from_secs(most)).await;
            world.may_crash(&life, &what).await;
            if world.below(10) == 0 {
                let message = "exited with status 3".to_owned();
                return (Some(3), Err(Failure { kind: FailureKind::Exit, message, stderr: String::new() }));
            }
            // Often what it was before.
            let data = format!(r#"{{"of":"{node}","value":{}}}"#, world.below(3));
            (Some(0), Ok(Data::parse(&data).expect("a small object is data")))
        })
    })
}
