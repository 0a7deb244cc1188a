//! A dead letter: how a message that cannot be processed is put among them, and read back.
//!
//! Start at [`address`]. The headers are written and read here alone. Those that the broker
//! dead-letters by itself, over its delivery limit, carry none of ours; what can be told of them is
//! read from the message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{Delivery, Header, Message, Properties};
use vogeler_protocol::{Clock, Digest, NodeName, Random, Timestamp};

use crate::intake::{Parcel, Unusable};

const REASON: &str = "vogeler-reason";
const DETAIL: &str = "vogeler-detail";
const NODE: &str = "vogeler-dead-node";
const EXCHANGE: &str = "vogeler-exchange";
const ROUTING_KEY: &str = "vogeler-routing-key";
const USER_ID: &str = "vogeler-user-id";
const DELIVERY_COUNT: &str = "vogeler-delivery-count";
const DEAD_AT: &str = "vogeler-dead-at";

/// Marks what was sent back from the dead letters.
pub const REPLAYED: &str = "vogeler-replayed";

/// What only says how a letter died, and means nothing once it lives again.
const OF_THE_DEAD: [&str; 7] = [REASON, DETAIL, NODE, EXCHANGE, ROUTING_KEY, DELIVERY_COUNT, DEAD_AT];

/// Most bytes of one header of ours: all headers of a message have to fit into one frame.
const HEADER_BYTES: usize = 2000;

/// Most bytes of the headers that a message came with, half of RabbitMQ's default frame: with ours
/// beside them they could fill more than a frame, and such a message ends the connection.
const FOREIGN_BYTES: usize = 64 << 10;

