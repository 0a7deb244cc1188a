//! The plugin gauntlet: no plugin, however bad, stops the others, leaves a process, or stays in the
//! client's memory.
//!
//! Start at [`bad`], the table of what such plugins do and what lands of it. A plugin that kills
//! its own client is told among the stories of killed clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod bad;
mod leftovers;
mod processes;
mod turns;
mod wedged;

use vogeler_tests::{Account, Site, torture};

use agent::Agent;

#[tokio::test]
async fn whatever_a_plugin_does_is_told_and_the_others_run() {
    let site = Site::start("gauntlet").await;
    let _server = site.server().await;
    let plugins = bad::gauntlet();
    let agent = Agent::start(&site, &plugins).await;
    let rounds = torture::volume(1, 5);
    for _ in 0..rounds {
        agent.run(&plugins).await;
        agent.expect_nobody_left().await;
    }
    agent.expect_landed(&plugins).await;
    agent.expect_nothing_kept().await;

    let record = site.record(&site.vhost).await.unwrap();
    let stderr = |alias: &str| record["vogeler"]["errors"][alias]["stderr"].as_str().unwrap_or_default();
    assert!(stderr("leaks").contains("MemoryError"), "its limit is what ended it: {}", stderr("leaks"));
    assert_eq!(stderr("prints-to-stderr"), "x".repeat(4096), "the end of 10 MB");
    // That they were ended proves nothing where they had never begun.
    for alias in ["double-forks", "daemonises"] {
        assert!(bad::left_by(&site, alias) > 1, "{alias} left a process");
    }
    let sent = rounds * plugins.len();
    torture::report("bad plugins", rounds, &Account { sent, stored: sent, ..Account::default() });
}

#[tokio::test]
async fn what_a_plugin_printed_does_not_stay_in_the_clients_memory() {
    let site = Site::start("hungry").await;
    let _server = site.server().await;
    let plugins = bad::hungry();
    let agent = Agent::start(&site, &plugins).await;
    // An allocator learns from the first large block that it is given back, and keeps the next.
    for _ in 0..torture::volume(3, 20) {
        agent.run(&plugins).await;
    }
    agent.expect_landed(&plugins).await;
    agent.expect_nobody_left().await;
    agent.expect_nothing_kept().await;
}
