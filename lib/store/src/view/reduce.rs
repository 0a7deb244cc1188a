//! Reduces: CouchDB's own, and those in JavaScript.
//!
//! Start at [`Reducer`]; [`Group`] takes the rows of one group as they come and holds no more than a chunk of them. As in
//! CouchDB a chunk's rows go from the last to the first, and what comes of the chunks is always reduced once more, even
//! where there is but one. How rows fall into chunks differs (CouchDB's are the leaves of a tree, of some 1.3 KB), and so
//! do the answers of functions for which that makes a difference; there are none such among CouchDB's own.

use serde_json::Value;

use super::answer::IndexRow;
use super::builtin::{self, Stats};
use super::distinct::Sketch;
use super::engine::Uncompilable;
use super::sandbox::{Failure, Limits, Sandbox};

/// How many rows, or results of such, are reduced at once.
const CHUNK: usize = 100;

/// From this length on, the result of a JavaScript reduce has to be shorter than half of what went in
/// (`reduce_limit` of CouchDB 3.5.0, in UTF-16 units).
const FREE_LENGTH: usize = 4096;

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReduction {
    /// The view's values are none that the reduce can take.
    #[error("{reason}")]
    Value {
        /// CouchDB's words.
        reason: String,
    },
    /// The result grows with its input.
    #[error("Reduce output must shrink more rapidly: input size: {input} output size: {output}")]
    Overflow {
        /// The length of the input.
        input: usize,
        /// The length of the output.
        output: usize,
    },
    /// The function failed, not by throwing: what it throws makes its result `null`.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A view's reduce, compiled once. It is bound to its thread, as QuickJS is.
pub struct Reducer(Kind);

enum Kind {
    Count,
    Sum,
    Stats,
    Distinct,
    Script(Box<Script>),
}

struct Script {
    source: String,
    limits: Limits,
    /// None after a call that left it unusable, until the next.
    sandbox: Option<Sandbox>,
    thrown: Option<Failure>,
}

/// What came of a chunk.
enum Partial {
    Count(u64),
    Sum(Value),
    Stats(Stats),
    Distinct(Sketch),
    Script(String),
}

impl Reducer {
    /// The reduce of a view: a name such as `_count`, or a function.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(view: &str, source: &str) -> Result<Self, Uncompilable> {
        Self::with_limits(view, source, Limits::default())
    }

    /// The same with other limits, which are for a call on a chunk.
    ///
    /// # Errors
    /// It is neither.
    pub fn with_limits(view: &str, source: &str, limits: Limits) -> Result<Self, Uncompilable> {
        let no_reduce = |line, reason| Uncompilable { view: view.to_owned(), function: "reduce", line, reason };
        // CouchDB looks at how the name begins, and no further.
        let known = [
            ("_count", Kind::Count),
            ("_sum", Kind::Sum),
            ("_stats", Kind::Stats),
            ("_approx_count_distinct", Kind::Distinct),
        ];
        if source.starts_with('_') {
            let kind = known.into_iter().find(|(name, _)| source.starts_with(name));
            let unknown = || no_reduce(None, format!("`{source}` is not a supported reduce function."));
            return kind.map(|(_, kind)| Self(kind)).ok_or_else(unknown);
        }
        let mut script = Script { source: source.to_owned(), limits, sandbox: None, thrown: None };
        match script.start() {
            Ok(sandbox) => script.sandbox = Some(sandbox),
            Err(failure) => return Err(no_reduce(failure.line(), failure.to_string())),
        }
        Ok(Self(Kind::Script(Box::new(script))))
    }

    /// Whether it counts rows and looks at none.
    pub fn is_count(&self) -> bool {
        matches!(self.0, Kind::Count)
    }

    /// Whether it can take a value at all. CouchDB reduces while it builds an index, which such a value spoils for all of
    /// the design document.
    ///
    /// # Errors
    /// It cannot, in CouchDB's words.
    pub fn takes(&self, emitted: &str) -> Result<(), NoReduction> {
        match self.0 {
            Kind::Stats => builtin::stats([json(emitted)?]).map(drop).map_err(value),
            Kind::Sum => builtin::sum([json(emitted)?]).map(drop).map_err(value),
            // A function may do with a value what it likes.
            Kind::Count | Kind::Distinct | Kind::Script(_) => Ok(()),
        }
    }

    /// What a JavaScript reduce threw last, if it threw since this was asked last. Its result was `null` then.
    pub fn thrown(&mut self) -> Option<Failure> {
        match &mut self.0 {
            Kind::Script(script) => script.thrown.take(),
            Kind::Count | Kind::Sum | Kind::Stats | Kind::Distinct => None,
        }
    }

    /// The rows of one group, in the order of the index, to one value.
    ///
    /// # Errors
    /// See [`NoReduction`].
    pub fn reduce(&mut self, rows: impl IntoIterator<Item = IndexRow>) -> Result<Value, NoReduction> {
        let mut group = Group::default();
        for row in rows {
            group.add(self, row)?;
        }
        group.finish(self)
    }

    fn chunk(&mut self, rows: &[IndexRow]) -> Result<Partial, NoReduction> {
        let rows = backwards(rows);
        let values = || rows.iter().map(|row| json(&row.value)).collect::<Result<Vec<_>, _>>();
        match &mut self.0 {
            Kind::Count => Ok(Partial::Count(u64::try_from(rows.len()).unwrap_or(u64::MAX))),
            Kind::Sum => builtin::sum(values()?).map(Partial::Sum).map_err(value),
            Kind::Stats => builtin::stats(values()?).map(Partial::Stats).map_err(value),
            Kind::Distinct => {
                let mut sketch = Sketch::new();
                for row in &rows {
                    sketch.insert(&json(&row.key)?);
                }
                Ok(Partial::Distinct(sketch))
            }
            Kind::Script(script) => {
                let keys = rows.iter().map(|row| format!("[{},{}]", row.key, Value::from(row.id.as_str())));
                script.call(&list(keys), &list(rows.iter().map(|row| &row.value)), false).map(Partial::Script)
            }
        }
    }

    fn again(&mut self, partials: Vec<Partial>) -> Result<Partial, NoReduction> {
        match &mut self.0 {
            Kind::Count => Ok(Partial::Count(partials.iter().map(Partial::count).sum())),
            Kind::Sum => {
                let sums = partials
                    .into_iter()
                    .filter_map(|partial| if let Partial::Sum(sum) = partial { Some(sum) } else { None });
                builtin::sum(sums).map(Partial::Sum).map_err(value)
            }
            Kind::Stats => {
                let mut all: Option<Stats> = None;
                for partial in partials {
                    if let Partial::Stats(stats) = partial {
                        all = Some(match all {
                            Some(all) => all.and(stats).map_err(value)?,
                            None => stats,
                        });
                    }
                }
                all.map_or_else(|| builtin::stats([]).map_err(value), Ok).map(Partial::Stats)
            }
            Kind::Distinct => {
                let all = partials.iter().fold(Sketch::new(), |all, partial| match partial {
                    Partial::Distinct(sketch) => all.and(sketch),
                    Partial::Count(_) | Partial::Sum(_) | Partial::Stats(_) | Partial::Script(_) => all,
                });
                Ok(Partial::Distinct(all))
            }
            Kind::Script(script) => {
                let values = partials
                    .iter()
                    .filter_map(|partial| if let Partial::Script(json) = partial { Some(json) } else { None });
                script.call("null", &list(values), true).map(Partial::Script)
            }
        }
    }
}

