//! The specification of [`Store`], as code.

use serde_json::{Value, json};
use vogeler_protocol::NodeName;
use vogeler_store::condition::Path;
use vogeler_store::design_docs::DesignDoc;
use vogeler_store::{Fate, Row, Store, StoreError, Synced};

fn row(document: &Value) -> Row {
    let id: NodeName = document["_id"].as_str().expect("an id").parse().expect("a node name");
    Row { id, document: document.to_string().into_bytes() }
}

fn names(names: &[&str]) -> Vec<NodeName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn put<St: Store>(store: &St, documents: &[Value]) -> Vec<Fate> {
    store.put(&documents.iter().map(row).collect::<Vec<_>>()).await.unwrap()
}

fn rev(fate: &Fate) -> String {
    match fate {
        Fate::Stored { rev } => rev.clone(),
        other => panic!("not stored: {other:?}"),
    }
}

/// A database that is missing says so, and is created once; it can then be written to.
pub async fn is_created_once<St: Store>(store: St) {
    assert!(matches!(store.probe().await, Err(StoreError::Missing { .. })), "{:?}", store.probe().await);
    assert!(store.create().await.unwrap());
    assert!(!store.create().await.unwrap());
    store.probe().await.unwrap();
    // Twice: what the first has left is not in the way of the second, nor among the nodes.
    for _ in 0..2 {
        store.probe_write().await.unwrap();
    }
    assert!(store.nodes().await.unwrap_or_default().is_empty());
    assert!(!store.describe().await.unwrap().is_empty());
}

/// What was put is fetched, in the order of the question, with its revision; what is missing is none.
pub async fn keeps_what_it_is_given<St: Store>(store: St) {
    store.create().await.unwrap();
    // The largest integer that the stand-in holds exactly, which keeps numbers as JavaScript does.
    let documents = [
        json!({"_id": "b", "packages": {"openssl": "3.0"}, "big": 9_007_199_254_740_991_i64, "text": "ü\u{0}\"\\"}),
        json!({"_id": "a", "x": null}),
    ];
    let fates = put(&store, &documents).await;
    assert_eq!(fates.len(), 2);
    let fetched = store.fetch(&names(&["a", "missing", "b"])).await.unwrap();
    let read = |text: &Option<String>| serde_json::from_str::<Value>(text.as_ref().expect("a document")).unwrap();
    assert_eq!(read(&fetched[0])["_rev"], rev(&fates[1]));
    assert!(fetched[1].is_none());
    let b = read(&fetched[2]);
    assert_eq!((&b["big"], &b["text"], &b["_id"]), (&documents[0]["big"], &documents[0]["text"], &json!("b")));
    assert!(store.fetch(&[]).await.unwrap().is_empty());
    assert!(store.put(&[]).await.unwrap().is_empty());
}

/// Each row has its own fate: an outdated revision is a conflict and disturbs no other row.
pub async fn tells_each_rows_fate<St: Store>(store: St) {
    store.create().await.unwrap();
    let first = put(&store, &[json!({"_id": "a", "n": 1}), json!({"_id": "b", "n": 1})]).await;
    let a = rev(&first[0]);
    let second = put(
        &store,
        &[json!({"_id": "a", "_rev": a, "n": 2}), json!({"_id": "b", "n": 2}), json!({"_id": "c", "n": 1})],
    )
    .await;
    assert_ne!(rev(&second[0]), a);
    assert_eq!(second[1], Fate::Conflict);
    rev(&second[2]);
    let outdated = put(&store, &[json!({"_id": "a", "_rev": a, "n": 3})]).await;
    assert_eq!(outdated, [Fate::Conflict]);
    let documents = store.fetch(&names(&["a", "b"])).await.unwrap();
    let numbers: Vec<i64> = documents
        .iter()
        .map(|text| serde_json::from_str::<Value>(text.as_ref().unwrap()).unwrap()["n"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 1]);
}

/// A document that somebody deleted is missing, and can be written anew without a revision.
pub async fn starts_afresh_after_a_deletion<St: Store>(store: St, delete: impl AsyncFnOnce(&NodeName)) {
    store.create().await.unwrap();
    put(&store, &[json!({"_id": "a", "n": 1})]).await;
    let a: NodeName = "a".parse().unwrap();
    delete(&a).await;
    assert_eq!(store.fetch(std::slice::from_ref(&a)).await.unwrap(), [None]);
    rev(&put(&store, &[json!({"_id": "a", "n": 2})]).await[0]);
    assert!(store.fetch(&[a]).await.unwrap()[0].is_some());
}

