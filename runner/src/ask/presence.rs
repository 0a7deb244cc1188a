//! Who is on line: whose queue has a consumer.
//!
//! No heartbeats are kept anywhere; the broker is asked, of all queues at once.

use serde::{Serialize, Serializer};
use vogeler_messaging::{Lost, Session};
use vogeler_protocol::Timestamp;

use super::records::Seen;
use crate::expected::{self, is_forgotten};

/// Whether a node takes commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OnLine {
    Yes,
    /// They wait for it.
    No,
    /// They do not even wait for it.
    NoQueue,
    /// It was taken out of service.
    Retired,
    /// The broker cannot be asked.
    Unknown,
}

impl OnLine {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::NoQueue => "no queue",
            Self::Retired => "retired",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it is in service and known not to take commands.
    pub(super) fn is_off_line(self) -> bool {
        match self {
            Self::No | Self::NoQueue => true,
            Self::Yes | Self::Retired | Self::Unknown => false,
        }
    }
}

impl Serialize for OnLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Asks the broker about all of them. Asking counts as use of a queue and would keep a dead one alive for ever: a node
/// that has told nothing for long counts as off line without it.
pub(super) async fn ask<S: Session>(session: &S, records: &[Seen], now: Timestamp) -> Result<Vec<OnLine>, Lost> {
    let is_asked = |seen: &&Seen| seen.retired_at().is_none() && !is_forgotten(seen.updated_at(), now);
    let asked = records.iter().filter(is_asked).map(|seen| &seen.node);
    let mut statuses = expected::queues(session, asked).await?.into_iter();
    let on_line = |seen: &Seen| {
        if seen.retired_at().is_some() {
            return OnLine::Retired;
        }
        if !is_asked(&seen) {
            return OnLine::No;
        }
        match statuses.next().flatten() {
            Some(status) if status.is_consumed() => OnLine::Yes,
            Some(_) => OnLine::No,
            None => OnLine::NoQueue,
        }
    };
    Ok(records.iter().map(on_line).collect())
}

/// What can be said without the broker.
pub(super) fn unasked(records: &[Seen]) -> Vec<OnLine> {
    let on_line = |seen: &Seen| if seen.retired_at().is_some() { OnLine::Retired } else { OnLine::Unknown };
    records.iter().map(on_line).collect()
}
