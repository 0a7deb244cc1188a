//! The broker and the database that tests run against, as the environment names them.

use std::env;
use std::path::PathBuf;

use reqwest::Method;
use serde_json::Value;
use url::Url;

/// Where the services are. `tests/services.sh` starts them and says so in these variables.
#[derive(Debug, Clone)]
pub struct Services {
    /// RabbitMQ, with an administrator's login.
    pub amqp: Url,
    /// The same by TLS, under the name localhost.
    pub amqps: Url,
    /// Its management API.
    pub management: Url,
    /// CouchDB, with an administrator's login.
    pub couchdb: Url,
    /// A CA and a certificate for localhost.
    pub tls_dir: PathBuf,
    http: reqwest::Client,
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: this test needs RabbitMQ and CouchDB; `make test` starts both and sets it")
    })
}

fn url(name: &str) -> Url {
    let text = variable(name);
    text.parse().unwrap_or_else(|error| panic!("{name} is no URL: {error}"))
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client")
}

impl Services {
    /// The services of the environment.
    ///
    /// # Panics
    /// A variable is not set; the message says which and what sets it.
    pub fn find() -> Self {
        // A second call finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            amqp: url("VOGELER_TEST_AMQP_URL"),
            amqps: url("VOGELER_TEST_AMQPS_URL"),
            management: url("VOGELER_TEST_MANAGEMENT_URL"),
            couchdb: url("VOGELER_TEST_COUCHDB_URL"),
            tls_dir: variable("VOGELER_TEST_TLS_DIR").into(),
            http: http(),
        }
    }

    /// The same services over connections of their own: those that are open belong to a runtime,
    /// and answer nobody while that one is blocked.
    #[must_use]
    pub fn reconnected(&self) -> Self {
        Self { http: http(), ..self.clone() }
    }

    /// A request to the management API.
    ///
    /// # Errors
    /// It cannot be reached, or answers with a failure.
    pub async fn manage(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        self.request(&self.management, method, path, body).await
    }

    /// A request to CouchDB.
    ///
    /// # Errors
    /// It cannot be reached, or answers with a failure.
    pub async fn couch(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        self.request(&self.couchdb, method, path, body).await
    }

    async fn request(&self, base: &Url, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let mut url = base.join(path)?;
        let (user, password) = (base.username().to_owned(), base.password().map(str::to_owned));
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let mut request = self.http.request(method, url.clone()).basic_auth(user, password);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| anyhow::anyhow!("{url} is not reached: {error:?}"))?;
        let status = response.status();
        let text = response.text().await?;
        anyhow::ensure!(status.is_success(), "{url} answered {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}
