//! A record's document in pieces, each the text it is: what is compared to the byte is never read.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Members of an object, by name.
pub type Members = BTreeMap<String, String>;

/// The pieces of a record's document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parts {
    /// Top-level members but `vogeler`.
    pub fields: Members,
    /// Members of `vogeler` but the two below.
    pub vogeler: Members,
    /// `vogeler.results`
    pub results: Members,
    /// `vogeler.errors`
    pub errors: Members,
}

impl Parts {
    /// Takes a document to pieces; none where it is no object. Of two members of one name the last is
    /// kept, as a database does, and what should be an object and is none counts as empty.
    pub fn of(document: &str) -> Option<Self> {
        let mut fields = members(document)?;
        let mut vogeler = fields.remove("vogeler").and_then(|raw| members(&raw)).unwrap_or_default();
        let results = vogeler.remove("results").and_then(|raw| members(&raw)).unwrap_or_default();
        let errors = vogeler.remove("errors").and_then(|raw| members(&raw)).unwrap_or_default();
        Some(Self { fields, vogeler, results, errors })
    }

    /// The document that these are the pieces of.
    pub fn document(&self) -> String {
        let mut vogeler = self.vogeler.clone();
        vogeler.insert("results".to_owned(), object(&self.results));
        vogeler.insert("errors".to_owned(), object(&self.errors));
        let mut fields = self.fields.clone();
        fields.insert("vogeler".to_owned(), object(&vogeler));
        object(&fields)
    }
}

/// Makes the member of that name what it is in `other`, or removes it where `other` has none.
pub fn adopt(members: &mut Members, other: &Members, name: &str) {
    match other.get(name) {
        Some(value) => members.insert(name.to_owned(), value.clone()),
        None => members.remove(name),
    };
}

/// The members of an object; none where it is no object.
pub fn members(object: &str) -> Option<Members> {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(object).ok()?;
    Some(members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect())
}

fn object(members: &Members) -> String {
    let member = |(name, value): (&String, &String)| format!("{}:{value}", serde_json::Value::from(name.as_str()));
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}