/// The beginning of a text, of so many bytes at most.
pub fn shortened(text: &str, most: usize) -> &str {
    let end = (0..=text.len().min(most)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// The copy of a message that goes to the dead letters: it says why, and carries nothing that the
/// broker would act on again.
pub fn address(parcel: Parcel, unusable: &Unusable, clock: &Clock, random: &Random) -> Message {
    let Message { body, mut properties } = parcel.message;
    leave_out_largest(&mut properties.headers);
    let count = i64::try_from(parcel.count).unwrap_or(i64::MAX);
    let text = |text: &str| Header::Text(shortened(text, HEADER_BYTES).to_owned());
    let node = unusable.askers.as_ref().map(|askers| &askers.node);
    let headers = [
        (REASON, Some(text(unusable.reason))),
        (DETAIL, Some(text(&unusable.detail))),
        (NODE, node.map(|node| text(node.as_str()))),
        (EXCHANGE, Some(text(&parcel.exchange))),
        (ROUTING_KEY, Some(text(&parcel.routing_key))),
        (USER_ID, properties.user_id.as_deref().map(text)),
        (DELIVERY_COUNT, Some(Header::Number(count))),
        (DEAD_AT, Some(text(&clock.now().to_string()))),
    ];
    for (name, value) in headers {
        match value {
            Some(value) => properties.headers.insert(name.to_owned(), value),
            None => properties.headers.remove(name),
        };
    }
    // What is ours has none of the broker's own headers: by that the two are told apart.
    properties.headers.retain(|name, _| !name.starts_with("x-"));
    properties.message_id.get_or_insert_with(|| random.uuid().to_string());
    Message { body, properties: Properties { user_id: None, expiration: None, persistent: true, ..properties } }
}

fn leave_out_largest(headers: &mut BTreeMap<String, Header>) {
    let size = |(name, value): (&String, &Header)| {
        // As AMQP writes it: a length before the name, a kind and a length before the value.
        name.len()
            + 7
            + match value {
                Header::Text(text) => text.len(),
                Header::Number(_) | Header::Flag(_) => 8,
            }
    };
    while headers.iter().map(size).sum::<usize>() > FOREIGN_BYTES {
        let largest = headers.iter().max_by_key(|header| size(*header)).map(|(name, _)| name.clone());
        let Some(largest) = largest else { return };
        headers.remove(&largest);
    }
}

/// Gives a message that our own login has replayed the sender it came with at first. The broker
/// vouches for that login, and so for what it says; anybody else's word for it is worth nothing.
pub fn restore_sender(properties: &mut Properties, own_login: &str) {
    let ours = properties.user_id.as_deref() == Some(own_login) && properties.headers.contains_key(REPLAYED);
    let sender = properties.text(USER_ID).map(str::to_owned);
    properties.headers.remove(USER_ID);
    if ours {
        properties.user_id = sender;
    }
}

/// A dead letter as an operator sees it; its body is not kept.
#[derive(Debug, Clone, Serialize)]
pub struct Letter {
    /// The message's id; where a producer gave none that can be typed, a fingerprint of the body.
    pub id: String,
    /// What is the same for copies of one message alone; the id is the producer's to choose.
    #[serde(skip)]
    pub fingerprint: String,
    /// What is this very letter's alone: one that was sent back and has died again has another.
    #[serde(skip)]
    pub identity: String,
    /// How often it is there. A crash between its copy and its acknowledgement leaves a second one.
    pub copies: usize,
    /// One word for why.
    pub reason: String,
    /// A sentence for why.
    pub detail: String,
    /// The node that it is of, as far as that can be told.
    pub node: Option<String>,
    /// When it became one; for those of the broker, when it was published.
    pub at: Option<Timestamp>,
    /// Bytes of its body.
    pub bytes: usize,
    /// The exchange that it was published to.
    pub exchange: String,
    /// With which key.
    pub routing_key: String,
    /// The login that it came from.
    pub user_id: Option<String>,
    /// How often it had been delivered before.
    pub deliveries: i64,
    /// The other properties, as far as they are set.
    pub properties: BTreeMap<&'static str, String>,
}

impl Letter {
    /// Reads what a delivery from the queue of dead letters says of itself.
    pub fn read(delivery: &Delivery) -> Self {
        let Message { body, properties } = &delivery.message;
        let (fingerprint, identity) = (fingerprint(delivery), identity(delivery));
        let properties = &if of_the_broker(properties) { without_ours(properties.clone()) } else { properties.clone() };
        let owned = |name: &str| properties.text(name).map(str::to_owned);
        let by_broker = owned("x-first-death-reason");
        let detail = owned(DETAIL).or_else(|| {
            by_broker
                .as_ref()
                .map(|_| "delivered too often without being settled; a server may have crashed over it".to_owned())
        });
        let sent = properties.timestamp.and_then(|seconds| i64::try_from(seconds).ok());
        let sent = sent.map(|seconds| Timestamp::from_millisecond(seconds.saturating_mul(1000)));
        let at = properties.text(DEAD_AT).and_then(|at| serde_json::from_value(at.into()).ok()).or(sent);
        let set = [
            ("message_id", properties.message_id.clone()),
            ("correlation_id", properties.correlation_id.clone()),
            ("type", properties.kind.clone()),
            ("content_type", properties.content_type.clone()),
            ("app_id", properties.app_id.clone()),
            ("sent_at", sent.map(|sent| sent.to_string())),
        ];
        Self {
            id: id(properties, body),
            fingerprint,
            identity,
            copies: 1,
            reason: owned(REASON).or(by_broker).unwrap_or_else(|| "unknown".to_owned()),
            detail: detail.unwrap_or_else(|| "it does not say why it is here".to_owned()),
            node: owned(NODE).or_else(|| owned("vogeler-node")).or_else(|| node_of(body)),
            at,
            bytes: body.len(),
            exchange: owned(EXCHANGE).unwrap_or_else(|| delivery.exchange.clone()),
            routing_key: owned(ROUTING_KEY).unwrap_or_else(|| delivery.routing_key.clone()),
            user_id: owned(USER_ID).or_else(|| properties.user_id.clone()),
            deliveries: properties.number(DELIVERY_COUNT).unwrap_or(0),
            properties: set.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        }
    }

    /// The routing key that brings it to its node's slot.
    pub fn way_back(&self) -> String {
        match self.node.as_deref().map(str::parse::<NodeName>) {
            Some(Ok(node)) => slot_key(&node),
            Some(Err(_)) | None => self.routing_key.clone(),
        }
    }
}

/// The message as it was before it died, marked as replayed in the replay of that name, to be published
/// by `own_login`.
pub fn revive(message: Message, own_login: &str, replay: &str) -> Message {
    let Message { body, mut properties } = message;
    if of_the_broker(&properties) {
        properties = without_ours(properties);
    }
    // Without an order and without a time it would replace what came since. When it died it had been
    // sent; when the broker gave it up is not known, and then anything is later.
    let died = properties.text(DEAD_AT).and_then(|at| serde_json::from_value::<Timestamp>(at.into()).ok());
    properties.timestamp.get_or_insert(died.map_or(1, Timestamp::as_second));
    // One that the broker dead-lettered still has its sender as a property; nobody else may publish with that.
    if let Some(sender) = properties.user_id.take() {
        properties.headers.insert(USER_ID.to_owned(), Header::Text(sender));
    }
    properties.headers.retain(|name, _| !OF_THE_DEAD.contains(&name.as_str()) && !name.starts_with("x-"));
    properties.headers.insert(REPLAYED.to_owned(), Header::Text(replay.to_owned()));
    let user_id = Some(own_login.to_owned());
    Message { body, properties: Properties { user_id, expiration: None, persistent: true, ..properties } }
}

/// Whether a header says how a letter died, in our own words.
pub fn is_ours(name: &str) -> bool {
    name == USER_ID || OF_THE_DEAD.contains(&name)
}

/// Whether the broker made it a dead letter, over its delivery limit; it then says so itself.
fn of_the_broker(properties: &Properties) -> bool {
    properties.headers.contains_key("x-first-death-reason")
}

/// Such a letter never was in our hands: what looks like our headers is the producer's.
fn without_ours(mut properties: Properties) -> Properties {
    properties.headers.retain(|name, _| !is_ours(name));
    properties
}

fn fingerprint(delivery: &Delivery) -> String {
    let Message { body, properties } = &delivery.message;
    let mut text = format!("{:?}\n", properties.message_id).into_bytes();
    for name in [ROUTING_KEY, "vogeler-node", "vogeler-command", "vogeler-key", "vogeler-format", "vogeler-outcome"] {
        text.extend_from_slice(format!("{:?}\n", properties.text(name)).as_bytes());
    }
    text.extend_from_slice(body);
    Digest::of_bytes(&text).as_str()["bytes:".len()..].to_owned()
}

fn identity(delivery: &Delivery) -> String {
    let Message { body, properties } = &delivery.message;
    let mut headers = properties.headers.clone();
    headers.remove("x-delivery-count");
    let mut text = format!("{:?}\n{:?}\n{headers:?}\n", properties.message_id, properties.timestamp).into_bytes();
    text.extend_from_slice(body);
    Digest::of_bytes(&text).as_str().to_owned()
}

fn id(properties: &Properties, body: &[u8]) -> String {
    let typed = |id: &&String| {
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match properties.message_id.as_ref().filter(typed) {
        Some(id) => id.clone(),
        None => {
            let digest = Digest::of_bytes(body);
            format!("body-{}", &digest.as_str()["bytes:".len()..][..16])
        }
    }
}

fn node_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        node: NodeName,
    }
    serde_json::from_slice::<Named>(body).ok().map(|named| named.node.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel() -> Parcel {
        let properties = Properties {
            message_id: Some("m1".into()),
            user_id: Some("node-web01".into()),
            timestamp: Some(1_000),
            ..Properties::default()
        };
        Parcel {
            tag: 1,
            exchange: "vogeler.master.in".into(),
            routing_key: "slot.1".into(),
            count: 2,
            message: Message { body: br#"{"node":"web01"}"#.to_vec(), properties },
            weight: 16,
        }
    }

    fn dead(message: Message) -> Delivery {
        Delivery {
            tag: 1,
            exchange: "vogeler.dead".into(),
            routing_key: String::new(),
            redelivered: false,
            count: 0,
            message,
        }
    }

    #[test]
    fn what_dies_and_lives_again_is_what_it_was() {
        let unusable = Unusable { reason: "forbidden", detail: "ü".repeat(3000), askers: None };
        let before = parcel().message;
        let letter = address(parcel(), &unusable, &Clock::system(), &Random::seeded(1));
        let read = Letter::read(&dead(letter.clone()));
        assert_eq!((read.id.as_str(), read.reason.as_str(), read.deliveries), ("m1", "forbidden", 2));
        assert_eq!(read.node.as_deref(), Some("web01"));
        assert_eq!(read.user_id.as_deref(), Some("node-web01"));
        assert_eq!(read.detail.len(), HEADER_BYTES);
        assert_eq!(read.way_back(), slot_key(&"web01".parse().unwrap()));

        let mut revived = revive(letter, "server", "r1");
        assert_eq!(revived.properties.user_id.as_deref(), Some("server"), "the broker takes no other");
        assert!(revived.properties.headers.contains_key(REPLAYED));
        restore_sender(&mut revived.properties, "server");
        revived.properties.headers.clear();
        assert_eq!(revived, Message { properties: Properties { persistent: true, ..before.properties }, ..before });
    }

    #[test]
    fn headers_of_a_whole_frame_leave_room_for_ours() {
        let mut parcel = parcel();
        parcel.message.properties.headers.insert("large".into(), Header::Text("x".repeat(100_000)));
        parcel.message.properties.headers.insert("small".into(), Header::Text("x".repeat(100)));
        let unusable = Unusable { reason: "bad_data", detail: String::new(), askers: None };
        let letter = address(parcel, &unusable, &Clock::system(), &Random::seeded(1));
        assert!(!letter.properties.headers.contains_key("large"));
        assert!(letter.properties.headers.contains_key("small"));
    }

    #[test]
    fn what_the_broker_gave_up_has_no_word_of_ours() {
        let mut message = parcel().message;
        message.properties.user_id = None;
        message.properties.timestamp = None;
        for (name, value) in [(USER_ID, "victim"), (REASON, "forged"), ("x-first-death-reason", "delivery_limit")] {
            message.properties.headers.insert(name.into(), Header::Text(value.into()));
        }
        let letter = Letter::read(&dead(message.clone()));
        assert_eq!((letter.reason.as_str(), letter.user_id), ("delivery_limit", None));
        let mut revived = revive(message, "server", "r1");
        assert_eq!(revived.properties.timestamp, Some(1), "it replaces nothing");
        restore_sender(&mut revived.properties, "server");
        assert_eq!(revived.properties.user_id, None);
    }

    #[test]
    fn nobody_else_is_believed_to_have_replayed() {
        let mut forged = Properties { user_id: Some("node-web02".into()), ..Properties::default() };
        forged.headers.insert(REPLAYED.into(), Header::Flag(true));
        forged.headers.insert(USER_ID.into(), Header::Text("node-web01".into()));
        restore_sender(&mut forged, "server");
        assert_eq!(forged.user_id.as_deref(), Some("node-web02"));
    }

    #[test]
    fn a_message_without_an_id_has_one_all_the_same() {
        let mut message = parcel().message;
        for id in [None, Some("with space".to_owned()), Some(String::new())] {
            message.properties.message_id = id;
            let letter = Letter::read(&dead(message.clone()));
            assert!(letter.id.starts_with("body-") && letter.id.len() == 21, "{}", letter.id);
        }
    }
}
