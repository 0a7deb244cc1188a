//! Fingerprints of data, by which the server knows that nothing changed.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Data;

/// A fingerprint as text, `sha256:…` or `bytes:…`.
///
/// The part before the colon says what was hashed; fingerprints of different kinds are never equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(Box<str>);

impl Digest {
    /// Of the data itself: white space outside of strings removed, object keys sorted by their
    /// bytes, strings and numbers exactly as printed.
    pub fn of_data(data: &Data) -> Self {
        let mut canonical = Canonical { text: data.get().as_bytes(), at: 0, out: Vec::with_capacity(data.get().len()) };
        canonical.value();
        Self::hash("sha256", &canonical.out)
    }

    /// Of bytes as they were received, where the producer computed no digest.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::hash("bytes", bytes)
    }

    fn hash(kind: &str, bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(kind.len() + 65);
        text.push_str(kind);
        text.push(':');
        for byte in Sha256::digest(bytes) {
            write!(text, "{byte:02x}").expect("a String takes all that is written");
        }
        Self(text.into())
    }

    /// The fingerprint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Rewrites well-formed JSON of bounded depth in its canonical form.
struct Canonical<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Canonical<'_> {
    fn value(&mut self) {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            _ => self.plain(),
        }
    }

    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self) {
        self.out.extend(self.text.get(self.at));
        self.at += 1;
    }

    fn plain(&mut self) {
        while self.text.get(self.at).is_some_and(|b| !matches!(b, b',' | b']' | b'}') && !b.is_ascii_whitespace()) {
            self.take();
        }
    }

    fn string(&mut self) {
        self.take();
        while let Some(&byte) = self.text.get(self.at) {
            self.take();
            match byte {
                b'"' => return,
                b'\\' => self.take(),
                _ => {}
            }
        }
    }

    fn array(&mut self) {
        self.take();
        while let Some(byte) = self.peek() {
            match byte {
                b']' => return self.take(),
                b',' => self.take(),
                _ => self.value(),
            }
        }
    }

    fn object(&mut self) {
        self.take();
        let begin = self.out.len();
        let mut members = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let start = self.out.len();
                    self.string();
                    let key = start..self.out.len();
                    self.peek();
                    self.take();
                    self.value();
                    members.push((key, start..self.out.len()));
                }
            }
        }
        let written = self.out.split_off(begin);
        let part = |range: &std::ops::Range<usize>| &written[range.start - begin..range.end - begin];
        // Without the quotes: they would put a key behind a longer one that goes on with a space.
        let key = |range: &std::ops::Range<usize>| part(&(range.start + 1..range.end - 1));
        members.sort_by(|(a, _), (b, _)| key(a).cmp(key(b)));
        for (position, (_, member)) in members.iter().enumerate() {
            if position > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(part(member));
        }
        self.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of_data(&Data::parse(text).unwrap())
    }

    #[test]
    fn order_and_white_space_do_not_count() {
        let one = digest(r#"{"b": [1, 2, {"y":"a b","x":null}], "a": 1.50}"#);
        let other = digest("{\"a\":1.50,\n\"b\":[1,2,{\"x\":null,\"y\":\"a b\"}]}");
        assert_eq!(one, other);
    }

    #[test]
    fn keys_are_ordered_as_other_programs_order_them() {
        // python3 -c 'import json; print(json.dumps({"a!": 1, "a": 2, "a b": 3}, sort_keys=True, separators=(",", ":")), end="")'
        // gives {"a":2,"a b":3,"a!":1}
        let sorted = Digest::hash("sha256", br#"{"a":2,"a b":3,"a!":1}"#);
        assert_eq!(digest(r#"{"a!": 1, "a": 2, "a b": 3}"#), sorted);
    }

    #[test]
    fn spelling_does() {
        assert_ne!(digest("1.5"), digest("1.50"));
        assert_ne!(digest(r#""a b""#), digest(r#""ab""#));
        assert_ne!(digest("[1,2]"), digest("[2,1]"));
        assert_ne!(digest(r#"["\"",1]"#), digest(r#"["",1]"#));
    }

    #[test]
    fn is_what_sha256sum_prints() {
        // printf '{"a":1,"b":2}' | sha256sum
        let expected = "sha256:43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777";
        assert_eq!(digest(r#"{ "b": 2, "a": 1 }"#).as_str(), expected);
    }
}
