//! Between lapin's types and ours.

use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError, BasicProperties};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Error, ErrorKind};

use crate::message::{Delivery, Header, Message, Properties};
use crate::topology::{Exchange, ExchangeKind, Queue, QueueKind};
use crate::{ConnectError, ConsumeError, Lost};

pub(super) fn connect_error(address: String, error: &Error) -> ConnectError {
    let refused = matches!(
        error.kind(),
        ErrorKind::ProtocolError(protocol) if matches!(
            protocol.kind(),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
        )
    );
    let reason = words(error);
    if refused { ConnectError::Refused { address, reason } } else { ConnectError::Unreachable { address, reason } }
}

pub(super) fn lost(error: &Error) -> Lost {
    match soft_error(error) {
        // A false user_id is answered with the second, and a queue that is another connection's alone with the third.
        Some(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::RESOURCELOCKED) => {
            Lost::Denied(words(error))
        }
        Some(AMQPSoftError::NOTFOUND) => Lost::NotFound(words(error)),
        _ => Lost::Connection(words(error)),
    }
}

pub(super) fn consume_error(queue: &str, error: &Error) -> ConsumeError {
    let lost = lost(error);
    match &lost {
        // The same 403 says that a permission is missing; only the words tell.
        Lost::Denied(words) if words.contains("in exclusive use") => ConsumeError::InUse(queue.to_owned()),
        Lost::Denied(_) | Lost::Connection(_) | Lost::NotFound(_) => lost.into(),
    }
}

pub(super) fn soft_error(error: &Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// The broker's own words where it said something, the library's otherwise.
pub(super) fn words(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => protocol.get_message().as_str().to_owned(),
        ErrorKind::IOError(io) => io.to_string(),
        ErrorKind::ChannelsLimitReached => "no channel is left on this connection".to_owned(),
        _ => error.to_string(),
    }
}

pub(super) fn exchange_kind(kind: ExchangeKind) -> lapin::ExchangeKind {
    match kind {
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
    }
}

pub(super) fn exchange_arguments(exchange: &Exchange) -> FieldTable {
    let mut table = FieldTable::default();
    if let Some(alternate) = &exchange.alternate {
        table.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.as_str().into()));
    }
    table
}

pub(super) fn queue_arguments(queue: &Queue) -> FieldTable {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let number = |value: u64| AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX));
    let arguments: Vec<(&str, AMQPValue)> = match &queue.kind {
        QueueKind::Node { expires, max_length } => vec![
            ("x-expires", number(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX))),
            ("x-max-length", number(u64::from(*max_length))),
            ("x-overflow", text("drop-head")),
        ],
        QueueKind::Results { delivery_limit, dead_letter_exchange, max_bytes } => vec![
            ("x-queue-type", text("quorum")),
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
            ("x-delivery-limit", number(u64::from(*delivery_limit))),
            ("x-dead-letter-exchange", text(dead_letter_exchange)),
            // Without these two it would silently dead-letter at most once.
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
            ("x-max-length-bytes", number(*max_bytes)),
        ],
        QueueKind::Dead { max_bytes } => vec![
            ("x-queue-type", text("quorum")),
            // Every version takes a number; what says "no limit" differs between them.
            ("x-delivery-limit", number(u64::from(u32::MAX))),
            ("x-overflow", text("reject-publish")),
            ("x-max-length-bytes", number(*max_bytes)),
        ],
        QueueKind::Run => Vec::new(),
        QueueKind::Sign => vec![("x-queue-type", text("quorum"))],
    };
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

pub(super) fn to_properties(properties: &Properties) -> BasicProperties {
    let mut to = BasicProperties::default().with_delivery_mode(if properties.persistent { 2 } else { 1 });
    if let Some(value) = &properties.message_id {
        to = to.with_message_id(value.as_str().into());
    }
    if let Some(value) = &properties.correlation_id {
        to = to.with_correlation_id(value.as_str().into());
    }
    if let Some(value) = &properties.kind {
        to = to.with_type(value.as_str().into());
    }
    if let Some(value) = properties.timestamp {
        to = to.with_timestamp(value);
    }
    if let Some(value) = &properties.content_type {
        to = to.with_content_type(value.as_str().into());
    }
    if let Some(value) = &properties.app_id {
        to = to.with_app_id(value.as_str().into());
    }
    if let Some(value) = properties.expiration {
        // Decimal milliseconds; anything else closes the channel with 406.
        to = to.with_expiration(value.as_millis().to_string().into());
    }
    if let Some(value) = &properties.user_id {
        to = to.with_user_id(value.as_str().into());
    }
    let mut headers = FieldTable::default();
    for (name, value) in &properties.headers {
        let value = match value {
            Header::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Header::Number(number) => AMQPValue::LongLongInt(*number),
            Header::Flag(flag) => AMQPValue::Boolean(*flag),
        };
        headers.insert(name.as_str().into(), value);
    }
    to.with_headers(headers)
}

pub(super) fn from_delivery(delivery: lapin::message::Delivery) -> Delivery {
    let properties = from_properties(&delivery.properties);
    let count = properties.number("x-delivery-count").and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    Delivery {
        tag: delivery.delivery_tag,
        exchange: delivery.exchange.as_str().to_owned(),
        routing_key: delivery.routing_key.as_str().to_owned(),
        redelivered: delivery.redelivered,
        count,
        message: Message { body: delivery.data, properties },
    }
}

fn from_properties(from: &BasicProperties) -> Properties {
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    let mut properties = Properties {
        message_id: text(from.message_id()),
        correlation_id: text(from.correlation_id()),
        kind: text(from.kind()),
        timestamp: *from.timestamp(),
        content_type: text(from.content_type()),
        app_id: text(from.app_id()),
        expiration: text(from.expiration()).and_then(|millis| millis.parse().ok()).map(Duration::from_millis),
        user_id: text(from.user_id()),
        persistent: *from.delivery_mode() == Some(2),
        ..Properties::default()
    };
    for (name, value) in from.headers().iter().flat_map(FieldTable::inner) {
        if let Some(header) = from_value(value) {
            properties.headers.insert(name.as_str().to_owned(), header);
        }
    }
    properties
}

fn from_value(value: &AMQPValue) -> Option<Header> {
    Some(match value {
        AMQPValue::LongString(text) => Header::Text(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Header::Text(text.as_str().to_owned()),
        AMQPValue::Boolean(flag) => Header::Flag(*flag),
        AMQPValue::ShortShortInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortShortUInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortUInt(number) => Header::Number((*number).into()),
        AMQPValue::LongInt(number) => Header::Number((*number).into()),
        AMQPValue::LongUInt(number) => Header::Number((*number).into()),
        AMQPValue::LongLongInt(number) => Header::Number(*number),
        _ => return None,
    })
}
