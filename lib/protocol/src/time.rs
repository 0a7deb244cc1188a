//! Points in time as records and messages spell them, and the clock as a handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, to the millisecond, always written as `2026-11-20T11:30:12.345Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// Milliseconds since 1970; what lies outside of the years −9999 to 9999 is cut to them.
    pub fn from_millisecond(millis: i64) -> Self {
        let nearest = if millis < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        Self(jiff::Timestamp::from_millisecond(millis).unwrap_or(nearest))
    }

    /// Milliseconds since 1970.
    pub fn as_millisecond(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Seconds since 1970, as AMQP's `timestamp` property has them.
    pub fn as_second(self) -> u64 {
        u64::try_from(self.0.as_second()).unwrap_or(0)
    }

    /// The time `by` later.
    pub fn after(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self::from_millisecond(self.as_millisecond().saturating_add(by))
    }

    /// How long it is from `earlier` until here; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.as_millisecond().saturating_sub(earlier.as_millisecond());
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    /// Any RFC 3339 time; what is finer than a millisecond is cut off.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = jiff::Timestamp::deserialize(deserializer)?;
        Ok(Self::from_millisecond(parsed.as_millisecond()))
    }
}

/// The wall clock as a handle, so that a test or a simulation can bring its own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self::new(|| Timestamp::from_millisecond(jiff::Timestamp::now().as_millisecond()))
    }

    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time it is.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_three_decimals_and_z() {
        let whole: Timestamp = serde_json::from_str("\"2026-11-20T11:30:12+01:00\"").unwrap();
        assert_eq!(whole.to_string(), "2026-11-20T10:30:12.000Z");
        let fine: Timestamp = serde_json::from_str("\"2026-11-20T10:30:12.345678Z\"").unwrap();
        assert_eq!(serde_json::to_string(&fine).unwrap(), "\"2026-11-20T10:30:12.345Z\"");
    }
}
