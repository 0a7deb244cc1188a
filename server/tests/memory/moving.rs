//! Results are moved to another number of queues while they come in, and none is lost or overtaken.
//!
//! They are those of producers without an epoch, where nothing but the order of arrival decides: what overtakes shows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vogeler_messaging::topology::{key_of, slot_key, slots};
use vogeler_messaging::{Broker as _, Message, Properties, Publish, QueueStatus, Session as _, Topology};
use vogeler_protocol::NodeName;
use vogeler_server::setup;

use crate::mortal::{Life, Mortal};
use crate::served::{Served, until};

/// One node of each slot modulo four, so that each takes another way once there are four.
const NODES: [&str; 4] = ["a0", "a1", "a2", "a3"];

fn node(prefix: &str, index: u32) -> NodeName {
    let mut names = (0..).map(|number| format!("{prefix}-{number}").parse::<NodeName>().unwrap());
    names.find(|name| name.slot() % 4 == index).unwrap()
}

fn nodes() -> Vec<NodeName> {
    NODES.iter().zip(0..).map(|(prefix, index)| node(prefix, index)).collect()
}

/// Results that come in without pause, each node's counted: under a key of its own, so that none can be missing, and
/// under one that all share, where the latest stands.
struct Flow {
    over: CancellationToken,
    sending: JoinSet<u64>,
    /// What was written in the place of something later.
    rolled_back: Arc<Mutex<Vec<String>>>,
}

impl Flow {
    /// Without a word about when they were sent: each delivery counts as later than the one before.
    async fn into(served: &Served) -> Self {
        Self::sent(served, |_| None).await
    }

    /// With it, so that a delivery that comes again because its server has died is known to be an old one.
    async fn stamped_into(served: &Served) -> Self {
        Self::sent(served, |number| Some(1_700_000_000 + number)).await
    }

    async fn sent(served: &Served, at: impl Fn(u64) -> Option<u64> + Send + 'static) -> Self {
        let rolled_back = Arc::new(Mutex::new(Vec::new()));
        let (noted, mut last) = (Arc::clone(&rolled_back), BTreeMap::<String, u64>::new());
        served.store.answer(move |rows| {
            for row in rows {
                let document: Value = serde_json::from_slice(&row.document).unwrap();
                let now = document["last"].as_u64().unwrap_or(0);
                let before = last.insert(row.id.to_string(), now).unwrap_or(0);
                if now < before {
                    noted.lock().unwrap().push(format!("{} from {before} to {now}", row.id));
                }
            }
            None
        });
        let over = CancellationToken::new();
        let (session, ended) = (served.broker.connect().await.unwrap(), over.clone());
        let mut sending = JoinSet::new();
        sending.spawn(async move {
            let mut number = 0;
            while !ended.is_cancelled() {
                number += 1;
                for node in nodes() {
                    for command in ["last".to_owned(), format!("r{number}")] {
                        let body = format!(
                            r#"{{"v":1,"node":"{node}","command":"{command}","outcome":"ok","data":{number}}}"#
                        );
                        let properties = Properties { timestamp: at(number), ..Properties::default() };
                        let message = Message { body: body.into_bytes(), properties };
                        let (exchange, key) = (Topology::default().master, slot_key(&node));
                        let publish = Publish { exchange: &exchange, routing_key: &key, mandatory: true, message };
                        session.publish(publish).await.expect("there is a queue for it at any moment");
                    }
                }
                sleep(Duration::from_millis(400)).await;
            }
            number
        });
        Self { over, sending, rolled_back }
    }

    /// Ends it and waits until all of it is stored; nothing was ever rolled back on the way.
    async fn expect_kept(mut self, served: &Served, story: &str) {
        sleep(Duration::from_secs(1)).await;
        self.over.cancel();
        let number = self.sending.join_next().await.unwrap().unwrap();
        for node in nodes() {
            until(&format!("{story}: all {number} results of {node}"), 10, async || {
                let record: Value = serde_json::from_str(&served.record(node.as_str()).await).unwrap_or_default();
                record["last"] == number && (1..=number).all(|each| record[format!("r{each}")] == each)
            })
            .await;
        }
        let rolled_back = std::mem::take(&mut *self.rolled_back.lock().unwrap());
        assert!(rolled_back.is_empty(), "{story}: records went back:\n{}", rolled_back.join("\n"));
        assert_eq!(served.dead().await, 0, "{story}: dead letters");
    }
}

