//! Records by what they hold.
//!
//! Every record is read; of each only what is looked at becomes a value, the rest is skipped as text.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use rusqlite::Connection;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::documents::{Name, rev};
use super::error::Trouble;
use crate::Found;
use crate::condition::{Condition, Path};

pub(super) fn find(
    database: &mut Connection,
    condition: Option<&Condition>,
    fields: &[Path],
) -> Result<Vec<Found>, Trouble> {
    let mut wanted = Wanted::default();
    let looked_at = condition.into_iter().flat_map(Condition::paths);
    fields.iter().chain(looked_at).for_each(|path| wanted.add(path.segments()));
    let mut asked = database
        .prepare_cached("SELECT id, generation, seq, body FROM documents WHERE body IS NOT NULL ORDER BY id")?;
    let mut rows = asked.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let unreadable = |error: &dyn Display| Trouble::Damaged(format!("a record is no text: {error}"));
        let id = row.get_ref(0)?.as_str().map_err(|error| unreadable(&error))?;
        let damaged = |error: &dyn Display| Trouble::Damaged(format!("the record of {id}: {error}"));
        let body = row.get_ref(3)?.as_str().map_err(|error| damaged(&error))?;
        let mut json = serde_json::Deserializer::from_str(body);
        let mut record = wanted.deserialize(&mut json).map_err(|error| damaged(&error))?;
        if let Value::Object(members) = &mut record {
            members.insert("_id".to_owned(), id.into());
            members.insert("_rev".to_owned(), rev(row.get(1)?, row.get(2)?).into());
        }
        if condition.is_none_or(|condition| condition.holds(&record)) {
            found.extend(id.parse().ok().map(|node| Found { node, record }));
        }
    }
    Ok(found)
}

/// The parts of a record that are looked at.
#[derive(Debug, Default)]
struct Wanted {
    /// All that is there, not parts of it.
    whole: bool,
    members: BTreeMap<String, Wanted>,
}

impl Wanted {
    fn add(&mut self, segments: &[String]) {
        match segments {
            [] => self.whole = true,
            [first, rest @ ..] => self.members.entry(first.clone()).or_default().add(rest),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Wanted {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.whole {
            return serde::Deserialize::deserialize(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Wanted {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(Name(name)) = map.next_key()? {
            match self.members.get(name.as_ref()) {
                Some(wanted) => _ = members.insert(name.into_owned(), map.next_value_seed(wanted)?),
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(Value::Object(members))
    }

    /// A path leads through every element of an array, or names one by its position.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        loop {
            let is_named = !self.members.is_empty() && self.members.contains_key(&elements.len().to_string());
            let element = if is_named { seq.next_element::<Value>()? } else { seq.next_element_seed(self)? };
            match element {
                Some(element) => elements.push(element),
                None => return Ok(Value::Array(elements)),
            }
        }
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_looked_at_becomes_a_value() {
        let mut wanted = Wanted::default();
        for path in ["facts.cpu", "jmx.port", "jmx.1.name", "list.0", "text"] {
            wanted.add(path.parse::<Path>().unwrap().segments());
        }
        let record = json!({
            "facts": {"cpu": {"count": 2}, "os": {"name": "x"}}, "other": [1, {"a": 2}], "text": "ü\n",
            "jmx": [{"port": 1, "pid": 2}, {"port": 3, "name": "b", "pid": 4}], "list": [{"a": 1}, {"b": 2}, 3],
        });
        let part = wanted.deserialize(&mut serde_json::Deserializer::from_str(&record.to_string())).unwrap();
        let expected = json!({
            "facts": {"cpu": {"count": 2}}, "text": "ü\n",
            "jmx": [{"port": 1}, {"port": 3, "name": "b", "pid": 4}], "list": [{"a": 1}, {}, 3],
        });
        assert_eq!(part, expected);
    }
}
