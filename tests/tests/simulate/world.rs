//! What all parts of a simulation share: the time, chance, the history, and what is known of promises.
//!
//! Start at [`World::call`]: every call to the outside goes through it, and may go wrong there.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};
use vogeler_messaging::Current;
use vogeler_protocol::{Clock, Group, NodeName, Random, Timestamp};

use super::history::History;
use super::ledger::Ledger;
use super::life::{Crash, Life};
use super::plan::{Absence, Rates};

/// Something that is done wrongly on purpose, so that the account can be seen to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The broker confirms a message and drops it.
    BrokerDrops,
    /// The database says of records that they are stored, and does not keep them.
    StoreForgets,
    /// The disk of a node has lost everything when its client starts again.
    DiskForgets,
}

/// When every simulation begins.
const BEGINNING: i64 = 1_800_000_000_000;

/// The longest that a call that is slow takes.
const SLOW: Duration = Duration::from_secs(8);

/// A machine that a client runs on.
pub(super) struct Machine {
    /// The node's name.
    pub(super) node: NodeName,
    /// By how many milliseconds its clock is ahead of the others', or behind.
    pub(super) skew: Arc<AtomicI64>,
    /// By how many it has been ahead at most.
    pub(super) most_skew: AtomicI64,
    /// The groups that its configuration names now.
    pub(super) groups: Mutex<Vec<Group>>,
    /// Counts how often it was told to read its configuration anew.
    pub(super) reloads: Current<u64>,
}

/// What all parts share. Clones are the same world.
#[derive(Clone)]
pub(super) struct World(Arc<Inner>);

struct Inner {
    begun: Instant,
    chance: Mutex<Rng>,
    rates: Mutex<Rates>,
    absence: Mutex<Option<Absence>>,
    history: Mutex<History>,
    ledger: Mutex<Ledger>,
    machines: BTreeMap<NodeName, Arc<Machine>>,
    sabotage: Option<Sabotage>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What goes wrong with a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Slow,
    Refused,
    Unanswered,
    CrashBefore,
    CrashAfter,
}

impl Machine {
    /// Sets the clock.
    pub(super) fn set_clock(&self, skew: i64) {
        self.skew.store(skew, Ordering::Relaxed);
        self.most_skew.fetch_max(skew, Ordering::Relaxed);
    }
}

