//! A database that is not there, or that cannot write: results wait, and all are stored afterwards.

use reqwest::Method;
use vogeler_tests::faulty::{Fault, FaultyStore, Rule, every, writes};
use vogeler_tests::program::{binary, command};
use vogeler_tests::{Account, Fleet, Program, Site, eventually, torture};

use crate::{BYTES, expect_struck, server_behind, told};

/// What the server says when it finds the database gone, and when it finds it again.
const AWAY: &str = "results wait until the database is back";
const BACK: &str = "INFO the database is back";

/// Waits until a server has said so once more than before.
async fn expect_told_again(server: &Program, words: &str, before: usize) {
    eventually(async || {
        anyhow::ensure!(told(server, words) > before, "{words:?}, once more; the server said:\n{}", server.log());
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn results_wait_while_the_database_is_down_from_the_start_and_under_load() {
    let site = Site::start("down").await;
    let mut faulty = FaultyStore::start(&site.services.couchdb).await;
    faulty.down().await;
    let mut start = command(binary("vogeler-server"));
    start.env("VOGELER_CONFIG", site.path("vogeler.yaml")).env("VOGELER_STORE_URL", faulty.url());
    let server = Program::start(start, &site.path("server.log"));
    let mut fleet = Fleet::new("web", 50);
    fleet.send(&site, 100, BYTES).await;
    expect_told_again(&server, AWAY, 0).await;
    let queue = site.queue("master.in.0").await.unwrap();
    assert_eq!((queue.messages, queue.consumers), (100, 0), "nothing is consumed before the database has answered");
    faulty.up();
    expect_told_again(&server, BACK, 0).await;
    fleet.expect_all_kept(&site).await;

    let outages = torture::volume(3, 20);
    for _ in 0..outages {
        let (away, back) = (told(&server, AWAY), told(&server, BACK));
        // These are on their way into the database when it goes; the next come while it is gone.
        fleet.send(&site, 200, BYTES).await;
        faulty.down().await;
        fleet.send(&site, 100, BYTES).await;
        expect_told_again(&server, AWAY, away).await;
        faulty.up();
        expect_told_again(&server, BACK, back).await;
        fleet.expect_all_kept(&site).await;
    }
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "dead letters; the server said:\n{}", server.log());
    site.expect_settled().await;
    torture::report("database stopped and started", 1 + outages, &account);
}

/// One worker asks again within twenty seconds; of two, one would take longer still.
#[tokio::test]
async fn a_database_deleted_under_the_server_is_waited_for_until_setup_makes_it_again() {
    let site = Site::start("deleted").await;
    let faulty = FaultyStore::start(&site.services.couchdb).await;
    let server = server_behind(&faulty, &site, &[("VOGELER_SERVER_WORKERS", "1")]).await;
    let mut fleet = Fleet::new("web", 20);
    fleet.send(&site, 100, BYTES).await;
    fleet.expect_all_kept(&site).await;
    site.expect_settled().await;

    site.services.couch(Method::DELETE, &format!("/{}", site.database), None).await.unwrap();
    faulty.inject(Rule::new(Fault::Counted, every));
    // The server has records of these nodes in its memory, at revisions that there are no more.
    fleet.send(&site, 100, BYTES).await;
    expect_struck(&faulty, 1).await;
    let made = site.setup().await.expect(0);
    assert!(made.stdout.contains("database: created"), "the server has made a database: {made:?}");

    let account = eventually(async || {
        let account = fleet.account(&site).await?;
        // What was stored before went with the database, five results of each node; what a write under way brought back
        // of it does no harm.
        let is_whole = account.missing.iter().all(|(_, seq)| *seq <= 5);
        anyhow::ensure!(
            is_whole,
            "of the later results are missing:\n{}\nthe server said:\n{}",
            account.lost(),
            server.log()
        );
        anyhow::Ok(account)
    })
    .await;
    assert_eq!(account.dead, 0, "dead letters");
    site.expect_settled().await;
    torture::report("database deleted", 1, &Account { sent: 100, stored: 100, ..Account::default() });
}

#[tokio::test]
async fn results_wait_while_the_database_reads_and_cannot_write() {
    let site = Site::start("full").await;
    let faulty = FaultyStore::start(&site.services.couchdb).await;
    let server = server_behind(&faulty, &site, &[]).await;
    let mut fleet = Fleet::new("web", 50);
    fleet.send(&site, 100, BYTES).await;
    fleet.expect_all_kept(&site).await;

    faulty.inject(Rule::new(Fault::Status(500), writes));
    fleet.send(&site, torture::volume(300, 2000), BYTES).await;
    // Enough for batches to be halved to single records, and for those to be tried again.
    let times = 24;
    expect_struck(&faulty, times).await;
    faulty.clear();
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "dead letters, though no record was to blame; the server said:\n{}", server.log());
    site.expect_settled().await;
    torture::report("database cannot write", times, &account);
}
