//! `_sum` and `_stats`, as CouchDB has them in Erlang.
//!
//! Start at [`sum`] and [`stats`]. Whole numbers stay whole up to 127 bits. Erlang's crashes over odd mixtures (a number
//! and an object) are errors here, in our words.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value, json};

/// CouchDB's words for what `_sum` cannot take.
const NO_SUM: &str = "The _sum function requires that map values be numbers, arrays of numbers, or objects. Objects cannot be \
    mixed with other data structures. Objects can be arbitrarily nested, provided that the values for all fields are \
    themselves numbers, arrays of numbers, or objects.";

/// An error object of an earlier reduction, by its member `error`.
const FAILED: &str = "builtin_reduce_error";

#[derive(Debug, Clone, Copy)]
enum Num {
    Int(i128),
    Float(f64),
}

impl Num {
    fn of(number: &Number) -> Self {
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        whole.map_or_else(|| Self::Float(number.as_f64().unwrap_or_default()), Self::Int)
    }

    fn zero() -> Self {
        Self::Int(0)
    }

    #[allow(clippy::cast_precision_loss, reason = "what a float cannot hold, CouchDB's answer loses in JSON as well")]
    fn float(self) -> f64 {
        match self {
            Self::Int(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }

    fn with(
        self,
        other: Self,
        whole: fn(i128, i128) -> Option<i128>,
        float: fn(f64, f64) -> f64,
    ) -> Result<Self, String> {
        let exact = match (self, other) {
            (Self::Int(one), Self::Int(other)) => whole(one, other).map(Self::Int),
            (Self::Float(_), _) | (_, Self::Float(_)) => None,
        };
        let result = exact.unwrap_or_else(|| Self::Float(float(self.float(), other.float())));
        let finite = result.float().is_finite();
        finite
            .then_some(result)
            .ok_or_else(|| "bad argument in an arithmetic expression: the result is too large".to_owned())
    }

    fn plus(self, other: Self) -> Result<Self, String> {
        self.with(other, i128::checked_add, |one, other| one + other)
    }

    fn squared(self) -> Result<Self, String> {
        self.with(self, i128::checked_mul, |one, other| one * other)
    }

    fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(one), Self::Int(other)) => one.cmp(&other),
            (Self::Float(_), _) | (_, Self::Float(_)) => {
                self.float().partial_cmp(&other.float()).unwrap_or(Ordering::Equal)
            }
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Int(whole) => {
                let exact = i64::try_from(whole).map(Number::from).or_else(|_| u64::try_from(whole).map(Number::from));
                exact.map_or_else(|_| json!(self.float()), Value::Number)
            }
            Self::Float(float) => json!(float),
        }
    }
}

/// Why values cannot be added.
enum NoSum {
    /// This one is neither number, array nor object.
    Value(Value),
    /// This one is what another sum said.
    Before(Map<String, Value>),
    /// CouchDB has no answer to that at all.
    Crash(String),
}

/// The sum of values. What cannot be added makes an answer that is an error object, as with CouchDB.
pub(super) fn sum(values: impl IntoIterator<Item = Value>) -> Result<Value, String> {
    let mut total = json!(0);
    for value in values {
        total = match add(value, total) {
            Ok(total) => total,
            Err(NoSum::Before(told)) => return Ok(Value::Object(told)),
            Err(NoSum::Value(cause)) => return Ok(json!({"error": FAILED, "reason": NO_SUM, "caused_by": cause})),
            Err(NoSum::Crash(reason)) => return Err(reason),
        };
    }
    Ok(total)
}

/// Whether a sum is an error object; its words.
pub(super) fn refusal(sum: &Value) -> Option<&str> {
    let failed = sum.get("error").is_some_and(|error| error == FAILED);
    failed.then(|| sum.get("reason").and_then(Value::as_str).unwrap_or(FAILED))
}

