//! A design document tried over sample documents before it is loaded anywhere.
//!
//! Start at [`rehearse`]. It finds what a parser cannot: exceptions, functions that do not end, documents emitted whole,
//! large values, views that stay empty, reduces that throw or do not shrink. Nothing is stored; samples are only as good
//! as they are like the real thing.

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

/// A function of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What emits rows.
    Map,
    /// What makes one value of many.
    Reduce,
}

/// Something that came up in a rehearsal. Displayed, it starts with the file, under the design document's folder, and the
/// line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The view's name.
    pub view: String,
    /// Which of its functions.
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
        let file = match self.part {
            Part::Map => "map.js",
            Part::Reduce => "reduce.js",
        };
        write!(f, "views/{}/{file}", self.view)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.words)
    }
}

/// Runs every map and reduce over sample documents, each JSON with an `_id`; what is worth a word, view by view.
pub fn rehearse(design: &DesignDoc, samples: &[String]) -> Vec<Remark> {
    rehearse_within(design, samples, Limits::default())
}

/// The same with other limits for each call.
pub fn rehearse_within(design: &DesignDoc, samples: &[String], limits: Limits) -> Vec<Remark> {
    let document = design.to_document();
    let Some(views) = document.get("views").and_then(Value::as_object) else { return Vec::new() };
    let mut remarks = Vec::new();
    for (view, functions) in views {
        let source = |part: &str| functions.get(part).and_then(Value::as_str);
        let mut stage = Stage { view, samples, limits, remarks: &mut remarks };
        let rows = source("map").map(|map| stage.map(map)).unwrap_or_default();
        if let Some(reduce) = source("reduce") {
            stage.reduce(reduce, rows);
        }
    }
    remarks
}

/// One view's turn.
struct Stage<'a> {
    view: &'a str,
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

