//! The life of a part, from its start to its end or its crash, and what starts it again.
//!
//! Start at [`supervise`], which stands for systemd. A part that has crashed is dropped where it stands. What it
//! spawned may still be polled once; [`Life::go_on`] stands before every effect, so that none comes of the dead.

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use vogeler_messaging::memory::{MemoryConsumer, MemorySession};
use vogeler_messaging::{Current, Session};

use super::world::World;

/// In which way a part ends that does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// It is killed: the system closes its connections.
    Process,
    /// Its machine loses power: the broker finds out by its heartbeats, and what was not synced is lost.
    Machine,
}

/// The longest that the broker takes to find out, three heartbeats of 30 s.
const HEARTBEATS: Duration = Duration::from_secs(90);

/// One life of a part. Clones are the same life.
#[derive(Clone)]
pub(super) struct Life(Arc<Inner>);

struct Inner {
    who: String,
    number: u32,
    crashed: Current<Option<Crash>>,
    /// Whether it was asked to stop.
    stopping: Current<bool>,
    sessions: Mutex<Vec<Weak<MemorySession>>>,
    /// Consumers of the dead, which the broker still takes for alive.
    graves: Mutex<Vec<MemoryConsumer>>,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.who, self.0.number)
    }
}

impl Life {
    /// A life, and which one of that part it is.
    pub(super) fn new(who: &str, number: u32) -> Self {
        Self(Arc::new(Inner {
            who: who.to_owned(),
            number,
            crashed: Current::new(None),
            stopping: Current::new(false),
            sessions: Mutex::default(),
            graves: Mutex::default(),
        }))
    }

    /// Ends it, now and without a word.
    pub(super) fn crash(&self, crash: Crash) {
        if !self.is_over() {
            self.0.crashed.set(Some(crash));
        }
    }

    /// Whether it has crashed.
    pub(super) fn is_over(&self) -> bool {
        self.0.crashed.get().is_some()
    }

    /// Comes back unless it has crashed.
    pub(super) async fn go_on(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }

    /// Waits until it has crashed.
    pub(super) async fn crashed(&self) -> Crash {
        self.0.crashed.wait_for(|crash| *crash).await
    }

    /// Asks it to stop.
    pub(super) fn stop(&self) {
        self.0.stopping.set(true);
    }

    /// Waits until it is asked to stop.
    pub(super) async fn stopping(&self) {
        self.0.stopping.wait_for(|stopping| stopping.then_some(())).await;
    }

    /// Notes a connection that ends with it, sooner or later.
    pub(super) fn owns(&self, session: &Arc<MemorySession>) {
        let mut sessions = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(session));
    }

    /// Takes a consumer that is dropped: at once where it lives on, with the connections where it has crashed.
    pub(super) fn takes_leave(&self, consumer: MemoryConsumer) {
        if self.is_over() {
            self.0.graves.lock().unwrap_or_else(PoisonError::into_inner).push(consumer);
        }
    }

    fn sessions(&self) -> Vec<Arc<MemorySession>> {
        let sessions = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().filter_map(Weak::upgrade).collect()
    }
}

/// The life that a part has now.
#[derive(Clone, Default)]
pub(super) struct Living(Arc<Mutex<Option<Life>>>);

impl Living {
    /// The life of the moment; none while the part is down.
    pub(super) fn now(&self) -> Option<Life> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, life: Option<Life>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }
}

/// A part that runs; how it ended, in words, where something was wrong.
pub(super) type Part = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// Keeps a part running until `closing`: `start` begins a life, `crashed` is told of one that ended badly.
pub(super) async fn supervise(
    world: World,
    who: String,
    living: Living,
    closing: Current<bool>,
    mut start: impl FnMut(Life) -> Part,
    crashed: impl Fn(Crash),
) {
    let mut number = 0;
    let mut buried: JoinSet<()> = JoinSet::new();
    while !closing.get() {
        number += 1;
        let life = Life::new(&who, number);
        living.set(Some(life.clone()));
        world.note(&life, format_args!("starts"));
        let mut part = start(life.clone());
        let ended = tokio::select! {
            biased;
            crash = life.crashed() => Err(crash),
            ended = &mut part => Ok(ended),
        };
        living.set(None);
        let most = match ended {
            Ok(ended) => {
                world.note(&life, format_args!("ended: {ended:?}"));
                // It ended by itself; nothing that it left behind has any effect, as in a process.
                let sessions = life.sessions();
                life.crash(Crash::Process);
                drop(part);
                for session in sessions {
                    session.close().await;
                }
                Duration::from_secs(5)
            }
            Err(crash) => {
                // Held here, so that dropping the part does not close them sooner than the system would.
                let sessions = life.sessions();
                drop(part);
                crashed(crash);
                let notices_after = match crash {
                    Crash::Process => world.up_to(Duration::from_millis(50)),
                    Crash::Machine => world.up_to(HEARTBEATS),
                };
                let (world, life) = (world.clone(), life.clone());
                buried.spawn(async move {
                    sleep(notices_after).await;
                    for session in sessions {
                        session.close().await;
                    }
                    life.0.graves.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    world.note(&life, format_args!("the broker has noticed"));
                });
                Duration::from_secs(30)
            }
        };
        if !closing.get() {
            sleep(world.up_to(most)).await;
        }
    }
    while buried.join_next().await.is_some() {}
}
