//! Answers that say nothing of the record they are about, and answers that do not arrive.

use std::time::Duration;

use reqwest::Method;
use vogeler_tests::faulty::{Fault, FaultyStore, Rule, batches, every};
use vogeler_tests::{Fleet, Site, torture};

use crate::{BYTES, server_behind};

/// Rounds of results within which a fault has to strike as often as it shall.
const ROUNDS: usize = 10;

/// Half a minute, as it is unless said, is long for a test.
const SHORT: (&str, &str) = ("VOGELER_STORE_TIMEOUT", "1s");

/// Sends results while requests fail by `rule`, until so many of them have. All are stored in the
/// end, and none of them twice.
async fn all_are_stored_through(fault: &str, rule: Rule, times: usize, env: &[(&str, &str)]) {
    let site = Site::start("answers").await;
    let faulty = FaultyStore::start(&site.services.couchdb).await;
    let server = server_behind(&faulty, &site, env).await;
    let round = torture::volume(50, 200);
    // One result a node: a record that is written twice shows that by its revision.
    let mut fleet = Fleet::new("web", (ROUNDS + 1) * round);
    fleet.send(&site, round, BYTES).await;
    fleet.expect_all_kept(&site).await;

    faulty.inject(rule.times(times));
    for _ in 0..ROUNDS {
        fleet.send(&site, round, BYTES).await;
        fleet.expect_all_kept(&site).await;
        if faulty.struck() == times {
            break;
        }
    }
    assert_eq!(faulty.struck(), times, "requests with this fault; the server said:\n{}", server.log());
    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "dead letters; the server said:\n{}", server.log());
    site.expect_settled().await;
    expect_written_once(&site).await;
    torture::report(fault, times, &account);
}

async fn expect_written_once(site: &Site) {
    let path = format!("/{}/_all_docs", site.database);
    let answer = site.services.couch(Method::GET, &path, None).await.unwrap();
    for row in answer["rows"].as_array().unwrap() {
        let (id, rev) = (row["id"].as_str().unwrap(), row["value"]["rev"].as_str().unwrap());
        assert!(id.starts_with("_design/") || rev.starts_with("1-"), "{id} was written again: revision {rev}");
    }
}

#[tokio::test]
async fn results_wait_while_the_database_answers_500() {
    let rule = Rule::new(Fault::Status(500), every);
    all_are_stored_through("database answers 500", rule, 14, &[]).await;
}

#[tokio::test]
async fn results_wait_while_the_database_answers_503() {
    let rule = Rule::new(Fault::Status(503), every);
    all_are_stored_through("database answers 503", rule, 8, &[]).await;
}

#[tokio::test]
async fn results_wait_while_the_database_answers_429() {
    let rule = Rule::new(Fault::Status(429), every);
    all_are_stored_through("database answers 429", rule, 8, &[]).await;
}

/// Once is enough: a login that is refused too often is locked out, so that the server takes its
/// time. One worker, since of two one would wait longer still.
#[tokio::test]
async fn results_wait_while_the_database_refuses_the_login() {
    let rule = Rule::new(Fault::Status(401), every);
    all_are_stored_through("database answers 401", rule, 1, &[("VOGELER_SERVER_WORKERS", "1")]).await;
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_given_up_and_asked_for_again() {
    let rule = Rule::new(Fault::Hang, every);
    all_are_stored_through("time-out in the middle of the body", rule, 4, &[SHORT]).await;
}

#[tokio::test]
async fn half_an_answer_is_no_answer() {
    all_are_stored_through("half a response", Rule::new(Fault::Half, every), 6, &[]).await;
}

#[tokio::test]
async fn an_answer_that_drips_in_is_waited_for() {
    let fault = Fault::Drip { pieces: 20, pause: Duration::from_millis(10) };
    all_are_stored_through("slow drip", Rule::new(fault, every), 6, &[]).await;
}

#[tokio::test]
async fn an_answer_that_drips_too_slowly_is_given_up_and_asked_for_again() {
    let fault = Fault::Drip { pieces: 50, pause: Duration::from_millis(100) };
    all_are_stored_through("slow drip, beyond the time-out", Rule::new(fault, batches), 3, &[SHORT]).await;
}

#[tokio::test]
async fn what_was_stored_without_a_word_of_it_is_found_stored() {
    all_are_stored_through("answer lost, batch stored", Rule::new(Fault::Lost, batches), 4, &[]).await;
}
