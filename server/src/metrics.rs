//! What the server counts, for Prometheus.
//!
//! Counting is a few atomic additions and always on; who looks is [`crate::http`]'s business.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use vogeler_protocol::message::Notice;

/// The counters of one server. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    consumed: Counter,
    settled: Family<Outcome, Counter>,
    conflicts: Counter,
    retries: Counter,
    dead_lettered: Family<Reason, Counter>,
    events_dropped: Counter,
    batch_rows: Histogram,
    batch_seconds: Histogram,
    in_flight: Gauge,
    in_flight_bytes: Gauge,
}

/// Every reason that the server gives; `delivery_limit` is the broker's.
const REASONS: [&str; 14] = [
    "bad_data",
    "bad_format",
    "bad_name",
    "bad_outcome",
    "bad_output",
    "forbidden",
    "identity",
    "missing_header",
    "not_a_hello",
    "not_a_result",
    "record_too_large",
    "refused",
    "row_failed",
    "unknown_version",
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("vogeler_server");
        let inner = Inner {
            consumed: Counter::default(),
            settled: Family::default(),
            conflicts: Counter::default(),
            retries: Counter::default(),
            dead_lettered: Family::default(),
            events_dropped: Counter::default(),
            // 1 to 512, the most that server.batch_rows makes unless it is set otherwise.
            batch_rows: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            // 2 ms to 65 s: a small batch takes 5 ms, a request that takes 30 s is given up.
            batch_seconds: Histogram::new(exponential_buckets(0.002, 2.0, 16)),
            in_flight: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("deliveries", "Deliveries taken from the queue of results", inner.consumed.clone());
        registry.register("settled", "Deliveries settled, by what became of them", inner.settled.clone());
        registry.register("conflicts", "Rows that somebody else had written meanwhile", inner.conflicts.clone());
        registry.register(
            "retries",
            "Requests to the database that failed and were tried again",
            inner.retries.clone(),
        );
        registry.register(
            "dead_letters",
            "Deliveries moved to the dead letters, by reason",
            inner.dead_lettered.clone(),
        );
        registry.register("events_dropped", "Events that the broker did not take", inner.events_dropped.clone());
        registry.register("batch_rows", "Deliveries of a batch", inner.batch_rows.clone());
        registry.register_with_unit(
            "batch_duration",
            "From a batch to the last of its acknowledgements",
            Unit::Seconds,
            inner.batch_seconds.clone(),
        );
        registry.register("in_flight", "Deliveries taken and not settled", inner.in_flight.clone());
        registry.register_with_unit(
            "in_flight",
            "What they weigh: their bodies, or what was read from them where that is more",
            Unit::Bytes,
            inner.in_flight_bytes.clone(),
        );
        // A counter that begins with 1 has no increase: what is watched for is there from the start.
        for outcome in ["stored", "unchanged", "failed"] {
            drop(inner.settled.get_or_create(&Outcome { outcome }));
        }
        for reason in REASONS {
            drop(inner.dead_lettered.get_or_create(&Reason { reason }));
        }
        Self(Arc::new(Inner { registry, ..inner }))
    }
}

impl Metrics {
    /// A delivery of so many bytes was taken.
    pub fn taken(&self, bytes: usize) {
        self.0.consumed.inc();
        self.0.in_flight.inc();
        self.0.in_flight_bytes.inc_by(signed(bytes));
    }

    /// So many deliveries of so many bytes are no longer held: settled, or back in the queue.
    pub fn released(&self, deliveries: usize, bytes: usize) {
        self.0.in_flight.dec_by(signed(deliveries));
        self.0.in_flight_bytes.dec_by(signed(bytes));
    }

    /// How many deliveries were taken in all, and how many of them are not settled yet.
    pub fn in_hand(&self) -> (u64, i64) {
        (self.0.consumed.get(), self.0.in_flight.get())
    }

    /// A delivery was merged and told as `notice`.
    pub fn settled(&self, notice: Notice) {
        let outcome = match notice {
            Notice::Stored => "stored",
            Notice::Unchanged => "unchanged",
            Notice::Failed => "failed",
            Notice::Accepted | Notice::Refused | Notice::Skipped | Notice::Rejected => "other",
        };
        self.0.settled.get_or_create(&Outcome { outcome }).inc();
    }

    /// A row met somebody else's write.
    pub fn conflict(&self) {
        self.0.conflicts.inc();
    }

    /// A request failed and is tried again.
    pub fn retry(&self) {
        self.0.retries.inc();
    }

    /// A delivery is among the dead letters now.
    pub fn dead_lettered(&self, reason: &'static str) {
        self.0.dead_lettered.get_or_create(&Reason { reason }).inc();
    }

    /// An event was dropped.
    pub fn event_dropped(&self) {
        self.0.events_dropped.inc();
    }

    /// A batch of so many deliveries took so long.
    pub fn batch(&self, deliveries: usize, seconds: f64) {
        self.0.batch_rows.observe(f64::from(u32::try_from(deliveries).unwrap_or(u32::MAX)));
        self.0.batch_seconds.observe(seconds);
    }

    /// All of it in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0.registry).expect("a String takes all that is written");
        text
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told() {
        let metrics = Metrics::default();
        metrics.taken(10);
        metrics.taken(20);
        metrics.settled(Notice::Stored);
        metrics.dead_lettered("forbidden");
        metrics.released(1, 10);
        assert_eq!(metrics.in_hand(), (2, 1));
        metrics.batch(2, 0.004);
        let text = metrics.text();
        for line in [
            "vogeler_server_deliveries_total 2",
            "vogeler_server_settled_total{outcome=\"stored\"} 1",
            "vogeler_server_dead_letters_total{reason=\"forbidden\"} 1",
            "vogeler_server_in_flight 1",
            "vogeler_server_in_flight_bytes 20",
            "vogeler_server_batch_rows_bucket{le=\"2.0\"} 1",
            "vogeler_server_batch_duration_seconds_count 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
        }
    }
}
