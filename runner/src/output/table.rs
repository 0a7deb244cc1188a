//! A list as plain columns, two spaces apart: no borders, so that `grep` and `awk` work on it.
//!
//! Start at [`table`]. A terminal's width is kept to by cutting cells; in a pipe nothing is cut, so that
//! what follows gets the data whole.

use std::slice;

use serde_json::Value;

use super::rows::{Column, Rows};
use super::screen::Screen;
use super::text;

/// What stands between two columns.
const GAP: &str = "  ";

/// How narrow the other columns become before the first one is cut, which names the row.
const NARROW: usize = 8;

/// How narrow they become before it is cut on a screen that is narrow itself.
const NARROWEST: usize = 3;

/// How narrow the first column becomes before the others are cut to next to nothing.
const NARROW_NAME: usize = 16;

/// How far a column is padded in a pipe. A wider cell moves the rest of its line to the right; padding every line for
/// it would make 20,000 lines of one large cell.
const WIDEST_PADDING: usize = 120;

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// The table with its header, which is there for an empty list, too.
pub(super) fn table(rows: &Rows, screen: &Screen) -> String {
    let columns = rows.columns();
    let header: Vec<Cell> = columns.iter().map(|column| Cell::title(column, screen)).collect();
    let cells = |row: &[Option<Value>]| -> Vec<Cell> {
        columns.iter().zip(row).map(|(column, value)| Cell::of(column, value.as_ref(), screen)).collect()
    };
    let body: Vec<Vec<Cell>> = rows.iter().map(cells).collect();

    let mut widths: Vec<usize> = header.iter().map(|cell| cell.width).collect();
    for row in &body {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width.max(*width);
        }
    }
    match screen.width {
        Some(width) => fit(&mut widths, width),
        None => limit(&mut widths, WIDEST_PADDING),
    }
    let layout = Layout { widths, right: numeric(rows), cuts: screen.is_terminal() };

    let mut text = String::new();
    for row in std::iter::once(&header).chain(&body) {
        layout.line(row, &mut text);
    }
    text
}

/// Which columns have numbers and nothing else.
fn numeric(rows: &Rows) -> Vec<bool> {
    let is_numeric = |index: usize| {
        let mut values = rows.iter().filter_map(|row| row[index].as_ref()).filter(|value| !value.is_null()).peekable();
        values.peek().is_some() && values.all(Value::is_number)
    };
    (0..rows.columns().len()).map(is_numeric).collect()
}

/// Narrows columns until they fit, always the widest; the first one only when the others have become narrow.
fn fit(widths: &mut [usize], screen: usize) {
    let room = screen.saturating_sub(GAP.len() * widths.len().saturating_sub(1));
    limit(widths, room);
    let mut over = widths.iter().sum::<usize>().saturating_sub(room);
    if let Some((first, others)) = widths.split_first_mut() {
        let first = slice::from_mut(first);
        over = shave(others, NARROW, over);
        over = shave(others, NARROWEST, over);
        over = shave(first, NARROW_NAME, over);
        over = shave(others, 1, over);
        shave(first, 1, over);
    }
}

fn limit(widths: &mut [usize], most: usize) {
    for width in widths {
        *width = most.min(*width);
    }
}

/// Takes `over` columns from the widest, one by one, and none below `floor`; returns what is left to take.
fn shave(widths: &mut [usize], floor: usize, mut over: usize) -> usize {
    while over > 0 {
        match widths.iter_mut().max() {
            Some(widest) if *widest > floor => *widest -= 1,
            Some(_) | None => break,
        }
        over -= 1;
    }
    over
}

/// Text that can be shown, and how.
struct Cell {
    text: String,
    width: usize,
    ink: Option<&'static str>,
}

impl Cell {
    fn new(text: String, ink: Option<&'static str>) -> Self {
        Self { width: text::width(&text), text, ink }
    }

    fn title(column: &Column, screen: &Screen) -> Self {
        Self::new(text::one_line(column.title.clone()), screen.colour.then_some(BOLD))
    }

    fn of(column: &Column, value: Option<&Value>, screen: &Screen) -> Self {
        Self::new(text::cell(value), (screen.colour && column.is_red(value)).then_some(RED))
    }
}

struct Layout {
    widths: Vec<usize>,
    right: Vec<bool>,
    cuts: bool,
}