impl World {
    /// A world in which nothing goes wrong yet.
    pub(super) fn new(seed: u64, machines: BTreeMap<NodeName, Arc<Machine>>, sabotage: Option<Sabotage>) -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            // The plan is drawn from the seed itself; what happens later is not to follow from how much that took.
            chance: Mutex::new(Rng::with_seed(!seed)),
            rates: Mutex::new(Rates::CALM),
            absence: Mutex::new(None),
            history: Mutex::default(),
            ledger: Mutex::default(),
            machines,
            sabotage,
        }))
    }

    /// How often calls go wrong from now on.
    pub(super) fn set_rates(&self, rates: Rates) {
        *lock(&self.0.rates) = rates;
    }

    /// How the database is away from now on.
    pub(super) fn set_absence(&self, absence: Option<Absence>) {
        *lock(&self.0.absence) = absence;
    }

    /// How the database is away now, if it is.
    pub(super) fn absence(&self) -> Option<Absence> {
        *lock(&self.0.absence)
    }

    /// How long the simulation has gone on.
    pub(super) fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// A clock that is ahead by so many milliseconds, as long as it is.
    pub(super) fn clock(&self, skew: &Arc<AtomicI64>) -> Clock {
        let (begun, skew) = (self.0.begun, Arc::clone(skew));
        Clock::new(move || {
            let elapsed = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
            Timestamp::from_millisecond(BEGINNING + skew.load(Ordering::Relaxed) + elapsed)
        })
    }

    /// The clock that broker, servers and operators have.
    pub(super) fn true_clock(&self) -> Clock {
        self.clock(&Arc::default())
    }

    /// Randomness for a part, from the seed.
    pub(super) fn random(&self) -> Random {
        Random::seeded(lock(&self.0.chance).u64(..))
    }

    /// A number below `below`, which is not zero.
    pub(super) fn below(&self, below: u64) -> u64 {
        lock(&self.0.chance).u64(..below)
    }

    /// A duration up to `most`, to the millisecond.
    pub(super) fn up_to(&self, most: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(most.as_millis()).unwrap_or(u64::MAX - 1) + 1))
    }

    /// Whether something happens that has this rate.
    pub(super) fn happens(&self, rate: impl FnOnce(&Rates) -> u32) -> bool {
        let rate = rate(&lock(&self.0.rates));
        rate > 0 && self.below(100_000) < u64::from(rate)
    }

    /// The machine of a node.
    pub(super) fn machine(&self, node: &NodeName) -> Option<&Arc<Machine>> {
        self.0.machines.get(node)
    }

    /// All machines, by the names of their nodes.
    pub(super) fn machines(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.0.machines.values()
    }

    /// Whether that is done wrongly on purpose.
    pub(super) fn is_sabotaged(&self, by: Sabotage) -> bool {
        self.0.sabotage == Some(by)
    }

    /// What is known of promises.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.0.ledger)
    }

    /// What has happened.
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.0.history)
    }

    /// Notes that something happened.
    pub(super) fn note(&self, who: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        self.history().note(self.elapsed(), who, what);
    }

    /// Notes that something went wrong.
    pub(super) fn trouble(&self, who: &dyn fmt::Display, kind: &'static str, what: &str) {
        self.history().count(kind, 1);
        self.note(who, format_args!("{what}: {kind}"));
    }

    /// Makes a call to the outside, of which `what` tells in the history. It may come late, fail before or after its
    /// effect, which `failed` puts in words, or never come back, because whoever made it has crashed.
    pub(super) async fn call<T>(
        &self,
        life: &Life,
        what: &str,
        effect: impl Future<Output = T>,
        failed: impl FnOnce(&str) -> T,
    ) -> T {
        self.pass(life, Duration::from_millis(2)).await;
        let trouble = self.draw();
        match trouble {
            Trouble::Slow => {
                let late = self.up_to(SLOW);
                self.trouble(life, "slow", what);
                self.pass(life, late).await;
            }
            Trouble::Refused => {
                self.trouble(life, "refused", what);
                return failed("it failed, with no effect");
            }
            Trouble::CrashBefore => self.crash(life, what, "crash before").await,
            Trouble::None | Trouble::Unanswered | Trouble::CrashAfter => {}
        }
        let answer = effect.await;
        life.go_on().await;
        match trouble {
            Trouble::Unanswered => {
                self.trouble(life, "unanswered", what);
                failed("the answer was lost")
            }
            Trouble::CrashAfter => self.crash(life, what, "crash after").await,
            Trouble::None | Trouble::Slow | Trouble::Refused | Trouble::CrashBefore => answer,
        }
    }

    /// Lets time pass for a part; it does not come back to one that has crashed meanwhile.
    pub(super) async fn pass(&self, life: &Life, most: Duration) {
        life.go_on().await;
        let wait = self.up_to(most);
        if !wait.is_zero() {
            sleep(wait).await;
            life.go_on().await;
        }
    }

    /// Whether the part that makes a call crashes over it; it does not come back then.
    pub(super) async fn may_crash(&self, life: &Life, what: &str) {
        life.go_on().await;
        if self.happens(|rates| rates.crash) {
            self.crash::<()>(life, what, "crash").await;
        }
    }

    async fn crash<T>(&self, life: &Life, what: &str, kind: &'static str) -> T {
        self.trouble(life, kind, what);
        life.crash(if self.below(4) == 0 { Crash::Machine } else { Crash::Process });
        pending().await
    }

    fn draw(&self) -> Trouble {
        if self.happens(|rates| rates.crash) {
            return if self.below(2) == 0 { Trouble::CrashBefore } else { Trouble::CrashAfter };
        }
        match () {
            () if self.happens(|rates| rates.refused) => Trouble::Refused,
            () if self.happens(|rates| rates.unanswered) => Trouble::Unanswered,
            () if self.happens(|rates| rates.slow) => Trouble::Slow,
            () => Trouble::None,
        }
    }
}
