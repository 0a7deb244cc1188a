//! One YAML document, rewritten as JSON text.
//!
//! The events of the parser are written out as they come, so that integers of any length keep
//! their digits and no tree is built. An alias copies the JSON of its anchor; what all aliases
//! together may grow to is bounded, which is what stops a document that doubles itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use crate::data::MAX_DEPTH;

/// Most JSON that one document may become, aliases written out: the size of the largest message
/// that RabbitMQ 4 takes.
const MAX_JSON: usize = 16 << 20;

/// Why a text is not one YAML document that JSON can express.
#[derive(Debug, thiserror::Error)]
pub enum BadYaml {
    /// The parser's own words.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Counted from one.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// More than one document.
    #[error("line {line}: a second document begins")]
    SecondDocument {
        /// Counted from one.
        line: usize,
    },
    /// NaN or an infinity.
    #[error("line {line}: {text} is no number that JSON knows")]
    NotFinite {
        /// Counted from one.
        line: usize,
        /// As it was written.
        text: String,
    },
    /// A sequence or mapping where a key belongs.
    #[error("line {line}: a key is no scalar")]
    Key {
        /// Counted from one.
        line: usize,
    },
    /// A node that contains itself.
    #[error("line {line}: an alias refers to the node that it is in")]
    Recursive {
        /// Counted from one.
        line: usize,
    },
    /// Collections inside of one another, too deep.
    #[error("line {line}: nested deeper than {MAX_DEPTH} levels")]
    Depth {
        /// Counted from one.
        line: usize,
    },
    /// Aliases that multiply.
    #[error("line {line}: its aliases, written out, are more than {MAX_JSON} bytes")]
    TooLarge {
        /// Counted from one.
        line: usize,
    },
}

