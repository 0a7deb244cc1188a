//! A plugin's data: JSON text that has been scanned and that CouchDB can hold.
//!
//! Start at [`Data::parse`]. The text is never turned into a tree; it reaches the database as it
//! was printed. What is refused here would be refused there, together with every other document
//! of the batch, or would break the database's views.

use serde::Serialize;
use serde_json::value::RawValue;

/// Deepest nesting that is let through. CouchDB stores 12,000 levels, and from then on no view of
/// that database answers; 128 is also what serde_json reads.
pub const MAX_DEPTH: usize = 128;

/// Most digits of an integer. CouchDB answers 500 to the whole batch from 309 digits on.
pub const MAX_INTEGER_DIGITS: usize = 300;

/// Why a text is no storable JSON.
#[derive(Debug, thiserror::Error)]
pub enum BadData {
    /// Not JSON at all, or more than one JSON text.
    #[error("not one JSON text")]
    Syntax(#[from] serde_json::Error),
    /// Arrays and objects inside of one another, too deep.
    #[error("nested deeper than {MAX_DEPTH} levels at byte {at}")]
    Depth {
        /// Offset of the bracket that is one too many.
        at: usize,
    },
    /// Half of a UTF-16 pair, which is no character.
    #[error("an unpaired surrogate escape at byte {at}")]
    Surrogate {
        /// Offset of the backslash.
        at: usize,
    },
    /// A number with a fraction or an exponent that no IEEE double can hold.
    #[error("a number outside of the range of an IEEE double at byte {at}")]
    NotFinite {
        /// Offset of the number.
        at: usize,
    },
    /// An integer that is too long.
    #[error(
        "an integer, or the whole part of a number, of {digits} digits at byte {at}; at most {MAX_INTEGER_DIGITS} can be stored"
    )]
    LongInteger {
        /// How many digits it has.
        digits: usize,
        /// Offset of the number.
        at: usize,
    },
}

/// One storable JSON text, exactly as it was printed save for white space around it.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Data(Box<RawValue>);

impl Data {
    /// Reads one JSON text and scans it.
    ///
    /// # Errors
    /// What is no JSON, and what [`BadData`] lists.
    pub fn parse(text: &str) -> Result<Self, BadData> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Self::scan(raw)?;
        Ok(Self(raw.to_owned()))
    }

    /// Scans JSON text that is known to be well formed.
    ///
    /// # Errors
    /// All of [`BadData`] but [`BadData::Syntax`].
    pub fn scan(raw: &RawValue) -> Result<(), BadData> {
        Scan { text: raw.get().as_bytes(), at: 0 }.run()
    }

    /// Takes `raw` as it is, scanned.
    ///
    /// # Errors
    /// As [`Data::scan`].
    pub fn from_raw(raw: Box<RawValue>) -> Result<Self, BadData> {
        Self::scan(&raw)?;
        Ok(Self(raw))
    }

    /// Data that serde_json wrote itself: never deep, never an odd number.
    pub(crate) fn from_plain<T: Serialize>(value: &T) -> Result<Self, BadData> {
        Ok(Self(serde_json::value::to_raw_value(value)?))
    }

    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The text as serde_json passes it through.
    pub fn into_raw(self) -> Box<RawValue> {
        self.0
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn run(mut self) -> Result<(), BadData> {
        let mut depth = 0usize;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b'{' | b'[' => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(BadData::Depth { at: self.at });
                    }
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), BadData> {
        self.at += 1;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), BadData> {
        let at = self.at;
        match self.unit(at) {
            None => self.at += 2,
            Some(0xD800..=0xDBFF) => match self.unit(at + 6) {
                Some(0xDC00..=0xDFFF) => self.at += 12,
                _ => return Err(BadData::Surrogate { at }),
            },
            Some(0xDC00..=0xDFFF) => return Err(BadData::Surrogate { at }),
            Some(_) => self.at += 6,
        }
        Ok(())
    }

    /// The UTF-16 unit that a `\uXXXX` at `at` stands for; `None` where there is no such escape.
    fn unit(&self, at: usize) -> Option<u16> {
        let hex = self.text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    }

    fn number(&mut self) -> Result<(), BadData> {
        let at = self.at;
        let rest = &self.text[at..];
        let length = rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
        self.at += length;
        let number = &rest[..length];
        if number.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) {
            let parsed = std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok());
            if !parsed.is_some_and(f64::is_finite) {
                return Err(BadData::NotFinite { at });
            }
        }
        // Of any number: CouchDB refuses a whole batch for 309 digits before an exponent, too.
        let digits = number.iter().skip_while(|b| **b == b'-').take_while(|b| b.is_ascii_digit()).count();
        if digits > MAX_INTEGER_DIGITS {
            return Err(BadData::LongInteger { digits, at });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_what_it_was_given() {
        for text in [
            "null",
            "-0",
            "1.50",
            r#"{"b":1,"a":[1e3,"\ud83d\ude00"]}"#,
            r#""a\\ud800""#,
            &"9".repeat(300),
            &format!("{}{}", "[".repeat(128), "]".repeat(128)),
        ] {
            assert_eq!(Data::parse(text).unwrap().get(), text);
        }
        assert_eq!(Data::parse(" \n[1]\t").unwrap().get(), "[1]");
    }

    #[test]
    fn refuses_what_a_database_cannot_hold() {
        let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
        assert!(matches!(Data::parse(&deep), Err(BadData::Depth { at: 128 })));
        let very_deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Data::parse(&very_deep).is_err());
        assert!(matches!(Data::parse(r#""\ud800""#), Err(BadData::Surrogate { at: 1 })));
        assert!(matches!(Data::parse(r#"["\udc00"]"#), Err(BadData::Surrogate { .. })));
        assert!(matches!(Data::parse(r#""\ud800\ud800""#), Err(BadData::Surrogate { .. })));
        assert!(matches!(Data::parse("[1e400]"), Err(BadData::NotFinite { at: 1 })));
        assert!(matches!(Data::parse(&"9".repeat(301)), Err(BadData::LongInteger { digits: 301, at: 0 })));
        let exponent = format!("{}e-300", "9".repeat(309));
        assert!(matches!(Data::parse(&exponent), Err(BadData::LongInteger { digits: 309, at: 0 })));
        for text in ["", "{", "1 2", "NaN", "{'a':1}"] {
            assert!(matches!(Data::parse(text), Err(BadData::Syntax(_))), "{text}");
        }
    }
}
