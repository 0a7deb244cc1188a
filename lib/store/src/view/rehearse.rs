//! A design document tried over sample documents before it is loaded anywhere.
//!
//! Start at [`rehearse`]. It finds what a parser cannot: exceptions, functions that do not end, documents emitted whole,
//! large values, views that stay empty, reduces that throw or do not shrink, validations that forbid. Nothing is stored;
//! samples are only as good as they are like the real thing.

use std::fmt;

use serde_json::Value;

use super::answer::IndexRow;
use super::builtin;
use super::engine::{Emitted, Mapper, Uncompilable, arranged};
use super::reduce::{NoReduction, Reducer};
use super::sandbox::{Failure, Limits};
use crate::design_docs::DesignDoc;

/// Values from this size on are worth a word: an index keeps a copy of each.
const LARGE_VALUE: usize = 1024;

/// A reduced value of this size is kept in every node of CouchDB's index, and has to be small whatever the input.
const LARGE_REDUCTION: usize = 256;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may be meant so.
    Hint,
    /// It works, at a price.
    Warning,
    /// Rows are missing, or the view does not work.
    Error,
}

/// A function of a design document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What emits the rows of a view.
    Map,
    /// What makes one value of many.
    Reduce,
    /// What chooses changes.
    Filter,
    /// What decides whether a document may be written.
    Validation,
}

/// Something that came up in a rehearsal. Displayed, it starts with the file, under the design document's folder, and the
/// line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The name of the view or the filter.
    pub name: String,
    /// Which function.
    pub part: Part,
    /// The line of the function, counted from one, where it is known.
    pub line: Option<usize>,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, over what, and what to do.
    pub words: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Map => write!(f, "views/{}/map.js", self.name)?,
            Part::Reduce => write!(f, "views/{}/reduce.js", self.name)?,
            Part::Filter => write!(f, "filters/{}.js", self.name)?,
            Part::Validation => write!(f, "validate_doc_update.js")?,
        }
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.words)
    }
}

/// Runs every function over sample documents, each JSON with an `_id`; what is worth a word, one after the other.
pub fn rehearse(design: &DesignDoc, samples: &[String]) -> Vec<Remark> {
    rehearse_within(design, samples, Limits::default())
}

/// The same with other limits for each call.
pub fn rehearse_within(design: &DesignDoc, samples: &[String], limits: Limits) -> Vec<Remark> {
    let document = design.to_document();
    let mut remarks = Vec::new();
    for (name, functions) in members(&document, "views") {
        let source = |part: &str| functions.get(part).and_then(Value::as_str);
        let mut stage = Stage { name, samples, limits, remarks: &mut remarks };
        let rows = source("map").map(|map| stage.map(map)).unwrap_or_default();
        if let Some(reduce) = source("reduce") {
            stage.reduce(reduce, rows);
        }
    }
    for (name, filter) in members(&document, "filters") {
        let mut stage = Stage { name, samples, limits, remarks: &mut remarks };
        filter.as_str().inspect(|filter| stage.filter(filter));
    }
    let validation = document.get("validate_doc_update").and_then(Value::as_str);
    let mut stage = Stage { name: "", samples, limits, remarks: &mut remarks };
    validation.inspect(|validation| stage.validation(validation));
    remarks
}

fn members<'a>(document: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let members = document.get(name).and_then(Value::as_object);
    members.into_iter().flatten().map(|(name, member)| (name.as_str(), member))
}

/// The turn of one view, filter or validation.
struct Stage<'a> {
    name: &'a str,
    samples: &'a [String],
    limits: Limits,
    remarks: &'a mut Vec<Remark>,
}

/// The same trouble over several samples.
struct Trouble {
    failure: Failure,
    first: String,
    times: usize,
}

impl Trouble {
    fn note(troubles: &mut Vec<Self>, failure: Failure, id: String) {
        match troubles.iter_mut().find(|trouble| trouble.failure == failure) {
            Some(trouble) => trouble.times += 1,
            None => troubles.push(Self { failure, first: id, times: 1 }),
        }
    }

    fn over(&self) -> String {
        if self.times == 1 { self.first.clone() } else { format!("{} samples, first {}", self.times, self.first) }
    }
}

