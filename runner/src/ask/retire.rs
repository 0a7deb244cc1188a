//! `retire`: takes nodes out of service.
//!
//! The record is marked (`vogeler.retired`) and kept; the queue goes, with the commands that wait in it. The mark
//! goes when the record is told anything. Nobody else is asked or told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal as _, Write as _};
use std::slice;

use anyhow::{Context as _, bail};
use clap_complete::engine::ArgValueCompleter;
use serde::{Serialize, Serializer};
use vogeler_messaging::topology::node_queue;
use vogeler_messaging::{Broker, QueueStatus, Session};
use vogeler_protocol::{NodeName, Record, Timestamp};
use vogeler_store::{Fate, Row, Store};

use super::{Operator, Reply, Shape, node_name, records};
use crate::complete;
use crate::expected;
use crate::output::{Column, Rows, cell};
use crate::run::Parts;
use crate::tally::{FAILED, GOOD, NO_SUCH};

/// How often a record that others write meanwhile is read and written again.
const ATTEMPTS: usize = 10;

/// What `retire` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Retire {
    /// The nodes
    ///
    /// Their whole names: no groups and no patterns here.
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    #[arg(value_name = "NODE", required = true, value_parser = node_name)]
    pub nodes: Vec<NodeName>,

    /// Do not ask before
    ///
    /// Needed where standard input is no terminal.
    #[arg(short = 'y', long)]
    pub yes: bool,

    /// Retire nodes that are on line, too
    ///
    /// A client that still runs makes its queue anew at once, and is back with the next thing that it tells.
    #[arg(long)]
    pub force: bool,

    /// The form of the answer
    #[command(flatten)]
    pub shape: Shape,
}

/// Asks at the terminal; none where standard input is no terminal. Waits for as long as the operator thinks.
pub fn on_terminal(question: &str) -> Option<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return None;
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).ok()?;
    let mut line = String::new();
    stdin.read_line(&mut line).ok()?;
    Some(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What became of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// With so many commands that waited; none where it had no queue.
    Retired(Option<u32>),
    OnLine,
    Declined,
    Failed,
    Unknown,
}

impl Outcome {
    fn status(self) -> u8 {
        match self {
            Self::Retired(_) => GOOD,
            Self::OnLine | Self::Declined | Self::Failed => FAILED,
            Self::Unknown => NO_SUCH,
        }
    }

    fn commands(self) -> Option<u32> {
        match self {
            Self::Retired(commands) => commands,
            Self::OnLine | Self::Declined | Self::Failed | Self::Unknown => None,
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Retired(_) => "retired",
            Self::OnLine => "on line",
            Self::Declined => "declined",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        })
    }
}

pub(super) async fn answer<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    asked: &Retire,
    operator: Operator<'_>,
    now: Timestamp,
) -> anyhow::Result<Reply> {
    let nodes: Vec<NodeName> = asked.nodes.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let documents = parts.store.fetch(&nodes).await?;
    let (there, unknown): (Vec<_>, Vec<_>) =
        nodes.into_iter().zip(documents).partition(|(_, document)| document.is_some());
    let [there, unknown] = [there, unknown].map(|pairs| pairs.into_iter().map(|(node, _)| node).collect::<Vec<_>>());
    let mut notices = records::unknown(&parts.store, &unknown).await?;
    let mut outcomes: BTreeMap<NodeName, Outcome> = unknown.into_iter().map(|node| (node, Outcome::Unknown)).collect();

    let mut agreed = Vec::new();
    for (node, status) in there.iter().zip(statuses(&parts.broker, &there).await?) {
        if is_on_line(status) && !asked.force {
            notices.push(format!("{node} is on line: stop its client first, or say --force"));
            outcomes.insert(node.clone(), Outcome::OnLine);
        } else if asked.yes || confirmed(operator, node, status)? {
            agreed.push(node);
        } else {
            outcomes.insert(node.clone(), Outcome::Declined);
        }
    }
    if !agreed.is_empty() {
        // Opened only now: no connection is kept up while an operator thinks.
        let session = parts.broker.connect().await?;
        for node in agreed {
            let outcome = match retire(&session, &parts.store, node, operator.name, now, asked.force).await {
                Ok(Some(commands)) => Outcome::Retired(commands),
                Ok(None) => {
                    notices
                        .push(format!("{node} has come back on line meanwhile: stop its client first, or say --force"));
                    Outcome::OnLine
                }
                Err(reason) => {
                    notices.push(format!("{reason:#}"));
                    Outcome::Failed
                }
            };
            outcomes.insert(node.clone(), outcome);
        }
        session.close().await;
    }
    // The larger status is the one that counts, as at the end of a run.
    let status = outcomes.values().copied().map(Outcome::status).max().unwrap_or(GOOD);
    Ok(Reply { answer: Some(rows(&outcomes).into()), notices, status })
}

