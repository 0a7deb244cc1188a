//! The broker ends and is started again while results flow and a plugin runs.

use vogeler_tests::private::PrivateBroker;
use vogeler_tests::{Fleet, Site, torture};

use crate::load::{SMALL_BATCHES, under_load};
use crate::web01::{HELLO, Web01, begin, consumed, expect_good};

/// The story of both: `goes` ends the broker, and it is started again.
async fn away_under_load(name: &str, fault: &str, goes: impl AsyncFn(&PrivateBroker)) {
    let broker = PrivateBroker::start().await;
    let site = Site::start_on(broker.services(), name).await;
    let server = site.server_with(&[SMALL_BATCHES]).await;
    let web01 = Web01::start(&site).await;
    web01.overhear().await;
    broker.note_queues().await;
    let run = begin(&site, "held");
    web01.holds().await;

    let mut fleet = Fleet::new(name, 100);
    let times = torture::volume(1, 5);
    for _ in 0..times {
        let away = async {
            goes(&broker).await;
            broker.resume().await;
        };
        under_load(&site, &mut fleet, away).await;
        consumed(&site, "master.in.0", &server).await;
        web01.on_line().await;
    }
    let account = fleet.expect_all_kept(&site).await;
    torture::report(fault, times, &account);

    // What was begun before it happened ends, and what begins afterwards finds everybody there.
    web01.let_go();
    expect_good(run).await;
    web01.expect_held_once().await;
    site.runner(&HELLO).await.expect(0);
    site.expect_settled().await;
    assert_eq!(server.stop().await, 0, "the server's exit status");
    assert_eq!(web01.client.stop().await, 0, "the client's exit status");
}

#[tokio::test]
async fn the_broker_is_stopped_and_started_under_load() {
    away_under_load("stopped", "broker stopped and started", async |broker| broker.stop().await).await;
}

#[tokio::test]
async fn the_broker_is_killed_and_started_under_load() {
    away_under_load("killed", "broker killed and started", async |broker| broker.kill().await).await;
}
