//! The database in memory as a part meets it: away, slow, half written, and written by others, too.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;
use vogeler_protocol::{Group, NodeName};
use vogeler_store::condition::{Condition, Path};
use vogeler_store::design_docs::DesignDoc;
use vogeler_store::memory::MemoryStore;
use vogeler_store::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};

use super::life::Life;
use super::plan::Absence;
use super::world::{Sabotage, World};

/// How long a request may take before the client of a real database gives it up.
const TIME_OUT: Duration = Duration::from_secs(30);

/// The database, as one life of a part reaches it.
#[derive(Clone)]
pub(super) struct SimStore {
    pub(super) inner: MemoryStore,
    pub(super) world: World,
    pub(super) life: Life,
}

fn away(reason: &str) -> StoreError {
    StoreError::Away { address: "memory".to_owned(), reason: reason.to_owned() }
}

fn failed_write() -> StoreError {
    StoreError::Refused { address: "memory".to_owned(), status: 500, reason: "no space left on device".to_owned() }
}

impl SimStore {
    /// Whether it answers at all.
    async fn present(&self, writes: bool) -> Result<(), StoreError> {
        match self.world.absence() {
            None => Ok(()),
            Some(Absence::Full) if !writes => Ok(()),
            Some(Absence::Full) => Err(failed_write()),
            Some(Absence::Away) => Err(away("connection refused")),
            Some(Absence::Missing) => Err(StoreError::Missing { address: "memory".to_owned() }),
            Some(Absence::Hangs) => {
                sleep(TIME_OUT).await;
                Err(away("timed out"))
            }
        }
    }

    async fn read<T>(&self, what: &str, effect: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let reading = async {
            self.present(false).await?;
            effect.await
        };
        self.world.call(&self.life, what, reading, |reason| Err(away(reason))).await
    }

    /// Somebody else writes some of these records first: a person with notes of their own.
    async fn written_by_others(&self, rows: &[Row]) {
        for row in rows {
            if !self.world.happens(|rates| rates.conflict) {
                continue;
            }
            let Some(text) = document(&self.inner, &row.id).await else { continue };
            let Ok(mut document) = serde_json::from_str::<Value>(&text) else { continue };
            let notes = document["notes"].as_u64().unwrap_or(0) + 1;
            document["notes"] = notes.into();
            let theirs = Row { id: row.id.clone(), document: document.to_string().into_bytes() };
            if let Ok([Fate::Stored { .. }]) = self.inner.put(&[theirs]).await.as_deref() {
                self.world.trouble(&self.life, "conflict", row.id.as_str());
                self.world.ledger().noted(&row.id, notes);
            }
        }
    }

    /// Writes those rows that `taken` says, and tells a fate for each.
    async fn write(&self, rows: &[Row], taken: &[bool]) -> Result<Vec<Fate>, PutError> {
        if self.world.is_sabotaged(Sabotage::StoreForgets) && self.world.below(10) == 0 {
            return Ok(rows.iter().map(|_| Fate::Stored { rev: "1-forgotten".to_owned() }).collect());
        }
        let kept: Vec<Row> = rows.iter().zip(taken).filter(|(_, taken)| **taken).map(|(row, _)| row.clone()).collect();
        // What is written is noted at once: whoever asked may have crashed meanwhile, and the request was under way.
        let mut fates = self.inner.put(&kept).await?.into_iter();
        let mut all = Vec::with_capacity(rows.len());
        for (row, taken) in rows.iter().zip(taken) {
            let failed = || match self.world.below(3) {
                0 => Fate::Forbidden { reason: "not by you".to_owned() },
                _ => Fate::Failed { error: "os_process_error".to_owned(), reason: "exited".to_owned() },
            };
            let fate = if *taken { fates.next().unwrap_or_else(failed) } else { failed() };
            if matches!(fate, Fate::Stored { .. }) {
                self.world.ledger().written(&row.id, &row.document);
            }
            all.push(fate);
        }
        self.life.go_on().await;
        Ok(all)
    }
}

/// A record as it is in the database; none where there is none.
pub(super) async fn document(store: &MemoryStore, node: &NodeName) -> Option<String> {
    store.fetch(std::slice::from_ref(node)).await.ok()?.pop()?
}

impl Store for SimStore {
    async fn probe(&self) -> Result<(), StoreError> {
        self.read("probe", self.inner.probe()).await
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        let probing = async {
            self.present(true).await?;
            self.inner.probe_write().await
        };
        self.world.call(&self.life, "trial write", probing, |reason| Err(away(reason))).await
    }

    async fn describe(&self) -> Result<String, StoreError> {
        self.read("describe", self.inner.describe()).await
    }

    async fn create(&self) -> Result<bool, StoreError> {
        self.read("create", self.inner.create()).await
    }

    async fn fetch(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        self.read("fetch", self.inner.fetch(ids)).await
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        let what = format!("put {} from {}", rows.len(), rows.first().map_or("", |row| row.id.as_str()));
        let half = self.world.happens(|rates| rates.half);
        let taken: Vec<bool> = rows.iter().map(|_| !half || self.world.below(2) == 0).collect();
        if half {
            self.world.trouble(&self.life, "half", &what);
            // A request may also be refused whole, for a document that is not named or is.
            match self.world.below(6) {
                0 => return Err(PutError::Refused { status: 500, reason: "internal error".to_owned() }),
                1 => return Err(PutError::TooLarge { id: None, reason: "too large".to_owned() }),
                2 => {
                    let id = rows.first().map(|row| row.id.to_string());
                    return Err(PutError::TooLarge { id, reason: "too large".to_owned() });
                }
                _ => {}
            }
        }
        let writing = async {
            self.present(true).await.map_err(|error| match error {
                StoreError::Refused { status, reason, .. } => PutError::Refused { status, reason },
                other => other.into(),
            })?;
            self.written_by_others(rows).await;
            self.write(rows, &taken).await
        };
        let answer = self.world.call(&self.life, &what, writing, |reason| Err(away(reason).into())).await;
        let told = answer.as_ref().map_or_else(ToString::to_string, |fates| tally(fates));
        self.world.note(&self.life, format_args!("{what}: {told}"));
        answer
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        self.read("list nodes", self.inner.nodes()).await
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        self.read("list members", self.inner.members(group)).await
    }

    async fn find(&self, condition: Option<&Condition>, fields: &[Path]) -> Result<Vec<Found>, StoreError> {
        self.read("find", self.inner.find(condition, fields)).await
    }

    async fn view(&self, design: &str, view: &str, query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        self.read("ask a view", self.inner.view(design, view, query)).await
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        self.read("load a design document", self.inner.sync_design(doc)).await
    }
}

fn tally(fates: &[Fate]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for fate in fates {
        let word = match fate {
            Fate::Stored { .. } => "stored",
            Fate::Conflict => "conflict",
            Fate::Forbidden { .. } => "forbidden",
            Fate::Failed { .. } => "failed",
        };
        *counts.entry(word).or_default() += 1;
    }
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}
