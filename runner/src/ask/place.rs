//! Places in a record, in words: paths put together, and what there is where a path leads to nothing.

use serde_json::Value;
use vogeler_store::condition::Path;

use super::near;

/// So many names are told of a level.
const MOST: usize = 12;

/// The path of what has that name below another path; nothing is above the first.
pub(super) fn below(path: &str, name: &str) -> String {
    let step = Path::member(name);
    if path.is_empty() { step.to_string() } else { format!("{path}.{step}") }
}

/// Why a path leads to nothing in a record: what there is on the last level that it reaches.
pub(super) fn dead_end(whose: &str, record: &Value, path: &Path) -> String {
    let (mut value, mut reached) = (record, String::new());
    for segment in path.segments() {
        let Some(next) = Path::member(segment).get(value) else {
            let there = if reached.is_empty() { "the record" } else { reached.as_str() };
            return format!("{whose} has no {path}; {}", level(there, value, segment));
        };
        value = next;
        reached = below(&reached, segment);
    }
    format!("{whose} has {path}")
}

/// What there is on a level, beside the name that was looked for.
fn level(there: &str, value: &Value, wanted: &str) -> String {
    match value {
        Value::Object(members) if members.is_empty() => format!("{there} is empty"),
        Value::Object(members) => {
            let names: Vec<String> = members.keys().take(MOST).map(|name| below("", name)).collect();
            let more = match members.len() - names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let hint = near::hint(wanted, members.keys().map(String::as_str));
            format!("{there} has {}{more}{hint}", names.join(", "))
        }
        Value::Array(items) if items.is_empty() => format!("{there} is an empty list"),
        Value::Array(items) => format!("{there} is a list, from {there}.0 to {there}.{}", items.len() - 1),
        Value::Null => format!("{there} is null"),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => format!("{there} is a single value"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_put_together_as_they_are_read() {
        assert_eq!(below("", "packages"), "packages");
        assert_eq!(below("packages", "libstdc++6"), "packages.libstdc++6");
        let odd = below("packages", "python3.11");
        assert_eq!(odd, r#"packages."python3.11""#);
        assert_eq!(odd.parse::<Path>().unwrap().segments(), ["packages", "python3.11"]);
    }

    #[test]
    fn what_there_is_where_a_path_ends() {
        let many: Value = (10..30).map(|number| (format!("p{number}"), json!(1))).collect();
        let record = json!({"facts": {"os": {"family": "Debian", "a.b": 1}, "disks": [1, 2]}, "packages": many,
            "none": {}, "list": [], "gone": null});
        for (path, expected) in [
            ("fact", "web01 has no fact; the record has facts, packages, none, list, gone; did you mean facts?"),
            ("facts.os.famly", r#"web01 has no facts.os.famly; facts.os has family, "a.b"; did you mean family?"#),
            ("facts.os.name", r#"web01 has no facts.os.name; facts.os has family, "a.b""#),
            ("facts.os.family.x", "web01 has no facts.os.family.x; facts.os.family is a single value"),
            ("facts.disks.2", "web01 has no facts.disks.2; facts.disks is a list, from facts.disks.0 to facts.disks.1"),
            ("none.x", "web01 has no none.x; none is empty"),
            ("list.0", "web01 has no list.0; list is an empty list"),
            ("gone.x", "web01 has no gone.x; gone is null"),
        ] {
            assert_eq!(dead_end("web01", &record, &path.parse().unwrap()), expected);
        }
        let sentence = dead_end("web01", &record, &"packages.zsh".parse().unwrap());
        let first: Vec<String> = (10..22).map(|number| format!("p{number}")).collect();
        assert_eq!(sentence, format!("web01 has no packages.zsh; packages has {} and 8 more", first.join(", ")));
    }
}
