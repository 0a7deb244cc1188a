//! CSV: a line of names, then a line for each row. A document becomes a line for each of its leaves.
//!
//! A cell is what it was: one that begins with `=` or `@` is not defused for spreadsheets, because programs read this
//! and would get other data than the database has.

use std::borrow::Cow;
use std::io;

use ::csv::{IntoInnerError, Writer};
use serde_json::Value;

use super::rows::Rows;
use super::text;

/// The names of the columns, and the rows.
pub(super) fn rows(rows: &Rows) -> io::Result<String> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(rows.columns().iter().map(|column| &column.name))?;
    for row in rows.iter() {
        for cell in row {
            writer.write_field(field(cell.as_ref()).as_bytes())?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    finished(writer)
}

/// Every scalar of the document with its path. What is empty is there, too, as `{}` or `[]`.
pub(super) fn document(document: &Value) -> io::Result<String> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(["path", "value"])?;
    leaves(document, &mut String::new(), &mut writer)?;
    finished(writer)
}

fn leaves(value: &Value, path: &mut String, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                below(&step(key), value, path, writer)?;
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                below(&index.to_string(), value, path, writer)?;
            }
        }
        leaf => {
            let field = field(Some(leaf));
            writer.write_record([path.as_bytes(), field.as_bytes()])?;
        }
    }
    Ok(())
}

fn below(step: &str, value: &Value, path: &mut String, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    path.push_str(step);
    leaves(value, path, writer)?;
    path.truncate(length);
    Ok(())
}

/// A key as a step of a dotted path: in quotes where it would be taken for something else.
fn step(key: &str) -> Cow<'_, str> {
    let is_odd = |c: char| matches!(c, '.' | '"') || c.is_whitespace() || c.is_control();
    if key.is_empty() || key.contains(is_odd) { Value::from(key).to_string().into() } else { key.into() }
}

/// CSV knows no null: it is empty, as is what is absent.
fn field(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(value) => text::plain(value),
    }
}

fn finished(writer: Writer<Vec<u8>>) -> io::Result<String> {
    let bytes = writer.into_inner().map_err(IntoInnerError::into_error)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Column, cell};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_has_the_names_that_programs_know() {
        let mut list = Rows::new([Column::new("node", "Node"), Column::new("on_line", "On line")]);
        assert_eq!(rows(&list).unwrap(), "node,on_line\n");
        list.push([cell("web01"), cell(&true)]);
        list.push([None, Some(Value::Null)]);
        assert_eq!(rows(&list).unwrap(), "node,on_line\nweb01,true\n,\n");
    }

    #[test]
    fn cells_stay_what_they_are() {
        let mut list = Rows::new([Column::new("a", "A"), Column::new("b,c", "B")]);
        list.push([cell("=1+1"), cell("two\nlines, \"quoted\"")]);
        list.push([cell(&["db", "web"]), cell(&json!({"a": 1}))]);
        let text = rows(&list).unwrap();
        let text = text.strip_prefix("a,\"b,c\"\n").unwrap();
        let text = text.strip_prefix("=1+1,\"two\nlines, \"\"quoted\"\"\"\n").unwrap();
        assert_eq!(text, "\"[\"\"db\"\",\"\"web\"\"]\",\"{\"\"a\"\":1}\"\n");
    }

    #[test]
    fn one_empty_cell_is_still_a_row() {
        let mut list = Rows::new([Column::new("a", "A")]);
        list.push([None]);
        assert_eq!(rows(&list).unwrap(), "a\n\"\"\n");
    }

    #[test]
    fn a_document_is_paths_and_values() {
        let record = json!({
            "facts": {"os": {"family": "Debian", "eol": null}},
            "packages": {"python3.11": "3.11.2", "": "x"},
            "jmx": [{"port": 9999}, []],
        });
        let expected = "path,value\nfacts.os.family,Debian\nfacts.os.eol,\n\"packages.\"\"python3.11\"\"\",3.11.2\n\
                        \"packages.\"\"\"\"\",x\njmx.0.port,9999\njmx.1,[]\n";
        assert_eq!(document(&record).unwrap(), expected);
        assert_eq!(document(&json!("alone")).unwrap(), "path,value\n,alone\n");
    }
}
