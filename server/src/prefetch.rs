//! How many deliveries are held at once, by how large they are.

use crate::config::ServerSection;

/// The prefetch to begin with, of all queues together: at 6 MiB a message, the most that a client sends, 192 MiB.
pub const FIRST: u16 = 32;

/// The prefetch after a connection was lost, for as many deliveries as the first: whatever ended it is met alone.
pub const CAUTIOUS: u16 = 1;

/// The least that is useful: a batch of large results for each worker.
const LEAST: u16 = 8;

/// A delivery is held as the body, as the data cut out of it and as part of the next request.
const COPIES: usize = 3;

/// What each of so many queues has of the first prefetch.
pub fn first(queues: usize) -> u16 {
    let share = usize::from(FIRST) / queues.max(1);
    u16::try_from(share).unwrap_or(FIRST).max(1)
}

/// Watches how large deliveries are, and which prefetch keeps them within the bytes to hold.
#[derive(Debug)]
pub struct Sizes {
    held_bytes: usize,
    most: u16,
    now: u16,
    taken: usize,
    mean: usize,
}

impl Sizes {
    /// With the prefetch in force.
    pub fn new(config: &ServerSection, now: u16) -> Self {
        Self { held_bytes: config.held_bytes, most: config.prefetch, now, taken: 0, mean: 0 }
    }

    /// A delivery of so many bytes was taken.
    pub fn note(&mut self, bytes: usize) {
        self.taken += 1;
        let weight = self.taken.min(32);
        self.mean = (self.mean * (weight - 1) + bytes) / weight;
    }

    /// The prefetch to go on with, where the one in force does not fit. To change it costs every
    /// delivery in the buffer one count. So it shrinks when more is held than should be, and grows
    /// when it was exhausted and far more would fit.
    pub fn resize(&self, held: usize) -> Option<u16> {
        let fits = self.held_bytes / (self.mean.max(1) * COPIES);
        let fits = u16::try_from(fits).unwrap_or(u16::MAX).clamp(LEAST.min(self.most), self.most);
        let grows = fits / 4 >= self.now && self.taken >= usize::from(self.now.max(FIRST));
        let shrinks = held.saturating_mul(COPIES) > self.held_bytes.saturating_mul(2) && fits <= self.now / 2;
        (grows || shrinks).then_some(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_follows_the_size_of_deliveries() {
        let config = ServerSection::default();
        let mut small = Sizes::new(&config, 32);
        let resized = (0..100).find_map(|_| {
            small.note(2000);
            small.resize(2000)
        });
        assert_eq!((resized, small.taken), (Some(2000), 32), "grows once the first 32 were taken");
        let mut cautious = Sizes::new(&config, CAUTIOUS);
        let resized = (0..100).find_map(|_| {
            cautious.note(2000);
            cautious.resize(2000)
        });
        assert_eq!((resized, cautious.taken), (Some(2000), 32), "goes one by one as long");
        let mut mixed = Sizes::new(&config, 2000);
        let one_large = (0..5000).find_map(|number| {
            mixed.note(if number % 200 == 0 { 4 << 20 } else { 2000 });
            mixed.resize(5 << 20)
        });
        assert_eq!(one_large, None, "one large delivery among small ones is no reason");
        let mut large = Sizes::new(&config, 2000);
        let mut held = 0;
        let resized = (0..2000).find_map(|_| {
            large.note(4 << 20);
            held += 4 << 20;
            large.resize(held)
        });
        assert_eq!((resized, large.taken), (Some(8), 6), "shrinks when too much is held");
    }

    #[test]
    fn queues_share_what_is_bounded_for_the_whole_server() {
        assert_eq!([1, 2, 4, 32, 64].map(first), [32, 16, 8, 1, 1]);
        let config = ServerSection::default();
        let share = config.share(4);
        assert_eq!((share.held_bytes, share.cache_bytes), (config.held_bytes / 4, config.cache_bytes / 4));
        assert_eq!((share.prefetch, share.workers), (config.prefetch, config.workers));
        let mut quarter = Sizes::new(&share, first(4));
        let resized = (0..100).find_map(|_| {
            quarter.note(64 << 10);
            quarter.resize(64 << 10)
        });
        assert_eq!((resized, quarter.taken), (Some(42), 32), "by the bytes of its share");
    }
}
