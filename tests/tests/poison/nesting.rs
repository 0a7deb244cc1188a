//! Nesting. 12,000 levels are stored by CouchDB, and from then on none of its views answers.

use serde_json::Value;
use vogeler_store::Store as _;
use vogeler_tests::{Fleet, Site};

use crate::ends::expect_unharmed;
use crate::letters::{expect_reason, letters_with};
use crate::messages::{BYTES, publish, result_of};

/// One view of each design document that ships.
const VIEWS: [(&str, &str); 4] =
    [("system_records", "all"), ("packages", "by_name"), ("freshness", "by_key"), ("errors", "by_kind")];

fn arrays(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

fn objects(levels: usize) -> String {
    format!("{}null{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

#[tokio::test]
async fn nesting_that_would_break_the_views_is_dead_and_the_views_answer() {
    let site = Site::start("nesting").await;
    let server = site.server().await;
    let mut fleet = Fleet::new("flat", 10);
    fleet.send(&site, 10, BYTES).await;
    let session = site.session().await;
    let deepest = [("arrays-128", arrays(128)), ("objects-128", objects(128))];
    let deeper = [
        ("arrays-129", arrays(129)),
        ("arrays-200", arrays(200)),
        ("objects-1000", objects(1_000)),
        ("arrays-12000", arrays(12_000)),
        ("objects-12000", objects(12_000)),
    ];
    for (node, data) in deepest.iter().chain(&deeper) {
        publish(&session, result_of(node, data)).await;
    }
    fleet.send(&site, 10, BYTES).await;
    fleet.expect_all_kept(&site).await;

    let nodes = deeper.each_ref().map(|(node, _)| *node);
    let letters = letters_with(&site, &nodes, &server).await;
    for node in nodes {
        expect_reason(node, &letters[node], "bad_data");
    }
    site.expect_nothing_waits().await;
    for (node, data) in &deepest {
        // As text: 128 levels inside of a record are more than serde_json makes a tree of.
        let stored = site.couch().fetch(&[node.parse().unwrap()]).await.unwrap().remove(0).unwrap();
        assert!(stored.contains(data), "{node} as it was sent: {stored}");
    }
    for (design, view) in VIEWS {
        let rows = site.view(design, view, &[("reduce", Value::Bool(false))]).await;
        let rows = rows.unwrap_or_else(|error| panic!("{design}/{view} does not answer: {error:#}"));
        if view == "all" {
            let records: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
            assert_eq!(records.len(), 12, "ten flat records and the two deepest: {records:?}");
        }
    }
    expect_unharmed(server).await;
}
