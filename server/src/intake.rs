//! What comes out of the broker: decoded, or found to be of no use.

use vogeler_messaging::{Delivery, Message, Properties};
use vogeler_protocol::message::{self, BadResult, CommandResult, Hello, Payload, TextHeaders};
use vogeler_protocol::record::Arrival;
use vogeler_protocol::{Alias, Clock, Digest, NodeName, RunId, Timestamp};

use crate::config::{Identity, ServerSection};
use crate::letter;

/// A delivery that can be merged into a record.
#[derive(Debug)]
pub struct Incoming {
    /// The node whose record it goes into.
    pub node: NodeName,
    /// What is to be merged.
    pub content: Content,
    /// The delivery that it came with, to be settled.
    pub parcel: Parcel,
}

/// What a delivery brought.
#[derive(Debug)]
pub enum Content {
    /// A plugin's result.
    Result(Box<Arrival>),
    /// A client that introduced itself.
    Hello(Box<Hello>),
}

impl Content {
    fn bytes(&self) -> usize {
        match self {
            Self::Hello(_) => 0,
            Self::Result(arrival) => match &arrival.result.payload {
                Payload::Data(data) => data.get().len(),
                Payload::Output(output) => output.len(),
                Payload::Failure(failure) => failure.message.len() + failure.stderr.len(),
            },
        }
    }
}

/// A delivery, kept until it is settled: its tag, and all that a dead letter needs.
#[derive(Debug)]
pub struct Parcel {
    /// What it is acknowledged by.
    pub tag: u64,
    /// The exchange it was published to.
    pub exchange: String,
    /// With which key.
    pub routing_key: String,
    /// How often it was delivered before.
    pub count: u64,
    /// The message itself.
    pub message: Message,
    /// Bytes of the body, or of what was read from it where that is more: YAML unfolds.
    pub weight: usize,
}

/// Why a delivery is of no use, now and for ever.
#[derive(Debug)]
pub struct Unusable {
    /// One word for a header.
    pub reason: &'static str,
    /// A sentence for a person.
    pub detail: String,
    /// Whose result it is and who waits for word of it, as far as that could be read.
    pub askers: Option<Askers>,
}

/// Who waits for word of a result.
#[derive(Debug, Clone)]
pub struct Askers {
    /// The node that it is of.
    pub node: NodeName,
    /// The alias.
    pub command: Alias,
    /// The runs.
    pub runs: Vec<RunId>,
}

impl Askers {
    fn of(result: &CommandResult) -> Self {
        Self { node: result.node.clone(), command: result.command.clone(), runs: result.runs().collect() }
    }
}

impl Incoming {
    /// Who waits for word of it; nobody waits for a hello.
    pub fn askers(&self) -> Option<Askers> {
        match &self.content {
            Content::Hello(_) => None,
            Content::Result(arrival) => Some(Askers::of(&arrival.result)),
        }
    }

    /// It can never be merged, for that reason.
    pub fn unusable(&self, reason: &'static str, detail: impl Into<String>) -> Unusable {
        Unusable { reason, detail: detail.into(), askers: self.askers() }
    }
}

/// Reads deliveries by the rules of a site.
#[derive(Debug, Clone)]
pub struct Intake {
    identity: Identity,
    identity_login: String,
    own_login: String,
    clock: Clock,
}

impl Intake {
    /// An intake by the rules that `config` sets, of a server with that login.
    pub fn new(config: &ServerSection, own_login: String, clock: Clock) -> Self {
        Self { identity: config.identity, identity_login: config.identity_login.clone(), own_login, clock }
    }

    /// Reads one delivery.
    ///
    /// # Errors
    /// The parcel back, with why it is of no use.
    pub fn read(&self, delivery: Delivery) -> Result<Incoming, (Parcel, Unusable)> {
        let redelivered = delivery.redelivered;
        let Delivery { tag, exchange, routing_key, count, mut message, .. } = delivery;
        letter::restore_sender(&mut message.properties, &self.own_login);
        let weight = message.body.len();
        let mut parcel = Parcel { tag, exchange, routing_key, count, message, weight };
        match self.content(&parcel, redelivered) {
            Ok((node, content)) => {
                parcel.weight = weight.max(content.bytes());
                Ok(Incoming { node, content, parcel })
            }
            Err(unusable) => Err((parcel, unusable)),
        }
    }

    fn content(&self, parcel: &Parcel, redelivered: bool) -> Result<(NodeName, Content), Unusable> {
        let Message { body, properties } = &parcel.message;
        if properties.kind.as_deref() == Some("hello") {
            let hello: Hello = message::decode(body).map_err(|error| Unusable {
                reason: "not_a_hello",
                detail: error.to_string(),
                askers: None,
            })?;
            self.vouch(&hello.node, properties, None)?;
            return Ok((hello.node.clone(), Content::Hello(Box::new(hello))));
        }
        let refuse = |error: &BadResult, askers| Unusable {
            reason: reason(error),
            detail: vogeler_protocol::sentence(error),
            askers,
        };
        let result = read_result(properties, body).map_err(|error| refuse(&error, None))?;
        let askers = matches!(result.payload, Payload::Output(_)).then(|| Askers::of(&result));
        let result = result.read_output().map_err(|error| refuse(&error, askers))?;
        self.vouch(&result.node, properties, Some(&result))?;
        let again = redelivered || properties.headers.contains_key(letter::REPLAYED);
        let sent = properties.timestamp.and_then(|seconds| i64::try_from(seconds).ok());
        let received_digest = result.digest.is_none().then(|| Digest::of_bytes(body));
        let arrival = Arrival {
            login: properties.user_id.clone(),
            received_at: self.clock.now(),
            sent_at: sent.map(|sent| Timestamp::from_millisecond(sent.saturating_mul(1000))),
            again,
            bytes: body.len(),
            received_digest,
            result,
        };
        Ok((arrival.result.node.clone(), Content::Result(Box::new(arrival))))
    }

