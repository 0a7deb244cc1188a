//! What a run is told of its result once that was merged.

use vogeler_protocol::message::{Notice, Payload};
use vogeler_protocol::record::Change;

use crate::intake::{Content, Incoming};

/// What a run is told of its result.
pub(crate) fn notice(incoming: &Incoming, change: Change) -> (Notice, Option<String>) {
    let Content::Result(arrival) = &incoming.content else { return (Notice::Stored, None) };
    let result = &arrival.result;
    match (&result.payload, change) {
        (Payload::Failure(failure), _) => (Notice::Failed, Some(failure.words())),
        (_, Change::Stored | Change::Held) => {
            let bytes = match &result.payload {
                Payload::Data(data) => data.get().len(),
                Payload::Output(_) | Payload::Failure(_) => arrival.bytes,
            };
            (Notice::Stored, Some(format!("{bytes} bytes under {}", result.key)))
        }
        (_, Change::Unchanged) => (Notice::Unchanged, Some(format!("as before under {}", result.key))),
        (_, Change::Superseded) => (Notice::Unchanged, Some(format!("a later result stands under {}", result.key))),
    }
}
