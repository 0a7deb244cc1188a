//! Whether a record meets a condition.
//!
//! Start at [`Condition::holds`]. docs/EXPRESSIONS.md tells operators what holds; the table in the tests is the
//! specification.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::path::position;
use super::{Condition, Expr, Literal, Path, Test, number, version};

impl Condition {
    /// Whether a record meets it.
    pub fn holds(&self, record: &Value) -> bool {
        holds(&self.0, record)
    }
}

fn holds(expr: &Expr, record: &Value) -> bool {
    match expr {
        Expr::All(parts) => parts.iter().all(|part| holds(part, record)),
        Expr::Any(parts) => parts.iter().any(|part| holds(part, record)),
        Expr::Not(inner) => !holds(inner, record),
        Expr::Exists(path) => leads(record, path.segments(), &|_| true),
        Expr::Compare(path, test) => meets(record, path, test),
    }
}

fn meets(record: &Value, path: &Path, test: &Test) -> bool {
    let one = |accepts: &dyn Fn(&Value) -> bool| leads(record, path.segments(), &|value| one_of(value, accepts));
    match test {
        Test::Equal(literal) => one(&|value| equal(value, literal)),
        Test::Unequal(literal) => !one(&|value| equal(value, literal)),
        Test::Order(order, literal) => {
            one(&|value| compare(value, literal).is_some_and(|ordering| order.accepts(ordering)))
        }
        Test::OneOf(literals) => one(&|value| literals.iter().any(|literal| equal(value, literal))),
        Test::Like(pattern) => one(&|value| value.as_str().is_some_and(|text| pattern.0.is_match(text))),
    }
}

/// Whether the path leads to a value that is accepted. An array on the way is walked through, element by element,
/// unless the segment is a position in it.
fn leads(value: &Value, segments: &[String], accepts: &dyn Fn(&Value) -> bool) -> bool {
    let [first, rest @ ..] = segments else { return accepts(value) };
    match value {
        Value::Object(members) => members.get(first).is_some_and(|member| leads(member, rest, accepts)),
        Value::Array(items) => match position(first) {
            Some(position) => items.get(position).is_some_and(|item| leads(item, rest, accepts)),
            None => items.iter().any(|item| leads(item, segments, accepts)),
        },
        _ => false,
    }
}

/// Whether the value is accepted or, of an array, one element.
fn one_of(value: &Value, accepts: &dyn Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| one_of(item, accepts)),
        value => accepts(value),
    }
}

fn equal(value: &Value, literal: &Literal) -> bool {
    match literal {
        Literal::Null => value.is_null(),
        Literal::Bool(literal) => value.as_bool() == Some(*literal),
        Literal::Number(literal) => {
            value.as_number().and_then(|value| by_size(value, literal)) == Some(Ordering::Equal)
        }
        Literal::Text(literal) => value.as_str() == Some(literal),
    }
}

/// The literal says how: a text compares versions, a number compares numbers. Beside a number, a text in the record
/// that is no number is a version, if it begins with a digit.
fn compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    match literal {
        Literal::Null | Literal::Bool(_) => None,
        Literal::Number(literal) => match value {
            Value::Number(value) => by_size(value, literal),
            Value::String(value) => match number(value) {
                Some(value) => by_size(&value, literal),
                None => by_digits(value, &literal.to_string()),
            },
            _ => None,
        },
        Literal::Text(literal) => match value {
            Value::String(value) => Some(version::against(value, literal)),
            Value::Number(value) => by_digits(&value.to_string(), literal),
            _ => None,
        },
    }
}

fn by_size(value: &Number, literal: &Number) -> Option<Ordering> {
    match (value.as_i128(), literal.as_i128()) {
        (Some(value), Some(literal)) => Some(value.cmp(&literal)),
        _ => value.as_f64()?.partial_cmp(&literal.as_f64()?),
    }
}

