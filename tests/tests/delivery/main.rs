//! What a broker may do with a message, and what two machines may do with one name: results come
//! twice, out of order and again, and what stands in a record is still the last that its node said.
//!
//! Start at [`again`]. That a clock set back changes nothing is told in `order.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod again;
mod clash;
mod relay;

use serde_json::{Value, json};
use vogeler_messaging::Session;
use vogeler_protocol::NodeName;
use vogeler_tests::fleet::{self, json_message};

/// Publishes a result of that key; `more` is what stands beside node and command.
async fn publish(session: &impl Session, node: &NodeName, key: &str, more: &Value, sent_at: Option<u64>) {
    let mut body = json!({ "v": 1, "node": node, "command": key });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut message = json_message(body.to_string());
    message.properties.timestamp = sent_at;
    fleet::publish(session, node, message).await.unwrap();
}
