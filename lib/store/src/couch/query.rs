//! Views, and which nodes there are.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use vogeler_protocol::{Group, NodeName, Timestamp};

use super::Couch;
use super::client::{VIEW_TIMEOUT, segment};
use crate::{KnownNode, StoreError};

/// One row of a view.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ViewRow {
    /// The document that emitted it; none for a reduced row.
    #[serde(default)]
    pub id: Option<String>,
    /// The key.
    pub key: Value,
    /// The value.
    pub value: Value,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<ViewRow>,
}

impl Couch {
    /// Queries a view. The parameters' values are JSON, as in CouchDB's own interface.
    ///
    /// # Errors
    /// No such design document or view ([`StoreError::Refused`] with 404), and the usual ones.
    pub async fn view(&self, design: &str, view: &str, query: &[(&str, Value)]) -> Result<Vec<ViewRow>, StoreError> {
        let query: Vec<(&str, String)> = query.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let path = format!("/_design/{}/_view/{}", segment(design), segment(view));
        let answer = self.send(self.request(Method::GET, &path, &query), Some(VIEW_TIMEOUT)).await?;
        if !answer.status.is_success() {
            return Err(self.failure(&answer));
        }
        let rows: Rows = serde_json::from_str(&answer.body).map_err(|error| self.garbled(&error))?;
        Ok(rows.rows)
    }

    /// From the view that ships with the server; where that is not loaded, from the list of ids.
    pub(super) async fn known_nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        match self.view("system_records", "seen", &[("reduce", false.into())]).await {
            Ok(rows) => Ok(rows.into_iter().filter_map(seen).collect()),
            Err(StoreError::Refused { status: 404, .. } | StoreError::Missing { .. }) => self.ids().await,
            Err(error) => Err(error),
        }
    }

    pub(super) async fn in_group(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        let query = [("key", group.as_str().into()), ("reduce", false.into())];
        let rows = self.view("system_records", "by_group", &query).await?;
        Ok(rows.into_iter().filter_map(|row| row.id?.parse().ok()).collect())
    }

    async fn ids(&self) -> Result<Vec<KnownNode>, StoreError> {
        let rows: Rows = self.json(self.request(Method::GET, "/_all_docs", &[])).await?;
        let node = |row: ViewRow| Some(KnownNode { node: row.id?.parse().ok()?, updated_at: None });
        Ok(rows.rows.into_iter().filter_map(node).collect())
    }
}

fn seen(row: ViewRow) -> Option<KnownNode> {
    let node: NodeName = row.id?.parse().ok()?;
    Some(KnownNode { node, updated_at: row.value.as_i64().map(Timestamp::from_millisecond) })
}
