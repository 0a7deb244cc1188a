//! Records by what they hold, through Mango's `_find`.
//!
//! Start at `Couch::select`. The database is told as much of a condition as it understands, and sends no more of each
//! record than is looked at; whether the condition holds is decided here.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use vogeler_protocol::NodeName;

use super::Couch;
use super::client::VIEW_TIMEOUT;
use crate::condition::{Condition, Path, through_arrays};
use crate::{Found, StoreError};

/// Records in one answer.
const PAGE: usize = 1000;

#[derive(Deserialize)]
struct Page {
    docs: Vec<Value>,
}

impl Couch {
    pub(super) async fn select(
        &self,
        condition: Option<&Condition>,
        fields: &[Path],
    ) -> Result<Vec<Found>, StoreError> {
        let mut paths: BTreeSet<&Path> = fields.iter().collect();
        paths.extend(condition.into_iter().flat_map(Condition::paths));
        let mut selector = condition.map(Condition::selector);
        let fields = projection(paths.iter().copied());
        let mut found = match self.projected(selector.as_ref(), fields.clone()).await {
            // A database that does not know an operator is asked for all records.
            Err(StoreError::Refused { status: 400, .. }) if selector.take().is_some() => {
                self.projected(None, fields.clone()).await?
            }
            found => found?,
        };
        let is_complete = |record: &Value| paths.iter().all(|path| path.get(record).is_some());
        if fields.is_some()
            && !found.values().all(is_complete)
            && let Some(through) = through_arrays(paths.iter().copied())
        {
            // What lies behind an array is lost in a projection: of these records the whole members are read.
            let both: Vec<Value> = selector.into_iter().chain([through]).collect();
            let selector = json!({ "$and": both });
            let whole = paths.iter().map(|path| Path::member(&path.segments()[0])).collect::<Vec<_>>();
            found.extend(self.projected(Some(&selector), projection(&whole)).await?);
        }
        let holds = |record: &Value| condition.is_none_or(|condition| condition.holds(record));
        let found = found.into_iter().map(|(node, record)| Found { node, record });
        Ok(found.filter(|found| holds(&found.record)).collect())
    }

    /// Page after page by id: bookmarks are not known to every server, and skipping reads what is skipped.
    async fn projected(
        &self,
        selector: Option<&Value>,
        fields: Option<Vec<String>>,
    ) -> Result<BTreeMap<NodeName, Value>, StoreError> {
        let mut found = BTreeMap::new();
        let mut after = Value::Null;
        loop {
            let from = json!({ "_id": { "$gt": after } });
            let selector = selector.map_or_else(|| from.clone(), |selector| json!({ "$and": [from, selector] }));
            let mut question = json!({ "selector": selector, "sort": [{ "_id": "asc" }], "limit": PAGE });
            if let Some(fields) = &fields {
                question["fields"] = json!(fields);
            }
            let request = self.request(Method::POST, "/_find", &[]).body(question.to_string());
            let page: Page = self.json_within(request, Some(VIEW_TIMEOUT)).await?;
            // pouchdb-server gives one less than it has from the second page on.
            let last = page.docs.len() < PAGE - 1;
            for record in page.docs {
                after = record["_id"].clone();
                // A design document is no node.
                if let Some(node) = after.as_str().and_then(|id| id.parse().ok()) {
                    found.insert(node, record);
                }
            }
            if last {
                return Ok(found);
            }
        }
    }
}

/// The fields to send; none where one of them has no name in Mango, for all of them then.
fn projection<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Option<Vec<String>> {
    let mut fields = Path::fields(paths)?;
    if !fields.iter().any(|field| field == "_id") {
        fields.push("_id".to_owned());
    }
    Some(fields)
}
