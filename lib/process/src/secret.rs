//! Passwords, which print as nothing.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is shown in the place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// A password file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the password file {}", path.display())]
pub struct UnreadFile {
    path: PathBuf,
    source: std::io::Error,
}

/// A password. It has no way to print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads a file that holds nothing but the secret; a newline at its end does not count.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn from_file(path: &Path) -> std::io::Result<Self> {
        let text = fs::read_to_string(path)?;
        Ok(Self(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// The password that counts: the one that was set, or that of the file, or that of the URL.
    ///
    /// # Errors
    /// The file cannot be read; its path comes along.
    pub fn choose(set: Option<&Self>, file: Option<&Path>, in_url: Option<&Self>) -> Result<Option<Self>, UnreadFile> {
        match (set, file) {
            (Some(set), _) => Ok(Some(set.clone())),
            (None, Some(path)) => {
                Self::from_file(path).map(Some).map_err(|source| UnreadFile { path: path.to_owned(), source })
            }
            (None, None) => Ok(in_url.cloned()),
        }
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Text, or a number that was meant as text. The error never quotes what was found.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        text.map(Self).ok_or_else(|| serde::de::Error::custom("a password is text"))
    }
}