/// So many queues are there, consumed and with nothing in them; nothing else is left of a move.
async fn expect_queues(served: &Served, count: u32, story: &str) {
    for number in 0..6 {
        let queue = format!("master.in.{number}");
        if number < count {
            until(&format!("{story}: {queue} consumed"), 5, async || {
                served.session.queue_status(&queue).await.unwrap().is_some_and(QueueStatus::is_consumed)
            })
            .await;
            until(&format!("{story}: {queue} empty"), 5, async || served.broker.unsettled(&queue) == 0).await;
        } else {
            assert_eq!(served.session.queue_status(&queue).await.unwrap(), None, "{story}: {queue}");
        }
    }
    for queue in ["master.in.moving", "master.in.switching", "master.in.setup"] {
        assert_eq!(served.session.queue_status(queue).await.unwrap(), None, "{story}: {queue}");
    }
}

#[tokio::test(start_paused = true)]
async fn from_one_queue_to_four_and_to_two_under_a_steady_flow() {
    let served = Served::with(1, 2).await;
    let flow = Flow::into(&served).await;
    for count in [4, 2, 1, 3] {
        sleep(Duration::from_secs(2)).await;
        served.setup(count).await;
        // Again changes nothing.
        served.setup(count).await;
        expect_queues_soon(&served, count).await;
    }
    flow.expect_kept(&served, "moved four times").await;
    expect_queues(&served, 3, "moved four times").await;
}

