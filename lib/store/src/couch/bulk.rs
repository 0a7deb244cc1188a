//! The hot path: fetch a batch, write a batch.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use vogeler_protocol::NodeName;

use super::Couch;
use crate::{Fate, PutError, Row, StoreError};

#[derive(Deserialize)]
struct AllDocs<'a> {
    #[serde(borrow)]
    rows: Vec<AllDocsRow<'a>>,
}

#[derive(Deserialize)]
struct AllDocsRow<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    doc: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BulkRow {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    rev: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl Couch {
    pub(super) async fn all_docs(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let body = serde_json::json!({ "keys": ids }).to_string();
        let query = [("include_docs", "true".to_owned())];
        let answer = self.send(self.request(Method::POST, "/_all_docs", &query).body(body), None).await?;
        if !answer.status.is_success() {
            return Err(self.failure(&answer));
        }
        let parsed: AllDocs<'_> = serde_json::from_str(&answer.body).map_err(|error| self.garbled(&error))?;
        let mut found: HashMap<String, String> = HashMap::new();
        for row in parsed.rows {
            // A missing document has no id, a deleted one no document.
            if let (Some(id), Some(doc)) = (row.id, row.doc.filter(|doc| doc.get() != "null")) {
                found.insert(id, doc.get().to_owned());
            }
        }
        Ok(ids.iter().map(|id| found.remove(id.as_str())).collect())
    }

    pub(super) async fn bulk_docs(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let length: usize = rows.iter().map(|row| row.document.len() + 1).sum();
        let mut body = Vec::with_capacity(length + 16);
        body.extend_from_slice(b"{\"docs\":[");
        for (position, row) in rows.iter().enumerate() {
            if position > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&row.document);
        }
        body.extend_from_slice(b"]}");
        self.0.sent_bytes.fetch_add(u64::try_from(body.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let answer = self.send(self.request(Method::POST, "/_bulk_docs", &[]).body(body), None).await?;
        // 201 is written everywhere, 202 by fewer members of a cluster than wanted: both are success.
        if !answer.status.is_success() {
            return Err(match self.failure(&answer) {
                StoreError::Refused { status: 413, reason, .. } => PutError::TooLarge {
                    id: rows.iter().find(|row| reason == row.id.as_str()).map(|row| row.id.to_string()),
                    reason,
                },
                StoreError::Refused { status, reason, .. } => PutError::Refused { status, reason },
                error => error.into(),
            });
        }
        let fates: Vec<BulkRow> = serde_json::from_str(&answer.body).map_err(|error| self.garbled(&error))?;
        self.pair(rows, fates)
    }

    /// Gives every row the fate that carries its id. pouchdb-server leaves the id out of what a
    /// validation function refused; such fates go, in order, to the rows that have none.
    fn pair(&self, rows: &[Row], answered: Vec<BulkRow>) -> Result<Vec<Fate>, PutError> {
        let (named, nameless): (Vec<_>, Vec<_>) = answered.into_iter().partition(|row| row.id.is_some());
        let mut named: HashMap<String, BulkRow> =
            named.into_iter().filter_map(|row| row.id.clone().map(|id| (id, row))).collect();
        let mut nameless = nameless.into_iter();
        let fates = rows.iter().map(|row| named.remove(row.id.as_str()).or_else(|| nameless.next()).map(fate));
        let fates: Option<Vec<Fate>> = fates.collect();
        fates.ok_or_else(|| self.garbled(&"it says nothing of some of the documents").into())
    }
}

fn fate(row: BulkRow) -> Fate {
    let reason = row.reason.unwrap_or_default();
    match (row.rev, row.error.as_deref()) {
        (Some(rev), None) => Fate::Stored { rev },
        (_, Some("conflict")) => Fate::Conflict,
        (_, Some("forbidden" | "unauthorized")) => Fate::Forbidden { reason },
        (_, error) => Fate::Failed { error: error.unwrap_or("no revision").to_owned(), reason },
    }
}
