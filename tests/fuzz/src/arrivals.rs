//! Results and hellos on their way into a record, made out of bytes.
//!
//! Start at [`read`]. Names, data and places in the order are few, so that arrivals meet: two results
//! of one key, one message twice, a counter that another machine uses, too.

use libfuzzer_sys::arbitrary::{self, Unstructured};
use vogeler_protocol::message::{CommandResult, Failure, FailureKind, Hello, Payload, Version};
use vogeler_protocol::record::{Arrival, Change};
use vogeler_protocol::{Data, Digest, NodeName, Record, RunId, Timestamp};

/// The keys that results go to.
pub const KEYS: [&str; 3] = ["packages", "ps", "jmx"];

/// What plugins print. The first two are the same data, spelt otherwise.
pub const DATA: [&str; 4] = [r#"{"a":1,"b":[2]}"#, r#"{ "b": [2], "a": 1 }"#, "null", r#""é\n""#];

/// Most arrivals that are read.
const MOST: usize = 48;

/// One message, as it was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Which of [`KEYS`] it is of.
    pub key: usize,
    /// What it brings.
    pub brings: Brings,
    /// Epoch and seq; none for a producer that does not count.
    pub place: Option<(u64, u64)>,
    /// The machine that it comes from.
    pub machine: Option<&'static str>,
    /// When it was published, in milliseconds, where it says so.
    pub sent_at: Option<i64>,
    /// Whether the broker says that it may have been delivered before; of a hello, whether another
    /// client has the node's queue.
    pub again: bool,
    /// Whether its producer computed a digest.
    pub digest: bool,
}

/// What a message brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brings {
    /// One of [`DATA`].
    Data(usize),
    /// A plugin that failed.
    Failure,
    /// Data that the database has refused for its size.
    TooLarge,
    /// No result: what a client says of itself.
    Hello,
}

/// The node that all of them are of.
pub fn node() -> NodeName {
    "web01".parse().expect("a node name")
}

/// The run that all of them answer.
pub fn run() -> RunId {
    "019aa0b0-0000-7000-8000-000000000001".parse().expect("a run")
}

/// Makes messages of `bytes`, seven bytes each.
///
/// # Errors
/// None that the bytes could cause: where they end, zeros follow.
pub fn read(bytes: &[u8]) -> arbitrary::Result<Vec<Sent>> {
    let mut rest = Unstructured::new(bytes);
    let mut sent = Vec::new();
    while !rest.is_empty() && sent.len() < MOST {
        let key = rest.int_in_range(0..=KEYS.len() - 1)?;
        let brings = match rest.int_in_range(0..=DATA.len() + 2)? {
            number if number < DATA.len() => Brings::Data(number),
            4 => Brings::Failure,
            5 => Brings::TooLarge,
            _ => Brings::Hello,
        };
        let epoch = rest.int_in_range(0..=4_u64)?;
        let seq = rest.int_in_range(0..=5_u64)?;
        let machine = *rest.choose(&[Some("m"), Some("other"), None])?;
        let sent_at = rest.int_in_range(0..=120_i64)?;
        let flags = rest.int_in_range(0..=3_u8)?;
        sent.push(Sent {
            key,
            brings,
            place: (epoch < 4).then_some((epoch, seq)),
            machine,
            sent_at: (sent_at > 0).then_some(sent_at * 4),
            again: flags & 1 > 0,
            digest: flags & 2 == 0,
        });
    }
    Ok(sent)
}

impl Sent {
    /// The key that it goes to.
    pub fn key(&self) -> &'static str {
        KEYS[self.key]
    }

    /// The data that it brings, where it is stored.
    pub fn data(&self) -> Option<&'static str> {
        match self.brings {
            Brings::Data(number) => Some(DATA[number]),
            Brings::Failure | Brings::TooLarge | Brings::Hello => None,
        }
    }

    /// Merges it into `record` as the server does that took it at `received_at`, in milliseconds.
    pub fn merge(&self, record: &mut Record, received_at: i64) -> Change {
        let received_at = Timestamp::from_millisecond(received_at);
        match self.brings {
            Brings::Data(_) | Brings::Failure => record.apply(&self.arrival(received_at)),
            Brings::TooLarge => record.apply_too_large(&self.arrival(received_at)),
            Brings::Hello => record.apply_hello(&self.hello(), received_at),
        }
    }

    fn arrival(&self, received_at: Timestamp) -> Arrival {
        let payload = match self.brings {
            Brings::Data(number) => Payload::Data(data(number)),
            Brings::TooLarge => Payload::Data(data(0)),
            Brings::Failure | Brings::Hello => {
                let message = format!("failed at {:?}", self.place);
                Payload::Failure(Failure { kind: FailureKind::Exit, message, stderr: String::new() })
            }
        };
        let command = self.key().parse().expect("an alias");
        let mut result = CommandResult::bare(node(), command, payload).expect("a key");
        result.run = Some(run());
        result.machine_id = self.machine.map(str::to_owned);
        (result.epoch, result.seq) = self.place.unzip();
        if let (Payload::Data(data), true) = (&result.payload, self.digest) {
            result.digest = Some(Digest::of_data(data));
        }
        let body = result.encode();
        Arrival {
            login: None,
            received_at,
            sent_at: self.sent_at.map(Timestamp::from_millisecond),
            again: self.again,
            bytes: body.len(),
            received_digest: result.digest.is_none().then(|| Digest::of_bytes(&body)),
            result,
        }
    }

    fn hello(&self) -> Hello {
        let (epoch, seq) = self.place.unwrap_or_default();
        let instance = match self.machine {
            Some("m") => "5b0c1d6e-0000-4000-8000-000000000003",
            _ => "5b0c1d6e-0000-4000-8000-000000000004",
        };
        Hello {
            v: Version,
            node: node(),
            version: format!("0.{epoch}.{seq}"),
            instance: instance.parse().expect("a UUID"),
            machine_id: self.machine.map(str::to_owned),
            epoch,
            seq,
            contends: self.again,
            groups: Vec::new(),
            aliases: std::collections::BTreeMap::new(),
        }
    }
}

fn data(number: usize) -> Data {
    Data::parse(DATA[number]).expect("it is data")
}
