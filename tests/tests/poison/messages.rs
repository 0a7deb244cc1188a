//! What is fed: messages that are good, or that somebody made by hand.

use vogeler_messaging::{Message, Session};
use vogeler_tests::fleet;

/// How large the good results are.
pub(super) const BYTES: usize = 200;

/// Publishes as whoever may publish results can; the broker cares for the slot, not for what is in it.
pub(super) async fn publish(session: &impl Session, message: Message) {
    fleet::publish(session, &"poison".parse().unwrap(), message).await.unwrap();
}

/// A JSON message of that id.
pub(super) fn json_message(id: &str, body: impl Into<Vec<u8>>) -> Message {
    let mut message = fleet::json_message(body);
    message.properties.message_id = Some(id.to_owned());
    message
}

/// A good result of the key `c` whose data is that JSON text; the message has the node's name for its id.
pub(super) fn result_of(node: &str, data: &str) -> Message {
    let body = format!(r#"{{"v":1,"node":"{node}","command":"c","outcome":"ok","data":{data}}}"#);
    json_message(node, body)
}
