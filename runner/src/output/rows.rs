//! A list: named columns, and rows of cells.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

/// A column of a list.
#[derive(Debug, Clone)]
pub struct Column {
    /// What programs call it: the member of a JSON object, the head of a CSV column.
    pub name: String,
    /// What a person reads at the head of a table.
    pub title: String,
    alarm: Option<fn(&Value) -> bool>,
}

impl Column {
    /// A column. Whether it is aligned to the right depends on its cells: where all are numbers, it is.
    pub fn new(name: impl Into<String>, title: impl Into<String>) -> Self {
        Self { name: name.into(), title: title.into(), alarm: None }
    }

    /// Shows the cells that `alarm` picks in red, where colours are welcome. Absent ones never are.
    pub fn red_when(mut self, alarm: fn(&Value) -> bool) -> Self {
        self.alarm = Some(alarm);
        self
    }

    pub(super) fn is_red(&self, value: Option<&Value>) -> bool {
        self.alarm.zip(value).is_some_and(|(alarm, value)| alarm(value))
    }
}

/// A list.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    columns: Vec<Column>,
    rows: Vec<Vec<Option<Value>>>,
}

impl Rows {
    /// An empty list. The first column names the row: a table cuts it last.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column, in their order. An absent one is left out of JSON and YAML.
    pub fn push(&mut self, cells: impl IntoIterator<Item = Option<Value>>) {
        let mut row: Vec<_> = cells.into_iter().collect();
        debug_assert_eq!(row.len(), self.columns.len(), "a cell for each column");
        row.resize(self.columns.len(), None);
        self.rows.push(row);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[Option<Value>]> {
        self.rows.iter().map(Vec::as_slice)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.iter().map(|cells| Record { columns: &self.columns, cells })
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.records())
    }
}

/// A row as an object, its members in the order of the columns.
pub(super) struct Record<'a> {
    columns: &'a [Column],
    cells: &'a [Option<Value>],
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.cells.iter().flatten().count()))?;
        for (column, cell) in self.columns.iter().zip(self.cells) {
            if let Some(value) = cell {
                object.serialize_entry(&column.name, value)?;
            }
        }
        object.end()
    }
}

/// A cell of anything that can be serialized; absent where that is null, or no JSON at all.
///
/// A null that stands in a record is to stay one: say `Some(Value::Null)`.
pub fn cell<T: Serialize + ?Sized>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok().filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_is_absent_and_null_stays_null() {
        assert_eq!(cell(&None::<&str>), None);
        assert_eq!(cell(&Some("a")), Some(json!("a")));
        let mut rows = Rows::new([Column::new("b", "B"), Column::new("a", "A"), Column::new("c", "C")]);
        rows.push([Some(json!(1)), Some(Value::Null), None]);
        assert_eq!(serde_json::to_string(&rows).unwrap(), r#"[{"b":1,"a":null}]"#);
        assert_eq!((rows.len(), rows.is_empty()), (1, false));
    }

    #[test]
    fn absent_cells_alarm_nobody() {
        let column = Column::new("on_line", "On line").red_when(|value| value != &json!(true));
        assert!(column.is_red(Some(&json!(false))));
        assert!(!column.is_red(Some(&json!(true))));
        assert!(!column.is_red(None));
        assert!(!Column::new("node", "Node").is_red(Some(&json!(false))));
    }
}
