//! Views, and which nodes there are.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use vogeler_protocol::{Group, NodeName, Timestamp};

use super::Couch;
use super::client::{VIEW_TIMEOUT, segment};
use crate::{KnownNode, StoreError, ViewQuery, ViewRow};

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Told>,
}

/// A row, or why there are no more of them: a reduce that fails over a group says so in its place, with status 200.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    key: Value,
    #[serde(default)]
    value: Value,
    error: Option<String>,
    #[serde(default)]
    reason: String,
}

impl Couch {
    pub(super) async fn rows(&self, design: &str, view: &str, query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        let path = format!("/_design/{}/_view/{}", segment(design), segment(view));
        let request = self.request(Method::GET, &path, &parameters(query));
        self.told(self.json_within(request, Some(VIEW_TIMEOUT)).await?)
    }

    fn told(&self, answer: Rows) -> Result<Vec<ViewRow>, StoreError> {
        let row = |Told { id, key, value, error, reason }| match error {
            None => Ok(ViewRow { id, key, value }),
            Some(error) => {
                let reason = format!("{error}: {reason}");
                Err(StoreError::Refused { address: self.address().to_owned(), status: 500, reason })
            }
        };
        answer.rows.into_iter().map(row).collect()
    }

    /// From the view that ships with the server; where that is not loaded, from the list of ids.
    pub(super) async fn known_nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        match self.rows("system_records", "seen", &ViewQuery { reduce: Some(false), ..ViewQuery::default() }).await {
            Ok(rows) => Ok(rows.into_iter().filter_map(seen).collect()),
            Err(StoreError::Refused { status: 404, .. } | StoreError::Missing { .. }) => self.ids().await,
            Err(error) => Err(error),
        }
    }

    pub(super) async fn in_group(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        let key = Some(group.as_str().into());
        let query = ViewQuery { key, reduce: Some(false), ..ViewQuery::default() };
        let rows = self.rows("system_records", "by_group", &query).await?;
        Ok(rows.into_iter().filter_map(|row| row.id?.parse().ok()).collect())
    }

    async fn ids(&self) -> Result<Vec<KnownNode>, StoreError> {
        let rows: Rows = self.json(self.request(Method::GET, "/_all_docs", &[])).await?;
        let node = |row: ViewRow| Some(KnownNode { node: row.id?.parse().ok()?, updated_at: None });
        Ok(self.told(rows)?.into_iter().filter_map(node).collect())
    }
}

fn seen(row: ViewRow) -> Option<KnownNode> {
    let node: NodeName = row.id?.parse().ok()?;
    Some(KnownNode { node, updated_at: row.value.as_i64().map(Timestamp::from_millisecond) })
}

/// As CouchDB wants them in an address: keys are JSON.
fn parameters(query: &ViewQuery) -> Vec<(&'static str, String)> {
    let ViewQuery { key, startkey, endkey, reduce, group, group_level, descending, limit } = query;
    let json = |name, value: &Option<Value>| value.as_ref().map(|value| (name, value.to_string()));
    let given = [
        json("key", key),
        json("startkey", startkey),
        json("endkey", endkey),
        reduce.map(|reduce| ("reduce", reduce.to_string())),
        group.then(|| ("group", "true".to_owned())),
        group_level.map(|level| ("group_level", level.to_string())),
        descending.then(|| ("descending", "true".to_owned())),
        limit.map(|limit| ("limit", limit.to_string())),
    ];
    given.into_iter().flatten().collect()
}
