//! Records in this process, for tests and simulation, with CouchDB's revisions and conflicts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use vogeler_protocol::{Group, NodeName, Timestamp};

use crate::condition::{Condition, Path};
use crate::design_docs::DesignDoc;
use crate::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};

/// A database in memory. Clones are the same database. Views are not run here.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Option<Database>>>);

#[derive(Debug, Default)]
struct Database {
    documents: BTreeMap<String, Document>,
    designs: BTreeMap<String, Value>,
}

#[derive(Debug)]
struct Document {
    generation: u64,
    /// A JSON object as text, without its revision: a tree of it is several times as large. None once it is deleted; a
    /// revision outlives its document.
    text: Option<Box<str>>,
}

impl Document {
    fn rev(&self) -> String {
        format!("{}-memory", self.generation)
    }

    fn value(&self) -> Option<Value> {
        serde_json::from_str(self.text.as_ref()?).ok()
    }
}

impl MemoryStore {
    /// A database that exists already.
    pub fn created() -> Self {
        Self(Arc::new(Mutex::new(Some(Database::default()))))
    }

    /// Deletes one document, as a person in Fauxton may.
    pub fn delete(&self, id: &NodeName) {
        if let Some(document) = self.lock().as_mut().and_then(|db| db.documents.get_mut(id.as_str())) {
            document.generation += 1;
            document.text = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Database) -> T) -> Result<T, StoreError> {
        self.lock().as_mut().map(act).ok_or_else(|| StoreError::Missing { address: "memory".to_owned() })
    }
}

fn is_retired(record: &Value) -> bool {
    record.pointer("/vogeler/retired").is_some()
}

impl Database {
    fn put(&mut self, row: &Row) -> Fate {
        let Ok(Value::Object(mut value)) = serde_json::from_slice(&row.document) else {
            return Fate::Failed { error: "bad_request".into(), reason: "the document is no JSON object".into() };
        };
        // As in CouchDB, the id comes first in what is read.
        value.shift_insert(0, "_id".to_owned(), row.id.as_str().into());
        let rev = value.shift_remove("_rev").and_then(|rev| rev.as_str().map(str::to_owned));
        let stands = self.documents.get(row.id.as_str());
        let expected = stands.filter(|document| document.text.is_some()).map(Document::rev);
        if rev != expected {
            return Fate::Conflict;
        }
        let generation = stands.map_or(1, |document| document.generation + 1);
        let document = Document { generation, text: Some(Value::Object(value).to_string().into()) };
        let rev = document.rev();
        self.documents.insert(row.id.to_string(), document);
        Fate::Stored { rev }
    }

    fn get(&self, id: &str) -> Option<String> {
        let document = self.documents.get(id)?;
        let named = format!(r#"{{"_id":{}"#, Value::from(id));
        let members = document.text.as_ref()?.strip_prefix(&named)?;
        Some(format!(r#"{named},"_rev":"{}"{members}"#, document.rev()))
    }
}

impl Store for MemoryStore {
    async fn probe(&self) -> Result<(), StoreError> {
        self.with(|_| ())
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        self.probe().await
    }

    async fn describe(&self) -> Result<String, StoreError> {
        Ok("memory".to_owned())
    }

    async fn create(&self) -> Result<bool, StoreError> {
        let mut database = self.lock();
        let new = database.is_none();
        database.get_or_insert_default();
        Ok(new)
    }

    async fn fetch(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        self.with(|db| ids.iter().map(|id| db.get(id.as_str())).collect())
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        // A database is never written to within the same poll; nobody may rely on it here.
        tokio::task::yield_now().await;
        Ok(self.with(|db| rows.iter().map(|row| db.put(row)).collect())?)
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        let seen = |(id, document): (&String, &Document)| {
            let record = document.value().filter(|record| !is_retired(record))?;
            let updated_at: Option<Timestamp> = serde_json::from_value(record.get("updated_at")?.clone()).ok();
            Some(KnownNode { node: id.parse().ok()?, updated_at })
        };
        self.with(|db| db.documents.iter().filter_map(seen).collect())
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        let is_in = |document: &Document| {
            let live = document.value().filter(|record| !is_retired(record));
            let groups = live.as_ref().and_then(|record| record.pointer("/vogeler/client/groups"));
            groups.and_then(Value::as_array).is_some_and(|groups| groups.iter().any(|name| *name == group.as_str()))
        };
        self.with(|db| {
            let members = db.documents.iter().filter(|(_, document)| is_in(document));
            members.filter_map(|(id, _)| id.parse().ok()).collect()
        })
    }

    async fn find(&self, condition: Option<&Condition>, _fields: &[Path]) -> Result<Vec<Found>, StoreError> {
        let found = |(id, document): (&String, &Document)| {
            let record = document.value()?;
            let node = id.parse().ok()?;
            condition.is_none_or(|condition| condition.holds(&record)).then_some(Found { node, record })
        };
        self.with(|db| db.documents.iter().filter_map(found).collect())
    }

    async fn view(&self, design: &str, view: &str, _query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        let reason = format!("it runs no views, {design}/{view} neither");
        Err(StoreError::Unable { address: "memory".to_owned(), reason })
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        self.with(|db| {
            let document = doc.to_document();
            let before = db.designs.insert(doc.name().to_owned(), document.clone());
            match before {
                None => Synced::Created,
                Some(before) if before == document => Synced::Unchanged,
                Some(_) => Synced::Updated,
            }
        })
    }
}
