//! What a broker may do with a message, and what two machines may do with one name: results come
//! twice, out of order and again, and what stands in a record is still the last that its node said.
//!
//! Start at [`again`]. That a clock set back changes nothing is told in `order.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod again;
mod clash;
mod relay;

use serde_json::{Value, json};
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{Message, Properties, Publish, Session};
use vogeler_protocol::{NodeName, Random};

/// Randomness that says its seed, which is shown where the test fails; `VOGELER_TEST_SEED` draws the same again.
#[allow(clippy::print_stderr, reason = "a failure may come up anywhere, and shows this beside")]
fn seeded() -> Random {
    let given = std::env::var("VOGELER_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse::<u64>().expect("VOGELER_TEST_SEED is a number"));
    let seed = given.unwrap_or_else(|| Random::from_system().uuid().as_u64_pair().1);
    eprintln!("the order of this test: VOGELER_TEST_SEED={seed}");
    Random::seeded(seed)
}

/// Publishes a result of that key; `more` is what stands beside node and command.
async fn publish(session: &impl Session, node: &NodeName, key: &str, more: &Value, sent_at: Option<u64>) {
    let mut body = json!({ "v": 1, "node": node, "command": key });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        timestamp: sent_at,
        persistent: true,
        ..Properties::default()
    };
    let message = Message { body: body.to_string().into_bytes(), properties };
    let key = slot_key(node);
    let publish = Publish { exchange: "vogeler.master.in", routing_key: &key, mandatory: true, message };
    session.publish(publish).await.unwrap();
}
