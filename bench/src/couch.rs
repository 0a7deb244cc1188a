//! A CouchDB with nothing of ours between: what it takes at most, of the very same documents.

use anyhow::{Context as _, ensure};
use reqwest::{Certificate, Client, Method, RequestBuilder};
use vogeler_process::{Address, Secret};
use vogeler_store::config::StoreSection;

/// One database. Clones share connections.
#[derive(Debug, Clone)]
pub struct RawCouch {
    client: Client,
    url: String,
    login: Option<(String, String)>,
}

impl RawCouch {
    /// The database that a section names. Nothing is sent yet.
    ///
    /// # Errors
    /// What it names cannot be used.
    pub fn new(store: &StoreSection) -> anyhow::Result<Self> {
        let address = Address::parse(&store.url, &["http", "https"]).context("store.url")?;
        let (set, file) = (store.password.as_ref(), store.password_file.as_deref());
        let password = Secret::choose(set, file, address.password())?;
        let username = store.username.clone().or_else(|| address.username());
        let login = username.map(|name| (name, password.map(|secret| secret.reveal().to_owned()).unwrap_or_default()));
        // A second call finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder().timeout(store.timeout);
        if let Some(path) = &store.ca_file {
            let pem = std::fs::read(path).with_context(|| format!("store.ca_file {}", path.display()))?;
            client = client.tls_certs_merge(Certificate::from_pem_bundle(&pem)?);
        }
        let mut url = address.url().clone();
        // It only fails on a URL that can have no login.
        let _ = url.set_username("");
        Ok(Self { client: client.build()?, url: url.as_str().trim_end_matches('/').to_owned(), login })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.login {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        }
    }

    /// Deletes the database, if it is there.
    ///
    /// # Errors
    /// It is still there.
    pub async fn delete(&self) -> anyhow::Result<()> {
        let status = self.request(Method::DELETE, "").send().await?.status();
        ensure!(status.is_success() || status.as_u16() == 404, "the database cannot be deleted: {status}");
        Ok(())
    }

    /// Writes documents as they are, in one request.
    ///
    /// # Errors
    /// One of them was not stored.
    pub async fn bulk(&self, documents: &[&[u8]]) -> anyhow::Result<()> {
        let mut body = Vec::with_capacity(documents.iter().map(|document| document.len() + 1).sum::<usize>() + 16);
        body.extend_from_slice(b"{\"docs\":[");
        body.extend_from_slice(&documents.join(&b','));
        body.extend_from_slice(b"]}");
        let request = self.request(Method::POST, "/_bulk_docs").header("content-type", "application/json").body(body);
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let stored = text.matches("\"ok\":true").count();
        let few: String = text.chars().take(300).collect();
        ensure!(
            status.is_success() && stored == documents.len(),
            "{stored} of {} documents: {status}: {few}",
            documents.len()
        );
        Ok(())
    }
}
