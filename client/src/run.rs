//! The agent: the link, the dispatcher, signals.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use vogeler_messaging::amqp::{AmqpBroker, Frames};
use vogeler_messaging::config::BrokerSection;
use vogeler_messaging::{Broker, Current, Topology};
use vogeler_protocol::{Clock, Group, NodeName, Random};

use crate::answers::{Answers, Origin};
use crate::config::ClientSection;
use crate::dispatch::{Dispatch, DispatchParts};
use crate::identity;
use crate::link::{AcksOf, Link};
use crate::plugin;
use crate::plugin::programs::Programs;
use crate::plugin::registry::Registry;
use crate::state::State;

/// How long plugins that run may go on after TERM.
const DRAIN: Duration = Duration::from_secs(20);

/// What an agent is made of.
pub struct Agent<B> {
    /// The broker.
    pub broker: B,
    /// Names of exchanges.
    pub topology: Topology,
    /// The node.
    pub node: NodeName,
    /// The machine's fingerprint.
    pub machine_id: Option<String>,
    /// What it must not forget.
    pub state: State,
    /// How many plugins run at once.
    pub concurrency: usize,
    /// The plugins.
    pub registry: Registry,
    /// What runs them.
    pub programs: Programs,
    /// The groups.
    pub groups: Vec<Group>,
    /// End once everything that waits has been run and answered.
    pub oneshot: bool,
    /// The wall clock.
    pub clock: Clock,
    /// For waits and identifiers.
    pub random: Random,
}

impl Agent<AmqpBroker> {
    /// The agent of this machine, as it is configured. Takes the state directory and makes this
    /// process the one that reaps what plugins leave behind.
    ///
    /// # Errors
    /// The node has no name, or something that the configuration names cannot be used.
    pub fn of(broker: &BrokerSection, client: &ClientSection, oneshot: bool) -> anyhow::Result<Self> {
        let node = identity::node_name(client.node_name.clone())?;
        plugin::adopt_strays()?;
        let clock = Clock::system();
        Ok(Self {
            broker: broker.amqp(&format!("vogeler-client {node}"), Frames::Small)?,
            topology: broker.topology(),
            machine_id: identity::machine_id(&client.machine_id_file),
            state: State::open(&client.state_dir, clock.now())?,
            concurrency: client.concurrency,
            registry: Registry::read(&client.plugin_dir, &client.program_dir),
            programs: Programs::of_machine(),
            groups: client.groups.clone(),
            oneshot,
            clock,
            random: Random::from_system(),
            node,
        })
    }
}

/// In `--oneshot`: how long nothing may come before it counts as everything having come.
const ONESHOT_QUIET: Duration = Duration::from_millis(500);

impl<B: Broker> Agent<B> {
    /// Serves until `stop` resolves, then finishes what runs. `reload` says when to read plugins
    /// and groups anew, and what they are now.
    ///
    /// # Errors
    /// What no waiting will mend: the configuration, the state directory, another client of this name.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        reload: impl AsyncFnMut() -> (Registry, Vec<Group>),
    ) -> anyhow::Result<()> {
        let (node, programs) = (self.node.clone(), self.programs.clone());
        let ended = self.serve(stop, reload).await;
        programs.end_all(&node).await;
        ended
    }

    async fn serve(
        self,
        stop: impl Future<Output = ()>,
        mut reload: impl AsyncFnMut() -> (Registry, Vec<Group>),
    ) -> anyhow::Result<()> {
        let session = Current::new(None);
        let (groups_out, groups) = watch::channel(self.groups.clone());
        let (ear, mut heard) = mpsc::channel(16);
        let origin = Origin {
            node: self.node.clone(),
            instance: self.random.uuid(),
            machine_id: self.machine_id,
            epoch: self.state.epoch(),
            login: self.broker.login(),
        };
        info!(node = %self.node, epoch = origin.epoch, aliases = self.registry.names(), "starting");
        tell_broken(&self.registry);
        let answers =
            Answers::new(origin, self.topology.clone(), self.clock.clone(), self.random.clone(), session.clone());
        let mut dispatch: Dispatch<B::Session, AcksOf<B::Session>> = Dispatch::new(DispatchParts {
            answers,
            clock: self.clock,
            random: self.random.clone(),
            registry: Arc::new(self.registry),
            programs: self.programs,
            groups: self.groups,
            journal: self.state.journal()?,
            concurrency: self.concurrency,
        });
        dispatch.say_hello();
        let contention = dispatch.contention();
        let link = Link {
            contention,
            broker: &self.broker,
            topology: &self.topology,
            node: &self.node,
            state: &self.state,
            random: self.random,
            groups,
            session,
            ear,
        };
        let link = link.run();
        tokio::pin!(link, stop);
        let mut drained_by: Option<tokio::time::Instant> = None;
        let mut quiet_since = None;
        loop {
            let done = dispatch.is_done();
            if drained_by.is_some() && dispatch.is_idle() {
                return Ok(());
            }
            let next_start = dispatch.next_start();
            tokio::select! {
                biased;
                () = &mut stop, if drained_by.is_none() => {
                    dispatch.drain();
                    drained_by = Some(tokio::time::Instant::now() + DRAIN);
                }
                () = at(drained_by) => {
                    warn!("not everything was run and sent within {} s; those commands are told as interrupted", DRAIN.as_secs());
                    return Ok(());
                }
                finished = dispatch.finished() => dispatch.settle(finished?).context("cannot write the journal")?,
                Some(heard) = heard.recv() => {
                    quiet_since = Some(tokio::time::Instant::now());
                    dispatch.hear(heard).context("cannot write the journal")?;
                }
                ended = &mut link => return ended,
                () = at(next_start) => dispatch.start_what_can().context("cannot write the journal")?,
                (registry, groups) = reload() => {
                    info!(aliases = registry.names(), "plugins were read anew");
                    tell_broken(&registry);
                    dispatch.replace(Arc::new(registry), groups.clone());
                    groups_out.send_replace(groups);
                }
                () = at(quiet_since.map(|since| since + ONESHOT_QUIET)), if self.oneshot && done => {
                    return Ok(());
                }
            }
        }
    }
}

fn tell_broken(registry: &Registry) {
    for broken in registry.broken() {
        warn!("{broken}; it is left out, the others serve on");
    }
}

/// Waits until then; for ever where there is no then.
async fn at(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
