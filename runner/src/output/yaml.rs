//! An answer as one YAML document.

use std::io;

use serde::Serialize;

/// The document.
///
/// The serializer quotes strings and keys that a reader of YAML 1.2 or 1.1 would take for a number, a bool, null or a
/// date, and spells control characters as escapes. A long line stays one line, so that it can be searched for.
pub(super) fn yaml<T: Serialize>(answer: &T) -> io::Result<String> {
    let options = serde_yaml::ser_options! { folded_wrap_chars: usize::MAX };
    serde_yaml::to_string_with_options(answer, options).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Column, Rows, cell};
    use super::*;
    use serde_json::{Value, json};

    /// Plain, each of these would be something else, or end the document early.
    const MISLEADING: &str = "~ null true yes No on off y n 12 -1 +1 1_000 0644 0o17 0x1f 1.50 1e3 .5 .inf NaN 12:30:45 \
                              2026-11-20 2026-11-20T10:00:00.000Z a: #a [a {a *a &a !a %a @a `a 'a \"a | > - ? --- ... = <<";

    const WITH_SPACE: [&str; 16] = [
        "",
        " before",
        "after ",
        "- a",
        "a: b",
        "a #b",
        "a\nb",
        "a\nb\n",
        "a\n\nb\n\n",
        " a\nb",
        "a\tb",
        "\ta",
        "a\r\nb",
        "\u{1b}[31m",
        "\u{9b}2J",
        "\u{feff}",
    ];

    #[test]
    fn a_list_reads_well() {
        let mut rows = Rows::new([Column::new("node", "Node"), Column::new("groups", "Groups"), Column::new("v", "V")]);
        rows.push([cell("web01"), cell(&["db", "web"]), cell("1.0")]);
        rows.push([cell("web02"), cell::<[&str]>(&[]), None]);
        let expected = "- node: web01\n  groups:\n  - db\n  - web\n  v: \"1.0\"\n- node: web02\n  groups: []\n";
        assert_eq!(yaml(&rows).unwrap(), expected);
    }

    #[test]
    fn strings_stay_strings() {
        let strings: Vec<&str> = MISLEADING.split(' ').chain(WITH_SPACE).collect();
        let document = json!({ "strings": strings });
        let text = yaml(&document).unwrap();
        assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), document, "{text}");
        for quoted in ["\"yes\"", "\"0644\"", "\"1.50\"", "\"2026-11-20\"", "\"12:30:45\"", r#""\e[31m""#] {
            assert!(text.contains(&format!("- {quoted}\n")), "{quoted} in {text}");
        }
    }

    #[test]
    fn keys_stay_strings() {
        let keys = MISLEADING.split(' ').chain(["", "a: b", "- a", "a, b", "\u{1b}", " before", "after "]);
        let document: Value = keys.map(|key| (key.to_owned(), json!(1))).collect();
        let text = yaml(&document).unwrap();
        assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), document, "{text}");
    }

    #[test]
    fn what_is_nested_stays_nested() {
        let document = json!({"a": [[1, [2.5]], {"b": {}, "c": [{"d": -3}]}, []], "e": {"f": {"g": [null, true]}}});
        let text = yaml(&document).unwrap();
        assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), document, "{text}");
    }

    #[test]
    fn a_long_line_is_not_folded() {
        let long = vec!["work"; 100].join(" ");
        assert_eq!(yaml(&json!({ "a": long })).unwrap(), format!("a: {long}\n"));
    }
}