impl Partial {
    fn count(&self) -> u64 {
        match self {
            Self::Count(count) => *count,
            Self::Sum(_) | Self::Stats(_) | Self::Distinct(_) | Self::Script(_) => 0,
        }
    }

    fn value(self) -> Result<Value, NoReduction> {
        match self {
            Self::Count(count) => Ok(count.into()),
            Self::Sum(sum) => Ok(sum),
            Self::Stats(stats) => Ok(stats.value()),
            Self::Distinct(sketch) => Ok(sketch.count().into()),
            Self::Script(text) => json(&text),
        }
    }
}

impl Script {
    fn start(&self) -> Result<Sandbox, Failure> {
        Sandbox::new([self.source.as_str()], self.limits).map_err(|(_, failure)| failure)
    }

    fn call(&mut self, keys: &str, values: &str, again: bool) -> Result<String, NoReduction> {
        let mut sandbox = match self.sandbox.take() {
            Some(sandbox) => sandbox,
            None => self.start()?,
        };
        let result = sandbox.reduce(0, keys, values, again);
        if !matches!(result, Err(Failure::TooLong { .. } | Failure::TooMuch { .. } | Failure::TooDeep)) {
            self.sandbox = Some(sandbox);
        }
        let result = match result {
            Err(thrown @ Failure::Thrown { .. }) => {
                self.thrown = Some(thrown);
                "null".to_owned()
            }
            other => other?,
        };
        let units = |text: &str| text.encode_utf16().count();
        if result.len() > FREE_LENGTH {
            let (input, output) = (units(keys) + units(values), units(&result));
            if output > FREE_LENGTH && output * 2 > input {
                return Err(NoReduction::Overflow { input, output });
            }
        }
        Ok(result)
    }
}

