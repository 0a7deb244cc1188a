//! What CouchDB is asked of a condition.
//!
//! Start at [`Condition::selector`]. CouchDB answers less than a condition asks: it orders strings as dictionaries do
//! and holds some that differ for equal, its regular expressions are others, and a field name does not walk through an
//! array. So each comparison is translated twice, for where it has to hold and for where it has to fail, each time to
//! something that matches too many records rather than too few; a negation only changes from one to the other.
//! What comes back is tried again with [`Condition::holds`].
//!
//! What Mango does is written in `mango_selector.erl` and `mango_doc.erl` of CouchDB 3.5: a field condition fails where
//! the field is missing, a negated one too; `$exists: false` fails where something on the way is no object; `$in` looks
//! into an array, nothing else does; a segment of digits is a position in an array.

use std::slice;

use serde_json::{Map, Value};

use super::path::{field, has_field};
use super::{Condition, Expr, Literal, Order, Path, Test};

/// Up to here CouchDB and we read numbers the same: it compares them as IEEE doubles.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Paths with more segments are only asked whether there is an array on the way, not what is in it: the selector
/// grows with the square of the length.
const LOOKED_INTO: usize = 8;

impl Condition {
    /// A selector for CouchDB's `_find` that matches every record for which the condition holds, and perhaps more.
    /// It says nothing of design documents.
    pub fn selector(&self) -> Value {
        // What matches every document; an empty selector is refused in some places.
        matching(&self.0, true).unwrap_or_else(|| object("_id", object("$gt", Value::Null)))
    }
}

/// A selector that matches every record in which one of the paths leads through an array; none where no path is
/// longer than one segment. A projection (`fields`) loses what lies behind an array, so that of these records the
/// whole members have to be read.
pub(crate) fn through_arrays<'a>(paths: impl Iterator<Item = &'a Path>) -> Option<Value> {
    let mut prefixes: Vec<String> = Vec::new();
    for path in paths {
        let named = named(path);
        prefixes.extend(
            (1..path.segments().len()).take_while(|end| *end <= named).map(|end| field(&path.segments()[..end])),
        );
    }
    prefixes.sort();
    prefixes.dedup();
    (!prefixes.is_empty()).then(|| any(prefixes.iter().map(|prefix| object(prefix, is_array())).collect()))
}

/// A selector for the records for which the expression holds, or fails; none where that may be any record.
fn matching(expr: &Expr, holds: bool) -> Option<Value> {
    match (expr, holds) {
        (Expr::All(parts), true) | (Expr::Any(parts), false) => {
            let parts: Vec<Value> = parts.iter().filter_map(|part| matching(part, holds)).collect();
            (!parts.is_empty()).then(|| combined("$and", parts))
        }
        (Expr::Any(parts), true) | (Expr::All(parts), false) => {
            parts.iter().map(|part| matching(part, holds)).collect::<Option<Vec<Value>>>().map(any)
        }
        (Expr::Not(inner), holds) => matching(inner, !holds),
        (Expr::Exists(path), true) => leads(path, &[exists(true)]),
        (Expr::Exists(path), false) => avoids(path, &[]),
        (Expr::Compare(path, test), holds) => compared(path, test, holds),
    }
}

fn compared(path: &Path, test: &Test, holds: bool) -> Option<Value> {
    match (test, holds) {
        (Test::Equal(literal), true) | (Test::Unequal(literal), false) => leads(path, &equal(slice::from_ref(literal))),
        (Test::OneOf(literals), true) => leads(path, &equal(literals)),
        (Test::Order(order, literal), true) => leads(path, &ordered(*order, literal)),
        (Test::Like(_), true) => leads(path, &[exists(true)]),
        (Test::Equal(literal), false) | (Test::Unequal(literal), true) => differs(path, slice::from_ref(literal)),
        (Test::OneOf(literals), false) => differs(path, literals),
        (Test::Order(..) | Test::Like(_), false) => None,
    }
}

/// Conditions on a field of which one is met where its value, or an element of it, is one of the literals.
fn equal(literals: &[Literal]) -> Vec<Value> {
    match literals.iter().map(value).collect::<Option<Vec<Value>>>() {
        Some(values) => vec![object("$in", values.into()), object("$elemMatch", is_array())],
        None => vec![exists(true)],
    }
}

