//! The databases that are asked: a file, and what is behind a CouchDB API.

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use vogeler_protocol::NodeName;
use vogeler_store::Store as _;
use vogeler_store::sqlite::Sqlite;
use vogeler_tests::Site;

use crate::fixture::{Fixture, Step};

/// A database in a file of the test's own.
pub(super) struct File {
    pub(super) store: Sqlite,
    _folder: TempDir,
}

impl File {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::new(&folder.path().join("records.db"));
        assert!(store.create().await.unwrap());
        Self { store, _folder: folder }
    }

    pub(super) async fn play(&self, fixture: &Fixture, step: &Step) {
        fixture.play(&self.store, step, async |id| self.store.delete(id).await.unwrap()).await;
    }
}

/// What a database at a CouchDB API says of itself.
pub(super) struct Judge {
    pub(super) name: String,
    /// Of CouchDB itself: major and minor version.
    pub(super) couchdb: Option<(u64, u64)>,
    pub(super) javascript: &'static str,
}

impl Judge {
    pub(super) async fn of(site: &Site) -> Self {
        let welcome = site.services.couch(Method::GET, "/", None).await.unwrap();
        let text = |pointer: &str| welcome.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_apache = text("/vendor/name").contains("Apache") && welcome.get("express-pouchdb").is_none();
        let version = text("/version");
        let mut numbers = version.split('.').map(str::parse);
        let couchdb = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if is_apache => Some((major, minor)),
            _ => None,
        };
        let quickjs = welcome["features"].as_array().is_some_and(|features| features.contains(&json!("quickjs")));
        Self {
            name: format!("{} {version}", text("/vendor/name")),
            couchdb,
            javascript: if quickjs { "quickjs" } else { "spidermonkey" },
        }
    }
}

/// A database of one shard, so that rows fall into the same pieces every time.
pub(super) async fn one_shard(site: &Site) {
    site.services.couch(Method::PUT, &format!("/{}?q=1", site.database), None).await.unwrap();
}

pub(super) async fn play_over_http(site: &Site, fixture: &Fixture, step: &Step) {
    let delete = async |id: &NodeName| {
        let path = format!("/{}/{id}", site.database);
        let document = site.services.couch(Method::GET, &path, None).await.unwrap();
        let rev = document["_rev"].as_str().unwrap().to_owned();
        site.services.couch(Method::DELETE, &format!("{path}?rev={rev}"), None).await.unwrap();
    };
    fixture.play(&site.couch(), step, delete).await;
}