/// One group on its way to a value.
#[derive(Default)]
pub(super) struct Group {
    rows: Vec<IndexRow>,
    partials: Vec<Partial>,
    count: u64,
}

impl Group {
    pub(super) fn add(&mut self, reducer: &mut Reducer, row: IndexRow) -> Result<(), NoReduction> {
        if reducer.is_count() {
            self.count += 1;
            return Ok(());
        }
        if self.rows.len() >= CHUNK && self.rows.last().is_none_or(|last| !last.is_twin_of(&row)) {
            self.close(reducer)?;
        }
        self.rows.push(row);
        Ok(())
    }

    fn close(&mut self, reducer: &mut Reducer) -> Result<(), NoReduction> {
        self.partials.push(reducer.chunk(&self.rows)?);
        self.rows.clear();
        if self.partials.len() >= CHUNK {
            let partials = std::mem::take(&mut self.partials);
            self.partials.push(reducer.again(partials)?);
        }
        Ok(())
    }

    pub(super) fn finish(mut self, reducer: &mut Reducer) -> Result<Value, NoReduction> {
        if reducer.is_count() {
            return Ok(self.count.into());
        }
        if !self.rows.is_empty() {
            self.close(reducer)?;
        }
        reducer.again(self.partials)?.value()
    }
}

/// From the last to the first, but rows of one document under one key as they stand.
fn backwards(rows: &[IndexRow]) -> Vec<&IndexRow> {
    let mut runs: Vec<&[IndexRow]> = rows.chunk_by(IndexRow::is_twin_of).collect();
    runs.reverse();
    runs.into_iter().flatten().collect()
}

fn list(elements: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut list = String::from("[");
    for (index, element) in elements.enumerate() {
        if index > 0 {
            list.push(',');
        }
        list.push_str(element.as_ref());
    }
    list.push(']');
    list
}

fn json(text: &str) -> Result<Value, NoReduction> {
    serde_json::from_str(text).map_err(|error| NoReduction::Value { reason: error.to_string() })
}

