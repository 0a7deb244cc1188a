//! Connections that were lost one after the other: how soon to connect again, and what is worth telling.
//!
//! Start at [`Losses::lost`]. A message that lapin cannot read ends every connection that it comes by. The
//! broker counts each of these deliveries and gives the message up after its delivery limit, so the way out is
//! to connect again at once, many times. A broker that is unwell wants the opposite. What tells them apart is
//! whether anything was taken in between.

use std::time::Duration;

use vogeler_messaging::Backoff;
use vogeler_messaging::topology::DELIVERY_LIMIT;
use vogeler_protocol::Random;

/// So many connections may be lost with nothing taken in between before there is a real wait: enough for ten
/// messages in a row to be delivered once more often than the limit.
const HASTE: u32 = 10 * (DELIVERY_LIMIT + 1);

/// The longest wait until then.
const SOON: Duration = Duration::from_millis(200);

/// A connection that lasted so long was a good one.
const STEADY: Duration = Duration::from_secs(60);

/// From this loss in a row on it is told only what changes.
const TIRESOME: u32 = 3;

/// What there is to say of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saying {
    /// That it happened.
    Plainly,
    /// That it goes on, and what it may be.
    Explained,
    /// Nothing new.
    Nothing,
}

/// The losses since results were last taken.
#[derive(Debug)]
pub struct Losses {
    in_a_row: u32,
    backoff: Backoff,
    random: Random,
}

impl Losses {
    /// None so far.
    pub fn new(random: Random) -> Self {
        let backoff = Backoff::new(random.clone(), Duration::from_millis(500), Duration::from_secs(30));
        Self { in_a_row: 0, backoff, random }
    }

    /// Whether connections are lost again and again, so that one more is no news.
    pub fn are_tiresome(&self) -> bool {
        self.in_a_row >= TIRESOME
    }

    /// A connection was lost, and something was taken on it or not.
    pub fn lost(&mut self, took: bool) -> Saying {
        self.in_a_row = if took { 1 } else { self.in_a_row.saturating_add(1) };
        match self.in_a_row {
            ..TIRESOME => Saying::Plainly,
            TIRESOME => Saying::Explained,
            _ => Saying::Nothing,
        }
    }

    /// The broker does not let us consume: no haste will change that.
    pub fn refused(&mut self) {
        self.in_a_row = HASTE + 1;
    }

    /// How long to wait before the next connection, after one that lasted for `lasted`.
    pub fn next_wait(&mut self, lasted: Duration) -> Duration {
        if lasted > STEADY {
            self.backoff.reset();
            self.in_a_row = self.in_a_row.min(1);
        }
        if self.in_a_row <= HASTE { self.random.up_to(SOON) } else { self.backoff.next_wait() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEFLY: Duration = Duration::from_secs(1);

    fn losses() -> Losses {
        Losses::new(Random::seeded(3))
    }

    #[test]
    fn a_message_that_cannot_be_read_is_met_often_enough_to_be_given_up() {
        let mut losses = losses();
        let mut waited = Duration::ZERO;
        for _ in 0..=DELIVERY_LIMIT {
            losses.lost(false);
            let wait = losses.next_wait(BRIEFLY);
            assert!(wait <= SOON, "{wait:?} is no haste");
            waited += wait;
        }
        assert!(waited < Duration::from_secs(20), "{waited:?}");
    }

    #[test]
    fn there_is_an_end_to_haste() {
        let mut losses = losses();
        for _ in 0..HASTE + 20 {
            losses.lost(false);
            losses.next_wait(BRIEFLY);
        }
        let waits: Vec<Duration> = (0..20).map(|_| losses.next_wait(BRIEFLY)).collect();
        assert!(waits.iter().any(|wait| *wait > SOON), "{waits:?}");
    }

    #[test]
    fn it_is_told_twice_and_explained_once_until_results_are_taken() {
        let mut losses = losses();
        let told: Vec<Saying> = (0..5).map(|_| losses.lost(false)).collect();
        let (plainly, nothing) = (Saying::Plainly, Saying::Nothing);
        assert_eq!(told, [plainly, plainly, Saying::Explained, nothing, nothing]);
        assert!(losses.are_tiresome());
        assert_eq!(losses.lost(true), Saying::Plainly);
        assert!(!losses.are_tiresome());
    }

    #[test]
    fn a_refusal_waits_and_a_steady_connection_makes_good() {
        let mut losses = losses();
        losses.refused();
        let waits: Vec<Duration> = (0..10).map(|_| losses.next_wait(BRIEFLY)).collect();
        assert!(waits.iter().any(|wait| *wait > SOON), "{waits:?}");
        assert!(losses.next_wait(STEADY + BRIEFLY) <= SOON);
        assert!(!losses.are_tiresome());
    }
}
