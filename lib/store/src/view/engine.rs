//! The maps of a design document, run over documents.
//!
//! Start at [`Mapper`]. It knows no index: it turns one document into rows and forgets it. What the functions may do is
//! the sandbox's business; how rows of one document stand among each other is [`arranged`]'s.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::collate::sort_key;
use super::sandbox::{Failure, Limits, Sandbox};
use super::terms;

/// A function that is none. The words are CouchDB's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Compilation of the {function} function in the '{view}' view failed: {reason}")]
pub struct Uncompilable {
    /// The view's name.
    pub view: String,
    /// `map` or `reduce`.
    pub function: &'static str,
    /// Counted from one, where the engine knows it.
    pub line: Option<usize>,
    /// The engine's words.
    pub reason: String,
}

/// What a map emitted, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// What a map emitted, with its place in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The key's place among all keys.
    pub sort: Vec<u8>,
    /// The key as JSON.
    pub key: String,
    /// The value as JSON.
    pub value: String,
}

/// The maps of one design document, compiled once. It is bound to its thread, as QuickJS is.
pub struct Mapper {
    maps: Vec<(String, String)>,
    limits: Limits,
    /// None after a call that left it unusable, until the next.
    sandbox: Option<Sandbox>,
}

impl Mapper {
    /// Compiles maps, each with the name of its view.
    ///
    /// # Errors
    /// The first function that is none.
    pub fn new(maps: &[(&str, &str)]) -> Result<Self, Uncompilable> {
        Self::with_limits(maps, Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// The first function that is none.
    pub fn with_limits(maps: &[(&str, &str)], limits: Limits) -> Result<Self, Uncompilable> {
        let maps = maps.iter().map(|(view, source)| ((*view).to_owned(), (*source).to_owned())).collect();
        let mut mapper = Self { maps, limits, sandbox: None };
        match mapper.start() {
            Ok(sandbox) => mapper.sandbox = Some(sandbox),
            Err((index, failure)) => {
                let view = mapper.maps.get(index).map(|(view, _)| view.clone()).unwrap_or_default();
                let line = failure.line();
                return Err(Uncompilable { view, function: "map", line, reason: failure.to_string() });
            }
        }
        Ok(mapper)
    }

    fn start(&self) -> Result<Sandbox, (usize, Failure)> {
        Sandbox::new(self.maps.iter().map(|(_, source)| source.as_str()), self.limits)
    }

    /// The names of the views, in the order of [`Mapper::map`]'s answer.
    pub fn views(&self) -> impl ExactSizeIterator<Item = &str> {
        self.maps.iter().map(|(view, _)| view.as_str())
    }

    /// Runs every map over one document, `_id` and `_rev` included: what each emitted, in the order of emission, or why
    /// it emitted nothing. One map's trouble is not another's.
    pub fn map(&mut self, document: &str) -> Vec<Result<Vec<Emitted>, Failure>> {
        let mut opened = false;
        (0..self.maps.len())
            .map(|index| {
                let result = self.call(document, index, opened);
                opened = true;
                if matches!(result, Err(Failure::TooLong { .. } | Failure::TooMuch { .. } | Failure::TooDeep)) {
                    self.sandbox = None;
                }
                result
            })
            .collect()
    }

    fn call(&mut self, document: &str, index: usize, opened: bool) -> Result<Vec<Emitted>, Failure> {
        if self.sandbox.is_none() || !opened {
            let mut sandbox = match self.sandbox.take() {
                Some(sandbox) => sandbox,
                None => self.start().map_err(|(_, failure)| failure)?,
            };
            sandbox.open(document)?;
            self.sandbox = Some(sandbox);
        }
        let Some(sandbox) = &mut self.sandbox else { return Ok(Vec::new()) };
        rows(&sandbox.map(index)?)
    }
}

fn rows(json: &str) -> Result<Vec<Emitted>, Failure> {
    #[derive(Deserialize)]
    struct Row<'a>(#[serde(borrow)] &'a RawValue, #[serde(borrow)] &'a RawValue);
    let unreadable = |error: serde_json::Error| Failure::Fatal { message: format!("emitted {error}"), line: None };
    let rows: Vec<Row> = serde_json::from_str(json).map_err(unreadable)?;
    Ok(rows.iter().map(|row| Emitted { key: row.0.get().to_owned(), value: row.1.get().to_owned() }).collect())
}

/// The rows of one document and view in the order in which an index has to keep them. CouchDB orders rows by key, then by
/// id; several rows of one document under one key by Erlang's order of keys, then of values, whatever the order of
/// emission.
///
/// # Errors
/// A key or value nested deeper than 128 levels.
pub fn arranged(emitted: Vec<Emitted>) -> Result<Vec<Placed>, serde_json::Error> {
    let mut rows = Vec::with_capacity(emitted.len());
    for Emitted { key, value } in emitted {
        let term: Value = serde_json::from_str(&key)?;
        rows.push((sort_key(&term), term, key, value));
    }
    let mut failed = None;
    rows.sort_by(|(sort, term, _, value), (other_sort, other_term, _, other_value)| {
        let values = || match (serde_json::from_str(value), serde_json::from_str(other_value)) {
            (Ok(one), Ok(other)) => terms::compare(&one, &other),
            (Err(error), _) | (_, Err(error)) => {
                failed = Some(error);
                std::cmp::Ordering::Equal
            }
        };
        sort.cmp(other_sort).then_with(|| terms::compare(term, other_term)).then_with(values)
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(rows.into_iter().map(|(sort, _, key, value)| Placed { sort, key, value }).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const DOC: &str = r#"{"_id":"web01","_rev":"1-a","list":[1,2],"big":9007199254740993,"n":1}"#;

    fn all(source: &str) -> Result<Vec<(Value, Value)>, Failure> {
        let mut mapper = Mapper::new(&[("v", source)]).unwrap();
        let emitted = mapper.map(DOC).remove(0)?;
        let value = |text: &str| serde_json::from_str(text).unwrap();
        Ok(emitted.iter().map(|row| (value(&row.key), value(&row.value))).collect())
    }

    #[test]
    fn functions_find_what_couchdb_gives_them() {
        // Every expectation was answered by CouchDB 3.5.0.
        for (expression, expected) in [
            (
                "[typeof emit, typeof log, typeof require, typeof Map, typeof BigInt]",
                json!(["function", "function", "function", "function", "function"]),
            ),
            (
                "[typeof std, typeof os, typeof print, typeof setTimeout, typeof Promise, typeof Proxy, typeof ArrayBuffer, typeof console, typeof performance, typeof WeakRef]",
                json!(vec!["undefined"; 10]),
            ),
            ("sum([1, 2, 3])", json!(6)),
            ("sum({a: 1, b: 2})", json!(3)),
            ("sum(['a', 'b'])", json!("0ab")),
            ("toJSON({a: 1})", json!("{\"a\":1}")),
            ("JSON.parse('[1]')", json!([1])),
            ("[isArray(doc.list), Array.isArray(doc.list), doc.list instanceof Array]", json!([true, true, false])),
            ("doc.big", json!(9_007_199_254_740_992_u64)),
            ("Object.keys(doc)", json!(["_id", "_rev", "list", "big", "n"])),
            ("[undefined, NaN, function () {}, -0]", json!([null, null, null, 0])),
            ("new Date(0)", json!("1970-01-01T00:00:00.000Z")),
            ("new Error('boo')", json!({"error": "Error", "message": "boo"})),
            ("'\\ud800x'", json!("\u{fffd}x")),
            ("{b: 1, '2': 2, '1': 3}", json!({"1": 3, "2": 2, "b": 1})),
            ("/(\\d+)-/.exec('x12-')[1]", json!("12")),
            ("new RegExp('^w').test(doc._id)", json!(true)),
            ("[this === globalThis, arguments.length]", json!([false, 1])),
            ("undefined", json!(null)),
        ] {
            let rows = all(&format!("function (doc) {{ emit(null, {expression}); }}")).unwrap();
            assert_eq!(rows, [(json!(null), expected)], "{expression}");
        }
        assert_eq!(all("function (doc) { emit(); emit(1, 2, 3); emit(undefined, 1) }").unwrap().len(), 3);
        // What is emitted is what it is at the end.
        assert_eq!(all("function (doc) { var a = [1]; emit(a); a.push(2); }").unwrap(), [(json!([1, 2]), json!(null))]);
    }

    #[test]
    fn what_is_a_function_to_couchdb_is_one_here() {
        for source in [
            "function (doc) { emit(1) }",
            "function (doc) { emit(1) };\n\n",
            "(function (doc) { emit(1) })",
            "doc => emit(1);",
            "// words\n/* more */ function (doc) { emit(1) } // end",
            "function helper() { return 1 };\n(function (doc) { emit(helper()) })",
        ] {
            assert_eq!(all(source).unwrap(), [(json!(1), json!(null))], "{source}");
        }
        for (source, reason, line) in [
            ("function named(doc) { emit(1) }", "Expression does not eval to a function.", None),
            ("var f = function (doc) { emit(1) }", "Expression does not eval to a function.", None),
            ("42", "Expression does not eval to a function.", None),
            ("function (doc) {\n  emit(1;\n}", "SyntaxError: ", Some(2)),
            ("(function () {\n throw new Error('top') })()", "Error: top", Some(2)),
        ] {
            let error = Mapper::new(&[("fine", "function (doc) {}"), ("v", source)]).err().unwrap();
            let words = format!("Compilation of the map function in the 'v' view failed: {reason}");
            assert!(error.to_string().starts_with(&words), "{error}");
            assert_eq!(error.line, line, "{source}");
        }
    }

    #[test]
    fn a_map_cannot_change_what_the_next_one_sees() {
        let change = "function (doc) { doc.n = 5; doc.list.x = 5; doc.more = 5; leak = 5; Array.prototype.x = 5; try { doc.list.push(3) } catch (e) {} }";
        let look = "function (doc) { emit([doc.n, doc.list, doc.more === undefined], [typeof leak, typeof [].x]); }";
        let mut mapper = Mapper::new(&[("a", change), ("b", look)]).unwrap();
        let emitted = mapper.map(DOC).remove(1).unwrap();
        assert_eq!(emitted[0].key, "[1,[1,2],true]");
        assert_eq!(emitted[0].value, r#"["undefined","undefined"]"#);
        let strict = all("function (doc) { 'use strict'; doc.n = 5; }").unwrap_err();
        assert!(strict.to_string().starts_with("TypeError: "), "{strict}");
        assert!(!strict.spoils_the_view());
    }

    #[test]
    fn a_map_that_throws_emits_nothing_and_is_told_with_its_line() {
        let error = all("function (doc) {\n  emit(1, 1);\n  doc.none.at.all;\n}").unwrap_err();
        let Failure::Thrown { message, line } = error else { panic!("{error}") };
        assert!(message.starts_with("TypeError: "), "{message}");
        assert_eq!(line, Some(3));
        // As CouchDB 3.5.0 takes them.
        for (thrown, message, spoils) in [
            ("'words'", "words", false),
            ("{forbidden: 'x'}", r#"{"forbidden":"x"}"#, false),
            ("['error', 'key', 'reason']", r#"["error","key","reason"]"#, false),
            ("'fatal_error'", "fatal_error", true),
            ("['fatal', 'key', 'reason']", r#"["fatal","key","reason"]"#, true),
            ("null", "null", true),
            ("undefined", "undefined", true),
            ("{get name() { throw 1 }}", "something that cannot be told", true),
        ] {
            let failure = all(&format!("function (doc) {{ throw {thrown} }}")).unwrap_err();
            assert_eq!((failure.to_string().as_str(), failure.spoils_the_view()), (message, spoils), "{thrown}");
        }
        for emitted in
            ["(function () { var a = {}; a.a = a; return a })()", "BigInt(5)", "{get x() { throw new Error('g') }}"]
        {
            let failure = all(&format!("function (doc) {{ emit(1, {emitted}) }}")).unwrap_err();
            assert!(matches!(failure, Failure::Fatal { .. }), "{emitted}: {failure}");
        }
        let required = all("function (doc) { require('views/lib/x') }").unwrap_err();
        assert!(required.to_string().contains("require is not available here"), "{required}");
    }

    #[test]
    fn a_function_that_will_not_end_is_ended_and_the_others_are_served() {
        let limits = Limits { time: Duration::from_millis(250), memory: 8 << 20, ..Limits::default() };
        let maps = [
            (
                "runaway",
                "function (doc) { if (doc.bad) { while (true) { try { while (true) {} } catch (e) {} } } emit('a') }",
            ),
            (
                "hog",
                "function (doc) { var a = []; while (doc.bad) { a.push(new Array(10000).fill(a.length)) } emit('b') }",
            ),
            ("deep", "function (doc) { function f(n) { return f(n + 1) + 1 } if (doc.bad) { f(0) } emit('c') }"),
            (
                "regexp",
                "function (doc) { if (doc.bad) { /^(a+)+$/.test('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab') } emit('d') }",
            ),
            ("fine", "function (doc) { emit('e') }"),
        ];
        let mut mapper = Mapper::with_limits(&maps, limits).unwrap();
        for _ in 0..2 {
            let results = mapper.map(r#"{"_id":"a","bad":true}"#);
            assert_eq!(results[0], Err(Failure::TooLong { time: limits.time }));
            assert_eq!(results[1], Err(Failure::TooMuch { memory: limits.memory }));
            assert_eq!(results[2], Err(Failure::TooDeep));
            assert_eq!(results[3], Err(Failure::TooLong { time: limits.time }));
            assert_eq!(results[4].as_ref().unwrap().len(), 1);
            assert!(results[..4].iter().all(|result| result.as_ref().is_err_and(Failure::spoils_the_view)));
            assert!(
                mapper.map(r#"{"_id":"a"}"#).iter().all(|result| result.as_ref().is_ok_and(|rows| rows.len() == 1))
            );
        }
    }

    #[test]
    fn a_document_that_is_no_json_is_an_error_for_every_view() {
        let mut mapper =
            Mapper::new(&[("a", "function (doc) { emit(1) }"), ("b", "function (doc) { emit(1) }")]).unwrap();
        mapper.map(DOC);
        assert!(mapper.map("{").iter().all(Result::is_err));
        assert!(mapper.map(DOC).iter().all(Result::is_ok));
    }

    #[test]
    fn rows_of_one_document_stand_as_in_couchdb() {
        let row = |(key, value): (&str, &str)| Emitted { key: key.to_owned(), value: value.to_owned() };
        // é in one character and in two, which are one key; recorded from CouchDB 3.5.0.
        let rows = [("\"é\"", "1"), ("\"e\u{301}\"", "0"), ("\"é\"", "0"), ("\"e\u{301}\"", "2"), ("\"e\"", "5")];
        let placed = arranged(rows.into_iter().map(row).collect()).unwrap();
        let values: Vec<&str> = placed.iter().map(|row| row.value.as_str()).collect();
        assert_eq!(values, ["5", "0", "2", "0", "1"]);
        assert_eq!(placed[1].sort, placed[4].sort);
    }
}
