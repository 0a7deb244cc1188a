//! A node's queue is bound to the groups that it is in, and to no other, whatever comes between.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use vogeler_client::disk::{Appending, Directory, Disk};
use vogeler_client::plugin::programs::Programs;
use vogeler_client::plugin::registry::Registry;
use vogeler_client::run::Agent;
use vogeler_client::state::State;
use vogeler_messaging::memory::{MemoryBroker, MemorySession};
use vogeler_messaging::{Broker, Current, Message, Publish, PublishError, Session, Topology};
use vogeler_protocol::{Clock, Group, Random, Timestamp};

/// A disk that may be full for a while.
#[derive(Debug)]
struct Full {
    inner: Directory,
    now: Arc<AtomicBool>,
}

impl Disk for Full {
    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(name)
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        if self.now.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.replace(name, text)
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn Appending>> {
        self.inner.append(name)
    }
}

fn groups(names: &[&str]) -> Vec<Group> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn is_bound(session: &MemorySession, group: &str) -> bool {
    let topology = Topology::default();
    let routing_key = format!("group.{group}");
    let publish = Publish {
        exchange: &topology.broadcast,
        routing_key: &routing_key,
        mandatory: true,
        message: Message::default(),
    };
    match session.publish(publish).await {
        Ok(()) => true,
        Err(PublishError::Unroutable { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

async fn until(session: &MemorySession, group: &str, bound: bool) {
    let look = async {
        while is_bound(session, group).await != bound {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(600), look).await;
    waited.unwrap_or_else(|_| panic!("bound to {group}: still {}", !bound));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_was_left_while_it_could_not_be_noted_is_left() {
    let clock = Clock::new(|| Timestamp::from_millisecond(1_800_000_000_000));
    let (broker, topology) = (MemoryBroker::new(clock.clone()), Topology::default());
    let session = broker.connect().await.unwrap();
    for exchange in topology.exchanges() {
        session.declare_exchange(&exchange).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let disk = Full { inner: Directory::take(dir.path()).unwrap(), now: Arc::clone(&full) };
    let agent = Agent {
        broker: broker.clone(),
        topology,
        node: "web01".parse().unwrap(),
        machine_id: None,
        state: State::on(Arc::new(disk), clock.now()).unwrap(),
        concurrency: 4,
        registry: Registry::of([]),
        programs: Programs::simulated(|_, _| Box::pin(pending())),
        groups: groups(&["a"]),
        oneshot: false,
        clock,
        random: Random::seeded(1),
    };
    let configured = Current::new(groups(&["a"]));
    let mut read = groups(&["a"]);
    let reload = async || {
        read = configured.wait_for(|groups| (*groups != read).then(|| groups.clone())).await;
        (Registry::of([]), read.clone())
    };
    let story = async {
        until(&session, "a", true).await;
        full.store(true, Ordering::Relaxed);
        configured.set(groups(&["b"]));
        sleep(Duration::from_secs(5)).await;
        configured.set(groups(&["c"]));
        sleep(Duration::from_secs(5)).await;
        full.store(false, Ordering::Relaxed);
        until(&session, "c", true).await;
        until(&session, "a", false).await;
        assert!(!is_bound(&session, "b").await, "it was in b for a moment, and is bound to it for ever");
    };
    tokio::select! {
        biased;
        ended = Box::pin(agent.run(pending(), reload)) => panic!("the agent has ended: {ended:?}"),
        () = story => {}
    }
}
