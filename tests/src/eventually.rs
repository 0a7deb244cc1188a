//! Waiting for a state, never for a time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a state may take to come about, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(45);

/// Tries `look` until it succeeds; panics with its last words when it never does.
pub async fn eventually<T, E: Display>(mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(missing) if begun.elapsed() > DEADLINE => {
                panic!("after {} s still missing: {missing:#}", DEADLINE.as_secs())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
