//! How long things took, as a distribution.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// An hour, in microseconds: what takes longer counts as that.
const MOST: u64 = 3_600_000_000;

/// Durations, to three digits.
#[derive(Debug, Clone)]
pub struct Latencies {
    ended: Histogram<u64>,
    /// Of what has not ended.
    never: u64,
}

/// What a distribution comes to; seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many there were, those that have not ended included.
    pub count: u64,
    /// Half took no longer.
    pub p50: f64,
    /// 95 of 100 took no longer.
    pub p95: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        #[allow(clippy::expect_used, reason = "the bounds are constants that the library allows")]
        Self { ended: Histogram::new_with_bounds(1, MOST, 3).expect("bounds that hold"), never: 0 }
    }
}

impl Latencies {
    /// Notes one, in microseconds.
    pub fn note(&mut self, micros: u64) {
        self.ended.saturating_record(micros.max(1));
    }

    /// Notes one.
    pub fn took(&mut self, duration: Duration) {
        self.note(u64::try_from(duration.as_micros()).unwrap_or(MOST));
    }

    /// Notes so many that have not ended: they are the slowest of all.
    pub fn never(&mut self, count: usize) {
        self.never += count as u64;
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, and what is in one fits into the other.
        let _ = self.ended.add(&other.ended);
        self.never += other.never;
    }

    /// What it comes to.
    pub fn summary(&self) -> Summary {
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        let (ended, count) = (self.ended.len(), self.ended.len() + self.never);
        if count == 0 {
            return Summary::default();
        }
        let at = |quantile: f64| {
            let place = quantile * count as f64;
            if place > ended as f64 {
                f64::INFINITY
            } else {
                seconds(self.ended.value_at_quantile(place / ended as f64))
            }
        };
        Summary { count, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

/// Microseconds since 1970, which processes of one machine agree about.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The middle one of some.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_noted() {
        assert_eq!(Latencies::default().summary(), Summary::default());
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|millis| latencies.took(Duration::from_millis(millis)));
        let mut all = Latencies::default();
        all.add(&latencies);
        let summary = all.summary();
        let near = |is: f64, wanted: f64| (is - wanted).abs() < wanted / 500.0;
        assert!(summary.count == 1000 && near(summary.p50, 0.5) && near(summary.p99, 0.99), "{summary:?}");
        assert!(near(summary.max, 1.0), "{summary:?}");
        all.never(15);
        let summary = all.summary();
        assert!(summary.count == 1015 && near(summary.p50, 0.508) && near(summary.p95, 0.965), "{summary:?}");
        assert!(summary.p99.is_infinite() && summary.max.is_infinite(), "{summary:?}");
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
