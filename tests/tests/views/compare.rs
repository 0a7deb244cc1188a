//! The comparisons, and how the answers are recorded that they go by.

use std::collections::BTreeMap;

use serde_json::json;
use vogeler_store::{Store, ViewQuery};
use vogeler_tests::{Site, torture};

use crate::answers::{Answer, Recorded, Told};
use crate::chance::Chance;
use crate::databases::{File, Judge, one_shard, play_over_http};
use crate::fixture::{self, Fixture, Question, Step};

/// How many questions chance adds.
const DRAWN: usize = 300;

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