/// Servers come back by themselves.
async fn expect_queues_soon(served: &Served, count: u32) {
    for number in 0..count {
        let queue = format!("master.in.{number}");
        until(&format!("{queue} of {count} consumed"), 5, async || {
            served.session.queue_status(&queue).await.unwrap().is_some_and(QueueStatus::is_consumed)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_while_no_server_is_there_is_worked_off_by_setup_itself() {
    let served = Served::with(1, 0).await;
    let flow = Flow::into(&served).await;
    sleep(Duration::from_secs(20)).await;
    served.setup(4).await;
    let (session, later) = (&served.session, Duration::from_secs(20));
    sleep(later).await;
    let mut waiting = 0;
    for number in 0..4 {
        waiting += session.queue_status(&format!("master.in.{number}")).await.unwrap().unwrap().messages;
    }
    assert!(waiting > 0, "what came since waits in the new queues");
    served.setup(2).await;
    served.setup(1).await;
    sleep(later).await;
    served.setup(2).await;
    flow.over.cancel();
    sleep(Duration::from_secs(1)).await;
    // The last portion is nobody's until the queues change once more.
    served.setup(1).await;
    flow.expect_kept(&served, "no server").await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_worked_off_although_the_broker_says_that_nothing_does() {
    let served = Served::with(4, 0).await;
    let flow = Flow::into(&served).await;
    sleep(Duration::from_secs(5)).await;
    assert!(setup_until(&served, 2, &Life::dazed()).await, "a life without an end");
    flow.over.cancel();
    sleep(Duration::from_secs(1)).await;
    served.setup(1).await;
    flow.expect_kept(&served, "a quorum that does not answer").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_held_up_over_a_whole_move_counts_the_queues_again() {
    let mut served = Served::with(2, 0).await;
    let slow = Mortal { inner: served.broker.clone(), life: Life::stalled(Duration::from_secs(30)) };
    let parts = served.parts(slow, 2);
    let metrics = parts.metrics.clone();
    served.serve(parts);
    sleep(Duration::from_secs(5)).await;
    served.setup(4).await;
    expect_queues_soon(&served, 4).await;
    for slot in slots() {
        let mut names = (0..).map(|number| format!("web{number}"));
        let node = names.find(|name| name.parse::<NodeName>().unwrap().slot() == slot).unwrap();
        served.send(&node, 1).await;
    }
    until("all taken", 1, async || metrics.in_hand().0 >= 64).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(metrics.in_hand(), (64, 0), "a slot of two queues has its results twice");
}

/// An earlier version had one queue, which was bound where results come in. A result is in one queue at each step away
/// from there.
#[tokio::test(start_paused = true)]
async fn from_what_an_earlier_version_left_no_result_is_ever_in_two_queues() {
    let topology = Topology::default();
    for call in 1.. {
        let served = Served::with(1, 0).await;
        for slot in slots() {
            served.session.unbind("master.in.0", &topology.slots_exchange().name, &key_of(slot)).await.unwrap();
            served.session.bind("master.in.0", &topology.master, &key_of(slot)).await.unwrap();
        }
        let ended = setup_until(&served, 2, &Life::until(call)).await;
        served.send("web01", 1).await;
        let mut copies = 0;
        for queue in ["master.in.0", "master.in.1", "master.in.moving"] {
            let status = served.session.queue_status(queue).await.unwrap();
            copies += status.map_or(0, |status| status.messages);
        }
        assert_eq!(copies, 1, "died with call {call}");
        if ended {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn setup_that_waits_for_the_database_goes_on_when_it_is_back() {
    let served = Served::with(1, 0).await;
    let flow = Flow::into(&served).await;
    sleep(Duration::from_secs(5)).await;
    served.store.go_away(true);
    let back = async {
        sleep(Duration::from_secs(120)).await;
        served.store.go_away(false);
    };
    tokio::join!(served.setup(2), back);
    flow.over.cancel();
    sleep(Duration::from_secs(1)).await;
    served.setup(1).await;
    flow.expect_kept(&served, "no database").await;
}

/// `vogeler-server setup` that dies where its life says; whether it came to its end.
async fn setup_until(served: &Served, queues: u32, life: &Life) -> bool {
    let mortal = Mortal { inner: served.broker.clone(), life: life.clone() };
    let parts = served.parts(mortal, queues);
    tokio::select! {
        biased;
        () = life.over() => false,
        done = Box::pin(setup::run(&parts, |_| {})) => {
            done.unwrap();
            true
        }
    }
}

/// A story of one death: from one queue to four, and by the next run to what is wanted by then.
async fn dies_with(call: usize) -> bool {
    let served = Served::with(1, 2).await;
    let flow = Flow::stamped_into(&served).await;
    sleep(Duration::from_secs(1)).await;
    if setup_until(&served, 4, &Life::until(call)).await {
        return false;
    }
    sleep(Duration::from_secs(3)).await;
    let wanted = if call.is_multiple_of(2) { 4 } else { 2 };
    served.setup(wanted).await;
    let story = format!("died with call {call}");
    flow.expect_kept(&served, &story).await;
    expect_queues(&served, wanted, &story).await;
    true
}

#[tokio::test(start_paused = true)]
async fn whichever_call_was_the_last_of_setup_the_next_run_ends_well() {
    let whole = Life::default();
    let served = Served::with(1, 2).await;
    let flow = Flow::into(&served).await;
    assert!(setup_until(&served, 4, &whole).await, "a life without an end");
    flow.expect_kept(&served, "a life without an end").await;
    let calls = whole.calls();
    let deletions: Vec<usize> = (0..calls.len()).filter(|at| calls[*at] == "delete a queue").collect();
    let [.., over, _lock] = deletions[..] else { panic!("{calls:?}") };
    // Of calls of one kind in a row the first, the second and the last: between them nothing else happens. When it is
    // over bindings are looked through once more, one like the other.
    let differs = |a: usize, b: usize| calls.get(a) != calls.get(b);
    let is_point = |at: usize| differs(at, at - 1) || differs(at, at + 1) || differs(at - 1, at.saturating_sub(2));
    let points: Vec<usize> = (1..over + 3).filter(|at| is_point(*at)).chain([calls.len() - 1]).collect();
    assert!(points.len() > 20, "{calls:?}");
    let mut deaths = 0;
    for call in points {
        deaths += usize::from(dies_with(call).await);
    }
    assert!(deaths > 20, "{deaths} deaths within {} calls", calls.len());
}

#[tokio::test(start_paused = true)]
async fn two_that_move_results_at_once_do_not_get_into_each_others_way() {
    let served = Served::with(1, 1).await;
    let flow = Flow::into(&served).await;
    tokio::join!(served.setup(4), served.setup(4));
    flow.expect_kept(&served, "two at once").await;
    expect_queues(&served, 4, "two at once").await;
}
