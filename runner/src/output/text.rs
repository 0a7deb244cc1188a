//! What plugins printed, as text that does no harm to a terminal, and how wide it is there.

use std::borrow::Cow;

use serde_json::Value;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Stands where something was cut off.
const MARK: char = '…';

/// Stands for a cell that is empty, so that columns can be counted.
const NOTHING: &str = "-";

/// Joins characters to one; what it would join to has been cut off.
const JOINER: char = '\u{200d}';

/// A cell of a table, on one line: scalars as they are, an array of scalars with commas, anything else as JSON.
pub(super) fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::Array(items)) if !items.iter().any(is_nested) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        Some(value) => plain(value).into_owned(),
    };
    if text.is_empty() { NOTHING.to_owned() } else { one_line(text) }
}

/// A string as it is, anything else as JSON.
pub(super) fn plain(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn is_nested(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

/// The text with nothing in it that a terminal would obey; newlines and tabs are shown as escapes, too.
pub(crate) fn one_line(text: String) -> String {
    escaped(text, is_obeyed)
}

/// The text with nothing in it that a terminal would obey, but for newlines and tabs.
///
/// An escape is spelt as in JSON. In JSON text such characters occur in strings only, so that it stays the same JSON.
pub(crate) fn harmless(text: String) -> String {
    escaped(text, |c| is_obeyed(c) && !matches!(c, '\n' | '\t'))
}

/// Control characters (C0, DEL, and C1, of which U+009B begins a sequence as ESC [ does), separators of lines, and
/// what turns the direction of the text around it.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn escaped(text: String, is_harm: impl Fn(char) -> bool) -> String {
    if !text.contains(&is_harm) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !is_harm(c) => safe.push(c),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    safe
}

/// How many columns it takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most that many columns (one at least), with a mark where it was cut.
pub(super) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let room = columns.saturating_sub(1);
    let (mut end, mut used) = (0, 0);
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        end = at + c.len_utf8();
    }
    // Some characters are wider together than one by one: a heart, and the selector that makes it an emoji.
    while width(&text[..end]) > room {
        end = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
    }
    Cow::Owned(format!("{}{MARK}", text[..end].trim_end_matches(JOINER)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(value: &Value) -> String {
        cell(Some(value))
    }

    #[test]
    fn cells_read_well() {
        assert_eq!(shown(&json!("a b")), "a b");
        assert_eq!(shown(&json!(12)), "12");
        assert_eq!(shown(&json!(true)), "true");
        assert_eq!(shown(&json!(["db", "web", 3, null])), "db, web, 3, null");
        assert_eq!(shown(&json!([{"a": 1}])), r#"[{"a":1}]"#);
        assert_eq!(shown(&json!({"a": [1, "x"]})), r#"{"a":[1,"x"]}"#);
        for nothing in [None, Some(&Value::Null), Some(&json!("")), Some(&json!([]))] {
            assert_eq!(cell(nothing), "-");
        }
    }

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        assert_eq!(shown(&json!("a\nb\tc\r\u{1b}[31m\u{7}")), r"a\nb\tc\r\u001b[31m\u0007");
        assert_eq!(shown(&json!("\u{9b}2J\u{7f}")), r"\u009b2J\u007f");
        assert_eq!(shown(&json!("\u{202e}gnp.exe\u{2028}")), r"\u202egnp.exe\u2028");
        assert_eq!(shown(&json!([{"a": "\u{1b}\u{9b}"}])), r#"[{"a":"\u001b\u009b"}]"#);
        assert_eq!(shown(&json!(["a\nb"])), r"a\nb");
        assert_eq!(harmless("a\n\tb\u{1b}".to_owned()), "a\n\tb\\u001b");
        assert_eq!(shown(&json!("é 日本 👩‍💻")), "é 日本 👩‍💻");
    }

    #[test]
    fn cutting_leaves_a_mark() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("abcdef", 1), "…");
        assert_eq!(cut("", 1), "");
    }

    #[test]
    fn wide_characters_are_never_halved() {
        assert_eq!(width("日本語"), 6);
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…", "the fourth column stays free");
    }

    #[test]
    fn combining_characters_stay_with_their_base() {
        let text = "e\u{301}e\u{301}e\u{301}";
        assert_eq!(width(text), 3);
        assert_eq!(cut(text, 3), text);
        assert_eq!(cut(text, 2), "e\u{301}…");
    }

    #[test]
    fn joined_characters_never_overflow() {
        let hearts = "\u{2764}\u{fe0f}\u{2764}\u{fe0f}";
        assert_eq!(cut(hearts, 3), "\u{2764}\u{fe0f}…");
        let family = "👩\u{200d}👩\u{200d}👧 and more";
        for columns in 1..12 {
            let text = cut(family, columns);
            assert!(width(&text) <= columns, "{text:?} in {columns}");
            assert!(!text.contains("\u{200d}…"));
        }
    }
}