fn add(value: Value, total: Value) -> Result<Value, NoSum> {
    match (value, total) {
        (Value::Number(value), Value::Number(total)) => {
            Num::of(&total).plus(Num::of(&value)).map(Num::value).map_err(NoSum::Crash)
        }
        (Value::Array(value), Value::Array(total)) => add_arrays(total, value),
        (value @ Value::Number(_), Value::Array(total)) => add_arrays(total, vec![value]),
        (Value::Array(value), total @ Value::Number(_)) => add_arrays(vec![total], value),
        (Value::Object(value), total) => {
            match value.get("error") {
                Some(error) if error == FAILED => return Err(NoSum::Before(value)),
                Some(_) => return Err(NoSum::Crash("_sum cannot add objects with a member named error".to_owned())),
                None => {}
            }
            match total {
                Value::Object(total) => add_objects(value, total),
                Value::Number(zero) if zero.as_i64() == Some(0) => Ok(Value::Object(value)),
                other => Err(NoSum::Crash(format!("_sum cannot add an object to {other}"))),
            }
        }
        (other, _) => Err(NoSum::Value(other)),
    }
}

fn add_arrays(total: Vec<Value>, value: Vec<Value>) -> Result<Value, NoSum> {
    let mut sum = Vec::with_capacity(total.len().max(value.len()));
    let mut total = total.into_iter();
    let mut value = value.into_iter();
    loop {
        match (total.next(), value.next()) {
            (None, None) => return Ok(Value::Array(sum)),
            // Without a partner an element is passed on unseen.
            (Some(one), None) | (None, Some(one)) => sum.push(one),
            (Some(Value::Number(one)), Some(Value::Number(other))) => {
                sum.push(Num::of(&one).plus(Num::of(&other)).map(Num::value).map_err(NoSum::Crash)?);
            }
            (Some(one), Some(_)) => return Err(NoSum::Value(std::iter::once(one).chain(total).collect())),
        }
    }
}

fn add_objects(value: Map<String, Value>, total: Map<String, Value>) -> Result<Value, NoSum> {
    let mut total = total;
    let mut sum = Vec::with_capacity(value.len().max(total.len()));
    for (name, value) in value {
        let member = match total.shift_remove(&name) {
            Some(total) => add(value, total)?,
            None => value,
        };
        sum.push((name, member));
    }
    sum.extend(total);
    sum.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    Ok(Value::Object(sum.into_iter().collect()))
}

/// What `_stats` knows of some numbers, or of each place of arrays.
#[derive(Debug, Clone)]
pub(super) enum Stats {
    One(Figures),
    Many(Vec<Stats>),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    sum: Num,
    count: Num,
    min: Num,
    max: Num,
    squares: Num,
}

/// The statistics of values: numbers, objects that are statistics themselves, or arrays of these, of one length.
pub(super) fn stats(values: impl IntoIterator<Item = Value>) -> Result<Stats, String> {
    let mut all: Option<Stats> = None;
    for value in values {
        all = Some(match all {
            Some(all) => all.and(Stats::of(&value).map_err(|reason| not_alike(&value, reason))?)?,
            None => Stats::of(&value)?,
        });
    }
    Ok(all.unwrap_or(Stats::One(Figures::none())))
}

/// CouchDB has other words for a value that is not the first.
fn not_alike(value: &Value, reason: String) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => reason,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => no_stats(value),
    }
}

fn no_stats(value: &Value) -> String {
    format!("The _stats function requires that map values be numbers or arrays of numbers, not '{value}'")
}

impl Stats {
    fn of(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => Figures::of(Num::of(number)).map(Self::One),
            Value::Array(values) => values.iter().map(Self::of).collect::<Result<_, _>>().map(Self::Many),
            Value::Object(members) => Figures::given(members).map(Self::One),
            Value::Null | Value::Bool(_) | Value::String(_) => Err(format!("non-numeric _stats input: {value}")),
        }
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Result<Self, String> {
        match (self, other) {
            (Self::One(one), Self::One(other)) => one.and(other).map(Self::One),
            (Self::Many(one), Self::Many(other)) if one.len() == other.len() => {
                let pairs = one.into_iter().zip(other);
                pairs.map(|(one, other)| one.and(other)).collect::<Result<_, _>>().map(Self::Many)
            }
            (Self::Many(_), Self::Many(_)) => {
                Err("The _stats function requires that all arrays have one length".to_owned())
            }
            (Self::One(_), Self::Many(_)) | (Self::Many(_), Self::One(_)) => {
                Err("The _stats function requires that map values be all numbers or all arrays of numbers".to_owned())
            }
        }
    }

