//! Design documents: uploaded only when changed, built before anybody queries them.

use reqwest::Method;
use serde_json::Value;

use super::Couch;
use super::client::{VIEW_TIMEOUT, segment};
use crate::design_docs::DesignDoc;
use crate::{StoreError, Synced};

/// What a changed design document is called until its index is built. An index belongs to the text
/// of its views, not to the name, so that the live one finds it ready.
const STAGED: &str = "-next";

impl Couch {
    pub(super) async fn sync(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        let live = self.read_design(doc.name()).await?;
        let rev = match &live {
            None => None,
            Some(live) if doc.same_as(live) => return Ok(Synced::Unchanged),
            Some(live) => live["_rev"].as_str().map(str::to_owned),
        };
        if rev.is_some() && doc.first_view().is_some() {
            self.build_index(doc).await?;
        }
        self.write_design(doc.name(), doc, rev.as_deref()).await?;
        if live.is_some() {
            self.remove_staged(doc).await?;
        }
        Ok(if live.is_some() { Synced::Updated } else { Synced::Created })
    }

    async fn build_index(&self, doc: &DesignDoc) -> Result<(), StoreError> {
        let staged = format!("{}{STAGED}", doc.name());
        // One that an interrupted run left behind is written over.
        let rev = self.read_design(&staged).await?.and_then(|old| old["_rev"].as_str().map(str::to_owned));
        self.write_design(&staged, doc, rev.as_deref()).await?;
        let Some(view) = doc.first_view() else { return Ok(()) };
        // All views of one design document are built together, so that one query is enough.
        let path = format!("/_design/{}/_view/{}", segment(&staged), segment(view));
        let query = [("limit", "0".to_owned()), ("reduce", "false".to_owned())];
        let answer = self.send(self.request(Method::GET, &path, &query), Some(VIEW_TIMEOUT)).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.failure(&answer)) }
    }

    async fn remove_staged(&self, doc: &DesignDoc) -> Result<(), StoreError> {
        let staged = format!("{}{STAGED}", doc.name());
        let Some(old) = self.read_design(&staged).await? else { return Ok(()) };
        let rev = old["_rev"].as_str().unwrap_or_default().to_owned();
        let path = format!("/_design/{}", segment(&staged));
        let _: Value = self.json(self.request(Method::DELETE, &path, &[("rev", rev)])).await?;
        Ok(())
    }

    async fn read_design(&self, name: &str) -> Result<Option<Value>, StoreError> {
        let answer = self.send(self.request(Method::GET, &format!("/_design/{}", segment(name)), &[]), None).await?;
        match answer.status.as_u16() {
            200 => serde_json::from_str(&answer.body).map(Some).map_err(|error| self.garbled(&error)),
            // That the database itself is missing shows at the write that follows.
            404 => Ok(None),
            _ => Err(self.failure(&answer)),
        }
    }

    async fn write_design(&self, name: &str, doc: &DesignDoc, rev: Option<&str>) -> Result<(), StoreError> {
        let mut document = doc.to_document();
        document["_id"] = format!("_design/{name}").into();
        if let Some(rev) = rev {
            document["_rev"] = rev.into();
        }
        let request = self.request(Method::PUT, &format!("/_design/{}", segment(name)), &[]);
        let _: Value = self.json(request.body(document.to_string())).await?;
        Ok(())
    }
}