async fn statuses<B: Broker>(broker: &B, nodes: &[NodeName]) -> anyhow::Result<Vec<Option<QueueStatus>>> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let session = broker.connect().await?;
    let statuses = expected::queues(&session, nodes).await.context("cannot ask which of the nodes are on line")?;
    session.close().await;
    Ok(statuses)
}

fn is_on_line(status: Option<QueueStatus>) -> bool {
    status.is_some_and(QueueStatus::is_consumed)
}

fn confirmed(operator: Operator<'_>, node: &NodeName, status: Option<QueueStatus>) -> anyhow::Result<bool> {
    let on_line = if is_on_line(status) { ", which is on line" } else { "" };
    let goes = match status.map(|status| status.messages) {
        None => "It has no queue.".to_owned(),
        Some(0) => "Its queue goes.".to_owned(),
        Some(1) => "Its queue goes, and the command that waits in it.".to_owned(),
        Some(commands) => format!("Its queue goes, and the {commands} commands that wait in it."),
    };
    (operator.confirm)(&format!("Retire {node}{on_line}? {goes}"))
        .with_context(|| format!("nobody is there to be asked about {node}; nothing was done: say --yes"))
}

/// How many commands went with its queue, where it had one; none at all where its client is on line by now. The mark
/// comes first: a queue that is left over is seen, a record without a mark would be taken for one in service.
async fn retire<S: Session, St: Store>(
    session: &S,
    store: &St,
    node: &NodeName,
    by: &str,
    now: Timestamp,
    force: bool,
) -> anyhow::Result<Option<Option<u32>>> {
    let queue = node_queue(node).name;
    // The operator may have taken a while to answer.
    if !force && is_on_line(session.queue_status(&queue).await?) {
        return Ok(None);
    }
    mark(store, node, by, now).await.with_context(|| format!("{node} is not retired"))?;
    let deleted = session.delete_queue(&queue).await;
    let deleted =
        deleted.with_context(|| format!("the record of {node} is marked, but its queue is still there; say it again"));
    deleted.map(Some)
}

async fn mark<St: Store>(store: &St, node: &NodeName, by: &str, now: Timestamp) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        let document = store.fetch(slice::from_ref(node)).await?.pop().flatten();
        let document = document.context("its record is gone")?;
        let mut record = Record::from_document(node.clone(), &document, now)?;
        record.retire(by, now);
        let row = Row { id: node.clone(), document: record.to_document() };
        match store.put(slice::from_ref(&row)).await?.pop() {
            Some(Fate::Stored { .. }) => return Ok(()),
            // Somebody has written it meanwhile.
            Some(Fate::Conflict) => {}
            Some(Fate::Forbidden { reason }) => bail!("the database forbids it: {reason}"),
            Some(Fate::Failed { error, reason }) => bail!("the database did not store its record: {error}: {reason}"),
            None => bail!("the database did not say what became of its record"),
        }
    }
    bail!("its record was written by others {ATTEMPTS} times while we tried")
}

fn rows(outcomes: &BTreeMap<NodeName, Outcome>) -> Rows {
    let mut rows = Rows::new([
        Column::new("node", "Node"),
        Column::new("outcome", "Outcome").red_when(|value| value != "retired"),
        Column::new("commands", "Commands gone"),
    ]);
    for (node, outcome) in outcomes {
        rows.push([cell(node), cell(outcome), cell(&outcome.commands())]);
    }
    rows
}

#[cfg(test)]
mod tests;
