//! A slow consumer: the database stands still while results come. The broker holds them, not the server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use vogeler_tests::faulty::FaultyStore;
use vogeler_tests::torture::{self, volume};
use vogeler_tests::{Account, Fleet, Program, Site, eventually};

/// The most memory that the program ever had, in MiB.
fn peak(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// Sends so many results while the database stands still; what became of them, and the server's peak.
async fn pile_up(site: &Site, nodes: usize, results: usize, bytes: usize) -> (Account, u64) {
    let mut store = FaultyStore::start(&site.services.couchdb).await;
    let server = site.server_with(&[("VOGELER_STORE_URL", &store.url())]).await;
    let mut fleet = Fleet::new("pile", nodes);
    fleet.send(site, nodes.min(results), 100).await;
    fleet.expect_all_kept(site).await;
    store.down().await;
    fleet.send(site, results, bytes).await;
    eventually(async || {
        let waiting = site.messages("master.in.0").await? as usize;
        anyhow::ensure!(waiting == results, "{results} results that wait; there are {waiting}");
        anyhow::ensure!(server.log().contains("results wait until the database is back"), "{}", server.log());
        anyhow::Ok(())
    })
    .await;
    store.up();
    let account = fleet.expect_all_kept(site).await;
    site.expect_settled().await;
    (account, peak(&server))
}

#[tokio::test]
async fn small_results_that_pile_up_are_held_by_the_broker() {
    let site = Site::start("pile").await;
    let results = volume(5_000, 100_000);
    let (account, peak) = pile_up(&site, results / 10, results, 2_000).await;
    assert_eq!(account.dead, 0);
    // ARCHITECTURE, "How much memory": 64 MiB of recent records, and two batches of 500 records of 20 KB as answer,
    // record, row and request.
    assert!(peak < 384, "the server had {peak} MiB");
    torture::report(&format!("database still, 2 KB each, server at most {peak} MiB"), 1, &account);
}

#[tokio::test]
async fn large_results_that_pile_up_are_held_by_the_broker() {
    let site = Site::start("large").await;
    let results = volume(24, 2_000);
    let (account, peak) = pile_up(&site, results, results, 4_000_000).await;
    assert_eq!(account.dead, 0);
    // ARCHITECTURE, "How much memory": the first window, as body and as data, and what is on its way to the database.
    assert!(peak < 768, "the server had {peak} MiB");
    torture::report(&format!("database still, 4 MB each, server at most {peak} MiB"), 1, &account);
}
