//! What is asked: `tests/fixtures/views`, and the design documents that ship.
//!
//! Start at [`Fixture::read`]. Records come in steps, with questions after each: an index has to follow what was changed and
//! deleted between them.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use vogeler_protocol::NodeName;
use vogeler_store::design_docs::{self, DesignDoc};
use vogeler_store::{Fate, Row, Store, ViewQuery};
use vogeler_tests::site::workspace;

/// Where all of it is.
pub(crate) fn folder() -> PathBuf {
    workspace().join("tests/fixtures/views")
}

/// All that is asked.
pub(crate) struct Fixture {
    pub(crate) steps: Vec<Step>,
    shipped: Vec<DesignDoc>,
    views: Vec<View>,
    first: Vec<Question>,
    after_changes: Vec<Question>,
}

/// What becomes of the database before questions are asked.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) designs: Vec<DesignDoc>,
    pub(crate) put: Vec<Box<RawValue>>,
    pub(crate) delete: Vec<NodeName>,
}

/// A view that is there.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) design: String,
    pub(crate) name: String,
    pub(crate) has_reduce: bool,
    pub(crate) is_shipped: bool,
}

impl View {
    pub(crate) fn asking(&self, asked: &[(&str, Value)]) -> Question {
        let asked = asked.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Question { design: self.design.clone(), view: self.name.clone(), asked }
    }
}

/// One question to a view, in the names of CouchDB's parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    pub(crate) design: String,
    pub(crate) view: String,
    pub(crate) asked: Map<String, Value>,
}

impl Question {
    /// Of `design/view`.
    pub(crate) fn new(of: &str, asked: Map<String, Value>) -> Self {
        let (design, view) = of.split_once('/').unwrap();
        Self { design: design.to_owned(), view: view.to_owned(), asked }
    }

    /// `design/view`.
    pub(crate) fn of(&self) -> String {
        format!("{}/{}", self.design, self.view)
    }

    pub(crate) fn is_to_the_same(&self, other: &Self) -> bool {
        self.design == other.design && self.view == other.view
    }

    pub(crate) fn query(&self) -> ViewQuery {
        let mut query = ViewQuery::default();
        for (name, value) in &self.asked {
            let value = value.clone();
            match name.as_str() {
                "key" => query.key = Some(value),
                "startkey" => query.startkey = Some(value),
                "endkey" => query.endkey = Some(value),
                "reduce" => query.reduce = value.as_bool(),
                "group" => query.group = value == true,
                "group_level" => query.group_level = value.as_u64().map(|level| level.try_into().unwrap()),
                "descending" => query.descending = value == true,
                "limit" => query.limit = value.as_u64(),
                other => panic!("{self}: {other} is no parameter"),
            }
        }
        query
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.of(), Value::Object(self.asked.clone()))
    }
}

#[derive(Deserialize)]
struct RecordedStep {
    /// Whether the design documents of the folder `changed` are loaded over the others.
    #[serde(default)]
    changed: bool,
    put: Vec<Box<RawValue>>,
    #[serde(default)]
    delete: Vec<NodeName>,
}

#[derive(Deserialize)]
struct Questions {
    #[serde(rename = "every view")]
    every_view: Vec<Map<String, Value>>,
    #[serde(rename = "after changes")]
    after_changes: Vec<Map<String, Value>>,
    views: Map<String, Value>,
}