/// The JSON text of the one document in `text`; `None` where there is no document or an empty one.
pub(crate) fn to_json(text: &str) -> Result<Option<String>, BadYaml> {
    let mut writer = Writer { json: String::with_capacity(text.len()), ..Writer::default() };
    let mut documents = 0;
    for next in Parser::new_from_str(text) {
        let (event, span) =
            next.map_err(|error| BadYaml::Syntax { line: error.marker().line(), reason: error.to_string() })?;
        writer.line = span.start.line();
        match event {
            Event::DocumentStart(..) if documents > 0 => return Err(BadYaml::SecondDocument { line: writer.line }),
            Event::DocumentStart(..) => documents += 1,
            // The parser stands a null in for a document with nothing in it.
            Event::Scalar(_, _, _, None) if writer.open.is_empty() && span.start == span.end => {}
            Event::Scalar(value, style, anchor, tag) => writer.scalar(&value, style, anchor, tag.as_deref())?,
            Event::SequenceStart(_, anchor, _) => writer.open(Kind::Sequence, anchor)?,
            Event::MappingStart(_, anchor, _) => writer.open(Kind::Mapping, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => writer.close(),
            Event::Alias(anchor) => writer.alias(anchor)?,
            _ => {}
        }
    }
    Ok((!writer.json.is_empty()).then_some(writer.json))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sequence,
    Mapping,
}

struct Open {
    kind: Kind,
    /// Nodes written into it so far; in a mapping the even ones are keys.
    nodes: usize,
    anchor: usize,
    start: usize,
}

#[derive(Default)]
struct Writer {
    json: String,
    open: Vec<Open>,
    anchors: HashMap<usize, Range<usize>>,
    line: usize,
}

impl Writer {
    /// Writes what stands between the last node and the next one; true where the next one is a key.
    fn separate(&mut self) -> bool {
        let Some(open) = self.open.last_mut() else { return false };
        let key = open.kind == Kind::Mapping && open.nodes % 2 == 0;
        let separator = match (open.kind, open.nodes) {
            (_, 0) => None,
            (Kind::Mapping, nodes) if nodes % 2 == 1 => Some(':'),
            _ => Some(','),
        };
        open.nodes += 1;
        self.json.extend(separator);
        key
    }

    fn scalar(&mut self, value: &str, style: ScalarStyle, anchor: usize, tag: Option<&Tag>) -> Result<(), BadYaml> {
        let key = self.separate();
        let text = tag.is_some_and(|tag| matches!(tag.core_suffix(), Some("str" | "binary")));
        let json = if style == ScalarStyle::Plain && !text { self.plain(value)? } else { Scalar::Text };
        let start = self.json.len();
        match json {
            Scalar::Text => self.json.push_str(&quoted(value)),
            Scalar::Json(json) if key => self.json.push_str(&quoted(&json)),
            Scalar::Json(json) => self.json.push_str(&json),
        }
        self.remember(anchor, start);
        Ok(())
    }

    /// A plain scalar by the core schema of YAML 1.2.
    fn plain<'v>(&self, value: &'v str) -> Result<Scalar<'v>, BadYaml> {
        let unsigned = value.strip_prefix(['-', '+']).unwrap_or(value);
        match value {
            "" | "~" | "null" | "Null" | "NULL" => return Ok(Scalar::Json("null".into())),
            "true" | "True" | "TRUE" => return Ok(Scalar::Json("true".into())),
            "false" | "False" | "FALSE" => return Ok(Scalar::Json("false".into())),
            _ => {}
        }
        if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(value, ".nan" | ".NaN" | ".NAN") {
            return Err(BadYaml::NotFinite { line: self.line, text: value.to_owned() });
        }
        for (prefix, radix) in [("0x", 16), ("0o", 8)] {
            // The standard library would take a sign after the prefix, too.
            let digits = value.strip_prefix(prefix).filter(|digits| digits.starts_with(|first: char| first != '+'));
            if let Some(number) = digits.and_then(|digits| u128::from_str_radix(digits, radix).ok()) {
                return Ok(Scalar::Json(number.to_string().into()));
            }
        }
        Ok(number(value.starts_with('-'), unsigned).map_or(Scalar::Text, |json| Scalar::Json(json.into())))
    }

    fn open(&mut self, kind: Kind, anchor: usize) -> Result<(), BadYaml> {
        if self.separate() {
            return Err(BadYaml::Key { line: self.line });
        }
        if self.open.len() == MAX_DEPTH {
            return Err(BadYaml::Depth { line: self.line });
        }
        self.open.push(Open { kind, nodes: 0, anchor, start: self.json.len() });
        self.json.push(if kind == Kind::Sequence { '[' } else { '{' });
        Ok(())
    }

    fn close(&mut self) {
        if let Some(open) = self.open.pop() {
            self.json.push(if open.kind == Kind::Sequence { ']' } else { '}' });
            self.remember(open.anchor, open.start);
        }
    }

    fn remember(&mut self, anchor: usize, start: usize) {
        // The parser numbers anchors from one; zero is none.
        if anchor > 0 {
            self.anchors.insert(anchor, start..self.json.len());
        }
    }

    fn alias(&mut self, anchor: usize) -> Result<(), BadYaml> {
        let line = self.line;
        let key = self.separate();
        let range = self.anchors.get(&anchor).cloned().ok_or(BadYaml::Recursive { line })?;
        if self.json.len() + range.len() > MAX_JSON {
            return Err(BadYaml::TooLarge { line });
        }
        match self.json.as_bytes()[range.start] {
            b'{' | b'[' if key => return Err(BadYaml::Key { line }),
            b'"' => self.json.extend_from_within(range),
            _ if key => {
                let json = quoted(&self.json[range]);
                self.json.push_str(&json);
            }
            _ => self.json.extend_from_within(range),
        }
        Ok(())
    }
}

