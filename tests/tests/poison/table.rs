//! What is fed, and where it ends.
//!
//! Most of it is of no use and dies with a reason. Some of it looks bad and is data all the same,
//! which is left as it was printed.

use std::time::Duration;

use serde_json::{Value, json};
use vogeler_messaging::{Header, Message, Properties};

use End::{Dead, Large, Stored};

use crate::messages::json_message;

/// A message that nobody should send.
pub(crate) struct Poison {
    /// What it is called: its message id, and the name of its node where it has one.
    pub(crate) name: String,
    pub(crate) message: Message,
    pub(crate) end: End,
}

/// Where a message ends.
pub(crate) enum End {
    /// Among the dead letters, for this reason.
    Dead(&'static str),
    /// In its record, under this key.
    Stored(&'static str, Value),
    /// Among the dead letters, its record saying so, where the database bounds records; in its
    /// record, under `c`, where it does not.
    Large,
}

impl Poison {
    fn new(name: &str, message: Message, end: End) -> Self {
        Self { name: name.to_owned(), message, end }
    }

    fn with(mut self, change: impl FnOnce(&mut Properties)) -> Self {
        change(&mut self.message.properties);
        self
    }

    fn header(self, name: &str, value: Header) -> Self {
        self.with(|properties| drop(properties.headers.insert(name.to_owned(), value)))
    }
}

/// Everything; what is large comes last.
pub(crate) fn table() -> Vec<Poison> {
    let parts = [bodies(), envelopes(), names(), numbers(), data(), texts(), properties(), hellos(), large()];
    parts.into_iter().flatten().collect()
}

/// A body that claims to be JSON.
fn body(name: &str, body: impl Into<Vec<u8>>, end: End) -> Poison {
    Poison::new(name, json_message(name, body), end)
}

/// A result of the node `name` with these members beside its command.
fn result(name: &str, members: &str, end: End) -> Poison {
    body(name, format!(r#"{{"v":1,"node":"{name}","command":"c",{members}}}"#), end)
}

/// A good result of the node `name` with this data.
fn data_of(name: &str, data: &str, end: End) -> Poison {
    result(name, &format!(r#""outcome":"ok","data":{data}"#), end)
}

/// A body that is itself the output of `c`, to be read by that format.
fn text(name: &str, format: &str, body: impl Into<Vec<u8>>, end: End) -> Poison {
    let properties = Properties {
        message_id: Some(name.to_owned()),
        content_type: Some("text/plain".to_owned()),
        persistent: true,
        ..Properties::default()
    };
    let poison = Poison::new(name, Message { body: body.into(), properties }, end);
    let headers = [("vogeler-node", name), ("vogeler-command", "c"), ("vogeler-format", format)];
    headers.into_iter().fold(poison, |poison, (name, value)| poison.header(name, Header::Text(value.to_owned())))
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

const GOOD: &str = r#"{"v":1,"node":"good","command":"c","outcome":"ok","data":1}"#;

/// No results at all.
fn bodies() -> Vec<Poison> {
    let fields = r#"[1,"row",null,[],"c","c",null,null,null,null,null,null,null,null,"ok",null,1,null,null]"#;
    let bodies: [(&str, Vec<u8>); 13] = [
        ("not-json", "words, not JSON".into()),
        ("empty", "".into()),
        ("null", "null".into()),
        ("an-array", "[1,2,3]".into()),
        ("the-fields-in-an-array", fields.into()),
        ("a-string", "\"words\"".into()),
        ("two-texts", GOOD.repeat(2).into()),
        ("half-a-text", GOOD[..40].into()),
        ("a-byte-order-mark", format!("\u{feff}{GOOD}").into()),
        ("a-nul-behind-it", format!("{GOOD}\0").into()),
        ("brackets-without-end", "[".repeat(10_000).into()),
        ("a-command", r#"{"v":1,"run":"0199f0a2-0000-7000-8000-000000000001","command":"c","target":"all"}"#.into()),
        ("not-utf-8", [GOOD.trim_end_matches("1}").as_bytes(), &b"\"\xff\"}"[..]].concat()),
    ];
    bodies.into_iter().map(|(name, bytes)| body(name, bytes, Dead("not_a_result"))).collect()
}

/// Results whose members cannot be.
fn envelopes() -> Vec<Poison> {
    let no_result = [
        ("a-key-twice", r#""outcome":"ok","data":1,"data":2"#),
        ("a-node-twice", r#""node":"another","outcome":"ok","data":1"#),
        ("an-odd-outcome", r#""outcome":"maybe","data":1"#),
        ("an-odd-failure", r#""outcome":"error","error":{"kind":"odd","message":"m"}"#),
        ("an-odd-format", r#""outcome":"ok","format":"xml","output":"m""#),
        ("not-a-number", r#""outcome":"ok","data":NaN"#),
        ("infinity", r#""outcome":"ok","data":-Infinity"#),
        ("a-negative-place", r#""outcome":"ok","seq":-1,"data":1"#),
        ("a-broken-time", r#""outcome":"ok","started_at":"yesterday","data":1"#),
        ("a-time-after-time", r#""outcome":"ok","started_at":"9999-12-31T23:59:59Z","data":1"#),
        ("a-nul-in-it", "\"outcome\":\"ok\",\"data\":\"a\0b\""),
    ];
    let no_outcome = [
        ("nothing-in-it", r#""outcome":"ok""#),
        ("data-and-output", r#""outcome":"ok","data":1,"output":"1""#),
        ("failed-with-data", r#""outcome":"error","data":1"#),
    ];
    let no_result = no_result.map(|(name, members)| result(name, members, Dead("not_a_result")));
    let no_outcome = no_outcome.map(|(name, members)| result(name, members, Dead("bad_outcome")));
    no_result.into_iter().chain(no_outcome).collect()
}

/// Versions, nodes and keys.
fn names() -> Vec<Poison> {
    let whole = |v: &str, node: &str, key: &str| {
        format!(r#"{{"v":{v},"node":"{node}","command":"c","key":"{key}","outcome":"ok","data":1}}"#)
    };
    let no_result = [
        ("the-next-version", whole("2", "n", "c")),
        ("a-version-in-words", whole(r#""1""#, "n", "c")),
        ("a-node-in-capitals", whole("1", "Web 01", "c")),
        ("a-node-called-all", whole("1", "all", "c")),
        ("a-node-that-is-a-path", whole("1", "../../_users", "c")),
        ("a-node-that-is-a-design", whole("1", "_design/packages", "c")),
        ("a-node-too-long", whole("1", &"n".repeat(251), "c")),
        ("the-key-id", whole("1", "n", "_id")),
        ("the-key-attachments", whole("1", "n", "_attachments")),
        ("the-key-proto", whole("1", "n", "__proto__")),
        ("the-key-vogeler", whole("1", "n", "vogeler")),
        ("no-key", whole("1", "n", "")),
    ];
    let no_result = no_result.into_iter().map(|(name, bytes)| body(name, bytes, Dead("not_a_result")));
    // Here the alias stands for the key.
    let reserved = r#"{"v":1,"node":"n","command":"vogeler","outcome":"ok","data":1}"#;
    let constructor = r#""key":"constructor","outcome":"ok","data":1"#;
    let others = [
        body("the-alias-vogeler", reserved, Dead("bad_name")),
        result("what-every-object-has", constructor, Stored("constructor", json!(1))),
    ];
    no_result.chain(others).collect()
}

/// Numbers that no machine needs.
fn numbers() -> Vec<Poison> {
    let ends = r#""epoch":18446744073709551615,"seq":18446744073709551615,"duration_ms":18446744073709551615"#;
    vec![
        data_of("digits-5000", &"7".repeat(5_000), Dead("bad_data")),
        data_of("digits-behind-the-point", &format!("0.5{}1", "0".repeat(5_000)), Stored("c", json!(0.5))),
        // A finite double, and CouchDB refuses it: it reads the digits as an integer first.
        data_of("digits-and-an-exponent", &format!("{}e-309", "9".repeat(309)), Dead("bad_data")),
        result("the-largest-of-all", &format!(r#"{ends},"outcome":"ok","data":1"#), Stored("c", json!(1))),
    ]
}

/// What looks bad and is data, and what is not.
fn data() -> Vec<Poison> {
    let aside = format!(r#""more":{},"more":1,"outcome":"ok","data":1"#, nested(10_000));
    vec![
        data_of("keys-twice-in-data", r#"{"a":1,"a":2}"#, Stored("c", json!({ "a": 2 }))),
        data_of("a-nul-escaped", r#"{"k\u0000":"a\u0000b"}"#, Stored("c", json!({ "k\0": "a\0b" }))),
        data_of("no-characters", r#""\uffff\ufffe""#, Stored("c", json!("\u{ffff}\u{fffe}"))),
        data_of("nested-10000", &nested(10_000), Dead("bad_data")),
        result("nested-where-nobody-looks", &aside, Stored("c", json!(1))),
        result("output-that-is-half", r#""outcome":"ok","output":"{""#, Dead("bad_output")),
        result("a-digest-of-no-kind", r#""digest":"md5:1","outcome":"ok","data":1"#, Stored("c", json!(1))),
    ]
}

/// Bodies that are output.
fn texts() -> Vec<Poison> {
    let replaced = |name: &str, header: &str, value: &str, reason| {
        text(name, "raw", "1", Dead(reason)).header(header, Header::Text(value.to_owned()))
    };
    let without = |name: &str, header: &str| {
        text(name, "raw", "1", Dead("missing_header")).with(|properties| drop(properties.headers.remove(header)))
    };
    vec![
        text("yaml-bomb", "yaml", bomb(), Dead("bad_output")),
        text("yaml-nested", "yaml", "[".repeat(10_000), Dead("bad_output")),
        text("yaml-no-number", "yaml", ".nan", Dead("bad_output")),
        text("yaml-too-large-a-number", "yaml", "1e400", Dead("bad_output")),
        text("no-key-and-value", "keyvalue", "words", Dead("bad_output")),
        text("no-output", "json", "", Dead("bad_output")),
        text("output-not-utf-8", "raw", *b"\xff", Dead("bad_output")),
        text("output-with-a-nul", "raw", "a\0b", Stored("c", json!("a\0b"))),
        text("an-odd-format-of-text", "xml", "1", Dead("bad_format")),
        replaced("the-next-version-of-text", "vogeler-v", "2", "unknown_version"),
        replaced("an-odd-outcome-of-text", "vogeler-outcome", "maybe", "bad_outcome"),
        replaced("a-node-with-a-nul", "vogeler-node", "n\0", "bad_name"),
        replaced("the-key-rev-of-text", "vogeler-key", "_rev", "bad_name"),
        without("text-of-no-node", "vogeler-node"),
        without("text-of-no-command", "vogeler-command"),
        text("a-node-that-is-a-number", "raw", "1", Dead("missing_header")).header("vogeler-node", Header::Number(7)),
        body("an-unknown-kind-of-content", GOOD, Dead("missing_header"))
            .with(|properties| properties.content_type = Some("application/x-nothing".to_owned())),
    ]
}

/// Aliases that would be ten times as much with every line: 10 GB.
fn bomb() -> String {
    let mut bomb = format!("a: &a {}\n", "x".repeat(1_000));
    for (before, name) in ('a'..='g').zip('b'..='h') {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 10].join(",")));
    }
    bomb
}

/// Properties and headers that make no sense.
fn properties() -> Vec<Poison> {
    let words = |name: &str| body(name, "words", Dead("not_a_result"));
    let good = |name: &str| data_of(name, "1", Stored("c", json!(1)));
    let longest = "i".repeat(255);
    let forged = |poison: Poison| {
        let text = |text: &str| Header::Text(text.to_owned());
        let poison = poison.header("vogeler-reason", text("forged")).header("vogeler-dead-node", text("forged"));
        poison.header("vogeler-delivery-count", Header::Number(7)).header("x-death", text("forged"))
    };
    let many = |poison: Poison| {
        (0..1_000).fold(poison, |poison, number| poison.header(&format!("header-{number}"), Header::Number(number)))
    };
    // With a few properties beside it as much as RabbitMQ's frame of 131,072 bytes takes. A dead letter has more headers.
    let frame = Header::Text("x".repeat(130_800));
    vec![
        words(&longest).with(|properties| properties.correlation_id = Some("\0".repeat(255))),
        words("from-the-end-of-time").with(|properties| properties.timestamp = Some(u64::MAX)),
        good("from-the-end-of-time-too").with(|properties| properties.timestamp = Some(u64::MAX)),
        good("from-before-our-time").with(|properties| properties.timestamp = Some(0)),
        words("soon-to-expire").with(|properties| properties.expiration = Some(Duration::from_secs(600))),
        forged(words("forged-headers")),
        forged(good("forged-headers-of-a-good-one")).header("x-delivery-count", Header::Number(1_000_000)),
        good("a-count-below-zero").header("x-delivery-count", Header::Number(i64::MIN)),
        many(words("a-thousand-headers")),
        many(good("a-thousand-headers-too")),
        words("headers-of-a-frame").header("h", frame.clone()),
        good("headers-of-a-frame-too").header("h", frame),
    ]
}

/// Hellos that are none.
fn hellos() -> Vec<Poison> {
    let hello = |name: &str, members: &str| {
        let instance = "5b0c1d6e-0000-4000-8000-000000000003";
        let bytes = format!(r#"{{"v":1,"node":"{name}","instance":"{instance}","epoch":1,"seq":1{members}}}"#);
        body(name, bytes, Dead("not_a_hello")).with(|properties| properties.kind = Some("hello".to_owned()))
    };
    let reserved = r#","version":"1","aliases":{"a":{"key":"_id"}}"#;
    let result = data_of("a-result-that-says-hello", "1", Dead("not_a_hello"));
    let event = data_of("a-result-that-says-event", "1", Stored("c", json!(1)));
    vec![
        hello("a-hello-of-no-version", ""),
        hello("a-hello-with-a-reserved-key", reserved),
        hello("a-hello-with-an-odd-group", r#","version":"1","groups":["a.b"]"#),
        result.with(|properties| properties.kind = Some("hello".to_owned())),
        event.with(|properties| properties.kind = Some("event".to_owned())),
    ]
}

/// Much of it. A body of RabbitMQ 4 has 16 MiB at most.
fn large() -> Vec<Poison> {
    let much = "x".repeat(15 << 20);
    let version = format!(r#"{{"v":"{}","node":"n","command":"c","outcome":"ok","data":1}}"#, "v".repeat(1 << 20));
    vec![
        body("a-long-word", version, Dead("not_a_result")),
        body("words-of-15-mib", much.clone(), Dead("not_a_result")),
        data_of("data-of-15-mib", &format!("\"{much}\""), Large),
    ]
}
