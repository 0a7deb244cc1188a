//! The broker takes nothing for a while: it is short of memory.

use nix::sys::signal::Signal;
use vogeler_messaging::Session as _;
use vogeler_tests::fleet::{self, json_message};
use vogeler_tests::private::PrivateBroker;
use vogeler_tests::{Fleet, Site, eventually, torture};

use crate::load::BYTES;
use crate::web01::{HELLO, Web01, begin, expect_good, says};

/// Under this share of the machine's memory the broker takes messages.
const TIGHT: [&str; 2] = ["set_vm_memory_high_watermark", "0.000001"];
const USUAL: [&str; 2] = ["set_vm_memory_high_watermark", "0.4"];

/// What the broker's word for it becomes in the log of whoever would publish.
const BLOCKED: &str = "the broker takes no messages for now";

/// The ids of messages that are no results.
const POISON: [&str; 3] = ["poison1", "poison2", "poison3"];

async fn send_poison(site: &Site) {
    let session = site.session().await;
    for id in POISON {
        let mut message = json_message("words, not JSON");
        message.properties.message_id = Some(id.to_owned());
        fleet::publish(&session, &"web01".parse().unwrap(), message).await.unwrap();
    }
    session.close().await;
}

/// Waits until so many messages are in the queue of results, those in the server's hands counted.
async fn left(site: &Site, expected: usize) {
    eventually(async || {
        let left = site.messages("master.in.0").await?;
        anyhow::ensure!(left == expected as u64, "{expected} messages in the queue of results; there are {left}");
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_memory_alarm_for_a_while() {
    let broker = PrivateBroker::start().await;
    let site = Site::start_on(broker.services(), "alarm").await;
    let server = site.server().await;
    let web01 = Web01::start(&site).await;
    web01.overhear().await;
    site.runner(&HELLO).await.expect(0);
    let held = begin(&site, "held");
    web01.holds().await;

    // What waits when it happens: messages to bury, results, and a result whose run is to be told.
    server.signal(Signal::SIGSTOP);
    send_poison(&site).await;
    let mut fleet = Fleet::new("alarm", 50);
    let count = torture::volume(500, 5000);
    fleet.send(&site, count, BYTES).await;
    site.runner(&["-c", "hello", "-n", "web01", "--detach"]).await.expect(0);
    left(&site, POISON.len() + count + 1).await;
    broker.ctl(&TIGHT).await;
    server.signal(Signal::SIGCONT);

    // The server stores and acknowledges what there is, although it can publish nothing.
    let account = fleet.expect_all_kept(&site).await;
    says(&server, BLOCKED).await;
    left(&site, POISON.len()).await;
    let buried = site.dead_letters().await.unwrap();
    assert!(buried.is_empty(), "nothing was published meanwhile: {buried:?}");

    // A run waits and says why; so does a plugin's result.
    let hello = begin(&site, "hello");
    says(&hello, "the broker takes no messages for now: low on memory; waiting").await;
    web01.let_go();
    says(&web01.client, BLOCKED).await;
    let sent = web01.results("held").await.unwrap();
    assert!(sent.is_empty(), "nothing was published meanwhile: {sent:?}");

    broker.ctl(&USUAL).await;
    expect_good(hello).await;
    expect_good(held).await;
    web01.expect_held_once().await;
    site.expect_nothing_waits().await;
    let letters = site.dead_letters().await.unwrap();
    let mut ids: Vec<&str> = letters.iter().filter_map(|letter| letter["properties"]["message_id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, POISON, "each dead letter once; the server said:\n{}", server.log());
    for letter in &letters {
        assert_eq!(letter["properties"]["headers"]["vogeler-reason"], "not_a_result", "{letter}");
    }
    torture::report("memory alarm", 1, &account);
    assert_eq!(server.stop().await, 0, "the server's exit status");
    assert_eq!(web01.client.stop().await, 0, "the client's exit status");
}
