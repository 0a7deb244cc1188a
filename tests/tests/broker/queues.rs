//! Queues that an administrator deletes under those who use them.

use reqwest::Method;
use vogeler_tests::{Fleet, Site, eventually, torture};

use crate::load::BYTES;
use crate::web01::{COMMANDS, HELLO, Web01, begin, consumed, expect_good, says, while_its_plugin_runs};

const RESULTS: &str = "master.in.0";

async fn delete(site: &Site, queue: &str) {
    site.services.manage(Method::DELETE, &format!("/api/queues/{}/{queue}", site.vhost), None).await.unwrap();
}

#[tokio::test]
async fn the_nodes_queue_is_deleted_under_its_client() {
    let site = Site::start("nodequeue").await;
    let _server = site.server().await;
    let web01 = Web01::start(&site).await;
    site.runner(&HELLO).await.expect(0);
    delete(&site, COMMANDS).await;
    web01.on_line().await;
    // Bound by every key that it was bound by.
    for target in ["web01", "group:web", "all", "web*"] {
        let ran = site.runner(&["-c", "hello", "-n", target]).await.expect(0);
        assert!(ran.stdout.contains("1 unchanged"), "{target} reaches the new queue: {ran:?}");
    }
    site.expect_settled().await;
}

#[tokio::test]
async fn the_nodes_queue_is_deleted_while_its_plugin_runs() {
    // The command goes with its queue, and is answered all the same.
    while_its_plugin_runs("nodequeue-running", async |site, _| delete(site, COMMANDS).await).await;
}

#[tokio::test]
async fn the_queue_of_results_is_deleted_under_the_server() {
    let site = Site::start("results").await;
    let server = site.server().await;
    let _web01 = Web01::start(&site).await;
    site.runner(&HELLO).await.expect(0);
    site.expect_settled().await;
    delete(&site, RESULTS).await;
    // The server declares it anew by itself, bound by every slot.
    consumed(&site, RESULTS, &server).await;
    site.runner(&HELLO).await.expect(0);
    let mut fleet = Fleet::new("anew", 200);
    fleet.send(&site, 200, BYTES).await;
    let account = fleet.expect_all_kept(&site).await;
    torture::report("queue of results deleted under the server", 1, &account);
    site.expect_settled().await;
    assert_eq!(server.stop().await, 0, "the server's exit status");
}

#[tokio::test]
async fn without_the_queue_of_results_a_client_keeps_its_result_and_says_so() {
    let site = Site::start("noresults").await;
    let server = site.server().await;
    let web01 = Web01::start(&site).await;
    site.expect_settled().await;
    assert_eq!(server.stop().await, 0, "the server's exit status");
    delete(&site, RESULTS).await;

    let run = begin(&site, "hello");
    says(&web01.client, "a message waits until the broker takes it").await;
    says(&web01.client, "no queue takes \"vogeler.master.in\"").await;
    eventually(async || {
        let commands = site.messages(COMMANDS).await?;
        anyhow::ensure!(commands == 1, "a command that is not acknowledged before its result is sent: {commands}");
        anyhow::Ok(())
    })
    .await;

    site.setup().await.expect(0);
    eventually(async || {
        let results = site.messages(RESULTS).await?;
        anyhow::ensure!(results == 1, "one result; {results} wait; the client said:\n{}", web01.client.log());
        anyhow::Ok(())
    })
    .await;
    web01.expect_acknowledged().await;
    let _server = site.server().await;
    expect_good(run).await;
    assert_eq!(web01.starts("hello"), 1, "how often the plugin was started");
    let record = site.record("web01").await.unwrap();
    assert_eq!(record["hello"], "hi", "{record}");
    site.expect_settled().await;
}
