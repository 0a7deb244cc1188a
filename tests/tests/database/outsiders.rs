//! Others write the same documents, all along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use vogeler_protocol::NodeName;
use vogeler_tests::{Fleet, Services, Site, torture};

use crate::{BYTES, told};

/// What the server says, at debug, of each conflict.
const CONFLICT: &str = "somebody else has written this record";

/// Counts in a field of its own until it is to stop, as any program edits a document: it reads,
/// changes, writes at the revision it has read, and begins anew where somebody was faster. Returns
/// how many edits of each node the database has taken.
async fn edit(services: Services, database: String, nodes: Vec<NodeName>, stop: Arc<AtomicBool>) -> Vec<u64> {
    let mut edits = vec![0; nodes.len()];
    let mut index = 0;
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/{database}/{}", nodes[index]);
        let mut record = services.couch(Method::GET, &path, None).await.unwrap();
        record["edits"] = json!(record["edits"].as_u64().unwrap_or_default() + 1);
        if let Err(reason) = services.couch(Method::PUT, &path, Some(record)).await {
            assert!(reason.to_string().contains("answered 409"), "only a conflict is in the way of an edit: {reason}");
            continue;
        }
        edits[index] += 1;
        index = (index + 1) % nodes.len();
    }
    edits
}

#[tokio::test]
async fn in_a_storm_of_conflicts_no_edit_of_either_side_is_lost() {
    let site = Site::start("storm").await;
    let server = site.server_with(&[("VOGELER_SERVER_LOGLEVEL", "debug")]).await;
    let mut fleet = Fleet::new("web", 5);
    fleet.send(&site, 5, BYTES).await;
    fleet.expect_all_kept(&site).await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..2 {
        let nodes = fleet.nodes().to_vec();
        writers.spawn(edit(site.services.clone(), site.database.clone(), nodes, Arc::clone(&stop)));
    }
    let wanted = torture::volume(10, 200);
    for _ in 0..60 {
        fleet.send(&site, 50, BYTES).await;
        fleet.expect_all_kept(&site).await;
        if told(&server, CONFLICT) >= wanted {
            break;
        }
    }
    let conflicts = told(&server, CONFLICT);
    assert!(conflicts >= wanted, "a storm of {wanted} conflicts; there were {conflicts}");
    stop.store(true, Ordering::Relaxed);
    let edits = writers.join_all().await;

    let account = fleet.expect_all_kept(&site).await;
    assert_eq!(account.dead, 0, "dead letters; the server said:\n{}", server.log());
    for (index, node) in fleet.nodes().iter().enumerate() {
        let taken: u64 = edits.iter().map(|of_one_writer| of_one_writer[index]).sum();
        let record = site.record(node.as_str()).await.unwrap();
        assert_eq!(record["edits"], taken, "the edits of {node} that the database has taken: {record}");
    }
    site.expect_settled().await;
    torture::report("conflict storm", conflicts, &account);
}
