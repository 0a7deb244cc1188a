//! What a monitoring system asks: `/healthz` and `/metrics`, over HTTP. Off unless an address is set.
//!
//! Deliberately absent: TLS and a login. Nothing secret is told here, and the address to choose is one
//! of this machine.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::info;
use vogeler_store::Store;

use crate::health::Health;
use crate::metrics::Metrics;

/// How old what `/healthz` says of the database may be.
const WATCH: Duration = Duration::from_secs(5);

/// Runs `program` to its end, and answers on `address` meanwhile, if there is one. The database is then asked
/// from time to time: a server with nothing to write, or that stands by, would not know.
///
/// # Errors
/// The program's; or the address is not to be had.
pub async fn beside<St: Store>(
    program: impl Future<Output = anyhow::Result<()>>,
    address: Option<SocketAddr>,
    store: St,
    health: Health,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let Some(address) = address else { return program.await };
    let listener = listen(address).await?;
    tokio::select! {
        biased;
        ended = program => ended,
        failed = serve(listener, health.clone(), metrics) => failed,
        () = watch(&store, &health) => Ok(()),
    }
}

/// Never ends.
async fn watch<St: Store>(store: &St, health: &Health) {
    loop {
        tokio::time::sleep(WATCH).await;
        match store.probe_write().await {
            Ok(()) => health.back(),
            Err(reason) => health.away(&reason),
        }
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}, which --http or server.http names"))
}

/// Answers until it is dropped.
async fn serve(listener: TcpListener, health: Health, metrics: Metrics) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz).with_state(health))
        .route("/metrics", get(tell).with_state(metrics));
    info!(address = %listener.local_addr().context("a listener has an address")?, "answering /healthz and /metrics");
    axum::serve(listener, router).await.context("cannot answer /healthz and /metrics any longer")
}

/// 200 while broker and database are there, 503 otherwise; the body says which is not.
async fn healthz(State(health): State<Health>) -> impl IntoResponse {
    let (well, text) = health.told();
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], text)
}

async fn tell(State(metrics): State<Metrics>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.text())
}
