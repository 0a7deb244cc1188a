//! What broker and database take at most, of the very same bodies, with nothing of ours between.
//!
//! [`database`] replays the documents that a server has sent; [`broker`] publishes, confirms, consumes and acknowledges
//! results. Both are tried in a few ways, and the best counts: a limit that somebody could have measured higher is none.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde::Serialize;

use crate::part::recording::Sent;
use crate::site::Site;

/// Bytes that are enough to know a rate by: some seconds of what one machine writes.
const ENOUGH: usize = 100 << 20;

/// What a database took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    /// Documents or messages a second.
    pub per_second: f64,
    /// Megabytes (10^6) of them a second.
    pub megabytes: f64,
    /// The batch, or the window of confirms, that it was reached with.
    pub batch: usize,
    /// Over so many connections.
    pub connections: usize,
}

/// The best that the database does with these documents, or with the first of them where there are many, each batch size
/// over one connection and over two. `earlier` are written first, and not counted: what updates need.
///
/// # Errors
/// A document is refused.
pub async fn database(site: &Site, earlier: &[Sent], documents: &[Sent], batches: &[usize]) -> anyhow::Result<Rate> {
    let mut best: Option<Rate> = None;
    let mut total = 0;
    let enough = documents.iter().take_while(|sent| {
        total += sent.document.len();
        total <= ENOUGH
    });
    // The first ones: what later ones are updates of is among them.
    let documents = &documents[..enough.count().max(1).min(documents.len())];
    let bytes: usize = documents.iter().map(|sent| sent.document.len()).sum();
    for batch in batches {
        for connections in [1, 2] {
            let place = site.renamed()?;
            place.make().await?;
            let outcome = async {
                replay(&place, earlier, 500, 2).await?;
                let begun = Instant::now();
                replay(&place, documents, *batch, connections).await?;
                anyhow::Ok(begun.elapsed().as_secs_f64())
            };
            let seconds = outcome.await;
            place.unmake().await?;
            let seconds = seconds.context("raw _bulk_docs")?;
            let rate = Rate {
                per_second: documents.len() as f64 / seconds,
                megabytes: bytes as f64 / seconds / 1e6,
                batch: *batch,
                connections,
            };
            if best.is_none_or(|best| rate.per_second > best.per_second) {
                best = Some(rate);
            }
        }
    }
    best.context("no batch size was given")
}

/// Writes documents in the order they were sent in: those of one id over one connection, one after the other, so that the
/// revisions which they name are there. (A revision is the digest of a document and of what it had before.)
async fn replay(site: &Site, documents: &[Sent], batch: usize, connections: usize) -> anyhow::Result<()> {
    let mut lanes: Vec<Vec<&Sent>> = vec![Vec::new(); connections];
    for sent in documents {
        let mut hasher = DefaultHasher::new();
        sent.id.hash(&mut hasher);
        lanes[usize::try_from(hasher.finish() % connections as u64)?].push(sent);
    }
    let write = async |lane: Vec<&Sent>| {
        let raw = site.raw()?;
        for batch in batches(&lane, batch) {
            let bodies: Vec<&[u8]> = batch.iter().map(|sent| sent.document.as_slice()).collect();
            raw.bulk(&bodies).await?;
        }
        anyhow::Ok(())
    };
    stream::iter(lanes).map(write).buffer_unordered(connections).try_collect().await
}

/// Batches in order, none with two documents of one id.
fn batches<'a>(lane: &[&'a Sent], most: usize) -> Vec<Vec<&'a Sent>> {
    let (mut batches, mut batch, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
    for sent in lane {
        if batch.len() == most || !ids.insert(&sent.id) {
            batches.push(std::mem::take(&mut batch));
            ids.clear();
            ids.insert(&sent.id);
        }
        batch.push(*sent);
    }
    batches.push(batch);
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// A connection of lapin's own.
///
/// # Errors
/// There is none.
pub async fn connect(site: &Site) -> anyhow::Result<Connection> {
    let (mut url, username, password) = site.login()?;
    // Both only fail on a URL that can have no login.
    let _ = url.set_username(&username);
    let _ = url.set_password(Some(password.reveal()));
    Ok(Connection::connect(url.as_str(), ConnectionProperties::default()).await?)
}

/// The best that the broker does with these bodies: published persistently to a quorum queue as results are, confirmed, and
/// consumed and acknowledged meanwhile.
///
/// # Errors
/// The broker does not do it.
pub async fn broker(site: &Site, bodies: &[Vec<u8>]) -> anyhow::Result<Rate> {
    let mut best: Option<Rate> = None;
    for window in [200, 1000] {
        let seconds = through(site, bodies, window).await.context("raw publish, confirm, consume")?;
        let bytes: usize = bodies.iter().map(Vec::len).sum();
        let rate = Rate {
            per_second: bodies.len() as f64 / seconds,
            megabytes: bytes as f64 / seconds / 1e6,
            batch: window,
            connections: 2,
        };
        if best.is_none_or(|best| rate.per_second > best.per_second) {
            best = Some(rate);
        }
    }
    best.context("no window was given")
}

/// Seconds from the first publish to the last acknowledgement.
async fn through(site: &Site, bodies: &[Vec<u8>], window: usize) -> anyhow::Result<f64> {
    let (publishing, consuming) = (connect(site).await?, connect(site).await?);
    let queue = format!("vogeler.blowout.{}", crate::latency::now());
    let (sender, receiver) = (publishing.create_channel().await?, consuming.create_channel().await?);
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(50));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    receiver.queue_declare(queue.as_str().into(), durable, arguments).await?;
    sender.confirm_select(ConfirmSelectOptions::default()).await?;
    receiver.basic_qos(2000, BasicQosOptions::default()).await?;
    let consume = BasicConsumeOptions::default();
    let mut consumer = receiver.basic_consume(queue.as_str().into(), "".into(), consume, FieldTable::default()).await?;
    let begun = Instant::now();
    let publish = async {
        let publish = async |body: &Vec<u8>| {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let confirm = sender.basic_publish("".into(), queue.as_str().into(), options, body, properties).await?;
            confirm.await
        };
        stream::iter(bodies).map(publish).buffer_unordered(window).try_collect::<Vec<_>>().await.map(drop)
    };
    let consume = async {
        let mut taken = 0;
        while taken < bodies.len()
            && let Some(delivery) = consumer.next().await
        {
            let tag = delivery?.delivery_tag;
            taken += 1;
            if taken % 100 == 0 || taken == bodies.len() {
                receiver.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            }
        }
        Ok::<_, lapin::Error>(())
    };
    tokio::try_join!(publish, consume)?;
    let seconds = begun.elapsed().as_secs_f64();
    receiver.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    publishing.close(200, "goodbye".into()).await?;
    consuming.close(200, "goodbye".into()).await?;
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_has_two_documents_of_one_id() {
        let sent = |id: &str| Sent { id: id.into(), update: false, document: Vec::new() };
        let all = ["a", "b", "a", "c", "d", "e"].map(sent);
        let lane: Vec<&Sent> = all.iter().collect();
        let ids: Vec<Vec<&str>> =
            batches(&lane, 3).iter().map(|batch| batch.iter().map(|sent| sent.id.as_str()).collect()).collect();
        assert_eq!(ids, [vec!["a", "b"], vec!["a", "c", "d"], vec!["e"]]);
    }
}
