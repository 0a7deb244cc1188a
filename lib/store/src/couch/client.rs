//! Requests, and what an answer's status means.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use vogeler_process::Secret;

use super::{Couch, CouchSettings, Inner, NoCouch, OwnCa};
use crate::StoreError;

/// What may stand unencoded in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'$');

/// A view that was never queried is built first, which may take a while on a large database.
pub(super) const VIEW_TIMEOUT: Duration = Duration::from_secs(600);

/// The error object of CouchDB.
#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error: String,
    #[serde(default)]
    reason: String,
}

/// An answer: its status, and its body in full.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

impl Couch {
    /// A client of that database. Nothing is sent yet.
    ///
    /// # Errors
    /// A CA file that cannot be read or used.
    pub fn new(settings: CouchSettings) -> Result<Self, NoCouch> {
        // A second call finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let own_ca = settings.ca_file.as_deref().map(own_client).transpose()?;
        let login = settings.username.clone().map(|username| (username, settings.password.clone()));
        let own_ca = own_ca.map(|client| OwnCa { client, login });
        let password = settings.password.as_ref().map(Secret::reveal);
        let mut bare = settings.url.clone();
        // Both only fail on a URL that can have no login.
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        bare.set_path("");
        let client = couch_rs::Client::new_with_timeout(bare.as_str(), settings.username.as_deref(), password, None)
            .map_err(|error| NoCouch::Client(error.to_string()))?;
        let path = format!("{}/{}", settings.prefix, segment(&settings.database));
        let address = format!("{}{path}", bare.as_str().trim_end_matches('/'));
        let (prefix, timeout) = (settings.prefix, settings.timeout);
        let (requests, sent_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { client, own_ca, path, prefix, address, timeout, requests, sent_bytes })))
    }

    /// A request below the database; `path` begins with a slash or is empty.
    pub(super) fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let query: HashMap<String, String> =
            query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.0.client.req(method, &format!("{}{path}", self.0.path), Some(&query).filter(|query| !query.is_empty()))
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(super) async fn send(&self, request: RequestBuilder, timeout: Option<Duration>) -> Result<Answer, StoreError> {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let request = request.timeout(timeout.unwrap_or(self.0.timeout));
        let sent = match &self.0.own_ca {
            None => request.send().await,
            Some(OwnCa { client, login }) => {
                // The login is a header of couch_rs's own client, which is left out here.
                let request = match login {
                    Some((username, password)) => request.basic_auth(username, password.as_ref().map(Secret::reveal)),
                    None => request,
                };
                let (_, request) = request.build_split();
                let request = request.map_err(|error| self.away(&error))?;
                client.execute(request).await
            }
        };
        let response = sent.map_err(|error| self.away(&error))?;
        let status = response.status();
        let body = response.text().await.map_err(|error| self.away(&error))?;
        Ok(Answer { status, body })
    }

    fn away(&self, error: &reqwest::Error) -> StoreError {
        // The outermost words only say that a request failed; the innermost say why.
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            reason = cause.to_string();
            source = cause.source();
        }
        if error.is_timeout() {
            reason = "no answer in time".to_owned();
        }
        StoreError::Away { address: self.0.address.clone(), reason }
    }

    /// What a status that is no success says of the database.
    pub(super) fn failure(&self, answer: &Answer) -> StoreError {
        let address = self.0.address.clone();
        let body: ErrorBody = serde_json::from_str(&answer.body).unwrap_or_default();
        let reason = match (body.error.as_str(), body.reason.as_str()) {
            ("", "") => answer.status.to_string(),
            (error, "") => error.to_owned(),
            (_, reason) => reason.to_owned(),
        };
        match answer.status.as_u16() {
            401 | 403 => StoreError::Denied { address, reason },
            404 if body.reason.contains("atabase") || body.reason == "no_db_file" || body.reason == "missing" => {
                StoreError::Missing { address }
            }
            404 => StoreError::Refused { address, status: 404, reason },
            408 | 429 | 502..=504 => StoreError::Away { address, reason: format!("{}: {reason}", answer.status) },
            status => StoreError::Refused { address, status, reason },
        }
    }

    pub(super) fn garbled(&self, reason: &dyn ToString) -> StoreError {
        StoreError::Garbled { address: self.0.address.clone(), reason: reason.to_string() }
    }

    /// Sends a request whose answer has to be a success, and reads it.
    pub(super) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, StoreError> {
        self.json_within(request, None).await
    }

    /// The same, with another time-out.
    pub(super) async fn json_within<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        timeout: Option<Duration>,
    ) -> Result<T, StoreError> {
        let answer = self.send(request, timeout).await?;
        if !answer.status.is_success() {
            return Err(self.failure(&answer));
        }
        serde_json::from_str(&answer.body).map_err(|error| self.garbled(&error))
    }

    pub(super) async fn probe_database(&self) -> Result<(), StoreError> {
        let answer = self.send(self.request(Method::GET, "", &[]), None).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.failure(&answer)) }
    }

    /// Writes a local document: it is in no view, in no `_changes`, and is not replicated. That it is
    /// refused, as by pouchdb-server which asks for its revision, is an answer as good.
    pub(super) async fn write_local(&self) -> Result<(), StoreError> {
        let answer = self.send(self.request(Method::PUT, "/_local/vogeler", &[]).body("{}"), None).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        match self.failure(&answer) {
            StoreError::Refused { status: ..500, .. } => Ok(()),
            failure => Err(failure),
        }
    }

    pub(super) async fn create_database(&self) -> Result<bool, StoreError> {
        let answer = self.send(self.request(Method::PUT, "", &[]), None).await?;
        match answer.status.as_u16() {
            201 | 202 => Ok(true),
            412 => Ok(false),
            _ => Err(self.failure(&answer)),
        }
    }

    pub(super) async fn server(&self) -> Result<String, StoreError> {
        #[derive(Deserialize)]
        struct Welcome {
            #[serde(default)]
            version: String,
            #[serde(default)]
            vendor: Vendor,
            #[serde(default)]
            couchdb: Option<String>,
            #[serde(rename = "express-pouchdb", default)]
            pouchdb: Option<String>,
        }
        #[derive(Default, Deserialize)]
        struct Vendor {
            #[serde(default)]
            name: String,
            #[serde(default)]
            version: String,
        }
        let request = self.0.client.req(Method::GET, &format!("{}/", self.0.prefix), None);
        let welcome: Welcome = self.json(request).await?;
        Ok(match (welcome.pouchdb, welcome.couchdb) {
            (Some(_), _) => format!("{} {}", welcome.vendor.name, welcome.vendor.version),
            (None, Some(_)) => format!("CouchDB {}", welcome.version),
            (None, None) => format!("unknown server {}", welcome.version),
        })
    }
}

/// One segment of a path, percent-encoded.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

fn own_client(path: &Path) -> Result<reqwest::Client, NoCouch> {
    let pem = fs::read(path).map_err(|source| NoCouch::CaFile { path: path.to_owned(), source })?;
    let unusable = |error: &dyn ToString| NoCouch::Client(error.to_string());
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
    if certificates.is_empty() {
        return Err(NoCouch::Client(format!("{} holds no certificate in PEM form", path.display())));
    }
    reqwest::Client::builder().tls_certs_merge(certificates).build().map_err(|error| unusable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_paths() {
        assert_eq!(segment("a b/c+d"), "a%20b%2Fc%2Bd");
        assert_eq!(segment("web01.example.com"), "web01.example.com");
    }
}