impl Stage<'_> {
    fn say(&mut self, part: Part, line: Option<usize>, severity: Severity, words: String) {
        self.remarks.push(Remark { name: self.name.to_owned(), part, line, severity, words });
    }

    fn no_function(&mut self, part: Part, error: &Uncompilable) {
        let hint = "a function expression without a name is wanted, as in function (doc) { … }";
        let words = match error.line {
            Some(_) => format!("no JavaScript: {}", error.reason),
            None => format!("not usable: {} {hint}", error.reason),
        };
        self.say(part, error.line, Severity::Error, words);
    }

    /// What the map emits.
    fn map(&mut self, source: &str) -> Vec<IndexRow> {
        let mut mapper = match Mapper::with_limits(&[(self.name, source)], self.limits) {
            Ok(mapper) => mapper,
            Err(error) => {
                self.no_function(Part::Map, &error);
                return Vec::new();
            }
        };
        let mut rows = Vec::new();
        let mut troubles: Vec<Trouble> = Vec::new();
        let mut whole: Option<(String, usize)> = None;
        let mut large: Option<(String, usize)> = None;
        for sample in self.samples {
            let document: Value = serde_json::from_str(sample).unwrap_or_default();
            let id = id(&document);
            let placed = match mapper.map(sample).pop() {
                Some(Ok(emitted)) => {
                    for Emitted { value, .. } in &emitted {
                        if is_whole(value, &document) {
                            whole.get_or_insert_with(|| (id.clone(), value.len()));
                        } else if value.len() > LARGE_VALUE
                            && large.as_ref().is_none_or(|(_, most)| *most < value.len())
                        {
                            large = Some((id.clone(), value.len()));
                        }
                    }
                    arranged(emitted)
                        .map_err(|error| Failure::Fatal { message: format!("emitted {error}"), line: None })
                }
                Some(Err(failure)) => Err(failure),
                None => Ok(Vec::new()),
            };
            match placed {
                Ok(placed) => rows.extend(placed.into_iter().map(|row| IndexRow {
                    sort: row.sort,
                    id: id.clone(),
                    key: row.key,
                    value: row.value,
                })),
                Err(failure) => Trouble::note(&mut troubles, failure, id),
            }
        }
        self.tell(Part::Map, &troubles);
        if let Some((id, size)) = whole {
            let words = format!(
                "emits the document whole: {size} bytes for {id}. The index keeps a copy; emit null and ask with include_docs=true"
            );
            self.say(Part::Map, None, Severity::Warning, words);
        }
        if let Some((id, size)) = large {
            let words = format!(
                "emits a value of {size} bytes for {id}. The index keeps a copy; emit null or what is needed of it"
            );
            self.say(Part::Map, None, Severity::Warning, words);
        }
        if rows.is_empty() && troubles.is_empty() && !self.samples.is_empty() {
            self.say(
                Part::Map,
                None,
                Severity::Hint,
                format!("emits nothing for any of {} samples", self.samples.len()),
            );
        }
        rows.sort_by(|one, other| one.sort.cmp(&other.sort).then_with(|| one.id.as_bytes().cmp(other.id.as_bytes())));
        rows
    }

    fn tell(&mut self, part: Part, troubles: &[Trouble]) {
        for trouble in troubles {
            let (failure, over) = (&trouble.failure, trouble.over());
            let words = match failure {
                Failure::Thrown { message, .. } => {
                    format!("throws over {over}, which is left out of the view: {message}")
                }
                Failure::Fatal { message, .. } => {
                    format!("fails over {over}, and no question to the view is answered: {message}")
                }
                Failure::TooLong { .. } | Failure::TooMuch { .. } | Failure::TooDeep => {
                    format!("does not come to an end over {over}: {failure}")
                }
            };
            self.say(part, failure.line(), Severity::Error, words);
        }
    }

    /// What comes of a function that is called with each sample and with more, in JavaScript.
    fn call(&mut self, part: Part, source: &str, more: &str) -> Vec<Trouble> {
        if let Err(error) = Mapper::with_limits(&[(self.name, source)], self.limits) {
            self.no_function(part, &error);
            return Vec::new();
        }
        let expression = source.trim_end().trim_end_matches(';');
        // On the same line, so that lines count as in the file. Some text is a function, but no expression: it is not run.
        let calling = format!("function (doc) {{ emit(({expression}\n)(doc, {more}), null); }}");
        let Ok(mut mapper) = Mapper::with_limits(&[(self.name, &calling)], self.limits) else { return Vec::new() };
        let mut troubles = Vec::new();
        for sample in self.samples {
            if let Some(Err(failure)) = mapper.map(sample).pop() {
                Trouble::note(&mut troubles, failure, id(&serde_json::from_str(sample).unwrap_or_default()));
            }
        }
        troubles
    }

    fn filter(&mut self, source: &str) {
        for trouble in
            self.call(Part::Filter, source, "{method: 'GET', query: {}, headers: {}, userCtx: {name: null, roles: []}}")
        {
            let (failure, over) = (&trouble.failure, trouble.over());
            let words = format!("fails over {over}, and the changes end there: {failure}");
            self.say(Part::Filter, failure.line(), Severity::Error, words);
        }
    }

    fn validation(&mut self, source: &str) {
        let user = "null, {db: 'system_records', name: 'vogeler-server', roles: []}, {}";
        for trouble in self.call(Part::Validation, source, user) {
            let (failure, over) = (&trouble.failure, trouble.over());
            let (severity, words) = match refused(failure) {
                Some(words) => {
                    (Severity::Hint, format!("does not let {over} be written, which becomes a dead letter: {words}"))
                }
                None => (Severity::Error, format!("fails over {over}, which cannot be written: {failure}")),
            };
            self.say(Part::Validation, failure.line(), severity, words);
        }
    }

    fn reduce(&mut self, source: &str, rows: Vec<IndexRow>) {
        let mut reducer = match Reducer::with_limits(self.name, source, self.limits) {
            Ok(reducer) => reducer,
            Err(error) => return self.no_function(Part::Reduce, &error),
        };
        if rows.is_empty() {
            return;
        }
        let input: usize = rows.iter().map(|row| row.key.len() + row.id.len() + row.value.len()).sum();
        let many = rows.len();
        let result = reducer.reduce(rows);
        if let Some(failure) = reducer.thrown() {
            let words = format!("throws over the rows of the samples, and the result is null: {failure}");
            self.say(Part::Reduce, failure.line(), Severity::Error, words);
            return;
        }
        match result {
            Ok(value) => {
                if let Some(words) = builtin::refusal(&value).filter(|_| source.starts_with("_sum")) {
                    let words = format!("cannot add what the map emits: {words}");
                    return self.say(Part::Reduce, None, Severity::Error, words);
                }
                let output = value.to_string().len();
                if output > LARGE_REDUCTION && output * 2 > input {
                    let words = format!("does not shrink: {many} rows of {input} bytes become {output} bytes");
                    self.say(Part::Reduce, None, Severity::Warning, words);
                }
            }
            Err(NoReduction::Failed(failure)) => {
                let words = format!("fails over the rows of the samples: {failure}");
                self.say(Part::Reduce, failure.line(), Severity::Error, words);
            }
            Err(error @ (NoReduction::Value { .. } | NoReduction::Overflow { .. })) => {
                self.say(Part::Reduce, None, Severity::Error, format!("has no result: {error}"));
            }
        }
    }
}

