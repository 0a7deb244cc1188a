//! Views over SQLite, held against CouchDB's answers to the same questions.
//!
//! [`fixture`] is what is asked: records in steps, design documents, questions. [`answers`] is what comes of it. What a real
//! CouchDB answered is recorded in `tests/fixtures/views/answers.json`, and every run compares with that; a CouchDB that the
//! tests are given is asked beside, with some questions more ([`chance`]). pouchdb-server, which stands in for one, is no
//! judge: it has its own order of keys. It has to have the same rows all the same.
//!
//! Deliberately absent: what CouchDB says where a function fails, which each engine says in its own words.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod answers;
mod chance;
mod fixture;

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use vogeler_protocol::NodeName;
use vogeler_store::sqlite::Sqlite;
use vogeler_store::{Store, ViewQuery};
use vogeler_tests::{Site, torture};

use self::answers::{Answer, Recorded, Told};
use self::chance::Chance;
use self::fixture::{Fixture, Question, Step};

/// How many questions chance adds.
const DRAWN: usize = 300;

/// A database in a file of the test's own.
struct File {
    store: Sqlite,
    _folder: TempDir,
}

impl File {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::new(&folder.path().join("records.db"));
        assert!(store.create().await.unwrap());
        Self { store, _folder: folder }
    }

    async fn play(&self, fixture: &Fixture, step: &Step) {
        fixture.play(&self.store, step, async |id| self.store.delete(id).await.unwrap()).await;
    }
}

/// What a database at a CouchDB API says of itself.
struct Judge {
    name: String,
    /// Of CouchDB itself: major and minor version.
    couchdb: Option<(u64, u64)>,
    javascript: &'static str,
}

impl Judge {
    async fn of(site: &Site) -> Self {
        let welcome = site.services.couch(Method::GET, "/", None).await.unwrap();
        let text = |pointer: &str| welcome.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_apache = text("/vendor/name").contains("Apache") && welcome.get("express-pouchdb").is_none();
        let version = text("/version");
        let mut numbers = version.split('.').map(str::parse);
        let couchdb = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if is_apache => Some((major, minor)),
            _ => None,
        };
        let quickjs = welcome["features"].as_array().is_some_and(|features| features.contains(&json!("quickjs")));
        Self {
            name: format!("{} {version}", text("/vendor/name")),
            couchdb,
            javascript: if quickjs { "quickjs" } else { "spidermonkey" },
        }
    }
}

/// A database of one shard, so that rows fall into the same pieces every time.
async fn one_shard(site: &Site) {
    site.services.couch(Method::PUT, &format!("/{}?q=1", site.database), None).await.unwrap();
}

async fn play_over_http(site: &Site, fixture: &Fixture, step: &Step) {
    let delete = async |id: &NodeName| {
        let path = format!("/{}/{id}", site.database);
        let document = site.services.couch(Method::GET, &path, None).await.unwrap();
        let rev = document["_rev"].as_str().unwrap().to_owned();
        site.services.couch(Method::DELETE, &format!("{path}?rev={rev}"), None).await.unwrap();
    };
    fixture.play(&site.couch(), step, delete).await;
}

