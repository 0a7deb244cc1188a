use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::design_docs::DesignDoc;
use crate::sqlite::Sqlite;
use crate::{Fate, Row, Store as _, StoreError, Synced, ViewQuery};

/// A design document `d` of views, each with its map and its reduce, if it has one.
fn design(views: &[(&str, &str, Option<&str>)]) -> DesignDoc {
    let folder = tempfile::tempdir().unwrap();
    for (name, map, reduce) in views {
        let view = folder.path().join("d/views").join(name);
        fs::create_dir_all(&view).unwrap();
        fs::write(view.join("map.js"), map).unwrap();
        if let Some(reduce) = reduce {
            fs::write(view.join("reduce.js"), reduce).unwrap();
        }
    }
    DesignDoc::read(&folder.path().join("d")).unwrap()
}

struct Site {
    store: Sqlite,
    folder: TempDir,
}

impl Site {
    async fn with(documents: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::new(&folder.path().join("records.db"));
        store.create().await.unwrap();
        let site = Self { store, folder };
        for document in documents {
            site.put(document).await;
        }
        site
    }

    /// Writes a document over what is there.
    async fn put(&self, document: &Value) {
        let mut document = document.clone();
        let id = document["_id"].as_str().unwrap().parse().unwrap();
        if let Some(standing) = &self.store.fetch(std::slice::from_ref(&id)).await.unwrap()[0] {
            document["_rev"] = serde_json::from_str::<Value>(standing).unwrap()["_rev"].clone();
        }
        let row = Row { id, document: document.to_string().into_bytes() };
        let fates = self.store.put(&[row]).await.unwrap();
        assert!(matches!(fates[..], [Fate::Stored { .. }]), "{fates:?}");
    }

    /// The keys of a view, or the status and the words of a refusal.
    async fn keys(&self, view: &str) -> Result<Vec<Value>, (u16, String)> {
        keys(&self.store, view).await
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("records.db")
    }
}

async fn keys(store: &Sqlite, view: &str) -> Result<Vec<Value>, (u16, String)> {
    let query = ViewQuery { reduce: Some(false), ..ViewQuery::default() };
    match store.view("d", view, &query).await {
        Ok(rows) => Ok(rows.into_iter().map(|row| row.key).collect()),
        Err(StoreError::Refused { status, reason, .. }) => Err((status, reason)),
        Err(other) => panic!("{other}"),
    }
}

fn execute(path: &Path, statement: &str) -> usize {
    Connection::open(path).unwrap().execute(statement, []).unwrap()
}

const PLAIN: &str = "function (doc) { emit(doc._id, null); }";
const FATAL: &str = "function (doc) { if (doc.bad) throw 'fatal_error'; emit(doc._id, null); }";

#[tokio::test]
async fn a_document_that_a_map_stops_over_spoils_the_design_document() {
    let site = Site::with(&[json!({"_id": "a"}), json!({"_id": "b", "bad": true}), json!({"_id": "c"})]).await;
    assert_eq!(
        site.store.sync_design(&design(&[("bad", FATAL, None), ("fine", PLAIN, None)])).await.unwrap(),
        Synced::Created
    );
    let words = "no view of d is answered, since the map of bad fails over b: fatal_error; \
                 the record or the design document has to be changed";
    for view in ["bad", "fine", "bad"] {
        assert_eq!(site.keys(view).await, Err((500, words.to_owned())));
    }
    // Others change nothing about it.
    site.put(&json!({"_id": "d"})).await;
    assert_eq!(site.keys("fine").await.unwrap_err().0, 500);
    site.put(&json!({"_id": "b"})).await;
    assert_eq!(site.keys("bad").await.unwrap(), ["a", "b", "c", "d"]);
    site.put(&json!({"_id": "c", "bad": true})).await;
    assert_eq!(site.keys("fine").await.unwrap_err().0, 500);
    site.store.delete(&"c".parse().unwrap()).await.unwrap();
    assert_eq!(site.keys("fine").await.unwrap(), ["a", "b", "d"]);
    site.put(&json!({"_id": "a", "bad": true})).await;
    assert_eq!(site.keys("fine").await.unwrap_err().0, 500);
    assert_eq!(site.store.sync_design(&design(&[("fine", PLAIN, None)])).await.unwrap(), Synced::Updated);
    assert_eq!(site.keys("fine").await.unwrap(), ["a", "b", "d"]);
}

