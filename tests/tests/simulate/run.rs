//! One seed, from the first start of the parts to the verdict.
//!
//! Start at [`simulate`]. A storm, in which operators ask and everything goes wrong that the plan says; then calm, in
//! which everything has to come to its end by itself; then every part is asked to stop, and what is left is looked at.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use vogeler_messaging::Current;
use vogeler_messaging::memory::MemoryBroker;
use vogeler_protocol::NodeName;
use vogeler_runner::progress::Told;
use vogeler_store::memory::MemoryStore;

use super::life::{Crash, Life, Living, supervise};
use super::parts::{Outside, groups, request};
use super::plan::{Asked, GROUPS, Mishap, Plan, Rates, name};
use super::world::{Machine, Sabotage, World};
use vogeler_client::disk::MemoryDisk;

/// How long everything may take to come to its end once nothing goes wrong any more: dead connections, patience with
/// the database and growing waits add up to some minutes.
const SETTLING: Duration = Duration::from_secs(30 * 60);

/// How long the parts may take to stop.
const STOPPING: Duration = Duration::from_secs(300);

/// What came of a seed.
pub(super) struct Outcome {
    /// The seed.
    pub(super) seed: u64,
    /// What it decided, in words.
    pub(super) plan: String,
    /// What is wrong; nothing, as it should be.
    pub(super) broken: Vec<String>,
    /// The same for the same history.
    pub(super) fingerprint: u64,
    /// How much has happened.
    pub(super) lines: u64,
    /// The end of it, in words.
    pub(super) tail: Vec<String>,
    /// How often each thing went wrong.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// How many results the broker confirmed.
    pub(super) said: usize,
    /// How long it took by the virtual clock.
    pub(super) took: Duration,
}

/// Runs a seed; with so many nodes if that is said, and with something done wrongly on purpose.
pub(super) fn simulate(seed: u64, nodes: Option<usize>, sabotage: Option<Sabotage>) -> Outcome {
    carry_out(seed, Plan::of(seed, nodes), sabotage)
}

/// Runs a plan, with everything that it leaves open decided by the seed.
pub(super) fn carry_out(seed: u64, plan: Plan, sabotage: Option<Sabotage>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without any I/O");
    LocalSet::new().block_on(&runtime, Simulation::run(seed, plan, sabotage))
}

struct Simulation {
    plan: Plan,
    outside: Outside,
    servers: Vec<Living>,
    nodes: Vec<(Living, Arc<Machine>)>,
    serving: Kept,
    clients: Kept,
}

/// Parts that are kept running.
#[derive(Default)]
struct Kept {
    /// Until then.
    closing: Closing,
    parts: JoinSet<()>,
}

/// Whether parts are kept running no longer.
#[derive(Clone)]
struct Closing(Current<bool>);

impl Default for Closing {
    fn default() -> Self {
        Self(Current::new(false))
    }
}

impl Simulation {
    async fn run(seed: u64, plan: Plan, sabotage: Option<Sabotage>) -> Outcome {
        let mut rng = fastrand::Rng::with_seed(seed.rotate_left(32));
        let machines: BTreeMap<NodeName, Arc<Machine>> =
            (0..plan.nodes).map(|number| machine(&mut rng, number)).collect();
        let world = World::new(seed, machines, sabotage);
        let outside = Outside { broker: MemoryBroker::new(world.true_clock()), store: MemoryStore::created(), world };
        let told = format!("{plan:?}");
        let (serving, clients) = (Kept::default(), Kept::default());
        let mut simulation = Self { plan, outside, servers: Vec::new(), nodes: Vec::new(), serving, clients };
        simulation.start();
        simulation.storm().await;
        simulation.calm(true).await;
        simulation.raise_the_dead().await;
        // Nodes first: what they had to say is then stored.
        let nodes: Vec<Living> = simulation.nodes.iter().map(|(living, _)| living.clone()).collect();
        simulation.outside.stop(&mut simulation.clients, &nodes).await;
        simulation.calm(false).await;
        simulation.outside.stop(&mut simulation.serving, &simulation.servers).await;
        let Outside { world, .. } = &simulation.outside;
        simulation.outside.judge().await;
        let (history, ledger) = (world.history(), world.ledger());
        Outcome {
            seed,
            plan: told,
            broken: ledger.broken.clone(),
            fingerprint: history.fingerprint(),
            lines: history.lines(),
            tail: history.tail(),
            counts: history.counts(),
            said: ledger.said.len(),
            took: world.elapsed(),
        }
    }

