//! Which requests fail, in which way, how often.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use serde_json::value::RawValue;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is answered with this status, in CouchDB's words; the database never hears of it.
    Status(u16),
    /// The database does it; half of the answer arrives, and then nothing more.
    Hang,
    /// The database does it; half of the answer arrives, and then the connection is cut.
    Half,
    /// The database does it; the answer arrives in so many pieces, with a pause before each.
    Drip {
        /// How many.
        pieces: usize,
        /// How long.
        pause: Duration,
    },
    /// The database does it; the connection is cut before a word of the answer.
    Lost,
    /// A batch with a document of more bytes is refused as CouchDB does it beyond its
    /// `max_document_size`; the database never hears of it. A batch without one passes and does not
    /// count as struck.
    DocumentLimit(usize),
    /// Nothing: such requests are only counted.
    Counted,
}

/// Says of a request, by its method and path, whether a rule is about it.
pub type Which = fn(&Method, &str) -> bool;

/// Every request.
pub fn every(_: &Method, _: &str) -> bool {
    true
}

/// What writes a batch of documents.
pub fn batches(method: &Method, path: &str) -> bool {
    *method == Method::POST && path.ends_with("/_bulk_docs")
}

/// Whatever needs room on the database's disk.
pub fn writes(method: &Method, path: &str) -> bool {
    *method == Method::PUT || batches(method, path)
}

/// Which requests meet which fault, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    which: Which,
    fault: Fault,
    left: usize,
}

impl Rule {
    /// These requests meet this fault until the rules are cleared.
    pub fn new(fault: Fault, which: Which) -> Self {
        Self { which, fault, left: usize::MAX }
    }

    /// Only so many of them do.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { left: times, ..self }
    }

    /// What this request meets by this rule.
    pub(super) fn strike(&mut self, method: &Method, path: &str, body: &[u8]) -> Option<Fault> {
        if !(self.which)(method, path) {
            return None;
        }
        // A batch within the limit is not struck by it.
        if let Fault::DocumentLimit(limit) = self.fault {
            culprit(body, limit)?;
        }
        self.left = self.left.checked_sub(1)?;
        Some(self.fault)
    }
}

/// The id of the first document of a batch that has more than `limit` bytes.
pub(super) fn culprit(body: &[u8], limit: usize) -> Option<String> {
    let batch: BTreeMap<String, Vec<&RawValue>> = serde_json::from_slice(body).ok()?;
    let document = batch.get("docs")?.iter().find(|document| document.get().len() > limit)?;
    let document: Value = serde_json::from_str(document.get()).ok()?;
    document["_id"].as_str().map(str::to_owned)
}
