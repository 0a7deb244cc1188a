//! Which queues of results there are: that is state of the broker, and whoever asks is told the same.

use vogeler_protocol::names::SLOTS;

use crate::{Lost, QueueStatus, Session, Topology};

/// The queues of results in force, by their numbers: `master.in.0` and those that follow without a gap.
///
/// Costs the session the channel that says of the next one that it is missing.
///
/// # Errors
/// The connection is lost.
pub async fn in_force<S: Session>(session: &S, topology: &Topology) -> Result<Vec<QueueStatus>, Lost> {
    let mut found = Vec::new();
    for number in 0..SLOTS {
        match session.queue_status(&topology.results_queue(number).name).await? {
            Some(status) => found.push(status),
            None => break,
        }
    }
    Ok(found)
}

/// Whether so many are in force, by the last of them and the next one. `count` is one or more.
///
/// # Errors
/// The connection is lost.
pub async fn are_still<S: Session>(session: &S, topology: &Topology, count: u32) -> Result<bool, Lost> {
    let name = |number| topology.results_queue(number).name;
    let last = session.queue_status(&name(count.saturating_sub(1))).await?;
    Ok(last.is_some() && (count >= SLOTS || session.queue_status(&name(count)).await?.is_none()))
}

/// What these queues are called, so many from the first on, for a sentence.
pub fn place(topology: &Topology, count: usize) -> String {
    let first = topology.results_queue(0).name;
    match count {
        0 | 1 => first,
        _ => format!("{first} to {}", count - 1),
    }
}

/// How many results wait in these queues.
pub fn waiting(queues: &[QueueStatus]) -> u64 {
    queues.iter().map(|queue| u64::from(queue.messages)).sum()
}

/// Whether `vogeler-server setup` is changing the queues, or has been interrupted while it did. Costs the session a
/// channel where it is not.
///
/// # Errors
/// The connection is lost.
pub async fn are_moving<S: Session>(session: &S, topology: &Topology) -> Result<bool, Lost> {
    Ok(session.queue_status(&topology.moving_queue().name).await?.is_some())
}