/// The nodes are those that have a record; groups are as their clients say.
pub async fn lists_its_nodes<St: Store>(store: St, docs: &[DesignDoc]) {
    store.create().await.unwrap();
    for doc in docs {
        assert_eq!(store.sync_design(doc).await.unwrap(), Synced::Created, "{}", doc.name());
    }
    let record = |id: &str, groups: &[&str]| {
        json!({
            "_id": id, "doc_type": "SystemRecord", "system_name": id, "updated_at": "2026-11-20T11:30:12.345Z",
            "vogeler": {"client": {"groups": groups}},
        })
    };
    let mut retired = record("old01", &["dc1"]);
    retired["vogeler"]["retired"] = json!({ "at": "2026-11-20T12:00:00.000Z", "by": "op@admin" });
    put(&store, &[record("web01", &["web", "dc1"]), record("db01", &["dc1"]), retired]).await;
    let mut nodes = store.nodes().await.unwrap();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    assert_eq!(nodes.iter().map(|known| known.node.as_str()).collect::<Vec<_>>(), ["db01", "web01"]);
    assert_eq!(nodes[0].updated_at.unwrap().to_string(), "2026-11-20T11:30:12.345Z");
    let members = async |group: &str| {
        let mut members = store.members(&group.parse().unwrap()).await.unwrap();
        members.sort();
        members
    };
    assert_eq!(members("dc1").await, names(&["db01", "web01"]));
    assert_eq!(members("web").await, names(&["web01"]));
    assert!(members("nobody").await.is_empty());
    for doc in docs {
        assert_eq!(store.sync_design(doc).await.unwrap(), Synced::Unchanged, "{}", doc.name());
    }
}

/// Conditions hold for the records they hold for, also where they lead through arrays, and the fields come along.
pub async fn finds_by_condition<St: Store>(store: St) {
    store.create().await.unwrap();
    put(
        &store,
        &[
            json!({"_id": "db01", "facts": {"family": "Debian", "cpus": 4}, "packages": {"openssl": "3.0.14-1"}}),
            json!({"_id": "web01", "facts": {"family": "Debian", "cpus": 16}, "packages": {"openssl": "3.0.15-1"}}),
            json!({"_id": "web02", "facts": {"family": "Rocky"}, "jmx": [{"port": 1}, {"port": 9999}],
                "packages": {"python3.11": ["3.11.2", "3.11.9"]}}),
        ],
    )
    .await;
    for (condition, expected) in [
        ("facts.family == 'Debian'", &["db01", "web01"][..]),
        ("facts.family != 'Debian'", &["web02"]),
        ("facts.family == 'Debian' && packages.openssl < '3.0.15'", &["db01"]),
        ("facts.cpus >= 4", &["db01", "web01"]),
        ("jmx.port == 9999", &["web02"]),
        ("jmx.1.port == 9999", &["web02"]),
        ("!exists jmx && !(facts.cpus > 8)", &["db01"]),
        ("packages.\"python3.11\" > '3.11.8'", &["web02"]),
        ("_id ~ '^web' || packages.openssl in ['3.0.14-1']", &["db01", "web01", "web02"]),
        ("exists nothing", &[]),
    ] {
        let found = store.find(Some(&condition.parse().unwrap()), &[]).await.unwrap();
        let nodes: Vec<&str> = found.iter().map(|found| found.node.as_str()).collect();
        assert_eq!(nodes, expected, "{condition}");
    }
    let (family, port) = ("facts.family".parse().unwrap(), "jmx.1.port".parse::<Path>().unwrap());
    let found = store.find(None, &[family, port.clone()]).await.unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].record["facts"]["family"], "Debian");
    assert_eq!(port.get(&found[2].record), Some(&json!(9999)), "{}", found[2].record);
}

/// More records than come in one answer are all found.
pub async fn finds_more_than_a_page<St: Store>(store: St) {
    store.create().await.unwrap();
    let records: Vec<Value> = (0..2100).map(|n| json!({"_id": format!("n{n:04}"), "n": n})).collect();
    for page in records.chunks(500) {
        put(&store, page).await;
    }
    assert_eq!(store.find(None, &["n".parse().unwrap()]).await.unwrap().len(), 2100);
    assert_eq!(store.find(Some(&"n >= 50".parse().unwrap()), &[]).await.unwrap().len(), 2050);
}
