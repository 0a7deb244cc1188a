//! What holds of the merge whatever arrives, in whatever order and however often.

#![allow(clippy::unwrap_used, reason = "a test that cannot build its input has failed")]

use proptest::prelude::*;
use serde_json::{Value, json};
use vogeler_protocol::message::{CommandResult, Failure, FailureKind, Hello, Payload, Version};
use vogeler_protocol::record::{Arrival, Change};
use vogeler_protocol::{Data, Digest, Record, Timestamp};

const KEYS: [&str; 3] = ["packages", "ps", "jmx"];

#[derive(Debug, Clone)]
struct Sent {
    key: usize,
    epoch: u64,
    seq: u64,
    /// None is a failure.
    value: Option<u8>,
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    // Each (epoch, seq) once, as a client draws them.
    proptest::collection::btree_map((0u64..3, 0u64..6), (0..KEYS.len(), proptest::option::of(0u8..3)), 1..12).prop_map(
        |results| {
            let sent = |((epoch, seq), (key, value))| Sent { key, epoch, seq, value };
            results.into_iter().map(sent).collect()
        },
    )
}

fn arrival(sent: &Sent, at: i64) -> Arrival {
    let payload = match sent.value {
        Some(value) => Payload::Data(Data::parse(&json!({ "value": value }).to_string()).unwrap()),
        None => Payload::Failure(Failure {
            kind: FailureKind::Exit,
            message: format!("failed at {}.{}", sent.epoch, sent.seq),
            stderr: String::new(),
        }),
    };
    let key = KEYS[sent.key];
    let mut result = CommandResult::bare("web01".parse().unwrap(), key.parse().unwrap(), payload).unwrap();
    result.epoch = Some(sent.epoch);
    result.seq = Some(sent.seq);
    result.machine_id = Some("m".into());
    if let Payload::Data(data) = &result.payload {
        result.digest = Some(Digest::of_data(data));
    }
    Arrival {
        result,
        login: None,
        received_at: Timestamp::from_millisecond(at),
        sent_at: None,
        again: false,
        bytes: 100,
        received_digest: None,
    }
}

fn document(record: &Record) -> Value {
    serde_json::from_slice(&record.to_document()).unwrap()
}

fn foreign() -> Record {
    let text = json!({
        "_id": "web01", "_rev": "3-abc", "owner": {"team": "ops"}, "created_at": "2020-01-01T00:00:00.000Z",
        "_attachments": {"a.txt": {"stub": true, "revpos": 2}},
        "vogeler": {"note": "from a later version", "results": {}},
    });
    Record::from_document("web01".parse().unwrap(), &text.to_string(), Timestamp::from_millisecond(0)).unwrap()
}

proptest! {
    /// The highest (epoch, seq) of each key stands, whatever the order and number of arrivals.
    #[test]
    fn the_latest_of_each_key_stands(
        (sent, order) in sent().prop_flat_map(|sent| {
            let count = sent.len();
            (Just(sent), proptest::collection::vec(0..count, count..count * 3))
        })
    ) {
        let mut record = foreign();
        let mut arrived = vec![false; sent.len()];
        for (at, index) in order.iter().enumerate() {
            record.apply(&arrival(&sent[*index], at as i64));
            arrived[*index] = true;
        }
        let document = document(&record);
        for (number, key) in KEYS.iter().enumerate() {
            let of_key = || sent.iter().zip(&arrived).filter(|(s, a)| s.key == number && **a).map(|(s, _)| s);
            let place = |s: &&Sent| (s.epoch, s.seq);
            let good = of_key().filter(|s| s.value.is_some()).max_by_key(place);
            let bad = of_key().filter(|s| s.value.is_none()).max_by_key(place);
            prop_assert_eq!(document.get(key).cloned(), good.map(|s| json!({ "value": s.value })));
            let failure = bad.filter(|b| good.is_none_or(|g| place(&g) < place(b)));
            let noted = document["vogeler"]["errors"][key]["message"].as_str();
            prop_assert_eq!(noted.map(str::to_owned), failure.map(|s| format!("failed at {}.{}", s.epoch, s.seq)));
        }
    }

    /// The same arrival a second time changes nothing.
    #[test]
    fn merging_is_idempotent(sent in sent()) {
        let mut record = foreign();
        for one in &sent {
            record.apply(&arrival(one, 1));
            let before = document(&record);
            let change = record.apply(&arrival(one, 2));
            prop_assert!(!change.writes(), "{:?}", change);
            prop_assert_eq!(document(&record), before);
        }
    }

    /// What Vogeler does not own stays as it is.
    #[test]
    fn foreign_fields_survive(sent in sent()) {
        let mut record = foreign();
        for one in &sent {
            record.apply(&arrival(one, 1));
        }
        let document = document(&record);
        prop_assert_eq!(&document["owner"], &json!({"team": "ops"}));
        prop_assert_eq!(&document["_rev"], "3-abc");
        prop_assert_eq!(&document["created_at"], "2020-01-01T00:00:00.000Z");
        prop_assert_eq!(&document["_attachments"]["a.txt"]["stub"], true);
        prop_assert_eq!(&document["vogeler"]["note"], "from a later version");
    }
}