    fn vouch(&self, node: &NodeName, properties: &Properties, result: Option<&CommandResult>) -> Result<(), Unusable> {
        let expected = self.identity_login.replace("{node}", node.as_str());
        match (self.identity, properties.user_id.as_deref()) {
            (Identity::None, _) => Ok(()),
            (Identity::Login, Some(login)) if login == expected => Ok(()),
            (Identity::Login, login) => Err(Unusable {
                reason: "identity",
                askers: result.map(Askers::of),
                detail: format!(
                    "server.identity is login: a result of {node} has to come from the login {expected:?}, \
                     this one came from {}",
                    login.map_or_else(|| "one that it does not name".to_owned(), |login| format!("{login:?}"))
                ),
            }),
        }
    }
}

fn read_result(properties: &Properties, body: &[u8]) -> Result<CommandResult, BadResult> {
    // A producer that names neither a content type nor a node in its headers sends a whole message.
    let text = match properties.content_type.as_deref() {
        // With or without a charset behind it, which for JSON is always UTF-8.
        Some(kind) => !kind.split(';').next().unwrap_or(kind).trim().eq_ignore_ascii_case(message::JSON),
        None => properties.text("vogeler-node").is_some(),
    };
    if !text {
        return CommandResult::decode(body);
    }
    let headers = TextHeaders {
        v: properties.text("vogeler-v"),
        node: properties.text("vogeler-node"),
        command: properties.text("vogeler-command"),
        key: properties.text("vogeler-key"),
        format: properties.text("vogeler-format"),
        outcome: properties.text("vogeler-outcome"),
    };
    CommandResult::decode_text(&headers, body)
}

fn reason(error: &BadResult) -> &'static str {
    match error {
        BadResult::Envelope(_) | BadResult::TooManyRuns(_) => "not_a_result",
        BadResult::Name(_) => "bad_name",
        BadResult::Payload { .. } | BadResult::Outcome(_) => "bad_outcome",
        BadResult::Data(_) => "bad_data",
        BadResult::Output(_) => "bad_output",
        BadResult::Header(_) => "missing_header",
        BadResult::Format(_) => "bad_format",
        BadResult::Version(_) => "unknown_version",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vogeler_messaging::Header;

    fn delivery(body: &str, content_type: Option<&str>, headers: &[(&str, &str)]) -> Delivery {
        let mut properties = Properties { content_type: content_type.map(str::to_owned), ..Properties::default() };
        for (name, value) in headers {
            properties.headers.insert((*name).to_owned(), Header::Text((*value).to_owned()));
        }
        Delivery {
            tag: 1,
            exchange: "e".into(),
            routing_key: "slot.1".into(),
            redelivered: false,
            count: 0,
            message: Message { body: body.as_bytes().to_vec(), properties },
        }
    }

    fn intake(identity: Identity) -> Intake {
        let config = ServerSection { identity, identity_login: "node-{node}".into(), ..ServerSection::default() };
        Intake::new(&config, "server".to_owned(), Clock::system())
    }

    const JSON: &str = r#"{"v":1,"node":"web01","command":"c","outcome":"ok","data":1}"#;

    #[test]
    fn json_with_and_without_a_content_type() {
        for content_type in [None, Some("application/json"), Some("Application/JSON; charset=utf-8")] {
            let incoming = intake(Identity::None).read(delivery(JSON, content_type, &[])).unwrap();
            assert_eq!(incoming.node.as_str(), "web01");
        }
    }

    #[test]
    fn any_other_body_is_the_output() {
        let headers = [("vogeler-node", "web01"), ("vogeler-command", "c"), ("vogeler-format", "lines")];
        for content_type in [None, Some("text/plain")] {
            let incoming = intake(Identity::None).read(delivery("a\nb\n", content_type, &headers)).unwrap();
            let Content::Result(arrival) = incoming.content else { panic!("a result") };
            assert!(arrival.received_digest.unwrap().as_str().starts_with("bytes:"));
        }
        let (_, unusable) = intake(Identity::None).read(delivery("a", Some("text/plain"), &[])).unwrap_err();
        assert_eq!(unusable.reason, "missing_header");
    }

    #[test]
    fn a_login_vouches_for_its_node_alone() {
        let strict = intake(Identity::Login);
        let from = |login: Option<&str>| {
            let mut delivery = delivery(JSON, None, &[]);
            delivery.message.properties.user_id = login.map(str::to_owned);
            strict.read(delivery).map_err(|(_, unusable)| unusable.reason)
        };
        assert!(from(Some("node-web01")).is_ok());
        assert_eq!(from(Some("node-web02")).unwrap_err(), "identity");
        assert_eq!(from(None).unwrap_err(), "identity", "absence is no proof");
    }
}
