//! A message that is read is written again and reads the same; a field of tomorrow changes nothing,
//! another version is refused, and whatever data a result brings can be stored.
//!
//! An input is the body of every kind of message in turn. Where it has an empty line it is a
//! plain-text result, too: headers, `vogeler-node: web01`, and behind the empty line the body.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vogeler_fuzz::expect_storable;
use vogeler_fuzz::parts::members;
use vogeler_protocol::message::{self, Command, CommandResult, Event, Hello, Payload, TextHeaders};
use vogeler_protocol::names::RESERVED_KEYS;
use vogeler_protocol::{NodeName, Target};

fuzz_target!(|bytes: &[u8]| {
    notice::<Hello>(bytes);
    notice::<Event>(bytes);
    if let Some(command) = notice::<Command>(bytes) {
        reaches(&command.target);
    }
    result(bytes);
    text(bytes);
});

fn notice<M: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> Option<M> {
    let read: M = message::decode(body).ok()?;
    speaks_version_1(body);
    let written = message::encode(&read);
    let again: M = message::decode(&written).unwrap_or_else(|error| panic!("{error}: {read:?}"));
    assert_eq!(again, read, "what was written reads the same");
    assert_eq!(message::encode(&again), written);
    if let Some(more) = with_a_field_of_tomorrow(body) {
        let later: M = message::decode(&more).expect("an unknown field is ignored");
        assert_eq!(later, read, "an unknown field changes nothing");
    }
    Some(read)
}

fn speaks_version_1(body: &[u8]) {
    // serde takes a list for a struct, field by field; only a producer that means to does that.
    if let Some(fields) = std::str::from_utf8(body).ok().and_then(members) {
        assert_eq!(fields.get("v").map(String::as_str), Some("1"), "no other version is read");
    }
}

/// The body with one field more; none where it is no object.
fn with_a_field_of_tomorrow(body: &[u8]) -> Option<Vec<u8>> {
    let begin = body.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let rest = body[begin..].strip_prefix(b"{")?;
    Some([&b"{\"a_field_of_tomorrow\":[{}],"[..], rest].concat())
}

fn reaches(target: &Target) {
    let stranger: NodeName = "stranger.example.com".parse().expect("a node name");
    match target {
        Target::All => assert!(target.includes(&stranger, &[])),
        Target::Nodes(nodes) => {
            assert!(nodes.iter().all(|node| target.includes(node, &[])));
            assert_eq!(target.includes(&stranger, &[]), nodes.contains(&stranger));
        }
        Target::Group(group) => {
            assert!(target.includes(&stranger, std::slice::from_ref(group)) && !target.includes(&stranger, &[]));
        }
        // Whether it matches is the pattern's affair; it has to come to an end.
        Target::Glob(glob) => assert_eq!(target.includes(&stranger, &[]), glob.matches(stranger.as_str())),
    }
}

fn result(body: &[u8]) {
    let Ok(read) = CommandResult::decode(body) else { return };
    speaks_version_1(body);
    survives(&read);
    if let Some(more) = with_a_field_of_tomorrow(body) {
        let later = CommandResult::decode(&more).expect("an unknown field is ignored");
        assert_eq!(format!("{later:?}"), format!("{read:?}"), "an unknown field changes nothing");
    }
}

/// A result is written and read again, and its output is data in the end.
fn survives(read: &CommandResult) {
    let key = read.key.as_str();
    assert!(!key.starts_with('_') && !RESERVED_KEYS.contains(&key), "{key:?} is not a plugin's to fill");
    let written = read.encode();
    let again = CommandResult::decode(&written).unwrap_or_else(|error| panic!("{error}: {read:?}"));
    assert_eq!(format!("{again:?}"), format!("{read:?}"), "what was written reads the same");
    assert_eq!(again.encode(), written);
    let Ok(formatted) = again.read_output() else {
        assert!(matches!(read.payload, Payload::Output(_)), "only output can be badly formatted");
        return;
    };
    match formatted.payload {
        Payload::Data(data) => expect_storable(&data),
        Payload::Failure(_) => assert!(matches!(read.payload, Payload::Failure(_))),
        Payload::Output(output) => panic!("was not read: {output}"),
    }
}

fn text(bytes: &[u8]) {
    let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") else { return };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else { return };
    let body = &bytes[end + 2..];
    let headers = TextHeaders {
        v: header(head, "vogeler-v"),
        node: header(head, "vogeler-node"),
        command: header(head, "vogeler-command"),
        key: header(head, "vogeler-key"),
        format: header(head, "vogeler-format"),
        outcome: header(head, "vogeler-outcome"),
    };
    let Ok(read) = CommandResult::decode_text(&headers, body) else { return };
    assert!(matches!(headers.v, None | Some("1")), "no other version is read");
    assert_eq!(headers.node, Some(read.node.as_str()));
    assert_eq!(headers.key.or(headers.command), Some(read.key.as_str()));
    let (outcome, said) = match &read.payload {
        Payload::Output(output) => ("ok", output),
        Payload::Failure(failure) => ("error", &failure.message),
        Payload::Data(data) => panic!("text is no data before it is read: {data:?}"),
    };
    assert_eq!((headers.outcome.unwrap_or("ok"), said.as_bytes()), (outcome, body));
    survives(&read);
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
