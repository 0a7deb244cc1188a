//! Where in a record something is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::{ConditionError, lexer, parser};

/// A path: `facts.os.family`, `packages."python3.11"`, `jmx.0.port`. It has at least one segment, and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<String>);

impl Path {
    pub(super) fn new(segments: Vec<String>) -> Self {
        Self(segments)
    }

    /// Its segments, without quotes.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// The member of that name, whatever is in the name.
    pub fn member(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// What is there. A segment of digits alone is a member's name in an object and a position, counted from zero, in
    /// an array; no array is walked through, as a condition does.
    pub fn get<'a>(&self, record: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(record, |value, segment| match value {
            Value::Object(members) => members.get(segment),
            Value::Array(items) => items.get(position(segment)?),
            _ => None,
        })
    }

    /// Its name as a field in Mango, CouchDB's query language; none where Mango has no name for it, which is so if
    /// there is a backslash in it.
    pub fn field(&self) -> Option<String> {
        self.0.iter().all(|segment| has_field(segment)).then(|| field(&self.0))
    }

    /// The names with which CouchDB is asked for no more of a record than these paths (`fields`); none where Mango has
    /// no name for one of them. No name lies inside another: CouchDB 3.5 answers 500 to `["a","a.0"]` where `a` is an
    /// array.
    ///
    /// What lies behind an array is left out of the answer; `selector::through_arrays` finds the records where that is
    /// so.
    pub fn fields<'a>(paths: impl IntoIterator<Item = &'a Self>) -> Option<Vec<String>> {
        let sorted: BTreeSet<&Self> = paths.into_iter().collect();
        let mut outermost: Vec<&Self> = Vec::new();
        for path in sorted {
            // In their order a path comes right before those inside it.
            if outermost.last().is_none_or(|outer| !path.0.starts_with(&outer.0)) {
                outermost.push(path);
            }
        }
        outermost.into_iter().map(Self::field).collect()
    }
}

/// Whether Mango has a name for a segment: it takes every backslash away, and a number with a sign is a position to it.
pub(super) fn has_field(segment: &str) -> bool {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    !segment.contains('\\') && !segment.strip_prefix(['+', '-']).is_some_and(is_number)
}

/// The name of a field in Mango. A dot inside a segment, and a dollar that begins one, have a backslash before them.
/// <https://docs.couchdb.org/en/stable/ddocs/mango.html#subfields>
pub(super) fn field(segments: &[String]) -> String {
    let escaped = segments.iter().map(|segment| {
        let dollar = if segment.starts_with('$') { "\\" } else { "" };
        format!("{dollar}{}", segment.replace('.', "\\."))
    });
    escaped.collect::<Vec<_>>().join(".")
}

/// Which element of an array a segment means, if it means one.
pub(super) fn position(segment: &str) -> Option<usize> {
    segment.bytes().all(|byte| byte.is_ascii_digit()).then(|| segment.parse().ok()).flatten()
}

impl FromStr for Path {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        parser::path(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            f.write_str(if place > 0 { "." } else { "" })?;
            let is_word = place == 0 && lexer::WORDS.contains(&segment.as_str());
            if is_word || !segment.chars().all(lexer::is_bare) {
                f.write_str(&lexer::quote(segment))?;
            } else {
                f.write_str(segment)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back() {
        for (text, segments, field) in [
            ("facts.os.family", &["facts", "os", "family"][..], Some("facts.os.family")),
            ("packages.libstdc++6", &["packages", "libstdc++6"], Some("packages.libstdc++6")),
            ("packages.libc6:amd64", &["packages", "libc6:amd64"], Some("packages.libc6:amd64")),
            ("packages.\"python3.11\"", &["packages", "python3.11"], Some("packages.python3\\.11")),
            ("disks./var.used", &["disks", "/var", "used"], Some("disks./var.used")),
            ("kernel.0", &["kernel", "0"], Some("kernel.0")),
            ("übung.\"a b\"", &["übung", "a b"], Some("übung.a b")),
            ("\"$ref\".\"$id\"", &["$ref", "$id"], Some("\\$ref.\\$id")),
            (r#""a\\b".c"#, &["a\\b", "c"], None),
            (r#""say \"x\"""#, &["say \"x\""], Some("say \"x\"")),
            ("\"not\".not", &["not", "not"], Some("not.not")),
        ] {
            let path: Path = text.parse().unwrap();
            assert_eq!(path.segments(), segments);
            assert_eq!(path.to_string(), text);
            assert_eq!(path.field().as_deref(), field);
        }
        assert_eq!("'a'.'b'".parse::<Path>().unwrap().to_string(), "a.b");
        for bad in
            ["", " ", ".a", "a.", "a..b", "a. b", "a b", "a == 1", "a.\"\"", "a,b", "\"a", "\"a\"b", "a\"b\"", "$a"]
        {
            assert!(bad.parse::<Path>().is_err(), "{bad:?} is no path");
        }
        assert!(vec!["a"; 65].join(".").parse::<Path>().is_err());
    }

    #[test]
    fn a_projection_names_nothing_twice() {
        let fields = |paths: &[&str]| {
            let paths: Vec<Path> = paths.iter().map(|path| path.parse().unwrap()).collect();
            Path::fields(&paths)
        };
        let expected = ["a.b", "a-b", "c"].map(String::from).to_vec();
        assert_eq!(fields(&["c", "a.b.c", "a.b", "c", "a-b", "c.d", "a.b.0.d"]), Some(expected));
        assert_eq!(fields(&["a", r#""b\\c""#]), None);
        assert_eq!(fields(&[]), Some(Vec::new()));
    }

    #[test]
    fn a_plain_walk() {
        let record = json!({"a": {"0": "zero", "b.c": 1}, "list": [{"x": 5}, ["y"]]});
        for (path, expected) in [
            ("a.0", Some(json!("zero"))),
            ("a.\"b.c\"", Some(json!(1))),
            ("list.0.x", Some(json!(5))),
            ("list.1.0", Some(json!("y"))),
            ("list.2", None),
            ("list.x", None),
            ("a.0.x", None),
            ("a.99999999999999999999", None),
            ("list.99999999999999999999", None),
        ] {
            assert_eq!(path.parse::<Path>().unwrap().get(&record), expected.as_ref(), "{path}");
        }
    }
}