impl Layout {
    fn line(&self, cells: &[Cell], line: &mut String) {
        let last = cells.len().saturating_sub(1);
        for (index, cell) in cells.iter().enumerate() {
            let (width, right) = (self.widths[index], self.right[index]);
            let (shown, taken) = if self.cuts && cell.width > width {
                let shown = text::cut(&cell.text, width);
                let taken = text::width(&shown);
                (shown, taken)
            } else {
                (cell.text.as_str().into(), cell.width)
            };
            let padding = " ".repeat(width.saturating_sub(taken));
            if index > 0 {
                line.push_str(GAP);
            }
            if right {
                line.push_str(&padding);
            }
            match cell.ink {
                Some(ink) => line.extend([ink, &*shown, PLAIN]),
                None => line.push_str(&shown),
            }
            if !right && index < last {
                line.push_str(&padding);
            }
        }
        line.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::cell;
    use super::*;
    use serde_json::json;

    fn nodes() -> Rows {
        let mut rows = Rows::new([
            Column::new("node", "Node"),
            Column::new("on_line", "On line").red_when(|value| value == &json!(false)),
            Column::new("groups", "Groups"),
            Column::new("version", "Version"),
            Column::new("errors", "Errors").red_when(|value| value != &json!(0)),
        ]);
        rows.push([cell("web01.example.com"), cell(&true), cell(&["db", "web"]), cell("1.0"), cell(&0)]);
        rows.push([cell("db"), cell(&false), None, cell("1.0.1-a-very-long-one-with-a-commit"), cell(&112)]);
        rows
    }

    fn terminal(width: usize) -> Screen {
        Screen { width: Some(width), height: Some(24), colour: false }
    }

    fn lines(rows: &Rows, screen: &Screen) -> Vec<String> {
        table(rows, screen).lines().map(str::to_owned).collect()
    }

    #[test]
    fn in_a_pipe_nothing_is_cut() {
        let expected = [
            "Node               On line  Groups   Version                              Errors",
            "web01.example.com  true     db, web  1.0                                       0",
            "db                 false    -        1.0.1-a-very-long-one-with-a-commit     112",
        ];
        assert_eq!(lines(&nodes(), &Screen::PIPE), expected);
    }

    #[test]
    fn the_widest_column_is_cut_first() {
        let expected = [
            "Node               On line  Groups   Version           Errors",
            "web01.example.com  true     db, web  1.0                    0",
            "db                 false    -        1.0.1-a-very-lo…     112",
        ];
        assert_eq!(lines(&nodes(), &terminal(61)), expected);
        assert_eq!(lines(&nodes(), &terminal(80)), lines(&nodes(), &Screen::PIPE));
    }

    #[test]
    fn the_first_column_is_cut_last() {
        let text = lines(&nodes(), &terminal(53));
        assert_eq!(text[2], "db                 false    -        1.0.1-a…     112");
        let text = lines(&nodes(), &terminal(45));
        assert_eq!(text[1], "web01.example.com  true   db, …  1.0        0", "{text:#?}");
        for width in 13..100 {
            let text = lines(&nodes(), &terminal(width));
            assert!(text.iter().all(|line| text::width(line) <= width), "{width}: {text:#?}");
        }
        let text = lines(&nodes(), &terminal(30));
        assert_eq!(text[1].split("  ").next(), Some("web01.example.c…"), "{text:#?}");
    }

    #[test]
    fn an_alignment_is_that_of_the_cells() {
        let mut rows = Rows::new([Column::new("a", "A"), Column::new("n", "Number"), Column::new("m", "Mixed")]);
        rows.push([cell("x"), cell(&1.5), cell(&1)]);
        rows.push([cell("y"), Some(Value::Null), cell("one")]);
        rows.push([cell("z"), cell(&-200), None]);
        assert_eq!(lines(&rows, &Screen::PIPE), ["A  Number  Mixed", "x     1.5  1", "y       -  one", "z    -200  -"]);
    }

    #[test]
    fn wide_characters_keep_the_columns_straight() {
        let mut rows = Rows::new([Column::new("a", "A"), Column::new("b", "B"), Column::new("c", "C")]);
        rows.push([cell("n1"), cell("日本語"), cell("x")]);
        rows.push([cell("n2"), cell("e\u{301}t\u{e9}"), cell("x")]);
        let expected = ["A   B       C", "n1  日本語  x", "n2  e\u{301}t\u{e9}     x"];
        assert_eq!(lines(&rows, &Screen::PIPE), expected);
    }

    #[test]
    fn colours_are_only_where_they_are_welcome() {
        let colourful = table(&nodes(), &Screen { colour: true, ..terminal(100) });
        assert!(colourful.starts_with("\u{1b}[1mNode\u{1b}[0m  "));
        assert!(colourful.contains("  \u{1b}[31mfalse\u{1b}[0m  "));
        assert!(colourful.contains("   \u{1b}[31m112\u{1b}[0m\n"));
        assert!(!colourful.contains("\u{1b}[31mtrue"));
        let stripped = [BOLD, RED, PLAIN].iter().fold(colourful, |text, code| text.replace(code, ""));
        assert_eq!(stripped, table(&nodes(), &terminal(100)), "the columns are where they were");
    }

    #[test]
    fn a_line_is_a_row_whatever_the_data() {
        let mut rows = Rows::new([Column::new("a", "A\n"), Column::new("b", "B")]);
        rows.push([cell("n1"), cell("one\ntwo\u{1b}[2J")]);
        assert_eq!(lines(&rows, &terminal(80)), ["A\\n  B", "n1   one\\ntwo\\u001b[2J"]);
    }

    #[test]
    fn an_empty_list_has_its_header() {
        let rows = Rows::new([Column::new("node", "Node"), Column::new("errors", "Errors")]);
        assert_eq!(table(&rows, &Screen::PIPE), "Node  Errors\n");
    }

    #[test]
    fn one_large_cell_does_not_swell_every_line() {
        let mut rows = Rows::new([Column::new("a", "A"), Column::new("b", "B"), Column::new("c", "C")]);
        rows.push([cell("n1"), cell(&"x".repeat(100_000)), cell("end")]);
        rows.push([cell("n2"), cell("y"), cell("end")]);
        let text = lines(&rows, &Screen::PIPE);
        assert!(text[1].len() > 100_000 && text[1].ends_with("x  end"));
        assert_eq!(text[2].len(), "n2  ".len() + WIDEST_PADDING + "  end".len());
    }
}
