//! The server of a blowout: the code that ships, with a broker that is watched and a store that is written down.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use vogeler_server::config::ServerSection;
use vogeler_server::run::{Parts, run};

use super::recording::Recording;
use crate::site::Site;
use crate::tap::{Seen, Watch};

/// What the server is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The database.
    pub url: String,
    /// Where it writes down what it sends.
    pub record: Option<PathBuf>,
}

/// What it says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Of its deliveries.
    pub seen: Seen,
    /// HTTP requests that it has sent.
    pub requests: u64,
    /// Bytes of the bodies of those.
    pub sent_bytes: u64,
    /// Bytes of documents in them.
    pub document_bytes: u64,
}

impl Report {
    /// What two servers have done together; the latencies are those of the first.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.seen.acked += other.seen.acked;
        for (number, phase) in other.seen.phases {
            self.seen.phases.entry(number).and_modify(|first| *first = first.with(phase)).or_insert(phase);
        }
        self.requests += other.requests;
        self.sent_bytes += other.sent_bytes;
        self.document_bytes += other.document_bytes;
        self
    }
}

/// Serves until its input ends.
///
/// # Errors
/// It cannot begin, or what [`run`] says.
pub async fn serve(mut site: Site, config: ServerSection) -> anyhow::Result<()> {
    let (order, mut input) = super::order::<Order>().await?;
    site.store.url = order.url;
    let couch = site.couch()?;
    let store = Recording::new(couch.clone(), order.record.as_deref())?;
    let broker = Watch::new(site.amqp("vogeler-blowout server")?);
    let parts = Parts::new(broker.clone(), store.clone(), site.topology(), config);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let serving = run(parts, stopping.cancelled_owned());
    tokio::pin!(serving);
    loop {
        tokio::select! {
            biased;
            ended = &mut serving => return ended,
            word = input.next_line() => match word?.as_deref() {
                None => break,
                Some("begin") => {
                    broker.begin();
                    super::answer(&())?;
                }
                Some(_) => {
                    store.flush()?;
                    super::answer(&Report {
                        seen: broker.seen(),
                        requests: couch.requests(),
                        sent_bytes: couch.sent_bytes(),
                        document_bytes: store.bytes(),
                    })?;
                }
            },
        }
    }
    stop.cancel();
    serving.await?;
    Ok(store.flush()?)
}
