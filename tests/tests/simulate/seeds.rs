//! What is simulated: seeds, those that were asked for or the quick ones, and what a person is told of one that failed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::plan::Plan;
use super::run::{Outcome, carry_out, simulate};
use super::world::Sabotage;

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
