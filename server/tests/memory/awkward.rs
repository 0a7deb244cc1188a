//! A database and a broker that fail in ways of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vogeler_store::{Fate, PutError, Row, Store as _, StoreError};

use crate::served::{Served, until};

fn no_answer() -> PutError {
    PutError::Store(StoreError::Away { address: "memory".into(), reason: "no answer".into() })
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_never_answered_for_is_set_aside_and_its_neighbours_are_stored() {
    let served = Served::start().await;
    served.store.answer(|rows| rows.iter().any(|row| row.id.as_str() == "bad").then(|| Err(no_answer())));
    for number in 0..20 {
        served.send(&format!("good{number}"), 1).await;
    }
    served.send("bad", 1).await;
    served.send("bad", 2).await;
    until("both results of the bad one among the dead letters", 10, async || served.dead().await == 2).await;
    for number in 0..20 {
        assert!(served.holds(&format!("good{number}"), 1).await, "good{number}");
    }
    let (body, reason) = served.take_dead().await;
    assert!(body.contains("\"node\":\"bad\"") && reason.contains("refused"), "{body} {reason}");
    assert_eq!(served.waiting().await, (0, 1), "everything is settled");
}

#[tokio::test(start_paused = true)]
async fn where_every_row_fails_no_record_is_to_blame() {
    let served = Served::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    served.store.answer(move |rows| {
        // The functions of the database are down for twelve requests, well over the five tries of a single row.
        if rows.len() < 2 || counted.fetch_add(1, Ordering::Relaxed) >= 12 {
            return None;
        }
        let failed = Fate::Failed { error: "os_process_error".into(), reason: "{exit_status,1}".into() };
        Some(Ok(vec![failed; rows.len()]))
    });
    served.store.go_away(true);
    for number in 0..20 {
        served.send(&format!("web{number}"), 1).await;
    }
    served.store.go_away(false);
    until("all stored", 10, async || {
        for number in 0..20 {
            if !served.holds(&format!("web{number}"), 1).await {
                return false;
            }
        }
        true
    })
    .await;
    assert!(asked.load(Ordering::Relaxed) > 12, "the requests failed as a whole");
    assert_eq!(served.dead().await, 0);
}

#[tokio::test(start_paused = true)]
async fn records_that_fail_together_for_ever_are_set_aside() {
    let served = Served::start().await;
    served.store.answer(|rows| {
        let failed = Fate::Failed { error: "TypeError".into(), reason: "x is undefined".into() };
        rows.iter().all(|row| row.id.as_str().starts_with("bad")).then(|| Ok(vec![failed; rows.len()]))
    });
    served.store.go_away(true);
    for number in 0..10 {
        served.send(&format!("bad{number}"), 1).await;
    }
    served.store.go_away(false);
    until("they are set aside", 30, async || served.dead().await == 10).await;
    served.send("good", 1).await;
    until("what comes later is stored", 1, async || served.holds("good", 1).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_fails_is_not_tried_in_haste_when_its_delivery_is_lost() {
    let mut served = Served::start().await;
    let tries = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&tries);
    served.store.answer(move |_| {
        noted.lock().unwrap().push(Instant::now());
        Some(Ok(vec![Fate::Failed { error: "os_process_error".into(), reason: "{exit_status,1}".into() }]))
    });
    served.send("web01", 1).await;
    until("the second try", 1, async || tries.lock().unwrap().len() == 2).await;
    served.broker.disconnect();
    served.connect_again().await;
    until("it is tried again", 1, async || tries.lock().unwrap().len() > 2).await;
    served.store.answer(|_| None);
    until("it is stored", 1, async || served.holds("web01", 1).await).await;
    let tries = tries.lock().unwrap().clone();
    let hasty = tries.windows(2).filter(|two| two[1] - two[0] < Duration::from_millis(900)).count();
    assert!(hasty <= 1, "one for the consumer that comes next, not {hasty}: {tries:?}");
    assert_eq!(served.dead().await, 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_lost_its_consumer_does_not_write_over_who_comes_next() {
    let mut served = Served::with(1, 2).await;
    let ballast = "b".repeat(1_500_000);
    let names: Vec<String> = (0..8).map(|number| format!("a{number}")).chain(["x".to_owned()]).collect();
    // No two of them fit into one request, so that the last one is written when the others are.
    let rows = names.iter().map(|name| {
        let document =
            format!(r#"{{"_id":"{name}","system_name":"{name}","doc_type":"SystemRecord","b":"{ballast}"}}"#);
        Row { id: name.parse().unwrap(), document: document.into() }
    });
    served.store.records.put(&rows.collect::<Vec<_>>()).await.unwrap();
    let result =
        |name: &str, data: u64| format!(r#"{{"v":1,"node":"{name}","command":"last","outcome":"ok","data":{data}}}"#);
    served.store.go_away(true);
    for name in &names {
        served.send_body(name, &result(name, 1)).await;
    }
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    served.store.answer(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        None
    });
    served.store.slow(Duration::from_secs(60));
    served.store.go_away(false);
    until("something is written", 5, async || writes.load(Ordering::Relaxed) > 0).await;
    sleep(Duration::from_secs(1)).await;
    // One of both is in the middle of a write, and has more in hand.
    served.broker.disconnect();
    served.connect_again().await;
    served.store.slow(Duration::ZERO);
    served.send_body("x", &result("x", 2)).await;
    let last = async || served.record("x").await.contains(r#""last":2"#);
    until("the second result of x", 5, last).await;
    sleep(Duration::from_secs(300)).await;
    assert!(last().await, "it was written over by the first one");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_fails_alone_is_a_dead_letter_after_five_tries() {
    let served = Served::start().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    served.store.answer(move |rows| {
        let [row] = rows else { return None };
        (row.id.as_str() == "bad").then(|| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(vec![Fate::Failed { error: "TypeError".into(), reason: "x is undefined".into() }])
        })
    });
    served.send("bad", 1).await;
    until("it is set aside", 5, async || served.dead().await == 1).await;
    assert_eq!(tries.load(Ordering::Relaxed), 5);
    let (_, reason) = served.take_dead().await;
    assert!(reason.contains("row_failed") && reason.contains("x is undefined"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_waits_after_a_lost_connection_holds_up_nobody() {
    let mut served = Served::start().await;
    served.send("web01", 1).await;
    until("the first result", 1, async || served.holds("web01", 1).await).await;
    served.broker.disconnect();
    // Before the server is back, whose window is a single delivery then, and with more poison than the next wider one.
    served.connect_again().await;
    for number in 0..40 {
        served.send_body(&format!("bad{number}"), "no JSON").await;
    }
    served.send("web01", 2).await;
    served.broker.block("memory is low");
    until("the good result passes the dead letters that wait", 5, async || served.holds("web01", 2).await).await;
    assert_eq!(served.dead().await, 0, "the broker takes none meanwhile");
    served.broker.unblock();
    until("the dead letters are taken", 5, async || served.dead().await == 40).await;
    assert_eq!(served.waiting().await, (0, 1), "everything is settled");
}
