//! Points in time: ages for a person, RFC 3339 for programs.

use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;
use vogeler_protocol::Timestamp;

use crate::output::Format;

/// How to show times, and what time it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    now: Timestamp,
    ages: bool,
}

impl Times {
    pub(super) fn new(now: Timestamp, format: Format) -> Self {
        Self { now, ages: format == Format::Table }
    }

    pub(super) fn now(self) -> Timestamp {
        self.now
    }

    /// How long ago it was; nothing for what is still to come by another's clock.
    pub(super) fn since(self, at: Timestamp) -> Duration {
        self.now.since(at)
    }

    /// How long ago it was, for a sentence.
    pub(super) fn age(self, at: Timestamp) -> String {
        words(self.since(at))
    }

    /// A cell of a list.
    pub(super) fn cell(self, at: Option<Timestamp>) -> Option<Value> {
        let at = at?;
        let text = if self.ages { self.age(at) } else { at.to_string() };
        Some(text.into())
    }
}

/// Reads a time in a record; anything else there counts as none.
pub(super) fn read(value: Option<&Value>) -> Option<Timestamp> {
    Timestamp::deserialize(value?).ok()
}

/// In the largest unit of which there is at least one; the rest is cut off.
fn words(age: Duration) -> String {
    let seconds = age.as_secs();
    let (unit, length) = match seconds {
        0..60 => ("s", 1),
        60..3600 => ("min", 60),
        3600..86_400 => ("h", 3600),
        86_400.. => ("d", 86_400),
    };
    format!("{} {unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        read(Some(&json!(text))).unwrap()
    }

    #[test]
    fn ages_have_one_unit() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (86_399, "23 h"),
            (86_400, "1 d"),
            (400 * 86_400, "400 d"),
        ] {
            assert_eq!(words(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn people_get_ages_and_programs_times() {
        let now = at("2026-11-20T12:00:00Z");
        let (earlier, later) = (at("2026-11-20T11:57:00Z"), at("2026-11-20T12:00:01Z"));
        let people = Times::new(now, Format::Table);
        assert_eq!(people.cell(Some(earlier)), Some(json!("3 min")));
        assert_eq!(people.cell(Some(later)), Some(json!("0 s")), "a clock that is ahead");
        assert_eq!(people.cell(None), None);
        for format in [Format::Json, Format::Ndjson, Format::Yaml, Format::Csv] {
            let programs = Times::new(now, format);
            assert_eq!(programs.cell(Some(earlier)), Some(json!("2026-11-20T11:57:00.000Z")));
        }
    }

    #[test]
    fn what_is_no_time_counts_as_none() {
        for odd in [json!(null), json!(12), json!("yesterday"), json!({})] {
            assert_eq!(read(Some(&odd)), None, "{odd}");
        }
        assert_eq!(read(None), None);
    }
}
