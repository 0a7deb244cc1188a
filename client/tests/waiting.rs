//! A command that expires while another one of its alias runs: it is not run, and its run hears so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use vogeler_client::disk::Directory;
use vogeler_client::plugin::Plugin;
use vogeler_client::plugin::programs::Programs;
use vogeler_client::plugin::registry::Registry;
use vogeler_client::run::Agent;
use vogeler_client::state::State;
use vogeler_messaging::memory::{MemoryBroker, MemoryConsumer, MemorySession};
use vogeler_messaging::topology::{node_key, run_key, run_queue};
use vogeler_messaging::{Broker, ConsumeOptions, Consumer, Message, Publish, Session, Topology};
use vogeler_protocol::message::{self, Command, Event, Notice, Version};
use vogeler_protocol::{Clock, Data, NodeName, Random, RunId, Timestamp};

/// Longer than the grace that clocks have.
const LONG: Duration = Duration::from_secs(600);

fn slow() -> Plugin {
    let plugin = Plugin::simulated("slow".parse().unwrap(), "slow".parse().unwrap());
    Plugin { timeout: LONG * 2, ..plugin }
}

/// Asks the node, and listens to what it says.
async fn ask(session: &MemorySession, node: &NodeName, run: RunId, now: Timestamp) -> MemoryConsumer {
    let topology = Topology::default();
    let queue = run_queue(run);
    session.declare_queue(&queue).await.unwrap();
    session.bind(&queue.name, &topology.events, &run_key(run)).await.unwrap();
    let options = ConsumeOptions { prefetch: 0, exclusive: true, no_ack: true };
    let events = session.consume(&queue.name, options).await.unwrap();
    let command = Command {
        v: Version,
        run,
        command: "slow".parse().unwrap(),
        target: node.as_str().parse().unwrap(),
        issued_at: now,
        expires_at: now.after(Duration::from_secs(10)),
        splay_ms: 0,
        issuer: "op@admin".to_owned(),
        want_events: true,
    };
    let message = Message { body: message::encode(&command), ..Message::default() };
    let key = node_key(node);
    let publish = Publish { exchange: &topology.broadcast, routing_key: &key, mandatory: true, message };
    while session.publish(publish.clone()).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    events
}

async fn next(events: &mut MemoryConsumer) -> Event {
    let delivery = timeout(LONG * 2, events.next()).await.expect("an event").expect("a connection");
    message::decode(&delivery.message.body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_is_refused_and_not_run() {
    let begun = Instant::now();
    let now = move || {
        let elapsed = i64::try_from(begun.elapsed().as_millis()).unwrap();
        Timestamp::from_millisecond(1_800_000_000_000 + elapsed)
    };
    let (clock, topology) = (Clock::new(now), Topology::default());
    let broker = MemoryBroker::new(clock.clone());
    let session = broker.connect().await.unwrap();
    for exchange in topology.exchanges() {
        session.declare_exchange(&exchange).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let node: NodeName = "web01".parse().unwrap();
    let agent = Agent {
        broker: broker.clone(),
        topology,
        node: node.clone(),
        machine_id: None,
        state: State::on(Arc::new(Directory::take(dir.path()).unwrap()), clock.now()).unwrap(),
        concurrency: 4,
        registry: Registry::of([slow()]),
        programs: Programs::simulated(|_, _| {
            Box::pin(async {
                sleep(LONG).await;
                (Some(0), Ok(Data::parse("1").unwrap()))
            })
        }),
        groups: Vec::new(),
        oneshot: false,
        clock: clock.clone(),
        random: Random::seeded(1),
    };
    let story = async {
        let random = Random::seeded(2);
        let mut first = ask(&session, &node, RunId::new(clock.now(), &random), clock.now()).await;
        assert_eq!(next(&mut first).await.event, Notice::Accepted);
        let mut second = ask(&session, &node, RunId::new(clock.now(), &random), clock.now()).await;
        assert_eq!(next(&mut second).await.event, Notice::Accepted);
        let end = next(&mut second).await;
        assert_eq!(end.event, Notice::Refused);
        assert!(end.detail.unwrap().starts_with("expired at "), "as where it had expired before it came");
    };
    tokio::select! {
        biased;
        ended = Box::pin(agent.run(pending(), async || pending().await)) => panic!("the agent has ended: {ended:?}"),
        () = story => {}
    }
}