    /// Starts every server and every node.
    fn start(&mut self) {
        for number in 0..self.plan.servers {
            let (living, outside) = (Living::default(), self.outside.clone());
            self.servers.push(living.clone());
            let who = format!("server{number}");
            let start = move |life: Life| outside.server(&life);
            let closing = self.serving.closing.0.clone();
            let supervised = supervise(self.outside.world.clone(), who, living, closing, start, |_| {});
            self.serving.parts.spawn_local(supervised);
        }
        for number in 0..self.plan.nodes {
            let node: NodeName = name(number).parse().expect("a node name");
            let Some(machine) = self.outside.world.machine(&node).cloned() else { continue };
            let living = Living::default();
            self.nodes.push((living.clone(), Arc::clone(&machine)));
            let closing = self.clients.closing.0.clone();
            self.clients.parts.spawn_local(client(self.outside.clone(), machine, living, closing));
        }
    }

    /// Everything goes wrong that the plan says, while operators ask.
    async fn storm(&mut self) {
        let world = self.outside.world.clone();
        let begun = Instant::now();
        world.set_rates(self.plan.rates);
        let mut operators = JoinSet::new();
        for (number, asked) in self.plan.asked.iter().cloned().enumerate() {
            operators.spawn_local(operator(self.outside.clone(), number, asked, begun));
        }
        let mut alarms = JoinSet::new();
        for (at, mishap) in self.plan.mishaps.clone() {
            sleep_until(begun + at).await;
            self.happens(mishap, &mut alarms);
        }
        sleep_until(begun + self.plan.storm).await;
        world.note(&"calm", format_args!("nothing goes wrong any more"));
        world.set_rates(Rates::CALM);
        alarms.shutdown().await;
        world.set_absence(None);
        self.outside.broker.unblock();
        while operators.join_next().await.is_some() {}
    }

    fn happens(&self, mishap: Mishap, alarms: &mut JoinSet<()>) {
        let Outside { world, broker, .. } = self.outside.clone();
        world.trouble(&"mishap", "mishap", &format!("{mishap:?}"));
        let node = |number: usize| self.nodes.get(number);
        let end = |living: Option<&Living>, kill: bool| {
            let Some(life) = living.and_then(Living::now) else { return };
            if kill { life.crash(Crash::Machine) } else { life.stop() }
        };
        match mishap {
            Mishap::Restart => broker.disconnect(),
            Mishap::Alarm(lasts) => {
                broker.block("low on memory");
                _ = alarms.spawn_local(async move {
                    sleep(lasts).await;
                    broker.unblock();
                });
            }
            Mishap::Absence(absence, lasts) => {
                world.set_absence(Some(absence));
                _ = alarms.spawn_local(async move {
                    sleep(lasts).await;
                    world.set_absence(None);
                });
            }
            Mishap::KillServer(number) => end(self.servers.get(number), true),
            Mishap::StopServer(number) => end(self.servers.get(number), false),
            Mishap::KillNode(number) => end(node(number).map(|(living, _)| living), true),
            Mishap::StopNode(number) => end(node(number).map(|(living, _)| living), false),
            Mishap::SetClock(number, skew) => {
                if let Some((_, machine)) = node(number) {
                    machine.set_clock(skew);
                }
            }
            Mishap::Replay => {
                let outside = self.outside.clone();
                _ = alarms.spawn_local(async move {
                    let life = Life::new("replay", 1);
                    let replayed = tokio::select! {
                        biased;
                        crash = life.crashed() => Err(format!("crashed: {crash:?}")),
                        replayed = outside.replay(&life) => replayed,
                    };
                    outside.world.note(&life, format_args!("ended: {replayed:?}"));
                });
            }
            Mishap::Reload(number, named) => {
                let Some((_, machine)) = node(number) else { return };
                *machine.groups.lock().expect("nobody panics with it") = groups(named);
                machine.reloads.set(machine.reloads.get() + 1);
            }
        }
    }

    /// Nothing goes wrong any more: everything has to come to its end, and the nodes to their places.
    async fn calm(&self, connected: bool) {
        let begun = Instant::now();
        loop {
            let mut left = self.outside.unsettled();
            if connected && left.is_empty() {
                left = self.outside.out_of_place().await;
            }
            if left.is_empty() {
                return;
            }
            if begun.elapsed() > SETTLING {
                for left in left {
                    self.outside.world.ledger().breaks(format!("stuck: {left}"));
                }
                return;
            }
            sleep(Duration::from_secs(5)).await;
        }
    }