impl Stage<'_> {
    fn say(&mut self, part: Part, line: Option<usize>, severity: Severity, words: String) {
        self.remarks.push(Remark { view: self.view.to_owned(), part, line, severity, words });
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
        let mut mapper = match Mapper::with_limits(&[(self.view, source)], self.limits) {
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
            let id = document.get("_id").and_then(Value::as_str).unwrap_or("a sample without _id").to_owned();
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
                Err(failure) => match troubles.iter_mut().find(|trouble| trouble.failure == failure) {
                    Some(trouble) => trouble.times += 1,
                    None => troubles.push(Trouble { failure, first: id, times: 1 }),
                },
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
        for Trouble { failure, first, times } in troubles {
            let over = if *times == 1 { first.clone() } else { format!("{times} samples, first {first}") };
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

    fn reduce(&mut self, source: &str, rows: Vec<IndexRow>) {
        let mut reducer = match Reducer::with_limits(self.view, source, self.limits) {
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
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn design(files: &[(&str, &str)]) -> DesignDoc {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join("d/views").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        DesignDoc::read(&dir.path().join("d")).unwrap()
    }

    fn samples() -> Vec<String> {
        let sample = |name: &str, rest: &str| {
            format!(r#"{{"_id":"{name}","_rev":"1-a","system_name":"{name}","os":"linux",{rest}}}"#)
        };
        vec![
            sample("web01", r#""packages":{"openssl":"3.0.15"}"#),
            sample("web02", r#""packages":null"#),
            sample("web03", &format!(r#""packages":{{"text":"{}"}}"#, "x".repeat(2000))),
        ]
    }

    fn said(files: &[(&str, &str)]) -> Vec<(Severity, String)> {
        let limits = Limits { time: Duration::from_millis(200), ..Limits::default() };
        let remarks = rehearse_within(&design(files), &samples(), limits);
        remarks.into_iter().map(|remark| (remark.severity, remark.to_string())).collect()
    }

    fn one(files: &[(&str, &str)], severity: Severity, words: &str) {
        let said = said(files);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, severity, "{said:?}");
        assert!(said[0].1.contains(words), "{said:?}");
    }

    #[test]
    fn good_views_go_without_a_word() {
        let map = "function (doc) { emit(doc.system_name, null); }";
        assert_eq!(said(&[("v/map.js", map)]), []);
        assert_eq!(said(&[("v/map.js", map), ("v/reduce.js", "_count")]), []);
        let reduce = "function (keys, values, rereduce) { return rereduce ? sum(values) : values.length; }";
        assert_eq!(said(&[("v/map.js", map), ("v/reduce.js", reduce)]), []);
        let part = "function (doc) { emit(doc._id, {_id: doc._id, os: doc.os}); }";
        assert_eq!(said(&[("v/map.js", part)]), [], "a part of it is not the whole");
    }

    #[test]
    fn exceptions_have_a_file_and_a_line() {
        let map = "// packages\nfunction (doc) {\n  Object.keys(doc.packages.openssl).forEach(function (name) {\n    emit(name, null);\n  });\n}";
        let said = said(&[("v/map.js", map)]);
        assert_eq!(said.len(), 2, "{said:?}");
        for ((severity, words), over) in said.iter().zip(["over web02", "over web03"]) {
            assert_eq!(*severity, Severity::Error);
            assert!(words.starts_with("views/v/map.js:3: throws over web0") && words.contains(over), "{words}");
        }
        let throw = "function (doc) {\n  if (doc._id !== 'web01') throw new Error('no');\n  emit(1, null);\n}";
        one(
            &[("v/map.js", throw)],
            Severity::Error,
            "views/v/map.js:2: throws over 2 samples, first web02, which is left out of the view: Error: no",
        );
        let reduce = "function (keys, values) {\n  return values[0].none.at.all;\n}";
        one(
            &[("v/map.js", "function (doc) { emit(1, null); }"), ("v/reduce.js", reduce)],
            Severity::Error,
            "views/v/reduce.js:2: throws",
        );
    }

    #[test]
    fn documents_emitted_whole_and_large_values_are_told() {
        for value in ["doc", "[doc]", "{record: doc}", "{_id: doc._id, os: doc.os, system_name: doc.system_name}"] {
            let map = format!("function (doc) {{ emit(doc._id, {value}); }}");
            let (severity, words) = said(&[("v/map.js", &map)]).remove(0);
            assert_eq!(severity, Severity::Warning);
            assert!(
                words.starts_with("views/v/map.js: emits the document whole: ") && words.contains("for web01"),
                "{words}"
            );
        }
        one(
            &[("v/map.js", "function (doc) { emit(doc._id, doc.packages); }")],
            Severity::Warning,
            "emits a value of 2011 bytes for web03",
        );
    }

    #[test]
    fn silence_and_endlessness_are_told() {
        one(
            &[("v/map.js", "function (doc) { if (doc.os === 'Linux') emit(1); }")],
            Severity::Hint,
            "emits nothing for any of 3 samples",
        );
        one(
            &[("v/map.js", "function (doc) { while (true) {} }")],
            Severity::Error,
            "does not come to an end over 3 samples, first web01: it ran for more than 200ms",
        );
        one(
            &[("v/map.js", "function (doc) { throw 'fatal_error' }")],
            Severity::Error,
            "no question to the view is answered: fatal_error",
        );
        one(
            &[("v/map.js", "function named(doc) { emit(1) }")],
            Severity::Error,
            "a function expression without a name is wanted",
        );
    }

    #[test]
    fn reduces_that_do_no_good_are_told() {
        let map = ("v/map.js", "function (doc) { emit(doc._id, doc.os); }");
        one(
            &[map, ("v/reduce.js", "_sum")],
            Severity::Error,
            "cannot add what the map emits: The _sum function requires",
        );
        one(&[map, ("v/reduce.js", "_stats")], Severity::Error, "has no result: ");
        let long = ("v/map.js", "function (doc) { emit(doc._id, new Array(200).join('x')); }");
        let grows = "function (keys, values, rereduce) { return values; }";
        one(&[long, ("v/reduce.js", grows)], Severity::Warning, "does not shrink: 3 rows of ");
    }
}
