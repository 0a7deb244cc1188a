//! Several servers over several queues.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use vogeler_protocol::NodeName;

use crate::served::{Served, until};

/// So many nodes of each of four queues.
fn nodes(each: usize) -> Vec<String> {
    let of_queue = |queue: u32| {
        let names = (0..).map(|number| format!("web{number}"));
        names.filter(move |name| name.parse::<NodeName>().unwrap().slot() % 4 == queue).take(each)
    };
    (0..4).flat_map(of_queue).collect()
}

/// How many deliveries each server has taken so far.
fn taken(served: &Served) -> Vec<u64> {
    served.metrics.iter().map(|metrics| metrics.in_hand().0).collect()
}

/// Waits until each of two servers takes that share of a round of results; how many rounds there were.
async fn shared(served: &Served, nodes: &[String], rounds: &mut u64, share: &[u64]) {
    until(&format!("shares of {share:?}"), 10, async || {
        *rounds += 1;
        let before = taken(served);
        for node in nodes {
            served.send(node, *rounds).await;
        }
        let all = before.iter().sum::<u64>() + nodes.len() as u64;
        until("all of a round taken", 1, async || taken(served).iter().sum::<u64>() >= all).await;
        let took: Vec<u64> = taken(served).iter().zip(before).map(|(after, before)| after - before).collect();
        took == share
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_servers_come_to_hold_two_of_four_queues_each() {
    let served = Served::with(4, 2).await;
    let (nodes, mut rounds) = (nodes(5), 0);
    // Each queue is first held by whoever came first, and passed on by the one that holds more than its share.
    shared(&served, &nodes, &mut rounds, &[10, 10]).await;
    for node in &nodes {
        for round in 1..=rounds {
            until("everything stored", 1, async || served.holds(node, round).await).await;
        }
    }
    for number in 0..4 {
        assert_eq!(served.broker.unsettled(&format!("master.in.{number}")), 0, "results of queue {number}");
    }
    assert_eq!(served.dead().await, 0);
}

#[tokio::test(start_paused = true)]
async fn one_server_alone_keeps_every_queue() {
    let served = Served::with(4, 1).await;
    let (nodes, mut rounds) = (nodes(5), 0);
    for _ in 0..30 {
        shared(&served, &nodes, &mut rounds, &[20]).await;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    assert_eq!(rounds, 30, "no delivery comes a second time: nothing was passed on");
}
