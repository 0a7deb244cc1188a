//! What is written together.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::intake::Incoming;

/// A delivery that came back this often is processed alone, so that a crash over it counts
/// against nothing else.
const SUSPICIOUS: u64 = 3;

/// How large a batch may grow, and how long it waits to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most rows.
    pub rows: usize,
    /// Most bytes of bodies.
    pub bytes: usize,
    /// How long the first row waits for others.
    pub linger: Duration,
}

/// Collects batches from what the intake hands over.
pub struct Batches {
    incoming: mpsc::UnboundedReceiver<Incoming>,
    limits: Limits,
    /// Did not fit into the last one.
    left: Option<Incoming>,
}

impl Batches {
    /// Batches of what comes through `incoming`.
    pub fn new(incoming: mpsc::UnboundedReceiver<Incoming>, limits: Limits) -> Self {
        Self { incoming, limits, left: None }
    }

    /// The next batch; none when the intake has ended and everything was handed out.
    pub async fn next(&mut self) -> Option<Vec<Incoming>> {
        let first = match self.left.take() {
            Some(left) => left,
            None => self.incoming.recv().await?,
        };
        let mut bytes = first.parcel.weight;
        let mut batch = vec![first];
        if batch[0].parcel.count >= SUSPICIOUS {
            return Some(batch);
        }
        let deadline = Instant::now() + self.limits.linger;
        while batch.len() < self.limits.rows {
            let Ok(Some(next)) = timeout_at(deadline, self.incoming.recv()).await else { break };
            bytes += next.parcel.weight;
            if bytes > self.limits.bytes || next.parcel.count >= SUSPICIOUS {
                self.left = Some(next);
                break;
            }
            batch.push(next);
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::{Content, Parcel};
    use vogeler_messaging::Message;
    use vogeler_protocol::message::Hello;

    fn incoming(tag: u64, bytes: usize, count: u64) -> Incoming {
        let hello: Hello = vogeler_protocol::message::decode(
            br#"{"v":1,"node":"a","version":"1","instance":"5b0c1d6e-0000-4000-8000-000000000003","epoch":1,"seq":1}"#,
        )
        .unwrap();
        let parcel = Parcel {
            tag,
            exchange: String::new(),
            routing_key: String::new(),
            count,
            message: Message::default(),
            weight: bytes,
        };
        Incoming { node: hello.node.clone(), content: Content::Hello(Box::new(hello)), parcel }
    }

    #[tokio::test(start_paused = true)]
    async fn by_rows_bytes_time_and_suspicion() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let limits = Limits { rows: 3, bytes: 100, linger: Duration::from_millis(5) };
        let mut batches = Batches::new(receiver, limits);
        for (tag, bytes, count) in
            [(1, 1, 0), (2, 1, 0), (3, 1, 0), (4, 60, 0), (5, 60, 0), (6, 500, 0), (7, 1, 3), (8, 1, 0)]
        {
            sender.send(incoming(tag, bytes, count)).unwrap();
        }
        drop(sender);
        let mut seen = Vec::new();
        while let Some(batch) = batches.next().await {
            seen.push(batch.iter().map(|incoming| incoming.parcel.tag).collect::<Vec<_>>());
        }
        assert_eq!(seen, vec![vec![1, 2, 3], vec![4], vec![5], vec![6], vec![7], vec![8]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_row_waits_no_longer_than_it_lingers() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let limits = Limits { rows: 3, bytes: 100, linger: Duration::from_millis(5) };
        let mut batches = Batches::new(receiver, limits);
        sender.send(incoming(1, 1, 0)).unwrap();
        let before = Instant::now();
        assert_eq!(batches.next().await.unwrap().len(), 1);
        assert_eq!(before.elapsed(), Duration::from_millis(5));
    }
}