    /// Sends the dead letters back: now that nothing goes wrong any more, none of them dies again.
    async fn raise_the_dead(&self) {
        let dead = self.outside.dead().await;
        self.outside.judge_said(&dead).await;
        if dead.is_empty() {
            return;
        }
        let replayed = self.outside.replay(&Life::new("replay", 2)).await;
        self.calm(true).await;
        let left = self.outside.dead().await.len();
        if left > 0 {
            self.outside.world.ledger().breaks(format!("{left} dead letters are left: {replayed:?}"));
        }
    }
}

impl Outside {
    /// Asks parts to stop.
    async fn stop(&self, kept: &mut Kept, living: &[Living]) {
        kept.closing.0.set(true);
        living.iter().filter_map(Living::now).for_each(|life| life.stop());
        let parts = &mut kept.parts;
        let ending = async { while parts.join_next().await.is_some() {} };
        if timeout(STOPPING, ending).await.is_err() {
            self.world.ledger().breaks(format!("{} parts do not stop", parts.len()));
        }
    }
}

/// A node, in some groups, with a clock of its own.
fn machine(rng: &mut fastrand::Rng, number: usize) -> (NodeName, Arc<Machine>) {
    let node: NodeName = name(number).parse().expect("a node name");
    let named: Vec<&str> = GROUPS.into_iter().filter(|_| rng.bool()).collect();
    let skew = if rng.u32(..4) == 0 { rng.i64(-120_000..=120_000) } else { 0 };
    let (groups, reloads) = (Mutex::new(groups(&named)), Current::new(0));
    let machine =
        Machine { node: node.clone(), skew: Arc::default(), most_skew: AtomicI64::default(), groups, reloads };
    machine.set_clock(skew);
    (node, Arc::new(machine))
}

/// A node's client, started again whenever it ends.
async fn client(outside: Outside, machine: Arc<Machine>, living: Living, closing: Current<bool>) {
    let disk = MemoryDisk::default();
    let Outside { world, .. } = outside.clone();
    let node = machine.node.clone();
    let (on, of, in_world) = (disk.clone(), node.clone(), world.clone());
    let start = move |life: Life| {
        let part = outside.client(&life, &machine, &on);
        let (world, node) = (outside.world.clone(), machine.node.clone());
        let ending = async move {
            let ended = part.await;
            world.ledger().ends(&node);
            ended
        };
        Box::pin(ending) as super::life::Part
    };
    let crashed = move |crash: Crash| {
        in_world.ledger().ends(&of);
        if crash == Crash::Machine {
            disk.lose(|most| usize::try_from(in_world.below(most as u64 + 1)).unwrap_or(0));
        }
        if in_world.is_sabotaged(Sabotage::DiskForgets) {
            disk.wipe();
        }
    };
    supervise(world, node.to_string(), living, closing, start, crashed).await;
}

/// How long a run may take: for each batch the time to publish, to wait and to connect again; and, once, calls that
/// are slow and a database that hangs while it is read.
fn most(asked: &Asked, world: &World) -> Duration {
    let request = request(asked);
    let patience = request.timeout + request.splay;
    let nodes = world.machines().count();
    let batches = asked.batch.map_or(1, |size| nodes.div_ceil(size).max(1));
    (request.timeout + patience * 2 + request.pause) * u32::try_from(batches).unwrap_or(u32::MAX)
        + Duration::from_secs(300)
}

/// An operator who asks once, and looks at what comes of it.
async fn operator(outside: Outside, number: usize, asked: Asked, begun: Instant) {
    sleep_until(begun + asked.at).await;
    let Outside { world, .. } = &outside;
    let (life, told) = (Life::new(&format!("operator{number}"), 1), Told::default());
    world.note(&life, format_args!("asks {} for {}", asked.target, asked.aliases.join(", ")));
    let ended = tokio::select! {
        biased;
        crash = life.crashed() => Err(format!("crashed: {crash:?}")),
        ended = timeout(most(&asked, world), outside.runner(&life, &asked, &told)) => ended.unwrap_or_else(|_| {
            world.ledger().breaks(format!("{life} has not ended in time: {asked:?}"));
            Err("not ended".to_owned())
        }),
    };
    if ended.is_ok() {
        outside.judge_report(&told.end());
    }
    world.note(&life, format_args!("ended: {ended:?}"));
}
