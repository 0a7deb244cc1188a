//! Results that flow while something happens.

use std::cell::Cell;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};
use vogeler_messaging::amqp::AmqpSession;
use vogeler_messaging::{Broker as _, Session as _};
use vogeler_tests::{Fleet, Site, eventually};

/// Of data in each result.
pub(crate) const BYTES: usize = 500;

/// With these the server has more to do than fits into one write: something waits in the queue, and
/// something is in its hands, whenever it happens.
pub(crate) const SMALL_BATCHES: (&str, &str) = ("VOGELER_SERVER_BATCH_ROWS", "20");

/// Between two results, once the first thousand are sent.
const PACE: Duration = Duration::from_millis(2);

/// So many may wait before the flow does: records grow with each result, and the server is slower the longer it takes.
const MOST_WAITING: u32 = 1000;

/// Sends results from before `what` happens until it is over, whatever that takes.
pub(crate) async fn under_load(site: &Site, fleet: &mut Fleet, what: impl Future<Output = ()>) {
    let first = fleet.nodes()[0].to_string();
    let revision = async || site.record(&first).await.map_or(Value::Null, |record| record["_rev"].clone());
    let before = revision().await;
    let over = Cell::new(false);
    let flow = async {
        fleet.send(site, 1000, BYTES).await;
        let mut session = connected(site).await;
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for (number, index) in (0..fleet.nodes().len()).cycle().enumerate() {
            pace.tick().await;
            while number % 100 == 0 && !over.get() && waiting(&session).await > MOST_WAITING {
                pace.tick().await;
            }
            if over.get() {
                break;
            }
            let message = fleet.next(index, BYTES);
            while fleet.publish(&session, index, message.clone()).await.is_err() {
                session = connected(site).await;
            }
        }
    };
    let what = async {
        eventually(async || {
            let now = revision().await;
            anyhow::ensure!(now != before, "a result of {first} that is stored");
            anyhow::Ok(())
        })
        .await;
        what.await;
        over.set(true);
    };
    tokio::join!(flow, what);
}

/// How many results wait; none while nobody can tell.
async fn waiting(session: &AmqpSession) -> u32 {
    session.queue_status("master.in.0").await.ok().flatten().map_or(0, |status| status.messages)
}

async fn connected(site: &Site) -> AmqpSession {
    eventually(async || site.broker().connect().await).await
}
