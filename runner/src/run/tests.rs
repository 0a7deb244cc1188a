//! Runs over the broker and the database in memory, on a clock that hurries.

use std::collections::BTreeMap;
use std::future::{pending, ready};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use vogeler_messaging::memory::MemoryBroker;
use vogeler_messaging::topology::{node_key, node_queue, run_key};
use vogeler_messaging::{ConsumeOptions, Consumer as _, Message, Publish};
use vogeler_protocol::message::{self, Event, Notice};
use vogeler_store::Row;
use vogeler_store::memory::MemoryStore;

use super::*;
use crate::progress::Output;
use crate::wanted::Wanted;

/// What a node does with a command.
#[derive(Clone, Copy)]
enum Way {
    /// Stores.
    Well,
    /// Accepts, and its client is gone for good.
    Dies,
}

struct Fleet {
    parts: Parts<MemoryBroker, MemoryStore>,
    nodes: JoinSet<()>,
}

impl Fleet {
    /// These nodes, on line and with a record each.
    async fn of(ways: &[(&str, Way)]) -> Self {
        let clock = Clock::new(|| Timestamp::from_millisecond(1_800_000_000_000));
        let (broker, store) = (MemoryBroker::new(clock.clone()), MemoryStore::created());
        let topology = Topology::default();
        let session = broker.connect().await.unwrap();
        for exchange in topology.exchanges() {
            session.declare_exchange(&exchange).await.unwrap();
        }
        session.declare_queue(&topology.results_queue(0)).await.unwrap();
        let mut nodes = JoinSet::new();
        for (name, way) in ways {
            let node: NodeName = name.parse().unwrap();
            let document = json!({ "_id": name, "updated_at": clock.now(), "vogeler": {} }).to_string().into_bytes();
            store.put(&[Row { id: node.clone(), document }]).await.unwrap();
            session.declare_queue(&node_queue(&node)).await.unwrap();
            session.bind(&node_queue(&node).name, &topology.broadcast, "broadcasts.all").await.unwrap();
            session.bind(&node_queue(&node).name, &topology.broadcast, &node_key(&node)).await.unwrap();
            nodes.spawn(serve(broker.clone(), node, *way));
        }
        let fleet = Self { parts: Parts { broker, store, topology, clock, random: Random::seeded(3) }, nodes };
        while fleet.on_line().await < ways.len() {
            sleep(Duration::from_millis(1)).await;
        }
        fleet
    }

    async fn on_line(&self) -> usize {
        let session = self.parts.broker.connect().await.unwrap();
        let nodes = self.parts.store.nodes().await.unwrap();
        let queues: Vec<String> = nodes.iter().map(|known| node_queue(&known.node).name).collect();
        let statuses = session.queue_statuses(&queues).await.unwrap();
        statuses.iter().flatten().filter(|status| status.consumers > 0).count()
    }

    fn request(list: &str) -> Request {
        Request {
            commands: vec!["rpms".parse().unwrap()],
            choice: Choice { wanted: Wanted::read(&[list.to_owned()]).unwrap(), condition: None, limit: None },
            timeout: Duration::from_secs(30),
            quiet: Duration::from_secs(2),
            ttl: Duration::from_secs(3600),
            splay: Duration::ZERO,
            batch: None,
            pause: Duration::ZERO,
            detach: false,
            strict: false,
            outlived: true,
            issuer: "op@admin".to_owned(),
            history: None,
        }
    }

    async fn run(&self, request: &Request, interrupted: impl Future<Output = ()>) -> anyhow::Result<u8> {
        Box::pin(run(&self.parts, request, &Progress::new(Output::Text, false), interrupted)).await
    }

    /// What is noted of the run in `folder`.
    fn noted(folder: &std::path::Path) -> Vec<Entry> {
        let run = history::runs(folder).unwrap()[0];
        history::read(folder, run).unwrap().1
    }
}