/// Conditions on a field of which one is met where its value, or an element of it, comes before or after the literal.
/// Strings may, whatever they are. CouchDB puts null, true and false before numbers, strings and arrays after them.
fn ordered(order: Order, literal: &Literal) -> Vec<Value> {
    match literal {
        Literal::Number(number) if is_exact(literal) => match order {
            Order::Less | Order::LessOrEqual => {
                vec![object("$lte", number.clone().into()), object("$gte", "".into())]
            }
            Order::Greater | Order::GreaterOrEqual => vec![object("$gte", number.clone().into())],
        },
        Literal::Null | Literal::Bool(_) | Literal::Number(_) | Literal::Text(_) => vec![exists(true)],
    }
}

/// Records in which the path leads to something that meets one of the conditions; too many where Mango has no name for
/// the path.
fn leads(path: &Path, conditions: &[Value]) -> Option<Value> {
    let (segments, named) = (path.segments(), named(path));
    let look = segments.len() <= LOOKED_INTO;
    match named {
        0 => None,
        named if named < segments.len() => Some(any(reaching(&segments[..named], &[exists(true)], look))),
        _ => Some(any(reaching(segments, conditions, look))),
    }
}

/// Selectors of which one is met by a record, or an element of an array, from which the segments lead there. `look`:
/// into the first array on the way; what is behind a second one is taken on trust.
fn reaching(segments: &[String], conditions: &[Value], look: bool) -> Vec<Value> {
    let name = field(segments);
    let mut selectors: Vec<Value> = conditions.iter().map(|condition| object(&name, condition.clone())).collect();
    for end in 1..segments.len() {
        let array = if look {
            let mut inside = reaching(&segments[end..], conditions, false);
            inside.push(is_array());
            object("$elemMatch", any(inside))
        } else {
            is_array()
        };
        selectors.push(object(&field(&segments[..end]), array));
    }
    selectors
}

/// Records in which no value at the end of the path is equal to one of the literals, and some in which an element of an
/// array is.
fn differs(path: &Path, literals: &[Literal]) -> Option<Value> {
    let unequal: Vec<Value> = literals.iter().filter_map(unequal).collect();
    if unequal.is_empty() { None } else { avoids(path, &unequal) }
}

/// Records in which the path leads nowhere but through an array, or to a field that meets all conditions, if there are
/// any.
fn avoids(path: &Path, conditions: &[Value]) -> Option<Value> {
    let segments = path.segments();
    if named(path) < segments.len() {
        return None;
    }
    let name = field(segments);
    let mut selectors = vec![object(&name, exists(false))];
    if !conditions.is_empty() {
        let conditions = conditions.iter().map(|condition| object(&name, condition.clone())).collect();
        selectors.push(combined("$and", conditions));
    }
    // CouchDB takes a field for neither there nor missing where it would have to be inside something without fields.
    let blocked = |end| object(&field(&segments[..end]), object("$not", object("$type", "object".into())));
    selectors.extend((1..segments.len()).map(blocked));
    Some(any(selectors))
}

/// A condition on a field that is met where its value is there and no literal's equal.
fn unequal(literal: &Literal) -> Option<Value> {
    match literal {
        // `$ne` would take strings for equal that a dictionary does not tell apart. PCRE compares byte by byte; but a
        // NUL might end the pattern.
        Literal::Text(text) if !text.contains('\0') => {
            let pattern = format!(r"\A{}\z", regex::escape(text));
            Some(object("$not", object("$regex", pattern.into())))
        }
        Literal::Text(_) => None,
        Literal::Null | Literal::Bool(_) | Literal::Number(_) => value(literal).map(|value| object("$ne", value)),
    }
}

/// A literal as CouchDB can compare it for equality.
fn value(literal: &Literal) -> Option<Value> {
    match literal {
        Literal::Null => Some(Value::Null),
        Literal::Bool(value) => Some((*value).into()),
        Literal::Number(number) => (!number.is_f64() && is_exact(literal)).then(|| number.clone().into()),
        Literal::Text(text) => Some(text.as_str().into()),
    }
}