    /// As CouchDB answers it.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::One(figures) => figures.value(),
            Self::Many(all) => all.iter().map(Self::value).collect(),
        }
    }
}

impl Figures {
    fn none() -> Self {
        let zero = Num::zero();
        Self { sum: zero, count: zero, min: zero, max: zero, squares: zero }
    }

    fn of(number: Num) -> Result<Self, String> {
        Ok(Self { sum: number, count: Num::Int(1), min: number, max: number, squares: number.squared()? })
    }

    fn given(members: &Map<String, Value>) -> Result<Self, String> {
        let figure = |name: &str| match members.get(name) {
            Some(Value::Number(number)) => Ok(Num::of(number)),
            Some(other) => Err(format!("non-numeric _stats input received for {name}: {other}")),
            None => {
                Err(format!("user _stats input missing required field {name} ({})", Value::Object(members.clone())))
            }
        };
        Ok(Self {
            sum: figure("sum")?,
            count: figure("count")?,
            min: figure("min")?,
            max: figure("max")?,
            squares: figure("sumsqr")?,
        })
    }

    fn and(self, other: Self) -> Result<Self, String> {
        Ok(Self {
            sum: self.sum.plus(other.sum)?,
            count: self.count.plus(other.count)?,
            min: if other.min.order(self.min).is_lt() { other.min } else { self.min },
            max: if other.max.order(self.max).is_gt() { other.max } else { self.max },
            squares: self.squares.plus(other.squares)?,
        })
    }

