//! Configuration in layers: built-in defaults, a YAML file, the environment, flags.
//!
//! Start at [`Settings::load`]. A program says which sections it knows ([`Known`]) by handing in
//! their default values; the keys are the fields of those. Every value remembers where it came
//! from, so that an error and `vogeler-* config` can say so.

mod layers;
mod nearest;

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::secret::HIDDEN;

/// Where configuration is looked for unless `--config` or `VOGELER_CONFIG` says otherwise. It may
/// be missing; a file that was named may not.
pub const DEFAULT_FILE: &str = "/etc/vogeler/vogeler.yaml";

/// The variable that names the file.
pub const FILE_VARIABLE: &str = "VOGELER_CONFIG";

/// The sections of the one file that all programs share.
pub const SECTIONS: [&str; 5] = ["broker", "store", "client", "server", "runner"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or not readable.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no YAML.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// The parser's words, without the line itself, which may hold a password.
        reason: String,
    },
    /// A key or variable that does not exist.
    #[error("{place}: there is no key {name:?}{hint}")]
    Unknown {
        /// Where it stands.
        place: String,
        /// What was written.
        name: String,
        /// What was probably meant.
        hint: String,
    },
    /// A value of the wrong kind.
    #[error("{place}: {key}: {reason}")]
    Value {
        /// Where it stands.
        place: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A password on the command line.
    #[error(
        "a password in {flag} would be seen by everyone who lists processes; put it into {key} of the \
         configuration file, a file named by {key}_file, or the variable {variable}"
    )]
    PasswordInFlag {
        /// The flag.
        flag: &'static str,
        /// The key that takes it.
        key: String,
        /// The variable that takes it.
        variable: String,
    },
}

/// A value from the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The key that it sets, as `section.key`.
    pub key: String,
    /// As it is typed, `--qhost`.
    pub name: &'static str,
    /// The value.
    pub value: Value,
}

impl Flag {
    /// A flag, if it was given.
    pub fn given(key: impl Into<String>, name: &'static str, value: Option<impl Into<Value>>) -> Option<Self> {
        value.map(|value| Self { key: key.into(), name, value: value.into() })
    }
}

/// The sections and short variables that a program knows.
#[derive(Debug, Default)]
pub struct Known {
    /// `section.key` → its built-in value.
    keys: BTreeMap<String, Value>,
    /// Variables with a name of their own → key.
    variables: BTreeMap<&'static str, String>,
}

impl Known {
    /// Knows the keys of a section by its default value.
    #[must_use]
    pub fn section<T: Serialize>(mut self, name: &str, default: &T) -> Self {
        let value = serde_json::to_value(default).unwrap_or_default();
        layers::flatten(name, &value, &mut self.keys);
        self
    }

    /// Knows a variable beside the one that every key has.
    #[must_use]
    pub fn variable(mut self, name: &'static str, key: &str) -> Self {
        self.variables.insert(name, key.to_owned());
        self
    }
}

/// The values in force.
#[derive(Debug)]
pub struct Settings {
    values: BTreeMap<String, (Value, Source)>,
    file: Option<PathBuf>,
}

impl Settings {
    /// Layers the file over the defaults, the environment over that and flags over all.
    ///
    /// # Errors
    /// What [`ConfigError`] lists.
    pub fn load(
        known: &Known,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = Flag>,
    ) -> Result<Self, ConfigError> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let named = file.map(Path::to_owned).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
        let mut settings = Self::built_in(known);
        if let Some((path, layer)) = layers::read_file(known, named.as_deref())? {
            let from_file = layer.into_iter().map(|(key, value)| (key, (value, Source::File(path.clone()))));
            settings.values.extend(from_file);
            settings.file = Some(path);
        }
        settings.values.extend(layers::read_environment(known, &environment)?);
        settings.put(flags)?;
        Ok(settings)
    }

    /// Layers flags over the defaults, for a program that has neither file nor environment.
    ///
    /// # Errors
    /// A password among the flags.
    pub fn of_flags(known: &Known, flags: impl IntoIterator<Item = Flag>) -> Result<Self, ConfigError> {
        let mut settings = Self::built_in(known);
        settings.put(flags)?;
        Ok(settings)
    }

    fn built_in(known: &Known) -> Self {
        let values = known.keys.iter().map(|(key, value)| (key.clone(), (value.clone(), Source::Default)));
        Self { values: values.collect(), file: None }
    }

    fn put(&mut self, flags: impl IntoIterator<Item = Flag>) -> Result<(), ConfigError> {
        for flag in flags {
            layers::refuse_password(&flag)?;
            self.values.insert(flag.key, (flag.value, Source::Flag(flag.name)));
        }
        Ok(())
    }

    /// One section as its type.
    ///
    /// # Errors
    /// A value that the type refuses, with its key and where it stands.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        let mut section = Value::Object(Map::new());
        for (key, (value, _)) in &self.values {
            if let Some(rest) = key.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) {
                layers::put(&mut section, rest, value.clone());
            }
        }
        serde_path_to_error::deserialize(section).map_err(|error| {
            let key = format!("{name}.{}", error.path());
            let place =
                self.values.get(&key).map_or_else(|| "configuration".to_owned(), |(_, source)| source.to_string());
            ConfigError::Value { place, key, reason: error.inner().to_string() }
        })
    }

    /// Where a key's value came from.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.values.get(key).map(|(_, source)| source)
    }

    /// The file that was read, if one was.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Every key in force with its value and where that came from, secrets hidden; one a line.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (key, (value, source)) in &self.values {
            let shown = match value {
                Value::Null => "(not set)".to_owned(),
                _ if layers::is_secret(key) => HIDDEN.to_owned(),
                Value::String(plain) => layers::without_password(plain),
                Value::Array(items) => {
                    items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
                }
                other => other.to_string(),
            };
            let _ = writeln!(text, "{key} = {shown}  # {source}");
        }
        text
    }

    /// What a person should mend although it works: passwords in a file that others can read.
    pub fn notices(&self) -> Vec<String> {
        layers::loose_files(&self.values)
    }
}
