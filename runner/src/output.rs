//! How an answer is printed: a list or a document, as a table, JSON, YAML or CSV.
//!
//! Start at [`render`], which is pure; [`show`] hands its text to a pager or to standard output. [`Rows`] is a list,
//! `table` lays one out, `text` keeps what plugins printed from reaching a terminal raw, [`Screen`] is what standard
//! output is. Nothing here asks the database, and nothing but the answer is printed: notices belong to the caller and
//! to standard error.

mod csv;
mod pager;
mod rows;
mod screen;
mod table;
mod text;
mod yaml;

use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

pub use rows::{Column, Rows, cell};
pub use screen::Screen;
pub(crate) use text::{harmless, one_line};

/// In which form an answer is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for a person; a document as YAML, a text as it is.
    #[default]
    Table,
    /// One JSON text: an array of objects, or the document.
    Json,
    /// One JSON object a line; a document on one line.
    Ndjson,
    /// One YAML document.
    Yaml,
    /// A line of names, then a line for each row; a document as paths and values.
    Csv,
}

impl Format {
    /// Whether a person may want to leaf through it; the others are for programs.
    fn pages(self) -> bool {
        match self {
            Self::Table | Self::Json | Self::Yaml => true,
            Self::Ndjson | Self::Csv => false,
        }
    }
}

/// What a question came to.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A list.
    Rows(Rows),
    /// A record, or a part of one.
    Document(Value),
}

impl From<Rows> for Answer {
    fn from(rows: Rows) -> Self {
        Self::Rows(rows)
    }
}

impl From<Value> for Answer {
    fn from(document: Value) -> Self {
        Self::Document(document)
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rows(rows) => rows.serialize(serializer),
            Self::Document(document) => document.serialize(serializer),
        }
    }
}

/// The text of an answer, as it suits the screen; every line of it ends with a newline.
///
/// JSON is the same on every screen. YAML and CSV are the data as they are in a pipe; on a terminal, what could act
/// on it is shown as an escape.
///
/// # Errors
/// A serializer refuses the data, which is no form of JSON that the database can hold.
pub fn render(answer: &Answer, format: Format, screen: &Screen) -> io::Result<String> {
    let text = match (format, answer) {
        (Format::Table, Answer::Rows(rows)) => return Ok(table::table(rows, screen)),
        // No quotes around a text: `$(vogeler-runner show web01 facts.os.version)` is to be what it says.
        (Format::Table, Answer::Document(Value::String(text))) => ended(text.clone()),
        (Format::Table | Format::Yaml, _) => ended(yaml::yaml(answer)?),
        // Its strings may be spelt with escapes anywhere, and are the same strings.
        (Format::Json, _) => return Ok(harmless(ended(serde_json::to_string_pretty(answer)?))),
        (Format::Ndjson, Answer::Rows(rows)) => return Ok(harmless(lines(rows)?)),
        (Format::Ndjson, Answer::Document(_)) => return Ok(harmless(ended(serde_json::to_string(answer)?))),
        (Format::Csv, Answer::Rows(rows)) => csv::rows(rows)?,
        (Format::Csv, Answer::Document(document)) => csv::document(document)?,
    };
    Ok(if screen.is_terminal() { harmless(text) } else { text })
}

/// Prints an answer: through a pager where it is longer than the terminal is high, else to standard output. Returns
/// when the pager has ended.
///
/// To be called within the runtime: only there can Ctrl-C be left to the pager.
///
/// # Errors
/// What [`render`] says, or standard output cannot be written. A reader that has gone is no error.
pub fn show(answer: &Answer, format: Format) -> io::Result<()> {
    let screen = Screen::from_environment();
    let text = render(answer, format, &screen)?;
    if format.pages() && screen.overflows(&text) && pager::page(&text)? {
        return Ok(());
    }
    print(&text)
}

/// Writes to standard output, and ends quietly where the reader has gone, as `head` does.
///
/// # Errors
/// Standard output cannot be written for another reason.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    unless_gone(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What the user typed to get here.
static PROGRAM: OnceLock<&str> = OnceLock::new();

/// Says under which name this library runs, where it is not `vogeler-runner`. To be called once, by `main`.
pub fn set_program(name: &'static str) {
    // A second call would be two programs in one process; the first one wins.
    let _ = PROGRAM.set(name);
}

/// The program's name, for sentences that tell people what to type.
pub fn program() -> &'static str {
    PROGRAM.get().copied().unwrap_or("vogeler-runner")
}