    fn value(self) -> Value {
        let Self { sum, count, min, max, squares } = self;
        let [sum, count, min, max, squares] = [sum, count, min, max, squares].map(Num::value);
        json!({"sum": sum, "count": count, "min": min, "max": max, "sumsqr": squares})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values, as one document each emitted them, with what CouchDB 3.5.0 answered. It hands the rows of one leaf to a
    /// reduce from the last to the first, and reduces the result once more.
    fn summed(values: &Value) -> Result<Value, String> {
        sum([sum(values.as_array().unwrap().iter().rev().cloned())?])
    }

    #[test]
    fn sums_are_those_of_couchdb() {
        let refused = |cause: Value| json!({"error": FAILED, "reason": NO_SUM, "caused_by": cause});
        for (values, expected) in [
            (json!([1, 2.5, -3]), json!(0.5)),
            (json!([9_007_199_254_740_992_u64, 9_007_199_254_740_992_u64, 1]), json!(18_014_398_509_481_985_u64)),
            (json!([0.1, 0.2]), json!(0.300_000_000_000_000_04)),
            (json!([0.1, 0.2, 3]), json!(3.300_000_000_000_000_3)),
            (json!([1e200, 1e200]), json!(2e200)),
            (json!([1, "x"]), refused(json!("x"))),
            (json!([1, "x", 5]), refused(json!("x"))),
            (json!([null]), refused(json!(null))),
            (json!([true]), refused(json!(true))),
            (json!([[1, 2], [3, 4, 5]]), json!([4, 6, 5])),
            (json!([[1, 2], 3]), json!([4, 2])),
            (json!([3, [1, 2]]), json!([4, 2])),
            (json!([[1, "a"], [2]]), json!([3, "a"])),
            (json!([["a"]]), refused(json!([0]))),
            (json!([[1, null], [2, 3]]), refused(json!([3]))),
            (json!([[]]), json!([0])),
            (json!([[], [1]]), json!([1])),
            (json!([[[1]]]), refused(json!([0]))),
            (json!([{"a": 1, "b": 2}, {"a": 5, "c": 7}]), json!({"a": 6, "b": 2, "c": 7})),
            (
                json!([{"z": {"x": 1}, "a": [1]}, {"z": {"x": 2, "y": [3]}, "a": 2}]),
                json!({"a": [3], "z": {"x": 3, "y": [3]}}),
            ),
            (json!([{"z": 1, "a": [1]}]), json!({"z": 1, "a": [1]})),
            (json!([{"a": "s"}]), json!({"a": "s"})),
            (json!([{"a": "s"}, {"a": 1}]), refused(json!("s"))),
            (json!([0, {"a": 1}]), refused(json!(0))),
            (json!([{}, {}]), json!({})),
            (json!([{"error": "builtin_reduce_error", "q": 1}, 5]), json!({"error": "builtin_reduce_error", "q": 1})),
        ] {
            let answered = summed(&values).unwrap();
            assert_eq!(answered.to_string(), expected.to_string(), "{values}");
            assert_eq!(refusal(&answered).is_some(), expected.get("error").is_some());
        }
        // CouchDB answers 500 to these.
        for values in [json!([{"a": 1}, 2]), json!([{"error": "x"}]), json!([{"a": 1}, [1]])] {
            assert!(summed(&values).is_err(), "{values}");
        }
    }

    #[test]
    fn statistics_are_those_of_couchdb() {
        let figures = |sum: Value, count: u32, min: Value, max: Value, squares: Value| json!({"sum": sum, "count": count, "min": min, "max": max, "sumsqr": squares});
        let given = json!({"sum": 3, "count": 2, "min": 1, "max": 2, "sumsqr": 5, "more": 1});
        for (values, expected) in [
            (json!([1, 2.5, -3]), figures(json!(0.5), 3, json!(-3), json!(2.5), json!(16.25))),
            (json!([-1.5, 2]), figures(json!(0.5), 2, json!(-1.5), json!(2), json!(6.25))),
            (
                json!([0.1, 0.2, 3]),
                figures(json!(3.300_000_000_000_000_3), 3, json!(0.1), json!(3), json!(9.049_999_999_999_999)),
            ),
            (
                json!([9_007_199_254_740_992_u64, 9_007_199_254_740_992_u64, 1]),
                figures(
                    json!(18_014_398_509_481_985_u64),
                    3,
                    json!(1),
                    json!(9_007_199_254_740_992_u64),
                    json!(1.622_592_768_292_133_6e32),
                ),
            ),
            (json!([given]), figures(json!(3), 2, json!(1), json!(2), json!(5))),
            (json!([given, 4]), figures(json!(7), 3, json!(1), json!(4), json!(21))),
            (json!([4, given]), figures(json!(7), 3, json!(1), json!(4), json!(21))),
            (json!([[]]), json!([])),
            (json!([[[1]], [[2]]]), json!([[figures(json!(3), 2, json!(1), json!(2), json!(5))]])),
        ] {
            let answered = stats(values.as_array().unwrap().iter().rev().cloned()).unwrap().value();
            assert_eq!(answered.to_string(), expected.to_string(), "{values}");
        }
        // CouchDB answers 500 to these, in these words but for the values, which it prints as Erlang.
        for (values, words) in [
            (json!(["x"]), "non-numeric _stats input: \"x\""),
            (
                json!([1, null]),
                "The _stats function requires that map values be numbers or arrays of numbers, not 'null'",
            ),
            (json!([{"sum": 3}]), "user _stats input missing required field count ({\"sum\":3})"),
            (json!([{"sum": "x"}]), "non-numeric _stats input received for sum: \"x\""),
        ] {
            assert_eq!(stats(values.as_array().unwrap().clone()).unwrap_err(), words);
        }
        for values in [json!([[1, 2], [3]]), json!([[1, 2], 3]), json!([3, [1, 2]]), json!([1e200])] {
            assert!(stats(values.as_array().unwrap().clone()).is_err(), "{values}");
        }
    }
}