fn outside(value: u8, at: i64, sent_at: i64, again: bool) -> Arrival {
    let mut arrival = arrival(&Sent { key: 0, epoch: 0, seq: 0, value: Some(value) }, at);
    (arrival.result.epoch, arrival.result.seq, arrival.result.machine_id) = (None, None, None);
    (arrival.sent_at, arrival.again) = (Some(Timestamp::from_millisecond(sent_at)), again);
    arrival
}

#[test]
fn without_an_epoch_arrival_decides_but_a_redelivery_never_rolls_back() {
    let mut record = Record::new("web01".parse().unwrap(), Timestamp::from_millisecond(0));
    assert_eq!(record.apply(&outside(1, 10, 9, false)), Change::Stored);
    assert_eq!(record.apply(&outside(2, 20, 19, false)), Change::Stored);
    assert_eq!(record.apply(&outside(1, 30, 9, true)), Change::Superseded);
    assert_eq!(document(&record)["packages"]["value"], 2);
    assert_eq!(record.apply(&outside(3, 40, 35, true)), Change::Stored, "sent after what stands");
}

#[test]
fn a_backlog_that_comes_again_is_merged_in_the_order_in_which_it_was_sent() {
    let mut record = Record::new("web01".parse().unwrap(), Timestamp::from_millisecond(0));
    assert_eq!(record.apply(&outside(1, 1000, 10, true)), Change::Stored);
    assert_eq!(record.apply(&outside(2, 1001, 20, true)), Change::Stored, "received before it was merged, sent later");
    assert_eq!(record.apply(&outside(1, 1002, 10, true)), Change::Superseded);
}

#[test]
fn another_machine_of_that_name_is_not_ordered_by_its_counter() {
    let mut record = Record::new("web01".parse().unwrap(), Timestamp::from_millisecond(0));
    record.apply(&arrival(&Sent { key: 0, epoch: 9, seq: 9, value: Some(1) }, 1));
    let mut reinstalled = arrival(&Sent { key: 0, epoch: 1, seq: 1, value: Some(2) }, 2);
    reinstalled.result.machine_id = Some("other".into());
    assert_eq!(record.apply(&reinstalled), Change::Stored);
}

#[test]
fn unchanged_data_notes_when_it_was_collected() {
    let mut record = Record::new("web01".parse().unwrap(), Timestamp::from_millisecond(0));
    record.apply(&arrival(&Sent { key: 0, epoch: 1, seq: 1, value: Some(1) }, 1000));
    let again = record.apply(&arrival(&Sent { key: 0, epoch: 1, seq: 2, value: Some(1) }, 2000));
    assert_eq!(again, Change::Unchanged);
    let entry = document(&record)["vogeler"]["results"]["packages"].clone();
    assert_eq!(entry["changed_at"], "1970-01-01T00:00:01.000Z");
    assert_eq!(entry["received_at"], "1970-01-01T00:00:02.000Z");
    assert_eq!(entry["seq"], 2);
}

