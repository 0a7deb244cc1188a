//! What a broker carries: a body, and properties that say what it is.

use std::collections::BTreeMap;
use std::time::Duration;

/// A message, sent or received.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// The body.
    pub body: Vec<u8>,
    /// What it is, and for whom.
    pub properties: Properties,
}

/// The properties that Vogeler uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    /// Unique to the message; a copy keeps it.
    pub message_id: Option<String>,
    /// The run that it belongs to.
    pub correlation_id: Option<String>,
    /// AMQP's `type`: command, result, hello or event.
    pub kind: Option<String>,
    /// When it was published, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// `application/json`, or the body is text.
    pub content_type: Option<String>,
    /// The program that sent it.
    pub app_id: Option<String>,
    /// How long it may wait in a queue.
    pub expiration: Option<Duration>,
    /// The broker login that sent it; the broker refuses a false one.
    pub user_id: Option<String>,
    /// Whether a durable queue keeps it through a restart of the broker.
    pub persistent: bool,
    /// Everything else.
    pub headers: BTreeMap<String, Header>,
}

/// A header's value. Kinds that Vogeler never reads (tables, arrays) are left out on receipt.
#[derive(Debug, Clone, PartialEq)]
pub enum Header {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl Properties {
    /// A header that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.headers.get(name) {
            Some(Header::Text(text)) => Some(text),
            Some(Header::Number(_) | Header::Flag(_)) | None => None,
        }
    }

    /// A header that is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.headers.get(name) {
            Some(Header::Number(number)) => Some(*number),
            Some(Header::Text(_) | Header::Flag(_)) | None => None,
        }
    }
}

/// A message and where it goes.
#[derive(Debug, Clone)]
pub struct Publish<'a> {
    /// The exchange that takes it.
    pub exchange: &'a str,
    /// The routing key that it takes it by.
    pub routing_key: &'a str,
    /// Whether it is an error if no queue is bound for that key.
    pub mandatory: bool,
    /// The message itself.
    pub message: Message,
}

/// A message as it came from a queue; unsettled until it is acknowledged.
#[derive(Debug)]
pub struct Delivery {
    /// What to acknowledge it by; unique to the consumer.
    pub tag: u64,
    /// The exchange it was published to.
    pub exchange: String,
    /// The routing key it was published with.
    pub routing_key: String,
    /// Whether it was delivered before, to whomever.
    pub redelivered: bool,
    /// How often it was delivered before, where the queue counts.
    pub count: u64,
    /// The message itself.
    pub message: Message,
}