fn id(document: &Value) -> String {
    document.get("_id").and_then(Value::as_str).unwrap_or("a sample without _id").to_owned()
}

/// Why a validation does not want a document, where it said so as it has to.
fn refused(failure: &Failure) -> Option<String> {
    let Failure::Thrown { message, .. } = failure else { return None };
    let thrown: Value = serde_json::from_str(message).ok()?;
    let words = thrown.get("forbidden").or_else(|| thrown.get("unauthorized"))?;
    Some(words.as_str().map_or_else(|| words.to_string(), str::to_owned))
}

/// Whether a value is the document, or most of it, or has it as an element or member.
fn is_whole(value: &str, document: &Value) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(value) else { return false };
    let inner: Vec<&Value> = match &value {
        Value::Array(elements) => elements.iter().collect(),
        Value::Object(members) => members.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    inner.into_iter().chain([&value]).any(|value| is_most_of(value, document))
}

fn is_most_of(value: &Value, document: &Value) -> bool {
    let (Value::Object(value), Value::Object(document)) = (value, document) else { return false };
    if value.get("_id").is_none() || value.get("_id") != document.get("_id") {
        return false;
    }
    let own = |name: &str| !name.starts_with('_');
    let all = document.keys().filter(|name| own(name)).count();
    let copied = document.iter().filter(|(name, member)| own(name) && value.get(*name) == Some(member)).count();
    copied * 2 > all
}

#[cfg(test)]
mod tests;