#[tokio::test]
async fn a_file_answers_as_couchdb_did() {
    let (fixture, recorded, file) = (Fixture::read(), Recorded::read(), File::new().await);
    assert!(
        recorded.questions() == fixture.questions(),
        "the questions have changed since the answers were recorded; CONTRIBUTING.md says how to record them anew"
    );
    let mut differences = Vec::new();
    for (number, step) in fixture.steps.iter().enumerate() {
        file.play(&fixture, step).await;
        for told in recorded.of_step(number) {
            let answer = Answer::of(&file.store, &told.question).await;
            differences.extend(
                told.answer.difference(&answer).map(|words| format!("step {number}, {}: {words}", told.question)),
            );
        }
    }
    let asked = recorded.told.len();
    assert!(differences.is_empty(), "{} of {asked} answers differ\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test]
async fn a_file_answers_as_the_database_at_hand_does() {
    let site = Site::bare("views").await;
    let judge = Judge::of(&site).await;
    let fixture = Fixture::read();
    match judge.couchdb {
        Some((3.., _)) => {
            let asked = compare_all(&site, &fixture).await;
            println!("{asked} questions were answered as by {}, {}", judge.name, judge.javascript);
        }
        Some(_) | None => {
            let rows = compare_rows(&site, &fixture).await;
            println!("{} is no judge of order and groups: only that the {rows} rows are the same", judge.name);
        }
    }
}

/// Every question of the fixture, and others by chance: the same answers.
async fn compare_all(site: &Site, fixture: &Fixture) -> usize {
    one_shard(site).await;
    let (couch, file) = (site.couch(), File::new().await);
    let (mut differences, mut asked) = (Vec::new(), 0);
    let mut compare = async |number: usize, question: &Question| {
        let (theirs, ours) = (Answer::of(&couch, question).await, Answer::of(&file.store, question).await);
        asked += 1;
        differences.extend(theirs.difference(&ours).map(|words| format!("step {number}, {question}: {words}")));
    };
    for (number, step) in fixture.steps.iter().enumerate() {
        file.play(fixture, step).await;
        play_over_http(site, fixture, step).await;
        for question in fixture.questions_of(number) {
            compare(number, question).await;
        }
    }
    let last = fixture.steps.len();
    let mut chance = Chance::new(torture::seeded());
    for view in fixture.views() {
        chance.learn(view, &Answer::of(&file.store, &view.asking(&[("reduce", false.into())])).await);
    }
    for _ in 0..DRAWN {
        compare(last, &chance.draw()).await;
    }
    assert!(differences.is_empty(), "{} of {asked} answers differ\n{}", differences.len(), differences.join("\n"));
    asked
}

/// The rows of the design documents that ship, whatever their order, and how many there are.
async fn compare_rows(site: &Site, fixture: &Fixture) -> usize {
    let (couch, file) = (site.couch(), File::new().await);
    couch.create().await.unwrap();
    let mut compared = 0;
    for step in &fixture.steps {
        // Of the others some do not end, and others emit what it cannot answer with; and it drops members of that name.
        let mut step = Step { designs: fixture.shipped(), ..step.clone() };
        step.put.retain(|document| !document.get().contains("__proto__"));
        file.play(fixture, &step).await;
        play_over_http(site, fixture, &step).await;
        for view in fixture.views().filter(|view| view.is_shipped) {
            let (theirs, ours) = (set(&couch, view).await, set(&file.store, view).await);
            assert_eq!(theirs, ours, "{}/{}", view.design, view.name);
            compared += ours.values().sum::<usize>();
            if view.has_reduce {
                let count = view.asking(&[]);
                let (theirs, ours) = (Answer::of(&couch, &count).await, Answer::of(&file.store, &count).await);
                assert_eq!(theirs.difference(&ours), None, "{count}");
            }
        }
    }
    assert!(compared > 100, "{compared} rows");
    compared
}

/// How often each row is there.
async fn set<St: Store>(store: &St, view: &fixture::View) -> BTreeMap<String, usize> {
    let query = ViewQuery { reduce: Some(false), ..ViewQuery::default() };
    let mut set = BTreeMap::new();
    for row in store.view(&view.design, &view.name, &query).await.unwrap() {
        *set.entry(json!([row.id, row.key, row.value]).to_string()).or_default() += 1;
    }
    set
}

#[tokio::test]
#[ignore = "writes tests/fixtures/views/answers.json anew, by a real CouchDB 3.5 or later"]
async fn record() {
    let site = Site::bare("views").await;
    let judge = Judge::of(&site).await;
    let is_current = judge.couchdb.is_some_and(|version| version >= (3, 5)) && judge.javascript == "quickjs";
    assert!(is_current, "{} ({}) is no CouchDB 3.5 or later with QuickJS", judge.name, judge.javascript);
    one_shard(&site).await;
    let (fixture, couch) = (Fixture::read(), site.couch());
    let mut told = Vec::new();
    for (number, step) in fixture.steps.iter().enumerate() {
        play_over_http(&site, &fixture, step).await;
        for question in fixture.questions_of(number) {
            told.push(Told { step: number, question: question.clone(), answer: Answer::of(&couch, question).await });
        }
    }
    Recorded { database: judge.name, javascript: judge.javascript.to_owned(), told }.write();
}