impl Fixture {
    pub(crate) fn read() -> Self {
        let text = |name: &str| fs::read_to_string(folder().join(name)).unwrap();
        let shipped = design_docs::read_all(&workspace().join("design-docs")).unwrap();
        let own = design_docs::read_all(&folder().join("design-docs")).unwrap();
        let changed = design_docs::read_all(&folder().join("changed")).unwrap();
        let recorded: Vec<RecordedStep> = serde_json::from_str(&text("records.json")).unwrap();
        let all: Vec<DesignDoc> = shipped.iter().chain(&own).cloned().collect();
        let step = |(number, step): (usize, RecordedStep)| {
            let designs = if step.changed { changed.clone() } else { Vec::new() };
            Step { designs: if number == 0 { all.clone() } else { designs }, put: step.put, delete: step.delete }
        };
        let steps = recorded.into_iter().enumerate().map(step).collect();
        let views: Vec<View> = views(&shipped, true).chain(views(&own, false)).collect();
        let questions: Questions = serde_json::from_str(&text("questions.json")).unwrap();
        let of_every_view = |asked: &[Map<String, Value>]| -> Vec<Question> {
            let of = |view: &View| format!("{}/{}", view.design, view.name);
            let pairs = views.iter().flat_map(|view| asked.iter().map(move |asked| (view, asked)));
            // Without a reduce the first of them is the second.
            let pairs = pairs.filter(|(view, asked)| view.has_reduce || !asked.is_empty());
            pairs.map(|(view, asked)| Question::new(&of(view), asked.clone())).collect()
        };
        let of_single_views = questions.views.iter().flat_map(|(of, asked)| {
            let asked: Vec<Map<String, Value>> = serde_json::from_value(asked.clone()).unwrap();
            asked.into_iter().map(|asked| Question::new(of, asked))
        });
        let first = of_every_view(&questions.every_view).into_iter().chain(of_single_views).collect();
        let after_changes = of_every_view(&questions.after_changes);
        Self { steps, shipped, views, first, after_changes }
    }

    /// The design documents that ship.
    pub(crate) fn shipped(&self) -> Vec<DesignDoc> {
        self.shipped.clone()
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = &View> {
        self.views.iter()
    }

    /// What is asked after a step.
    pub(crate) fn questions_of(&self, step: usize) -> &[Question] {
        if step == 0 { &self.first } else { &self.after_changes }
    }

    /// Every question, with the number of its step.
    pub(crate) fn questions(&self) -> Vec<(usize, Question)> {
        let of_step = |step: usize| self.questions_of(step).iter().map(move |question| (step, question.clone()));
        (0..self.steps.len()).flat_map(of_step).collect()
    }

    /// Writes what a step says into a database that is there.
    pub(crate) async fn play<St: Store>(&self, store: &St, step: &Step, delete: impl AsyncFn(&NodeName)) {
        let rows: Vec<NodeName> = step.put.iter().map(|document| id(document)).collect();
        let standing = store.fetch(&rows).await.unwrap();
        let row = |((id, document), standing): ((NodeName, &RawValue), Option<String>)| {
            let rev = standing.map(|text| serde_json::from_str::<Value>(&text).unwrap()["_rev"].to_string());
            let rev = rev.map(|rev| format!("\"_rev\":{rev},")).unwrap_or_default();
            Row { id, document: format!("{{{rev}{}", &document.get()[1..]).into_bytes() }
        };
        let rows: Vec<Row> = rows.into_iter().zip(step.put.iter().map(AsRef::as_ref)).zip(standing).map(row).collect();
        let fates = store.put(&rows).await.unwrap();
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Stored { .. })), "{fates:?}");
        for id in &step.delete {
            delete(id).await;
        }
        for doc in &step.designs {
            store.sync_design(doc).await.unwrap();
        }
    }
}

fn id(document: &RawValue) -> NodeName {
    let document: Value = serde_json::from_str(document.get()).unwrap();
    document["_id"].as_str().unwrap().parse().unwrap()
}

fn views(docs: &[DesignDoc], is_shipped: bool) -> impl Iterator<Item = View> {
    docs.iter().flat_map(move |doc| {
        let views = doc.to_document()["views"].as_object().cloned().unwrap_or_default();
        let design = doc.name().to_owned();
        views.into_iter().map(move |(name, functions)| View {
            design: design.clone(),
            name,
            has_reduce: functions.get("reduce").is_some(),
            is_shipped,
        })
    })
}