/// A node that takes commands and answers at once, over as many connections as it takes.
async fn serve(broker: MemoryBroker, node: NodeName, way: Way) {
    let queue = node_queue(&node).name;
    loop {
        let session = broker.connect().await.unwrap();
        let options = ConsumeOptions { prefetch: 0, exclusive: true, no_ack: true };
        let Ok(mut consumer) = session.consume(&queue, options).await else { continue };
        while let Some(delivery) = consumer.next().await {
            let command: Command = message::decode(&delivery.message.body).unwrap();
            let event = match way {
                Way::Well => Notice::Stored,
                Way::Dies => Notice::Accepted,
            };
            let event = Event {
                v: Version,
                run: command.run,
                command: command.command,
                node: node.clone(),
                event,
                at: command.issued_at,
                detail: None,
            };
            let message = Message { body: message::encode(&event), ..Message::default() };
            let routing_key = run_key(event.run);
            let exchange = &Topology::default().events;
            assert!(session.notify(Publish { exchange, routing_key: &routing_key, mandatory: false, message }));
            if matches!(way, Way::Dies) {
                return;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn batches_go_on_after_the_connection_was_lost_between_them() {
    let fleet = Fleet::of(&[("web01", Way::Well), ("web02", Way::Well), ("web03", Way::Well)]).await;
    let folder = tempfile::tempdir().unwrap();
    let request = Request {
        batch: NonZeroUsize::new(1),
        pause: Duration::from_secs(60),
        history: Some(folder.path().to_owned()),
        ..Fleet::request("all")
    };
    let cut = async {
        sleep(Duration::from_secs(90)).await;
        fleet.parts.broker.disconnect();
        pending::<()>().await;
    };
    assert_eq!(fleet.run(&request, cut).await.unwrap(), tally::GOOD);
    let stored = Fleet::noted(folder.path()).into_iter().filter_map(|entry| match entry {
        Entry::Event(event) if event.event == Notice::Stored => Some(event.node.to_string()),
        _ => None,
    });
    assert_eq!(stored.collect::<Vec<_>>(), ["web01", "web02", "web03"]);
}

#[tokio::test(start_paused = true)]
async fn who_accepted_and_left_is_told_apart_from_who_still_runs() {
    let fleet = Fleet::of(&[("web01", Way::Well), ("web02", Way::Dies)]).await;
    let request = Fleet::request("all");
    let progress = Progress::new(Output::Text, false);
    let begun = fleet.parts.clock.now();
    let run = RunId::new(begun, &fleet.parts.random);
    let about = About { run, target: "all".into(), expires_at: begun.after(request.ttl), has_expired: false };
    let (history, sent) = (RefCell::new(History::none()), Cell::new(false));
    let running = Running { parts: &fleet.parts, request: &request, progress: &progress, begun, about, history, sent };
    let prepared = running.prepare().await.unwrap();
    let mut tallies = Tallies::new(&request.commands, &Tally::new(&prepared.expected, prepared.open, begun));
    let mut listener = Listener::start(&fleet.parts, run, &request.commands, &progress, &running.history);
    let routed = running.ask(&prepared, &mut listener, &mut tallies).await.unwrap();
    let session = listener.into_session();
    let status = running.end(session.as_ref(), &prepared, &mut tallies, routed).await.unwrap();
    assert_eq!(status, tally::SILENT);
    let (_, tally) = tallies.iter().next().unwrap();
    let left: BTreeMap<&str, bool> = tally.lines().map(|(node, line)| (node.as_str(), line.left)).collect();
    assert_eq!(left, BTreeMap::from([("web01", false), ("web02", true)]));
}

#[tokio::test(start_paused = true)]
async fn an_interruption_before_anything_was_sent_asks_nobody() {
    let mut fleet = Fleet::of(&[("web01", Way::Well)]).await;
    assert_eq!(fleet.run(&Fleet::request("all"), ready(())).await.unwrap(), INTERRUPTED);
    fleet.nodes.shutdown().await;
    let folder = tempfile::tempdir().unwrap();
    let request = Request { history: Some(folder.path().to_owned()), ..Fleet::request("web01") };
    // Whoever is away when the run begins holds nothing up, and is not asked twice.
    assert_eq!(fleet.run(&request, pending()).await.unwrap(), tally::SILENT);
    let noted = Fleet::noted(folder.path());
    assert!(matches!(noted[..], [Entry::Left { exit_status: tally::SILENT, .. }]), "{noted:?}");
}