fn is_exact(literal: &Literal) -> bool {
    match literal {
        Literal::Number(number) => number.as_f64().is_some_and(|number| number.abs() < EXACT),
        Literal::Null | Literal::Bool(_) | Literal::Text(_) => false,
    }
}

/// How many of a path's segments Mango can name, from the first. At the top of a document it knows no names with an
/// underscore before them but these.
fn named(path: &Path) -> usize {
    let segments = path.segments();
    match segments.first() {
        Some(first) if first.starts_with('_') && first != "_id" && first != "_rev" => 0,
        _ => segments.iter().take_while(|segment| has_field(segment)).count(),
    }
}

fn exists(is_there: bool) -> Value {
    object("$exists", is_there.into())
}

fn is_array() -> Value {
    object("$type", "array".into())
}

fn any(selectors: Vec<Value>) -> Value {
    combined("$or", selectors)
}

/// CouchDB takes `$or` of nothing for true: nobody asks for it here.
fn combined(operator: &str, mut selectors: Vec<Value>) -> Value {
    match selectors.pop() {
        Some(selector) if selectors.is_empty() => selector,
        last => {
            selectors.extend(last);
            object(operator, selectors.into())
        }
    }
}

fn object(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use regex::Regex;
    use serde_json::json;

    use super::*;
    use crate::condition::holds::tests::CASES;

    fn condition(text: &str) -> Condition {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_asked() {
        let everything = r#"{"_id":{"$gt":null}}"#;
        for (text, selector) in [
            (r#"a == "x""#, r#"{"$or":[{"a":{"$in":["x"]}},{"a":{"$elemMatch":{"$type":"array"}}}]}"#),
            (
                r#"a.b == "x""#,
                r#"{"$or":[{"a.b":{"$in":["x"]}},{"a.b":{"$elemMatch":{"$type":"array"}}},{"a":{"$elemMatch":{"$or":[{"b":{"$in":["x"]}},{"b":{"$elemMatch":{"$type":"array"}}},{"$type":"array"}]}}}]}"#,
            ),
            (
                r#"a == true && b < "1" && c ~ "x""#,
                r#"{"$and":[{"$or":[{"a":{"$in":[true]}},{"a":{"$elemMatch":{"$type":"array"}}}]},{"b":{"$exists":true}},{"c":{"$exists":true}}]}"#,
            ),
            ("a < 5", r#"{"$or":[{"a":{"$lte":5}},{"a":{"$gte":""}}]}"#),
            ("a >= 0.5", r#"{"a":{"$gte":0.5}}"#),
            ("a == 0.5 || a > 9007199254740993", r#"{"$or":[{"a":{"$exists":true}},{"a":{"$exists":true}}]}"#),
            (
                r#"!(a in [1, 0.5]) && b != "x.y""#,
                r#"{"$and":[{"$or":[{"a":{"$exists":false}},{"a":{"$ne":1}}]},{"$or":[{"b":{"$exists":false}},{"b":{"$not":{"$regex":"\\Ax\\.y\\z"}}}]}]}"#,
            ),
            ("!exists a", r#"{"a":{"$exists":false}}"#),
            ("!exists a.b", r#"{"$or":[{"a.b":{"$exists":false}},{"a":{"$not":{"$type":"object"}}}]}"#),
            ("!(!exists a || b < 1)", r#"{"a":{"$exists":true}}"#),
            ("!(a < 1)", everything),
            (r#"a == "x" || !(b ~ "x")"#, everything),
            ("exists _attachments", everything),
            (r#"exists "a\\b""#, everything),
            (r#"a."$b.c" == 1 && a."b\\c".d == 1"#, ""),
        ] {
            let asked = condition(text).selector().to_string();
            if selector.is_empty() {
                assert!(asked.contains(r#""a.\\$b\\.c""#) && asked.contains(r#"{"a":{"$exists":true}}"#), "{asked}");
            } else {
                assert_eq!(asked, selector, "{text}");
            }
        }
        let long = vec!["a"; 64].join(".");
        assert!(condition(&format!("{long} == 1")).selector().to_string().len() < 10_000);
    }

    #[test]
    fn arrays_on_the_way() {
        assert_eq!(through_arrays(condition("exists a && b == 1").paths().into_iter()), None);
        let condition = condition(r#"a.b.c == 1 || exists a.b || "x\\y".z == 1"#);
        let through = through_arrays(condition.paths().into_iter());
        assert_eq!(through, Some(json!({"$or": [{"a": {"$type": "array"}}, {"a.b": {"$type": "array"}}]})));
    }

    /// Whatever the record and the expression: where it holds, the selector matches.
    #[test]
    fn no_record_is_lost() {
        let records: Vec<Value> = CASES.iter().map(|(record, _)| serde_json::from_str(record).unwrap()).collect();
        let texts: Vec<&str> =
            CASES.iter().flat_map(|(_, expressions)| expressions.iter().map(|(text, _)| *text)).collect();
        let mut spared = 0;
        for text in &texts {
            for text in [(*text).to_owned(), format!("!({text})"), format!("({text}) && !(_id in ['web01', 1])")] {
                let condition = condition(&text);
                let selector = condition.selector();
                for record in &records {
                    let matched = matches(&selector, record);
                    assert!(matched || !condition.holds(record), "{text} holds for {record} but not {selector}");
                    spared += usize::from(!matched);
                }
            }
        }
        assert!(spared > texts.len(), "the selectors spare {spared} records of {} questions", 3 * texts.len());
    }

    /// Does what CouchDB does with the operators that are used here.
    fn matches(selector: &Value, value: &Value) -> bool {
        let (key, argument) = selector.as_object().unwrap().iter().next().unwrap();
        let each = || argument.as_array().unwrap().iter();
        match key.as_str() {
            "$and" => each().all(|selector| matches(selector, value)),
            "$or" => each().any(|selector| matches(selector, value)),
            "$not" => !matches(argument, value),
            "$exists" => argument == true,
            "$type" => argument == kind(value).1,
            "$in" => {
                let values = value.as_array().map_or(slice::from_ref(value), Vec::as_slice);
                each().any(|wanted| values.iter().any(|value| collate(value, wanted).is_eq()))
            }
            "$elemMatch" => value.as_array().is_some_and(|items| items.iter().any(|item| matches(argument, item))),
            "$ne" => collate(value, argument).is_ne(),
            "$gt" => collate(value, argument).is_gt(),
            "$gte" => collate(value, argument).is_ge(),
            "$lte" => collate(value, argument).is_le(),
            "$regex" => {
                value.as_str().is_some_and(|text| Regex::new(argument.as_str().unwrap()).unwrap().is_match(text))
            }
            name => match reach(value, name) {
                Ok(value) => matches(argument, value),
                Err(missing) => missing && *argument == json!({ "$exists": false }),
            },
        }
    }

    /// The value of a field; if there is none, whether it is missing (and not in a place where no field can be).
    fn reach<'a>(value: &'a Value, name: &str) -> Result<&'a Value, bool> {
        let dots = name.replace("\\.", "\0");
        dots.split('.').map(|segment| segment.replace('\0', ".").replace('\\', "")).try_fold(value, |value, segment| {
            match value {
                Value::Object(members) => members.get(&segment).ok_or(true),
                Value::Array(items) => segment.parse::<usize>().ok().and_then(|at| items.get(at)).ok_or(false),
                _ => Err(false),
            }
        })
    }

    fn kind(value: &Value) -> (usize, &'static str) {
        match value {
            Value::Null => (0, "null"),
            Value::Bool(_) => (1, "boolean"),
            Value::Number(_) => (2, "number"),
            Value::String(_) => (3, "string"),
            Value::Array(_) => (4, "array"),
            Value::Object(_) => (5, "object"),
        }
    }

    /// Numbers as doubles; strings without what a dictionary passes over.
    fn collate(left: &Value, right: &Value) -> Ordering {
        let plain = |text: &str| text.replace(char::is_control, "").replace("e\u{301}", "é");
        kind(left).0.cmp(&kind(right).0).then_with(|| match (left, right) {
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            (Value::Number(_), _) => left.as_f64().partial_cmp(&right.as_f64()).unwrap(),
            (Value::String(left), Value::String(right)) => plain(left).cmp(&plain(right)),
            _ => Ordering::Equal,
        })
    }
}
