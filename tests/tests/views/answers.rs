//! What a database answered, and what was recorded of it.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};
use vogeler_store::{Store, StoreError, ViewRow};

use crate::fixture::{Question, folder};

/// What came of a question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Rows, each `[id, key, value]`, or `[key, value]` where it has no id.
    Rows(Vec<Value>),
    /// None.
    Refused { status: u16, reason: String },
}

impl Answer {
    pub(crate) async fn of<St: Store>(store: &St, question: &Question) -> Self {
        match store.view(&question.design, &question.view, &question.query()).await {
            Ok(rows) => Self::Rows(rows.into_iter().map(row).collect()),
            Err(StoreError::Refused { status, reason, .. }) => Self::Refused { status, reason },
            Err(StoreError::Missing { .. }) => Self::Refused { status: 404, reason: "missing".to_owned() },
            Err(other) => panic!("{question}: {other}"),
        }
    }

    /// What is different in another answer, in words. Texts are compared, so that neither 1.0 is 1 nor the order of members
    /// of no account. Where the database failed over it, only that: the words are those of another engine.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Rows(expected), Self::Rows(rows)) => {
                let text = |row: Option<&Value>| row.map_or_else(|| "no row".to_owned(), Value::to_string);
                let place = (0..expected.len().max(rows.len()))
                    .find(|place| text(expected.get(*place)) != text(rows.get(*place)))?;
                let (expected, row) = (text(expected.get(place)), text(rows.get(place)));
                Some(format!("row {place} is {expected} in CouchDB and {row} here"))
            }
            (Self::Refused { status: 500, .. }, Self::Refused { status: 500, .. }) => None,
            (Self::Refused { .. }, Self::Refused { .. }) if self == other => None,
            _ => Some(format!("{} in CouchDB and {} here", self.short(), other.short())),
        }
    }

    fn short(&self) -> String {
        match self {
            Self::Rows(rows) => format!("{} rows", rows.len()),
            Self::Refused { status, reason } => format!("{status} ({reason})"),
        }
    }

    pub(crate) fn rows(&self) -> &[Value] {
        match self {
            Self::Rows(rows) => rows,
            Self::Refused { .. } => &[],
        }
    }
}

fn row(row: ViewRow) -> Value {
    match row.id {
        Some(id) => json!([id, row.key, row.value]),
        None => json!([row.key, row.value]),
    }
}

/// A question and its answer.
pub(crate) struct Told {
    pub(crate) step: usize,
    pub(crate) question: Question,
    pub(crate) answer: Answer,
}

/// What was answered by a real CouchDB.
pub(crate) struct Recorded {
    pub(crate) database: String,
    pub(crate) javascript: String,
    pub(crate) told: Vec<Told>,
}

impl Recorded {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(folder().join("answers.json")).unwrap();
        let recorded: Value = serde_json::from_str(&text).unwrap();
        let text = |name: &str| recorded[name].as_str().unwrap().to_owned();
        let mut told = Vec::new();
        for (step, views) in recorded["steps"].as_array().unwrap().iter().enumerate() {
            for part in views.as_array().unwrap() {
                let (view, answers) = (part["view"].as_str().unwrap(), part["answers"].as_array().unwrap());
                told.extend(answers.iter().map(|line| Told::read(step, view, line)));
            }
        }
        Self { database: text("database"), javascript: text("javascript"), told }
    }

    /// A question a line, so that a difference of two recordings can be read.
    pub(crate) fn write(&self) {
        let Self { database, javascript, told } = self;
        let (database, javascript) = (json!(database), json!(javascript));
        let mut text = format!("{{\"database\": {database}, \"javascript\": {javascript}, \"q\": 1, \"steps\": [");
        for (place, step) in told.chunk_by(|one, other| one.step == other.step).enumerate() {
            text.push_str(if place == 0 { "\n[" } else { "\n],[" });
            for (place, view) in step.chunk_by(|one, other| one.question.is_to_the_same(&other.question)).enumerate() {
                let comma = if place == 0 { "" } else { "," };
                write!(text, "\n{comma}{{\"view\": {}, \"answers\": [", json!(view[0].question.of())).unwrap();
                for (place, told) in view.iter().enumerate() {
                    write!(text, "\n  {}{}", if place == 0 { "" } else { "," }, told.written()).unwrap();
                }
                text.push_str("]}");
            }
        }
        text.push_str("\n]]}\n");
        fs::write(folder().join("answers.json"), text).unwrap();
    }

    pub(crate) fn questions(&self) -> Vec<(usize, Question)> {
        self.told.iter().map(|told| (told.step, told.question.clone())).collect()
    }

    pub(crate) fn of_step(&self, step: usize) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(move |told| told.step == step)
    }
}

impl Told {
    /// The question and its rows, or the question, a status and words.
    fn written(&self) -> Value {
        let asked = &self.question.asked;
        match &self.answer {
            Answer::Rows(rows) => json!([asked, rows]),
            Answer::Refused { status, reason } => {
                // Of a crash the beginning is enough: nothing is compared with it.
                let words: String = reason.lines().next().unwrap_or_default().chars().take(110).collect();
                json!([asked, status, words])
            }
        }
    }

    fn read(step: usize, view: &str, line: &Value) -> Self {
        let answer = match line[1].as_array() {
            Some(rows) => Answer::Rows(rows.clone()),
            None => Answer::Refused {
                status: line[1].as_u64().unwrap().try_into().unwrap(),
                reason: line[2].as_str().unwrap().to_owned(),
            },
        };
        Self { step, question: Question::new(view, line[0].as_object().unwrap().clone()), answer }
    }
}