fn value(reason: String) -> NoReduction {
    NoReduction::Value { reason }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn rows(values: &Value) -> Vec<IndexRow> {
        let row = |(index, value): (usize, &Value)| IndexRow {
            sort: Vec::new(),
            id: format!("d{index}"),
            key: index.to_string(),
            value: value.to_string(),
        };
        values.as_array().unwrap().iter().enumerate().map(row).collect()
    }

    fn reduced(source: &str, values: &Value) -> Result<Value, NoReduction> {
        Reducer::new("v", source).unwrap().reduce(rows(values))
    }

    #[test]
    fn built_in_reduces_are_the_same_over_many_chunks() {
        let many: Value = (0..25_000).collect();
        assert_eq!(reduced("_count", &many).unwrap(), json!(25_000));
        assert_eq!(reduced("_sum", &many).unwrap(), json!(312_487_500));
        let squares: u64 = (0..25_000_u64).map(|i| i * i).sum();
        let stats = json!({"sum": 312_487_500, "count": 25_000, "min": 0, "max": 24_999, "sumsqr": squares});
        assert_eq!(reduced("_stats", &many).unwrap(), stats);
        assert!(reduced("_approx_count_distinct", &many).unwrap().as_u64().unwrap().abs_diff(25_000) < 1_500);
        let words = reduced("_sum", &json!([1, "x"])).unwrap();
        assert_eq!((&words["error"], &words["caused_by"]), (&json!("builtin_reduce_error"), &json!("x")));
        assert!(matches!(reduced("_stats", &json!(["x"])), Err(NoReduction::Value { .. })));
    }

    #[test]
    fn functions_are_called_as_couchdb_calls_them() {
        // As CouchDB 3.5.0 answered.
        let look = "function (keys, values, rereduce) { return [keys, values, rereduce] }";
        let answer = json!([null, [[[[1, "d1"], [0, "d0"]], ["b", "a"], false]], true]);
        assert_eq!(reduced(look, &json!(["a", "b"])).unwrap(), answer);
        let twins = ["p", "q"].map(|value| IndexRow {
            sort: Vec::new(),
            id: "y".into(),
            key: "1".into(),
            value: json!(value).to_string(),
        });
        let mut all = twins.to_vec();
        all.push(IndexRow { sort: Vec::new(), id: "z".into(), key: "2".into(), value: "0".into() });
        let answer = json!([null, [[[[2, "z"], [1, "y"], [1, "y"]], [0, "p", "q"], false]], true]);
        assert_eq!(Reducer::new("v", look).unwrap().reduce(all).unwrap(), answer);
        let around = "function (keys, values) { return [keys === null, arguments.length, this === globalThis, Object.isFrozen(values)] }";
        assert_eq!(reduced(around, &json!([1])).unwrap(), json!([true, 3, false, false]));
        let sums = "function (keys, values, rereduce) { return rereduce ? sum(values) : values.length }";
        assert_eq!(reduced(sums, &(0..25_000).collect()).unwrap(), json!(25_000));
        for (source, expected) in [
            ("function () {}", json!(null)),
            ("function () { return NaN }", json!(null)),
            ("function () { return 'ok' }", json!("ok")),
        ] {
            assert_eq!(reduced(source, &json!([1])).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn a_reduce_that_throws_is_null_and_one_that_cannot_go_on_is_an_error() {
        let mut reducer = Reducer::new(
            "v",
            "function (keys, values, rereduce) {\n  if (rereduce) throw new Error('x');\n  return 1 }",
        )
        .unwrap();
        assert_eq!(reducer.reduce(rows(&json!([1]))), Ok(json!(null)));
        assert_eq!(reducer.thrown(), Some(Failure::Thrown { message: "Error: x".into(), line: Some(2) }));
        assert_eq!(reducer.thrown(), None);
        for source in ["function () { throw 'fatal_error' }", "function () { var a = {}; a.a = a; return a }"] {
            assert!(
                matches!(reduced(source, &json!([1])), Err(NoReduction::Failed(Failure::Fatal { .. }))),
                "{source}"
            );
        }
        let limits = Limits { time: Duration::from_millis(100), ..Limits::default() };
        let mut reducer =
            Reducer::with_limits("v", "function (k, v) { while (v[0] === 1) {} return 2 }", limits).unwrap();
        assert_eq!(reducer.reduce(rows(&json!([1]))), Err(NoReduction::Failed(Failure::TooLong { time: limits.time })));
        assert_eq!(reducer.reduce(rows(&json!([2]))), Ok(json!(2)));
    }

    #[test]
    fn a_result_that_grows_is_refused() {
        let all = "function (keys, values, rereduce) { return rereduce ? [].concat.apply([], values) : values }";
        let long: Value = (0..200).map(|_| "x".repeat(100)).collect();
        let error = reduced(all, &long).unwrap_err();
        assert!(error.to_string().starts_with("Reduce output must shrink more rapidly: input size: "), "{error}");
        assert!(reduced(all, &json!(["short"])).is_ok());
    }

    #[test]
    fn what_is_no_reduce_is_refused() {
        for (source, words) in [
            ("_foo", "`_foo` is not a supported reduce function."),
            ("function (k, v, r) {", "SyntaxError"),
            ("function named() {}", "Expression does not eval to a function."),
        ] {
            let error = Reducer::new("v", source).err().unwrap().to_string();
            assert!(error.starts_with("Compilation of the reduce function in the 'v' view failed: "), "{error}");
            assert!(error.contains(words), "{error}");
        }
        assert!(Reducer::new("v", "_count").unwrap().is_count());
    }
}
