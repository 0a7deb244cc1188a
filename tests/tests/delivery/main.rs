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
use vogeler_protocol::NodeName;

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