#[test]
fn data_that_somebody_removed_is_put_back() {
    let mut record = Record::new("web01".parse().unwrap(), Timestamp::from_millisecond(0));
    record.apply(&arrival(&Sent { key: 0, epoch: 1, seq: 1, value: Some(1) }, 1000));
    let mut edited = document(&record);
    edited.as_object_mut().unwrap().remove("packages");
    let mut record =
        Record::from_document("web01".parse().unwrap(), &edited.to_string(), Timestamp::from_millisecond(0)).unwrap();
    let change = record.apply(&arrival(&Sent { key: 0, epoch: 1, seq: 2, value: Some(1) }, 2000));
    assert_eq!(change, Change::Stored);
    assert_eq!(document(&record)["packages"]["value"], 1);
}

fn hello(epoch: u64) -> Hello {
    Hello {
        v: Version,
        node: "web01".parse().unwrap(),
        version: format!("0.1.{epoch}"),
        instance: "5b0c1d6e-0000-4000-8000-000000000003".parse().unwrap(),
        machine_id: None,
        epoch,
        seq: 1,
        contends: false,
        groups: vec!["web".parse().unwrap()],
        aliases: std::collections::BTreeMap::new(),
    }
}

#[test]
fn a_second_machine_of_the_name_is_noted_until_it_has_the_name() {
    let at = Timestamp::from_millisecond;
    let first = Hello { machine_id: Some("one".into()), ..hello(1) };
    let second = Hello {
        machine_id: Some("two".into()),
        instance: "5b0c1d6e-0000-4000-8000-000000000004".parse().unwrap(),
        ..hello(1)
    };
    let turned_away = Hello { contends: true, ..second.clone() };
    let mut record = Record::new("web01".parse().unwrap(), at(0));
    assert_eq!(record.apply_hello(&turned_away, at(1)), Change::Held, "nobody has the name yet");
    assert_eq!(record.apply_hello(&first, at(2)), Change::Stored);
    let again = Hello { contends: true, ..first.clone() };
    assert_eq!(record.apply_hello(&again, at(3)), Change::Held, "its own dead connection");
    assert_eq!(record.apply_hello(&turned_away, at(4)), Change::Stored);
    assert_eq!(record.apply_hello(&turned_away, at(5)), Change::Held);
    let noted = document(&record)["vogeler"].clone();
    assert_eq!((&noted["client"]["machine_id"], &noted["clash"]["machine_id"]), (&"one".into(), &"two".into()));
    assert_eq!(record.apply_hello(&Hello { epoch: 2, ..first }, at(6)), Change::Stored);
    assert!(document(&record)["vogeler"]["clash"].is_object(), "the other has not gone by that");
    assert_eq!(record.apply_hello(&second, at(7)), Change::Stored);
    assert!(document(&record)["vogeler"]["clash"].is_null());
}

#[test]
fn a_hello_makes_a_record_and_an_older_one_does_not_replace_it() {
    let mut record = Record::new("web01".parse().unwrap(), Timestamp::from_millisecond(0));
    assert_eq!(record.apply_hello(&hello(2), Timestamp::from_millisecond(5)), Change::Stored);
    assert_eq!(record.apply_hello(&hello(1), Timestamp::from_millisecond(6)), Change::Superseded);
    assert_eq!(document(&record)["vogeler"]["client"]["version"], "0.1.2");
}

#[test]
fn a_record_reads_as_the_design_draws_it() {
    let mut record = Record::new("web01".parse().unwrap(), Timestamp::from_millisecond(0));
    record.apply(&arrival(&Sent { key: 0, epoch: 4, seq: 17, value: Some(1) }, 1000));
    let text = String::from_utf8(record.to_document()).unwrap();
    let place = |name: &str| text.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} is missing: {text}"));
    let order = ["_id", "doc_type", "system_name", "created_at", "updated_at", "packages", "vogeler"].map(place);
    assert!(order.is_sorted(), "{text}");
}
