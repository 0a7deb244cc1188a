//! What a plugin printed, read by the format that its descriptor names.

use std::collections::BTreeMap;
use std::fmt;
use std::str::{FromStr, Utf8Error};

use serde::{Deserialize, Serialize};

use crate::Data;
use crate::data::BadData;
use crate::yaml::{self, BadYaml};

/// How output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON text; white space around it is ignored.
    Json,
    /// Exactly one YAML document.
    Yaml,
    /// An array of strings, one a line. The format that was called `output` in 2010.
    #[serde(alias = "output")]
    Lines,
    /// Text, one trailing newline removed.
    String,
    /// Text, nothing removed.
    Raw,
    /// `key=value` a line; a repeated key becomes an array.
    KeyValue,
}

/// Every format, in the order that documentation lists them.
pub const ALL: [Format; 6] = [Format::Json, Format::Yaml, Format::Lines, Format::String, Format::Raw, Format::KeyValue];

impl Format {
    /// The name that descriptors and messages use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Lines => "lines",
            Self::String => "string",
            Self::Raw => "raw",
            Self::KeyValue => "keyvalue",
        }
    }

    /// Reads `output` and returns the JSON that lands in the record.
    ///
    /// Empty output is `[]` for lines, `{}` for keyvalue, `""` for string and raw, and an error
    /// for json and yaml.
    ///
    /// # Errors
    /// Output that does not fit the format, and JSON that no database can hold.
    pub fn read(self, output: &[u8]) -> Result<Data, BadOutput> {
        let text = std::str::from_utf8(output)?;
        match self {
            Self::Json if text.trim().is_empty() => Err(BadOutput::Empty(self)),
            Self::Json => Data::parse(text).map_err(|reason| BadOutput::Data(self, reason)),
            Self::Yaml => {
                let json = yaml::to_json(text)?.ok_or(BadOutput::Empty(self))?;
                Data::parse(&json).map_err(|reason| BadOutput::Data(self, reason))
            }
            Self::Lines => plain(self, &text.lines().collect::<Vec<_>>()),
            Self::String => plain(self, text.strip_suffix('\n').map_or(text, |t| t.strip_suffix('\r').unwrap_or(t))),
            Self::Raw => plain(self, text),
            Self::KeyValue => plain(self, &key_values(text)?),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let known = ALL.into_iter().find(|format| format.as_str() == text);
        known.or((text == "output").then_some(Self::Lines)).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// A format that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("format {0:?} is not one of json, yaml, lines, string, raw, keyvalue")]
pub struct UnknownFormat(String);

/// Output that does not fit its format.
#[derive(Debug, thiserror::Error)]
pub enum BadOutput {
    /// Bytes that are no text.
    #[error("output is not UTF-8")]
    Utf8(#[from] Utf8Error),
    /// Nothing was printed where something has to be.
    #[error("output is empty, which is no {0}")]
    Empty(Format),
    /// Not the JSON it claims to be, or JSON that cannot be stored.
    #[error("output is no {0} that can be stored")]
    Data(Format, #[source] BadData),
    /// Not the YAML it claims to be.
    #[error("output is no yaml that can be stored")]
    Yaml(#[from] BadYaml),
    /// A line that is no `key=value`.
    #[error("output line {line} is not key=value")]
    KeyValue {
        /// Counted from one.
        line: usize,
    },
}

fn plain<T: Serialize + ?Sized>(format: Format, value: &T) -> Result<Data, BadOutput> {
    Data::from_plain(&value).map_err(|reason| BadOutput::Data(format, reason))
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

fn key_values(text: &str) -> Result<BTreeMap<&str, Values<'_>>, BadOutput> {
    let mut values = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let bad = || BadOutput::KeyValue { line: number + 1 };
        let (key, value) = line.split_once('=').ok_or_else(bad)?;
        let key = key.trim();
        if key.is_empty() {
            return Err(bad());
        }
        match values.remove(key) {
            None => values.insert(key, Values::One(value)),
            Some(Values::One(first)) => values.insert(key, Values::Several(vec![first, value])),
            Some(Values::Several(mut several)) => {
                several.push(value);
                values.insert(key, Values::Several(several))
            }
        };
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Format, output: &str) -> String {
        format.read(output.as_bytes()).unwrap().get().to_owned()
    }

    #[test]
    fn each_format_has_its_shape() {
        assert_eq!(read(Format::Json, " {\"a\": 1}\n"), "{\"a\": 1}");
        assert_eq!(read(Format::Lines, "a\r\nb\n\nc"), r#"["a","b","","c"]"#);
        assert_eq!(read(Format::String, "a\nb\n\n"), r#""a\nb\n""#);
        assert_eq!(read(Format::String, "a\r\n"), r#""a""#);
        assert_eq!(read(Format::Raw, "a\n"), r#""a\n""#);
        let listed = "# kernels\nkernel=6.1\n\nkernel=6.2\nkernel=6.3\n a = b=c \n";
        assert_eq!(read(Format::KeyValue, listed), r#"{"a":" b=c ","kernel":["6.1","6.2","6.3"]}"#);
    }

    #[test]
    fn empty_output() {
        assert_eq!(read(Format::Lines, ""), "[]");
        assert_eq!(read(Format::KeyValue, ""), "{}");
        assert_eq!(read(Format::String, ""), "\"\"");
        assert_eq!(read(Format::Raw, ""), "\"\"");
        assert!(matches!(Format::Json.read(b" \n"), Err(BadOutput::Empty(Format::Json))));
        assert!(matches!(Format::Yaml.read(b"# nothing\n"), Err(BadOutput::Empty(Format::Yaml))));
    }

    #[test]
    fn what_does_not_fit_says_where() {
        assert_eq!(Format::KeyValue.read(b"a=1\nb\n").unwrap_err().to_string(), "output line 2 is not key=value");
        assert!(matches!(Format::Raw.read(b"\xff"), Err(BadOutput::Utf8(_))));
        let error = Format::Json.read(b"{\"a\":").unwrap_err();
        assert_eq!(
            crate::sentence(&error),
            "output is no json that can be stored: not one JSON text: EOF while parsing a value at line 1 column 5"
        );
    }

    #[test]
    fn the_name_of_2010_is_known() {
        assert_eq!("output".parse(), Ok(Format::Lines));
        assert!("xml".parse::<Format>().unwrap_err().to_string().contains("keyvalue"));
    }
}
