//! How long to wait before the next attempt.

use std::time::Duration;

use vogeler_protocol::Random;

/// Doubling waits with full jitter, so that ten thousand nodes that lost one broker do not come
/// back in the same second.
#[derive(Debug, Clone)]
pub struct Backoff {
    random: Random,
    first: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    /// Waits between nothing and `first` at first, and never longer than `most`.
    pub fn new(random: Random, first: Duration, most: Duration) -> Self {
        Self { random, first, most, attempt: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = self.first.saturating_mul(2u32.saturating_pow(self.attempt)).min(self.most);
        self.attempt = self.attempt.saturating_add(1);
        self.random.up_to(ceiling)
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_a_ceiling_and_begins_anew() {
        let mut backoff = Backoff::new(Random::seeded(1), Duration::from_millis(100), Duration::from_secs(5));
        assert!(backoff.next_wait() <= Duration::from_millis(100));
        let waits: Vec<_> = (0..50).map(|_| backoff.next_wait()).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(1)), "it has grown");
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