enum Scalar<'v> {
    Text,
    Json(Cow<'v, str>),
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The JSON spelling of a decimal number, `unsigned` being what follows its sign.
fn number(negative: bool, unsigned: &str) -> Option<String> {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent_digits = exponent.map(|e| e.strip_prefix(['-', '+']).unwrap_or(e));
    if !digits(whole)
        || (whole.is_empty() && fraction.is_none_or(str::is_empty))
        || !fraction.is_none_or(digits)
        || exponent_digits.is_some_and(|e| e.is_empty() || !digits(e))
    {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let mut json = String::with_capacity(unsigned.len() + 3);
    json.extend(negative.then_some('-'));
    json.push_str(if whole.is_empty() { "0" } else { whole });
    if let Some(fraction) = fraction {
        json.push('.');
        json.push_str(if fraction.is_empty() { "0" } else { fraction });
    }
    if let Some(exponent) = exponent {
        json.push('e');
        json.push_str(exponent);
    }
    Some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        to_json(text).unwrap().unwrap()
    }

    #[test]
    fn documents_of_every_shape() {
        assert_eq!(json("- {instance: a, port: 9999}\n- x\n"), r#"[{"instance":"a","port":9999},"x"]"#);
        assert_eq!(json("---\na:\n  b: [1, two]\n  c:\n...\n"), r#"{"a":{"b":[1,"two"],"c":null}}"#);
        assert_eq!(json("text: |\n  one\n  \"two\"\n"), r#"{"text":"one\n\"two\"\n"}"#);
        assert_eq!(json("[]"), "[]");
        assert_eq!(json("\"\""), "\"\"");
        assert_eq!(json("null"), "null");
        assert_eq!(to_json("").unwrap(), None);
        assert_eq!(to_json("---\n").unwrap(), None);
    }

    #[test]
    fn scalars_by_the_core_schema() {
        for (yaml, expected) in [
            ("yes", "\"yes\""),
            ("True", "true"),
            ("~", "null"),
            ("0644", "644"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("+12", "12"),
            ("-.5", "-0.5"),
            ("1.", "1.0"),
            ("1e3", "1e3"),
            ("1.2.3", "\"1.2.3\""),
            ("'1'", "\"1\""),
            ("!!str 1", "\"1\""),
            ("2026-11-20", "\"2026-11-20\""),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(json(&format!("a: {yaml}")), format!("{{\"a\":{expected}}}"), "{yaml}");
        }
    }

    #[test]
    fn keys_become_strings() {
        assert_eq!(json("1: a\ntrue: b\n~: c\n"), r#"{"1":"a","true":"b","null":"c"}"#);
        assert!(matches!(to_json("? [a]\n: b\n"), Err(BadYaml::Key { line: 1 })));
        assert!(matches!(to_json("a: .nan"), Err(BadYaml::NotFinite { .. })));
        assert!(matches!(to_json("-.inf: a"), Err(BadYaml::NotFinite { .. })));
    }

    #[test]
    fn aliases_are_written_out_within_bounds() {
        assert_eq!(json("a: &x {k: 1}\nb: *x\n"), r#"{"a":{"k":1},"b":{"k":1}}"#);
        assert_eq!(json("- &n 1\n- {*n : 2}\n"), r#"[1,{"1":2}]"#);
        assert!(matches!(to_json("a: &x [*x]"), Err(BadYaml::Recursive { .. })));
        let mut bomb = "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_owned();
        for level in 1..20 {
            let row = vec![format!("*a{}", level - 1); 9].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{row}]\n"));
        }
        assert!(matches!(to_json(&bomb), Err(BadYaml::TooLarge { .. })));
    }

    #[test]
    fn one_document_of_bounded_depth() {
        assert!(matches!(to_json("a: 1\n---\nb: 2\n"), Err(BadYaml::SecondDocument { line: 2 })));
        let error = to_json("a: [1\nb").unwrap_err().to_string();
        assert!(error.starts_with("line ") && error.len() > 20, "{error}");
        assert!(to_json(&"[".repeat(10_000)).is_err());
    }
}
