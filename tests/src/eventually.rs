//! Waiting for a state, never for a time.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::torture::volume;

/// How long a state may take to come about on a busy machine: longer under `make torture`, where a store has gigabytes to
/// take in and its views to build.
pub(crate) fn deadline() -> Duration {
    Duration::from_secs(volume(45, 600) as u64)
}

/// Tries `look` until it succeeds; panics with its last words when it never does.
pub async fn eventually<T, E: Display>(mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(missing) if begun.elapsed() > deadline() => {
                panic!("after {} s still missing: {missing:#}", deadline().as_secs())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
