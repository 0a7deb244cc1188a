//! Reading each layer, and the rules that hold for one value.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{ConfigError, DEFAULT_FILE, FILE_VARIABLE, Flag, Known, SECTIONS, Source, nearest};
use crate::secret::HIDDEN;

type Layer = BTreeMap<String, Value>;

/// Notes every leaf of `value` under its dotted path.
pub(super) fn flatten(path: &str, value: &Value, into: &mut Layer) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                flatten(&format!("{path}.{name}"), member, into);
            }
        }
        leaf => {
            into.insert(path.to_owned(), leaf.clone());
        }
    }
}

/// Puts `value` at the dotted path `key`.
pub(super) fn put(object: &mut Value, key: &str, value: Value) {
    let mut place = object;
    for name in key.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[name];
    }
    *place = value;
}

/// The file's values; none where no file was named and there is none in the usual place.
pub(super) fn read_file(known: &Known, named: Option<&Path>) -> Result<Option<(PathBuf, Layer)>, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let document = parse(&path, &text)?;
    let Value::Object(sections) = document else {
        let reason = "it holds no sections; the first line of one is for example 'broker:'".to_owned();
        return Err(ConfigError::Syntax { path, reason });
    };
    let place = path.display().to_string();
    let mut layer = Layer::new();
    let own: BTreeSet<&str> = known.keys.keys().filter_map(|key| key.split('.').next()).collect();
    for (name, section) in &sections {
        if own.contains(name.as_str()) {
            read_section(known, &place, name, section, &mut layer)?;
        } else if !SECTIONS.contains(&name.as_str()) {
            let hint = nearest::hint(name, SECTIONS.into_iter());
            return Err(ConfigError::Unknown { place, name: name.clone(), hint });
        }
    }
    Ok(Some((path, layer)))
}

fn parse(path: &Path, text: &str) -> Result<Value, ConfigError> {
    let options = serde_yaml::options! { with_snippet: false, strict_booleans: true };
    let parsed: Result<Option<Value>, _> = serde_yaml::from_str_with_options(text, options);
    match parsed {
        Ok(document) => Ok(document.unwrap_or_else(|| Value::Object(Map::new()))),
        Err(error) => Err(ConfigError::Syntax { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn read_section(known: &Known, place: &str, path: &str, value: &Value, layer: &mut Layer) -> Result<(), ConfigError> {
    let Value::Object(members) = value else {
        if value.is_null() {
            return Ok(()); // A section whose every line is commented out.
        }
        let reason = "is a section; its keys stand indented below it".to_owned();
        return Err(ConfigError::Value { place: place.to_owned(), key: path.to_owned(), reason });
    };
    for (name, member) in members {
        let key = format!("{path}.{name}");
        if known.keys.contains_key(&key) {
            layer.insert(key, member.clone());
        } else if known.keys.keys().any(|other| other.starts_with(&format!("{key}."))) {
            read_section(known, place, &key, member, layer)?;
        } else {
            let hint = nearest::hint(&key, known.keys.keys().map(String::as_str));
            return Err(ConfigError::Unknown { place: place.to_owned(), name: key, hint });
        }
    }
    Ok(())
}

fn variable_of(key: &str) -> String {
    format!("VOGELER_{}", key.replace('.', "_").to_uppercase())
}

/// The values that variables set. A variable that begins like a section's must be one of its keys.
pub(super) fn read_environment(
    known: &Known,
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, (Value, Source)>, ConfigError> {
    let mut names: BTreeMap<String, &str> = known.keys.keys().map(|key| (variable_of(key), key.as_str())).collect();
    names.extend(known.variables.iter().map(|(name, key)| ((*name).to_owned(), key.as_str())));
    let own: BTreeSet<&str> = known.keys.keys().filter_map(|key| key.split('.').next()).collect();
    let mut values = BTreeMap::new();
    for (name, text) in environment {
        if let Some(key) = names.get(name) {
            let default = known.keys.get(*key).unwrap_or(&Value::Null);
            values.insert((*key).to_owned(), (typed(default, text), Source::Variable(name.clone())));
        } else if own.iter().any(|section| name.starts_with(&format!("VOGELER_{}_", section.to_uppercase()))) {
            let hint = nearest::hint(name, names.keys().map(String::as_str).chain([FILE_VARIABLE]));
            return Err(ConfigError::Unknown { place: "environment".to_owned(), name: name.clone(), hint });
        }
    }
    Ok(values)
}

/// A variable's text as the kind of value that its key has.
fn typed(default: &Value, text: &str) -> Value {
    match default {
        Value::Number(_) | Value::Bool(_) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        Value::Array(_) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
        Value::Null | Value::String(_) | Value::Object(_) => text.into(),
    }
}

/// Whether a key holds nothing but a secret.
pub(super) fn is_secret(key: &str) -> bool {
    key.ends_with(".password")
}

/// A URL with its password hidden; any other text as it is.
pub(super) fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let Some((login, host)) = rest.rsplit_once('@') else { return text.to_owned() };
    match login.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{host}"),
        None => text.to_owned(),
    }
}

/// A flag's URL may name a login, never a password.
pub(super) fn refuse_password(flag: &Flag) -> Result<(), ConfigError> {
    let section = flag.key.split('.').next().unwrap_or_default();
    let key = format!("{section}.password");
    match &flag.value {
        Value::String(text) if is_secret(&flag.key) || without_password(text) != *text => {
            Err(ConfigError::PasswordInFlag { flag: flag.name, variable: variable_of(&key), key })
        }
        _ => Ok(()),
    }
}

pub(super) fn loose_files(values: &BTreeMap<String, (Value, Source)>) -> Vec<String> {
    let mut files = BTreeSet::new();
    for (key, (value, source)) in values {
        let text = value.as_str().unwrap_or_default();
        match source {
            Source::File(path) if is_secret(key) || without_password(text) != text => {
                files.insert(path.clone());
            }
            _ => {}
        }
        if key.ends_with(".password_file") && !text.is_empty() {
            files.insert(PathBuf::from(text));
        }
    }
    let open = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0);
    let words = |path: PathBuf| {
        format!("{} holds a password and everybody can read it; chmod o= {}", path.display(), path.display())
    };
    files.into_iter().filter(open).map(words).collect()
}
