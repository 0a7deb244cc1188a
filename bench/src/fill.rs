//! Results in the queue, with no client: what a server is measured with.

use std::ops::Range;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{Broker as _, Header, Message, Properties, Publish, Session as _};
use vogeler_protocol::message::{self, CommandResult, Payload};
use vogeler_protocol::{Alias, Clock, Digest, NodeName, Random, RunId};

use crate::part::nodes;
use crate::profile::Bodies;
use crate::site::Site;
use crate::tap::PHASE;

/// Confirms that are outstanding at once.
const WINDOW: usize = 500;

/// Results as a client makes them, of one alias.
#[derive(Debug)]
pub struct Results {
    alias: Alias,
    bodies: Bodies,
    random: Random,
    clock: Clock,
}

impl Results {
    /// Of so many bytes of data each.
    ///
    /// # Errors
    /// Never: the alias is a constant.
    pub fn new(bytes: usize) -> anyhow::Result<Self> {
        let (alias, clock) = ("facts".parse()?, Clock::system());
        Ok(Self { alias, bodies: Bodies::new(bytes, 1), random: Random::from_system(), clock })
    }

    /// The body of one.
    ///
    /// # Errors
    /// Never: the alias is a key.
    pub fn body(&self, node: &NodeName, seq: u64) -> anyhow::Result<Vec<u8>> {
        let data = self.bodies.data(fastrand::u64(..));
        let digest = Digest::of_data(&data);
        let mut result = CommandResult::bare(node.clone(), self.alias.clone(), Payload::Data(data))?;
        result.run = Some(RunId::new(self.clock.now(), &self.random));
        result.instance = Some(self.random.uuid());
        result.machine_id = Some(format!("machine of {node}"));
        (result.epoch, result.seq) = (Some(1), Some(seq));
        (result.started_at, result.duration_ms) = (Some(self.clock.now()), Some(120));
        (result.exit, result.digest) = (Some(0), Some(digest));
        Ok(result.encode())
    }
}

/// Publishes one result for each of these nodes, the `phase`th of each; the bodies, when the broker has all of them.
///
/// # Errors
/// The broker does not take them.
pub async fn fill(site: &Site, results: &Results, nodes: Range<usize>, phase: i64) -> anyhow::Result<Vec<Vec<u8>>> {
    let session = site.amqp("vogeler-blowout fill")?.connect().await?;
    let exchange = site.topology().master;
    let publish = async |number: usize| {
        let node = nodes::name(number);
        let mut properties = Properties {
            kind: Some("result".into()),
            content_type: Some(message::JSON.into()),
            message_id: Some(results.random.uuid().to_string()),
            persistent: true,
            ..Properties::default()
        };
        properties.headers.insert(PHASE.to_owned(), Header::Number(phase));
        let body = results.body(&node, u64::try_from(phase)?)?;
        let (routing_key, message) = (slot_key(&node), Message { body: body.clone(), properties });
        session.publish(Publish { exchange: &exchange, routing_key: &routing_key, mandatory: true, message }).await?;
        anyhow::Ok(body)
    };
    let all = stream::iter(nodes).map(publish).buffer_unordered(WINDOW).try_collect::<Vec<_>>().await;
    session.close().await;
    all.context("the broker does not take the results")
}
