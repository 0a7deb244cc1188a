//! The database fails in every way it has, and no result is lost over it.
//!
//! Faults that no database makes on demand are made by [`FaultyStore`], which stands in front of the
//! real one and hides it from the server alone: what is stored is always asked of the real one. Each
//! story ends with an account of every result, and none is among the dead letters unless the fault
//! lies with that very record.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod absence;
mod answers;
mod outsiders;
mod refusals;

use vogeler_tests::faulty::FaultyStore;
use vogeler_tests::{Program, Site, eventually};

/// How large the results are that are of no special size.
const BYTES: usize = 200;

/// A server that reaches its database through `faulty`, and consumes.
async fn server_behind(faulty: &FaultyStore, site: &Site, more: &[(&str, &str)]) -> Program {
    let url = faulty.url();
    let mut env = vec![("VOGELER_STORE_URL", url.as_str())];
    env.extend_from_slice(more);
    site.server_with(&env).await
}

/// Waits until so many requests have met a fault.
async fn expect_struck(faulty: &FaultyStore, times: usize) {
    eventually(async || {
        let struck = faulty.struck();
        anyhow::ensure!(struck >= times, "a fault that strikes {times} times; it has struck {struck} times");
        anyhow::Ok(())
    })
    .await;
}

/// How often a server has said these words.
fn told(server: &Program, words: &str) -> usize {
    server.log().matches(words).count()
}
