//! JSON as CouchDB's own language, Erlang, sees it: as terms.
//!
//! Two things of a view go by terms and not by collation: in which order rows stand that one document emitted under one
//! key ([`compare`]), and what `_approx_count_distinct` counts ([`external`]).

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::collate::number_key;

/// Erlang's order of terms: numbers, `false`, `null`, `true`, objects, the empty array, arrays, text by its bytes.
pub(super) fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => number_key(a).cmp(&number_key(b)),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Array(a), Value::Array(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| compare(a, b));
            first_difference(pairs).unwrap_or(a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pairs =
                a.iter().zip(b).map(|((m, v), (n, w))| m.as_bytes().cmp(n.as_bytes()).then_with(|| compare(v, w)));
            first_difference(pairs).unwrap_or(a.len().cmp(&b.len()))
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Option<Ordering> {
    orders.find(|order| order.is_ne())
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::Bool(false) => 1,
        Value::Null => 2,
        Value::Bool(true) => 3,
        Value::Object(_) => 4,
        Value::Array(elements) if elements.is_empty() => 5,
        Value::Array(_) => 6,
        Value::String(_) => 7,
    }
}

/// The term in Erlang's external format (`term_to_binary`, minor version 1; see its "External Term Format").
pub(super) fn external(value: &Value) -> Vec<u8> {
    let mut bytes = vec![131];
    write(value, &mut bytes);
    bytes
}

fn write(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Null => write_atom("null", bytes),
        Value::Bool(false) => write_atom("false", bytes),
        Value::Bool(true) => write_atom("true", bytes),
        Value::Number(number) => write_number(number, bytes),
        Value::String(text) => write_binary(text, bytes),
        Value::Array(elements) => {
            // A list of bytes is written as what it usually is in Erlang, a string.
            let string: Option<Vec<u8>> = elements.iter().map(byte).collect();
            match (string, u16::try_from(elements.len())) {
                (Some(string), Ok(length)) if length > 0 => {
                    bytes.push(107);
                    bytes.extend(length.to_be_bytes());
                    bytes.extend(string);
                }
                _ => write_list(elements.iter(), bytes, write),
            }
        }
        Value::Object(members) => {
            bytes.extend([104, 1]);
            write_list(members.iter(), bytes, |(name, value), bytes| {
                bytes.extend([104, 2]);
                write_binary(name, bytes);
                write(value, bytes);
            });
        }
    }
}

fn byte(value: &Value) -> Option<u8> {
    u8::try_from(value.as_u64()?).ok()
}

fn write_list<T>(elements: impl ExactSizeIterator<Item = T>, bytes: &mut Vec<u8>, each: impl Fn(T, &mut Vec<u8>)) {
    if elements.len() > 0 {
        bytes.push(108);
        bytes.extend(length(elements.len()));
        for element in elements {
            each(element, bytes);
        }
    }
    bytes.push(106);
}

fn write_atom(name: &str, bytes: &mut Vec<u8>) {
    bytes.extend([100, 0]);
    bytes.extend(name.len().to_be_bytes().last());
    bytes.extend(name.as_bytes());
}

fn write_binary(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(109);
    bytes.extend(length(text.len()));
    bytes.extend(text.as_bytes());
}

fn write_number(number: &Number, bytes: &mut Vec<u8>) {
    let Some(whole) = whole(number) else {
        bytes.push(70);
        bytes.extend(number.as_f64().unwrap_or_default().to_be_bytes());
        return;
    };
    if let Ok(small) = u8::try_from(whole) {
        bytes.extend([97, small]);
    } else if let Ok(middle) = i32::try_from(whole) {
        bytes.push(98);
        bytes.extend(middle.to_be_bytes());
    } else {
        let magnitude = whole.unsigned_abs().to_le_bytes();
        let used = magnitude.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.push(110);
        bytes.extend(used.to_be_bytes().last());
        bytes.push(u8::from(whole < 0));
        bytes.extend(&magnitude[..used]);
    }
}

/// Erlang's whole numbers have no end. Those of JavaScript are written with all their digits below 1e21, but only up to
/// 2^64 are they more than a float here.
fn whole(number: &Number) -> Option<i128> {
    let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    exact.or_else(|| {
        number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e21)?.to_string().parse().ok()
    })
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_one_key_stand_as_couchdb_had_them() {
        // Recorded from CouchDB 3.5.0.
        let recorded = json!([
            -1, 1, 2.5, 3, 10, false, null, true, {}, {"a": 0, "c": 1}, {"a": 1}, {"b": 1}, [], [0, 5], [1], [[]], "", "B", "a", "b", "é"
        ]);
        let recorded = recorded.as_array().unwrap();
        for (index, value) in recorded.iter().enumerate() {
            assert!(compare(value, value).is_eq());
            assert!(recorded[index + 1..].iter().all(|later| compare(value, later).is_lt()), "{value}");
        }
    }

    #[test]
    fn terms_are_written_as_erlang_writes_them() {
        // What erl's term_to_binary(T, [{minor_version, 1}]) prints.
        for (value, bytes) in [
            (json!(null), vec![131, 100, 0, 4, 110, 117, 108, 108]),
            (json!(7), vec![131, 97, 7]),
            (json!(-1), vec![131, 98, 255, 255, 255, 255]),
            (json!(4_294_967_296_i64), vec![131, 110, 5, 0, 0, 0, 0, 0, 1]),
            (json!(-2_147_483_649_i64), vec![131, 110, 4, 1, 1, 0, 0, 128]),
            // 18446744073709552000 to JavaScript.
            (json!(18_446_744_073_709_551_616_f64), vec![131, 110, 9, 0, 128, 1, 0, 0, 0, 0, 0, 0, 1]),
            (json!(1e21), vec![131, 70, 68, 75, 26, 228, 214, 226, 239, 80]),
            (json!(1.5), vec![131, 70, 63, 248, 0, 0, 0, 0, 0, 0]),
            (json!("a"), vec![131, 109, 0, 0, 0, 1, 97]),
            (json!([]), vec![131, 106]),
            (json!([1, 2]), vec![131, 107, 0, 2, 1, 2]),
            (json!([1, "a"]), vec![131, 108, 0, 0, 0, 2, 97, 1, 109, 0, 0, 0, 1, 97, 106]),
            (json!({"a": 1}), vec![131, 104, 1, 108, 0, 0, 0, 1, 104, 2, 109, 0, 0, 0, 1, 97, 97, 1, 106]),
            (json!({}), vec![131, 104, 1, 106]),
        ] {
            assert_eq!(external(&value), bytes, "{value}");
        }
    }
}
