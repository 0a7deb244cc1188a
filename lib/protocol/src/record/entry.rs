//! What a record notes beside the data: where it came from, and in which order.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Answer;
use crate::message::FailureKind;
use crate::object::Object;
use crate::{Alias, Digest, Format, RunId, Timestamp};

/// The place of a result among those of its machine.
///
/// Clocks never decide: a client counts its starts (`epoch`) and, within one, the plugins that it
/// started (`seq`). Results of different machines, or of producers that do not count, have no
/// order; there, arrival decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Order {
    /// The machine's fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// How often the client had started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Which plugin of that start it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Order {
    /// How this compares with `other`; none where the two have no order.
    pub fn compare(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let (mine, theirs) = (self.epoch?, other.epoch?);
        (self.machine_id == other.machine_id).then(|| (mine, self.seq).cmp(&(theirs, other.seq)))
    }
}

/// `vogeler.results.<key>`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ResultEntry {
    pub(super) command: Alias,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) also_runs: Vec<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<Format>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) collected_at: Option<Timestamp>,
    pub(super) received_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_at: Option<Timestamp>,
    pub(super) changed_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) duration_ms: Option<u64>,
    pub(super) bytes: usize,
    pub(super) digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<Uuid>,
    #[serde(flatten)]
    pub(super) order: Order,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) login: Option<String>,
}

/// `vogeler.errors.<key>`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ErrorEntry {
    pub(super) command: Alias,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) also_runs: Vec<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Timestamp>,
    pub(super) received_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_at: Option<Timestamp>,
    pub(super) kind: FailureKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exit: Option<i32>,
    pub(super) message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) stderr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<Uuid>,
    #[serde(flatten)]
    pub(super) order: Order,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) login: Option<String>,
}

/// The part of both that decides whether an arrival is news.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Standing {
    pub(super) received_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_at: Option<Timestamp>,
    #[serde(flatten)]
    pub(super) order: Order,
}

/// An entry read back; one that somebody else has spoilt counts as none.
pub(super) fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// Ids of runs begin with their time, so that they are ordered by it.
pub(super) fn answered_later(results: &Object, errors: &Object, run: RunId, command: &str) -> Option<RunId> {
    #[derive(Deserialize)]
    struct Ran {
        command: Alias,
        run: RunId,
    }
    let ran = results.iter().chain(errors.iter()).filter_map(|(_, raw)| read::<Ran>(Some(raw)));
    ran.filter(|ran| ran.command.as_str() == command && ran.run > run).map(|ran| ran.run).max()
}

pub(super) fn answers(results: &Object, errors: &Object, run: RunId, command: &str) -> Option<Answer> {
    let asked = |ran: &Alias, first: Option<RunId>, also: &[RunId]| {
        ran.as_str() == command && (first == Some(run) || also.contains(&run))
    };
    let failed = errors.iter().find_map(|(_, raw)| {
        let entry: ErrorEntry = read(Some(raw))?;
        asked(&entry.command, entry.run, &entry.also_runs).then_some(Answer::Failed(entry.message))
    });
    failed.or_else(|| {
        results.iter().find_map(|(_, raw)| {
            let entry: ResultEntry = read(Some(raw))?;
            let answer = if entry.changed_at == entry.received_at { Answer::Stored } else { Answer::Unchanged };
            asked(&entry.command, entry.run, &entry.also_runs).then_some(answer)
        })
    })
}