/// A sentence beside the answer, to standard error; where that is gone nobody can be told.
pub fn notice(text: &str) {
    let _ = writeln!(io::stderr(), "{}: {}", program(), one_line(text.to_owned()));
}

/// A reader that has seen enough is no error.
fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn lines(rows: &Rows) -> io::Result<String> {
    let mut text = String::new();
    for record in rows.records() {
        text.push_str(&serde_json::to_string(&record)?);
        text.push('\n');
    }
    Ok(text)
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;
    use serde_json::json;

    fn nodes() -> Answer {
        let mut rows = Rows::new([
            Column::new("node", "Node"),
            Column::new("on_line", "On line"),
            Column::new("groups", "Groups"),
            Column::new("version", "Version"),
            Column::new("errors", "Errors"),
        ]);
        rows.push([cell("web01"), cell(&true), cell(&["db", "web"]), cell("1.0"), cell(&12)]);
        rows.push([cell("web02"), cell(&false), cell::<[&str]>(&[]), None, Some(Value::Null)]);
        rows.into()
    }

    fn none() -> Answer {
        Rows::new([Column::new("node", "Node"), Column::new("errors", "Errors")]).into()
    }

    fn piped(answer: &Answer, format: Format) -> String {
        render(answer, format, &Screen::PIPE).unwrap()
    }

    #[test]
    fn json_is_one_array_in_the_order_of_the_columns() {
        let text = piped(&nodes(), Format::Json);
        assert!(text.starts_with("[\n  {\n    \"node\": \"web01\",\n    \"on_line\": true,\n    \"groups\": [\n"));
        assert!(text.ends_with("\n]\n"));
        let back: Value = serde_json::from_str(&text).unwrap();
        let absent_is_absent = json!({"node": "web02", "on_line": false, "groups": [], "errors": null});
        assert_eq!(back[1], absent_is_absent);
        assert_eq!(piped(&none(), Format::Json), "[]\n");
        assert_eq!(piped(&none(), Format::Yaml), "[]\n");
    }

    #[test]
    fn ndjson_is_a_row_a_line() {
        let text = piped(&nodes(), Format::Ndjson);
        let first = r#"{"node":"web01","on_line":true,"groups":["db","web"],"version":"1.0","errors":12}"#;
        assert_eq!(text.lines().next(), Some(first));
        assert_eq!(text.lines().count(), 2);
        assert_eq!(piped(&none(), Format::Ndjson), "");
        assert_eq!(piped(&json!({"a": [1, 2]}).into(), Format::Ndjson), "{\"a\":[1,2]}\n");
    }

    #[test]
    fn json_spells_out_what_a_terminal_would_obey() {
        let answer = json!({"motd": "\u{1b}[2J \u{9b}2J \u{7f} \u{202e}", "日本": "é"}).into();
        for format in [Format::Json, Format::Ndjson] {
            let text = piped(&answer, format);
            assert!(text.contains(r"\u001b[2J \u009b2J \u007f \u202e"), "{text}");
            assert!(text.contains("日本") && text.contains('é'));
            let Answer::Document(document) = &answer else { panic!("it is a document") };
            assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), document);
        }
    }

    #[test]
    fn a_document_as_a_table_is_readable_and_a_text_is_itself() {
        let document = json!({"os": {"name": "Debian", "release": "12"}}).into();
        assert_eq!(piped(&document, Format::Table), "os:\n  name: Debian\n  release: \"12\"\n");
        assert_eq!(piped(&json!("12").into(), Format::Table), "12\n");
        assert_eq!(piped(&json!("a\u{1b}\nb\n").into(), Format::Table), "a\u{1b}\nb\n", "a pipe gets the data");
        assert_eq!(piped(&json!(null).into(), Format::Table), "null\n");
    }

    #[test]
    fn a_terminal_gets_no_control_characters_in_any_format() {
        let screen = Screen { width: Some(80), height: Some(24), colour: false };
        let bad = "a\u{1b}]0;x\u{7}\r\u{9b}\u{202e}b";
        let mut rows = Rows::new([Column::new("node", bad), Column::new(bad, "Title")]);
        rows.push([cell(bad), cell(&[bad])]);
        let answers: [Answer; 3] = [rows.into(), json!({bad: [bad, {"a": bad}]}).into(), json!(bad).into()];
        for answer in &answers {
            for format in Format::value_variants() {
                let text = render(answer, *format, &screen).unwrap();
                let obeyed = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
                assert!(!text.contains(obeyed), "{format:?}: {text:?}");
            }
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        assert!(unless_gone(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(unless_gone(Err(ErrorKind::StorageFull.into())).is_err());
    }
}