#[tokio::test]
async fn what_has_failed_is_noted_and_not_tried_again() {
    let site = Site::with(&[json!({"_id": "a"}), json!({"_id": "b", "bad": true})]).await;
    site.store.sync_design(&design(&[("v", FATAL, None)])).await.unwrap();
    assert_eq!(site.keys("v").await.unwrap_err().0, 500);
    assert_eq!(execute(&site.path(), "UPDATE indexes SET spoilt = 'as noted'"), 1);
    for _ in 0..2 {
        assert_eq!(site.keys("v").await, Err((500, "as noted".to_owned())));
    }
    // Nor by another process.
    let other = Sqlite::new(&site.path());
    assert_eq!(keys(&other, "v").await, Err((500, "as noted".to_owned())));
    site.put(&json!({"_id": "b"})).await;
    assert_eq!(keys(&other, "v").await.unwrap(), ["a", "b"]);
    assert_eq!(site.keys("v").await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn a_changed_design_document_that_fails_takes_no_place() {
    let site = Site::with(&[json!({"_id": "a"}), json!({"_id": "b", "bad": true})]).await;
    site.store.sync_design(&design(&[("v", PLAIN, None)])).await.unwrap();
    let refused = site.store.sync_design(&design(&[("v", FATAL, None)])).await;
    assert!(matches!(refused, Err(StoreError::Refused { status: 500, .. })), "{refused:?}");
    assert_eq!(site.keys("v").await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn a_value_that_a_reduce_cannot_take_spoils_the_design_document() {
    let site = Site::with(&[json!({"_id": "a", "n": 1}), json!({"_id": "b", "n": "one"})]).await;
    let map = "function (doc) { emit(doc._id, doc.n); }";
    site.store.sync_design(&design(&[("fine", PLAIN, None), ("v", map, Some("_stats"))])).await.unwrap();
    let (status, words) = site.keys("fine").await.unwrap_err();
    assert!(status == 500 && words.contains("the reduce of v fails over b: "), "{words}");
    // Of which a sum makes a value.
    site.store.sync_design(&design(&[("fine", PLAIN, None), ("v", map, Some("_sum"))])).await.unwrap();
    assert_eq!(site.keys("fine").await.unwrap(), ["a", "b"]);
    let rows = site.store.view("d", "v", &ViewQuery::default()).await.unwrap();
    assert_eq!(rows[0].value["error"], "builtin_reduce_error");
    site.put(&json!({"_id": "b", "n": 2})).await;
    assert_eq!(site.store.view("d", "v", &ViewQuery::default()).await.unwrap()[0].value, 3);
}

#[tokio::test]
async fn a_document_over_which_a_map_throws_is_left_out() {
    let site = Site::with(&[json!({"_id": "a", "list": [1]}), json!({"_id": "b"})]).await;
    let map = "function (doc) { emit(doc.list.length, null); }";
    site.store.sync_design(&design(&[("all", PLAIN, None), ("v", map, Some("_count"))])).await.unwrap();
    assert_eq!(site.keys("v").await.unwrap(), [1]);
    assert_eq!(site.keys("all").await.unwrap(), ["a", "b"]);
    site.put(&json!({"_id": "b", "list": []})).await;
    assert_eq!(site.keys("v").await.unwrap(), [0, 1]);
}

#[tokio::test]
async fn counts_follow_every_change() {
    let site = Site::with(&[]).await;
    let map = "function (doc) { (doc.keys || []).forEach(function (key) { emit(key, null); }); }";
    let recounted = "function (keys, values, rereduce) { return rereduce ? sum(values) : values.length; }";
    let views = design(&[("kept", map, Some("_count")), ("recounted", map, Some(recounted))]);
    site.store.sync_design(&views).await.unwrap();
    let changes = [
        json!({"_id": "a", "keys": ["x", "x", ["x", 1], ["x", 2], "é"]}),
        json!({"_id": "b", "keys": ["x", ["x", 1], "e\u{301}", 5]}),
        json!({"_id": "a", "keys": ["x", ["x", 1], ["x", 1], "y"]}),
        json!({"_id": "c", "keys": [["x", 2], ["y"], [["y"], 3]]}),
        json!({"_id": "b", "keys": []}),
        json!({"_id": "a", "keys": ["x", ["x", 1], ["x", 1], "y"], "more": true}),
        json!({"_id": "d", "keys": [5, 5.0, null]}),
    ];
    let group = ViewQuery { group: true, ..ViewQuery::default() };
    let part = ViewQuery { startkey: Some(json!(["x"])), endkey: Some(json!(["x", {}])), ..ViewQuery::default() };
    let queries = [
        ViewQuery::default(),
        ViewQuery { limit: Some(0), ..ViewQuery::default() },
        ViewQuery { group_level: Some(1), ..ViewQuery::default() },
        ViewQuery { descending: true, limit: Some(2), ..group.clone() },
        ViewQuery { key: Some(json!("é")), ..group.clone() },
        ViewQuery { key: Some(json!("nobody")), ..ViewQuery::default() },
        group,
        part,
    ];
    let compare = async || {
        for query in &queries {
            let kept = site.store.view("d", "kept", query).await.unwrap();
            assert_eq!(kept, site.store.view("d", "recounted", query).await.unwrap(), "{query:?}");
        }
    };
    for change in &changes {
        site.put(change).await;
        compare().await;
    }
    for id in ["a", "c", "d"] {
        site.store.delete(&id.parse().unwrap()).await.unwrap();
        compare().await;
    }
    assert_eq!(execute(&site.path(), "DELETE FROM tallies"), 0, "a key without rows has no tally");
}
