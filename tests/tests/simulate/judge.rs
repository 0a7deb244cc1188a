//! What has to be so in the end: nothing is lost, and nothing is stuck.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use serde_json::Value;
use vogeler_messaging::topology::node_queue;
use vogeler_messaging::{Broker as _, ConsumeOptions, Consumer as _, QueueStatus, Session as _, Topology};
use vogeler_protocol::{Alias, NodeName, RunId};

use super::ledger::{Ledger, Standing};
use super::parts::Outside;
use super::store::document;

impl Outside {
    /// What is still to be done; nothing once everything is settled.
    pub(super) fn unsettled(&self) -> Vec<String> {
        let mut left = self.owed();
        let queues = self.world.machines().map(|machine| node_queue(&machine.node).name);
        for queue in queues.chain([Topology::default().results_queue(0).name]) {
            let unsettled = self.broker.unsettled(&queue);
            if unsettled > 0 {
                left.push(format!("{unsettled} messages of {queue} are not settled"));
            }
        }
        left
    }

    /// Nodes that are not at their places: connected, and in the groups that their configuration names.
    pub(super) async fn out_of_place(&self) -> Vec<String> {
        let mut out = Vec::new();
        let session = self.broker.connect().await.expect("the broker in memory");
        for machine in self.world.machines() {
            let queue = node_queue(&machine.node).name;
            let status = session.queue_status(&queue).await.expect("the broker in memory");
            if !status.is_some_and(QueueStatus::is_consumed) {
                out.push(format!("{} is not connected", machine.node));
            }
            let groups = machine.groups.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut wanted: BTreeSet<String> = groups.iter().map(|group| format!("group.{group}")).collect();
            wanted.extend(["broadcasts.all".to_owned(), format!("node.{}", machine.node)]);
            let ledger = self.world.ledger();
            let bindings = ledger.bindings.range((queue.clone(), String::new())..);
            let has: BTreeSet<&str> =
                bindings.take_while(|(of, _)| *of == queue).map(|(_, key)| key.as_str()).collect();
            if !has.iter().copied().eq(wanted.iter().map(String::as_str)) {
                out.push(format!("{queue} is bound to {has:?}, and its groups say {wanted:?}"));
            }
        }
        out
    }

    /// Commands that nobody has answered and that have not expired.
    fn owed(&self) -> Vec<String> {
        let now = self.world.true_clock().now();
        let ledger = self.world.ledger();
        let owed = ledger.owed.iter().filter(|(_, expires_at)| **expires_at > now);
        owed.map(|((node, run, alias), _)| format!("{node} owes {alias} to run {run}")).collect()
    }

    /// Looks at everything, when all parts have ended.
    pub(super) async fn judge(&self) {
        for left in self.unsettled() {
            self.world.ledger().breaks(format!("in the end: {left}"));
        }
        self.judge_said(&BTreeSet::new()).await;
        for machine in self.world.machines() {
            let notes = self.record(&machine.node).await.notes;
            let mut ledger = self.world.ledger();
            let written = ledger.standing.get(&machine.node).map_or(0, |standing| standing.notes);
            if notes != written {
                ledger.breaks(format!("{} has {notes} of the {written} notes of others", machine.node));
            }
        }
    }

    /// What the broker confirmed to a client is in its record, or something later is, or it is a dead letter.
    pub(super) async fn judge_said(&self, dead: &BTreeSet<String>) {
        let said = self.world.ledger().said.clone();
        let mut records: Option<(NodeName, Standing)> = None;
        let mut by_node = said;
        by_node.sort_by(|a, b| a.node.cmp(&b.node));
        for said in by_node {
            if records.as_ref().is_none_or(|(node, _)| *node != said.node) {
                records = Some((said.node.clone(), self.record(&said.node).await));
            }
            let holds = records.as_ref().is_some_and(|(_, record)| record.holds(&said));
            if !holds && !dead.contains(&said.message_id) {
                self.world.ledger().breaks(format!("lost: {said:?}; the record has {records:?}"));
            }
        }
    }

    /// What the database has of a node; nothing where it has no record.
    async fn record(&self, node: &NodeName) -> Standing {
        let text = document(&self.store, node).await;
        text.and_then(|text| Standing::of(text.as_bytes()).ok()).unwrap_or_default()
    }

    /// The ids of the dead letters.
    pub(super) async fn dead(&self) -> BTreeSet<String> {
        let session = self.broker.connect().await.expect("the broker in memory");
        let mut ids = BTreeSet::new();
        let queue = Topology::default().dead;
        let Ok(Some(status)) = session.queue_status(&queue).await else { return ids };
        let options = ConsumeOptions { prefetch: 0, exclusive: false, no_ack: false };
        let Ok(mut consumer) = session.consume(&queue, options).await else { return ids };
        for _ in 0..status.messages {
            let letter = consumer.next().await;
            ids.extend(letter.and_then(|letter| letter.message.properties.message_id));
        }
        ids
    }

    /// Whether what a run was told is so, at the moment at which it is told.
    pub(super) fn judge_report(&self, report: &str) {
        let Ok(report) = serde_json::from_str::<Value>(report) else { return };
        let one = [report.clone()];
        let commands = report["commands"].as_array().map_or(&one[..], Vec::as_slice);
        for command in commands {
            let run: Option<RunId> = report["run"].as_str().and_then(|run| run.parse().ok());
            let alias: Option<Alias> = command["command"].as_str().and_then(|alias| alias.parse().ok());
            let (Some(run), Some(alias)) = (run, alias) else { continue };
            for (node, line) in command["nodes"].as_object().into_iter().flatten() {
                let Ok(node) = node.parse::<NodeName>() else { continue };
                let told = line["event"].as_str().unwrap_or_default();
                if matches!(told, "stored" | "unchanged" | "failed") && !self.is_so(&node, run, &alias) {
                    let words = format!("run {run} was told that {alias} of {node} is {told}, and the record has less");
                    self.world.ledger().breaks(words);
                }
            }
        }
    }

    /// Whether the record of a node has what answered that run, or something later.
    fn is_so(&self, node: &NodeName, run: RunId, alias: &Alias) -> bool {
        let ledger = self.world.ledger();
        let Ledger { answers, standing, .. } = &*ledger;
        let places = answers.get(&(node.clone(), run, alias.clone()));
        places.into_iter().flatten().any(|(place, _)| standing.get(node).is_some_and(|record| record.reaches(*place)))
    }
}