/// As versions, if both begin with a digit.
fn by_digits(value: &str, literal: &str) -> Option<Ordering> {
    let is_version = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    (is_version(value) && is_version(literal)).then(|| version::against(value, literal))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Records, each with expressions and whether they hold. What CouchDB is asked is tried over the same.
    pub(in crate::condition) const CASES: &[(&str, &[(&str, bool)])] = &[
        (
            r#"{"_id": "web01", "facts": {"os": {"family": "Debian", "release": "12.5"}, "cpus": 8, "load": "0.15",
                "memory": 16.5, "virtual": true, "swap": null, "kernel": "6.1.0-20-amd64"},
                "packages": {"openssl": "3.0.14-1~deb12u2", "git": "1:2.39.2-1.1", "kernel": ["6.1.0-20", "6.1.0-21"],
                    "python3.11": "3.11.2-6", "libstdc++6": "12.2.0-14", "libc6:amd64": "2.36-9+deb12u4", "api": 12},
                "vogeler": {"results": {"packages": {"collected_at": "2026-10-31T23:59:59.999Z"}}}}"#,
            &[
                (r#"facts.os.family == "Debian" && packages.openssl < "3.0.15""#, true),
                (r#"_id == "web01""#, true),
                (r#"_id != "web01""#, false),
                (r#"facts.os.family == "debian""#, false),
                (r#"facts.os.family != "Debian""#, false),
                (r#"facts.os.family != "RedHat""#, true),
                (r#"facts.os.family in ["RedHat", "Debian"]"#, true),
                (r#"!(facts.os.family in ["RedHat", "Debian"])"#, false),
                (r#"!(facts.os.family in ["RedHat", 0.5])"#, true),
                (r#"facts.os.family ~ "^Deb""#, true),
                (r#"facts.os.family ~ "bia""#, true),
                (r#"facts.os.family ~ "^bia""#, false),
                (r#"!(facts.os.family ~ "bia")"#, false),
                // Numbers, and texts that are numbers.
                ("facts.cpus == 8 && facts.cpus == 8.0", true),
                (r#"facts.cpus == "8""#, false),
                ("facts.cpus > 7 && facts.cpus < 8.5 && facts.cpus >= 8 && facts.cpus <= 8", true),
                ("facts.memory == 16.5 && facts.memory > 16", true),
                ("facts.load < 0.2", true),
                ("facts.os.release < 12.10", false),
                (r#"facts.os.release < "12.10""#, true),
                ("facts.os.release < 13", true),
                ("packages.openssl < 4 && packages.openssl > 3", true),
                (r#"packages.api < "12.1" && packages.api > "9""#, true),
                ("facts.os.family < 9 || facts.os.family >= 9", false),
                // True, false, null and nothing at all.
                ("facts.virtual == true && facts.virtual != false", true),
                (r#"facts.virtual == "true""#, false),
                ("facts.virtual >= 0 || facts.swap >= 0 || facts >= 0", false),
                ("facts.swap == null && exists facts.swap", true),
                ("facts.nothing == null || exists facts.nothing", false),
                ("!exists facts.nothing && !exists facts.cpus.nothing", true),
                (r#"facts.nothing != "x" && facts.cpus.nothing != "x""#, true),
                (r#"exists facts.nothing && facts.nothing != "x""#, false),
                ("facts.nothing < 5 || facts.nothing >= 5", false),
                ("!(facts.nothing < 5)", true),
                ("facts != null && facts.os != 1", true),
                // Versions.
                (r#"packages.git < "2.39.5" && packages.git < "1:2.39.5""#, true),
                (r#"packages.git < "0:2.39.5""#, false),
                (r#"packages.openssl <= "3.0.14" && packages.openssl >= "3.0.14""#, true),
                (r#"packages.openssl > "3.0.14" || packages.openssl == "3.0.14""#, false),
                (r#"packages.openssl == "3.0.14-1~deb12u2""#, true),
                (r#"facts.kernel < "6.1.0-21""#, true),
                (r#"vogeler.results.packages.collected_at < "2026-11-01""#, true),
                (r#"vogeler.results.packages.collected_at >= "2026-11-01""#, false),
                (r#"vogeler.results.packages.collected_at > "2026-10-31T23:00:00Z""#, true),
                // Names that need care.
                (r#"packages."python3.11" >= "3.11""#, true),
                ("packages.python3.11 >= '3.11'", false),
                (r#"packages.libstdc++6 < "13" && packages.libc6:amd64 < "2.37""#, true),
                // An array at the end of the path.
                (r#"packages.kernel == "6.1.0-20""#, true),
                (r#"packages.kernel < "6.1.0-21""#, true),
                (r#"packages.kernel < "6.1.0-20""#, false),
                (r#"packages.kernel != "6.1.0-20""#, false),
                (r#"packages.kernel != "6.1.0-19""#, true),
                (r#"packages.kernel.1 == "6.1.0-21" && packages.kernel.1 != "6.1.0-20""#, true),
                ("exists packages.kernel && exists packages.kernel.0 && !exists packages.kernel.2", true),
            ],
        ),
        (
            r#"{"_id": "app01", "jmx": [{"instance": "a", "port": 9999, "tags": ["x", "y"]}, {"instance": "b"}, 7],
                "rows": [["eth0", "10.0.0.1"], ["eth1", ["10.0.0.2"]]], "none": [], "deep": [[{"a": [{"b": 1}]}]],
                "facts": "not here", "text": "a\nb", "big": 9007199254740993, "$odd": {"a.b": 1, "c\\d": 2},
                "+1": [5, 6]}"#,
            &[
                ("jmx.port == 9999", true),
                ("jmx.port == 9998", false),
                ("jmx.port != 9998", true),
                ("jmx.port > 9000 && jmx.port < 10000", true),
                ("jmx.port > 9999", false),
                (r#"jmx.instance == "a" && jmx.instance == "b""#, true),
                (r#"jmx.tags == "y" && jmx.tags ~ "x""#, true),
                (r#"jmx.tags in ["y", "z"]"#, true),
                (r#"jmx.0.instance == "a""#, true),
                (r#"jmx.0.instance == "b""#, false),
                (r#"jmx.0.instance != "b" && jmx.1.port != 9999"#, true),
                ("jmx == 7", true),
                ("exists jmx.port && exists jmx.0.port && !exists jmx.1.port && !exists jmx.nothing", true),
                // Arrays in arrays.
                (r#"rows == "eth1" && rows == "10.0.0.2" && rows ~ "^10""#, true),
                (r#"rows != "10.0.0.2""#, false),
                (r#"rows.1 == "10.0.0.2" && rows.0 != "10.0.0.2""#, true),
                ("deep.a.b == 1 && deep.0.a.b == 1 && deep.0.0.a.0.b == 1 && deep.a.b < 2 && exists deep.a.b", true),
                ("deep.1.a.b == 1 || deep.a.b == 2", false),
                // Arrays with nothing in them, and a path that ends too early.
                ("exists none", true),
                ("exists none.x || exists none.0 || none == null", false),
                (r#"none != "x" && none.x != "x""#, true),
                (r#"facts.os.family != "Debian" && !exists facts.os"#, true),
                (r#"facts.os.family == "Debian" || exists facts.os.family"#, false),
                // What CouchDB has other ideas of.
                (r#"text == "a\nb" && text != "a" && text != "a b""#, true),
                ("big == 9007199254740993 && big != 9007199254740992 && big > 9007199254740992", true),
                ("big in [1, 9007199254740993] && big >= 1e3", true),
                (r#""$odd"."a.b" == 1 && "$odd"."c\\d" == 2 && "$odd"."c\\d" != 1 && exists "$odd"."c\\d""#, true),
                (r#"+1 == 6 && +1.1 == 6 && !exists "+1".+1 && +1.+1 != 6"#, true),
            ],
        ),
        (
            r#"{"_id": "new01", "accents": "e\u0301", "hidden": "Deb\u0000ian", "regex": "a.b*c", "nul": "a\u0000"}"#,
            &[
                ("!exists facts && !exists facts.os.family", true),
                (r#"facts.os.family != "Debian""#, true),
                (r#"!(facts.os.family == "Debian") && !(facts.cpus == 8) && !(facts.virtual == true)"#, true),
                (r#"!(facts.os.family == "Debian" || exists packages)"#, true),
                (r#"facts.os.family == "Debian" || packages.openssl < "3.0.15""#, false),
                ("accents != 'é'", true),
                ("hidden != 'Debian'", true),
                ("nul != 'a'", true),
                ("regex == 'a.b*c' && regex != 'axbbc'", true),
                ("regex != 'a.b*c'", false),
            ],
        ),
    ];

    #[test]
    fn records_and_expressions() {
        for (record, expressions) in CASES {
            let record: Value = serde_json::from_str(record).unwrap();
            for (text, expected) in *expressions {
                let condition: Condition = text.parse().unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(condition.holds(&record), *expected, "{text}");
                let not: Condition = format!("!({text})").parse().unwrap();
                assert_eq!(not.holds(&record), !expected, "{not}");
            }
        }
    }
}
