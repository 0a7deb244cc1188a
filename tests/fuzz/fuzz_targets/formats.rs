//! The same output, read by every format but YAML: nothing of it is lost, and what comes out can be
//! stored.

#![no_main]

use std::collections::BTreeMap;
use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vogeler_fuzz::{expect_storable, json};
use vogeler_protocol::Format;
use vogeler_protocol::format::{ALL, BadOutput};

fuzz_target!(|output: &[u8]| {
    let Ok(text) = std::str::from_utf8(output) else {
        for format in ALL {
            assert!(matches!(format.read(output), Err(BadOutput::Utf8(_))), "{format} is text");
        }
        return;
    };
    json_text(text);
    let lines: Vec<String> = text.split_inclusive('\n').map(|line| unended(line).to_owned()).collect();
    becomes(Format::Lines, text, &lines);
    becomes(Format::String, text, &unended(text).to_owned());
    becomes(Format::Raw, text, &text.to_owned());
    key_values(text);
});

fn becomes<T: DeserializeOwned + PartialEq + Debug>(format: Format, text: &str, expected: &T) {
    let data = format.read(text.as_bytes()).unwrap_or_else(|error| panic!("{format} takes any text: {error}"));
    expect_storable(&data);
    assert_eq!(&serde_json::from_str::<T>(data.get()).expect("data is JSON"), expected, "{format}");
}

fn json_text(text: &str) {
    match Format::Json.read(text.as_bytes()) {
        Ok(data) => expect_storable(&data),
        Err(BadOutput::Empty(_)) => assert!(text.trim().is_empty()),
        Err(error) => assert!(json::read(text).is_none(), "{error}, although it can be stored"),
    }
}

/// Without the LF or CRLF at its end.
fn unended(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

fn key_values(text: &str) {
    let mut expected: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut bad = None;
    for (number, line) in text.lines().enumerate() {
        let begin = line.trim_start();
        if begin.is_empty() || begin.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                expected.entry(key.trim().to_owned()).or_default().push(value);
            }
            _ => {
                bad = Some(number + 1);
                break;
            }
        }
    }
    match (Format::KeyValue.read(text.as_bytes()), bad) {
        (Err(BadOutput::KeyValue { line }), Some(bad)) => assert_eq!(line, bad, "the first line that is no key=value"),
        (Ok(_), None) => {
            let value =
                |values: Vec<&str>| if let [one] = values.as_slice() { Value::from(*one) } else { Value::from(values) };
            let expected: BTreeMap<String, Value> =
                expected.into_iter().map(|(key, values)| (key, value(values))).collect();
            becomes(Format::KeyValue, text, &expected);
        }
        (read, bad) => panic!("line {bad:?} is no key=value, and what was read is {read:?}"),
    }
}
