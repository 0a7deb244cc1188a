//! A deterministic simulation: server, clients and runners as they ship, on a broker, a database, disks and plugins
//! in memory, on a clock that stands until somebody waits. A seed decides everything, what goes wrong included.
//!
//! Start at `run::simulate`. `plan` is what a seed decides beforehand, `world` decides the rest call by call; `broker`,
//! `consumer`, `store` and `disk` are the outside as a part meets it, `life` starts and ends parts; `ledger` keeps
//! account of promises, `judge` says in the end whether they were kept. What really is on a network, a disk or a
//! thread is not simulated: that RabbitMQ, CouchDB and Linux are as the twins in memory say is for the other tests.
//!
//! `VOGELER_SIMULATE_SEEDS` is the seeds to run, `17` or `0..1000`; `VOGELER_SIMULATE_NODES` the number of nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod broker;
mod consumer;
mod history;
mod judge;
mod ledger;
mod life;
mod parts;
mod plan;
mod run;
mod store;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use plan::Plan;
use run::{Outcome, carry_out, simulate};

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

/// The seeds of the quick test.
const QUICK: Range<u64> = 0..50;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("VOGELER_SIMULATE_SEEDS") else { return QUICK };
    let number = |text: &str| text.trim().parse::<u64>().expect("VOGELER_SIMULATE_SEEDS is a seed, or FROM..TO");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

fn nodes() -> Option<usize> {
    let text = std::env::var("VOGELER_SIMULATE_NODES").ok()?;
    Some(text.parse().expect("VOGELER_SIMULATE_NODES is a number"))
}

/// Runs seeds on every core.
fn simulate_all(seeds: Range<u64>) -> Vec<Outcome> {
    let (next, outcomes) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = simulate(seed, nodes(), None);
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}

/// Everything that a person needs to see of a seed that failed.
fn told(outcome: &Outcome) -> String {
    let Outcome { seed, plan, broken, tail, .. } = outcome;
    let nodes = nodes().map(|nodes| format!("VOGELER_SIMULATE_NODES={nodes} ")).unwrap_or_default();
    format!(
        "seed {seed}\n{plan}\n{}\n\nwhat is wrong with seed {seed}:\n  {}\nto see it again: \
         {nodes}VOGELER_SIMULATE_SEEDS={seed} cargo test -p vogeler-tests --test simulate promises",
        tail.join("\n"),
        broken.join("\n  ")
    )
}

#[test]
fn promises_are_kept_whatever_goes_wrong() {
    let outcomes = simulate_all(seeds());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for outcome in &outcomes {
        for (what, times) in &outcome.counts {
            *counts.entry(what).or_default() += times;
        }
    }
    let said: usize = outcomes.iter().map(|outcome| outcome.said).sum();
    let hours: u64 = outcomes.iter().map(|outcome| outcome.took.as_secs()).sum::<u64>() / 3_600;
    println!(
        "{} seeds, {hours} virtual hours, {said} messages of nodes confirmed, and what went wrong:",
        outcomes.len()
    );
    for (what, times) in counts {
        println!("{times:>9}  {what}");
    }
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.broken.is_empty()).collect();
    let seeds: Vec<u64> = failed.iter().map(|outcome| outcome.seed).collect();
    assert!(failed.is_empty(), "{}\nthe seeds that failed: {seeds:?}", told(failed[0]));
}

#[test]
fn one_seed_has_one_history() {
    for seed in [3, 8, 21, 34] {
        let (first, second) = (simulate(seed, None, None), simulate(seed, None, None));
        assert!(first.lines > 100, "seed {seed}: only {} things happened", first.lines);
        let differs = first.tail.iter().zip(&second.tail).find(|(first, second)| first != second);
        assert_eq!((first.fingerprint, first.lines), (second.fingerprint, second.lines), "seed {seed}: {differs:?}");
    }
}

fn is_noticed(sabotage: Sabotage, words: &str) {
    let noticed = |seed| simulate(seed, Some(10), Some(sabotage)).broken.iter().any(|broken| broken.contains(words));
    assert!(QUICK.into_iter().any(noticed), "{sabotage:?} was not noticed in any seed of {QUICK:?}");
}

#[test]
fn a_broker_that_drops_what_it_has_confirmed_is_noticed() {
    is_noticed(Sabotage::BrokerDrops, "owes");
    is_noticed(Sabotage::BrokerDrops, "lost: ");
}

#[test]
fn a_database_that_forgets_what_it_has_stored_is_noticed() {
    is_noticed(Sabotage::StoreForgets, "lost: ");
}

#[test]
fn a_disk_that_forgets_what_was_begun_is_noticed() {
    is_noticed(Sabotage::DiskForgets, "a second time");
}

/// Every node is a whole client of its own. Wants a release build; the figures are printed.
#[test]
#[ignore = "takes a minute and gigabytes of memory: make simulate-fleet"]
fn a_fleet_is_asked_at_once_and_all_of_it_is_stored() {
    let nodes = nodes().unwrap_or(100_000);
    let begun = std::time::Instant::now();
    let outcome = carry_out(1, Plan::broadcast(nodes), None);
    let took = begun.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{nodes} nodes: {} messages confirmed and stored in {took:.1?}; {peak}", outcome.said);
    assert!(outcome.broken.is_empty(), "{}", told(&outcome));
    assert_eq!(outcome.said, nodes * 2, "a hello and a result of each");
}
