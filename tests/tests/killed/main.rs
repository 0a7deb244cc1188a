//! Killed and stopped at any moment: what a server or a client had in hand is neither lost nor done twice.
//!
//! Start at [`server`] for results on their way to the database, at [`client_killed`] and
//! [`client_stopped`] for commands on their way to a plugin. What counts are the results in the
//! records and the lines that plugins leave in a file, never what a program says of itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client_killed;
mod client_stopped;
mod commands;
mod server;

use std::time::Duration;

use vogeler_protocol::Random;
use vogeler_tests::torture;

/// The moments of a test's faults, drawn from one seed.
struct Moments(Random);

impl Moments {
    fn draw() -> Self {
        Self(torture::seeded())
    }

    /// A number from one to `most`.
    fn number(&self, most: usize) -> u64 {
        1 + self.0.uuid().as_u64_pair().1 % most.max(1) as u64
    }

    /// Lets a moment pass. It is the fault's own moment: nothing is waited for.
    async fn pass(&self, most: Duration) {
        tokio::time::sleep(self.0.up_to(most)).await;
    }
}
