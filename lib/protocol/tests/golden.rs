//! Every message as it was first released. A golden file never changes: a program of today has to
//! read what a program of then wrote, and writes the same as long as the version is the same.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot build its input has failed")]

use serde::Serialize;
use serde::de::DeserializeOwned;
use vogeler_protocol::message::{self, Command, CommandResult, Event, Hello};

fn keeps<M: Serialize + DeserializeOwned>(golden: &str) {
    let golden = golden.trim_end();
    let read: M = message::decode(golden.as_bytes()).expect("a golden message is read");
    assert_eq!(String::from_utf8(message::encode(&read)).unwrap(), golden);
    let more = golden.replacen('{', r#"{"a_field_of_tomorrow":[1],"#, 1);
    assert!(message::decode::<M>(more.as_bytes()).is_ok(), "an unknown field is ignored");
    let newer = golden.replacen(r#""v":1"#, r#""v":2"#, 1);
    let refusal = message::decode::<M>(newer.as_bytes()).err().expect("an unknown version is refused").to_string();
    assert!(refusal.contains("message version 2 is unknown; this program speaks version 1"), "{refusal}");
}

#[test]
fn commands() {
    keeps::<Command>(include_str!("golden/command.v1.json"));
    keeps::<Command>(include_str!("golden/command-all.v1.json"));
    keeps::<Command>(include_str!("golden/command-glob.v1.json"));
}

#[test]
fn hello_and_event() {
    keeps::<Hello>(include_str!("golden/hello.v1.json"));
    keeps::<Hello>(include_str!("golden/hello-contends.v1.json"));
    keeps::<Event>(include_str!("golden/event.v1.json"));
}

#[test]
fn results() {
    for golden in [
        include_str!("golden/result-data.v1.json"),
        include_str!("golden/result-output.v1.json"),
        include_str!("golden/result-error.v1.json"),
    ] {
        let golden = golden.trim_end();
        let read = CommandResult::decode(golden.as_bytes()).expect("a golden result is read");
        assert_eq!(String::from_utf8(read.encode()).unwrap(), golden);
    }
}
