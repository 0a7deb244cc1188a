//! What merging keeps, whatever arrives and whatever somebody else has written into the document.
//!
//! The first line of an input is a record's document as a database might have it (none, where it is
//! no object); `arrivals` makes messages out of the rest.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use vogeler_fuzz::arrivals::{self, Brings, KEYS, Sent};
use vogeler_fuzz::parts::{Members, Parts, adopt};
use vogeler_protocol::record::Change;
use vogeler_protocol::{Record, Timestamp};

fuzz_target!(|bytes: &[u8]| {
    let line = bytes.iter().position(|byte| *byte == b'\n');
    let (first, rest) = line.map_or((&bytes[..0], bytes), |end| (&bytes[..end], &bytes[end + 1..]));
    let sent = arrivals::read(rest).expect("bytes that end are followed by zeros");
    order_does_not_decide(&sent);
    one_after_the_other(begin(first), &sent);
});

fn new() -> Record {
    Record::new(arrivals::node(), Timestamp::from_millisecond(0))
}

fn text(record: &Record) -> String {
    String::from_utf8(record.to_document()).expect("JSON is UTF-8")
}

fn parts(record: &Record) -> Parts {
    Parts::of(&text(record)).expect("a document is an object")
}

/// One machine's results, in the order of their counter and as they came, some of them more than
/// once: the same stands.
fn order_does_not_decide(sent: &[Sent]) {
    let mut counted: BTreeMap<(u64, u64), Sent> = BTreeMap::new();
    let mut came = Vec::new();
    for one in sent {
        if let (Some(place), false) = (one.place, matches!(one.brings, Brings::TooLarge | Brings::Hello)) {
            counted.entry(place).or_insert_with(|| Sent { machine: Some("m"), ..one.clone() });
            came.push(place);
        }
    }
    let (mut in_order, mut as_they_came) = (new(), new());
    for one in counted.values() {
        one.merge(&mut in_order, 1);
    }
    for (at, place) in (1..).zip(&came) {
        counted[place].merge(&mut as_they_came, at);
    }
    let stands = standing(&as_they_came);
    assert_eq!(stands, standing(&in_order), "came as {came:?} of {counted:#?}");
    for (number, key) in KEYS.iter().enumerate() {
        let latest = |good: bool| {
            let of_key = counted.iter().filter(|(_, one)| one.key == number && one.data().is_some() == good);
            of_key.map(|(place, _)| *place).next_back()
        };
        let noted = |kind: &str| {
            let entry = &stands["vogeler"][kind][*key];
            entry["epoch"].as_u64().zip(entry["seq"].as_u64())
        };
        assert_eq!(noted("results"), latest(true), "the highest success of {key} stands");
        assert_eq!(
            noted("errors"),
            latest(false).filter(|bad| Some(*bad) > latest(true)),
            "no earlier failure of {key}"
        );
    }
}

/// A document without the times at which its results came.
fn standing(record: &Record) -> Value {
    let mut document: Value = serde_json::from_slice(&record.to_document()).expect("a document is JSON");
    document["updated_at"].take();
    for kind in ["results", "errors"] {
        for entry in document["vogeler"][kind].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
            entry["received_at"].take();
            entry["changed_at"].take();
        }
    }
    document
}

/// A record that somebody else has written into, with all of that in place.
fn begin(line: &[u8]) -> Record {
    let Ok(line) = std::str::from_utf8(line) else { return new() };
    // With members that come twice, or are of the wrong kind, it is still a record.
    if let Ok(odd) = Record::from_document(arrivals::node(), line, Timestamp::from_millisecond(0)) {
        parts(&odd);
    }
    let Some(foreign) = Parts::of(line) else { return new() };
    let written = foreign.document();
    let record = Record::from_document(arrivals::node(), &written, Timestamp::from_millisecond(0))
        .unwrap_or_else(|error| panic!("{error}: {written}"));
    let read = parts(&record);
    for (name, value) in foreign.fields.iter().filter(|(name, _)| !["_id", "_rev"].contains(&name.as_str())) {
        assert_eq!(read.fields.get(name), Some(value), "{name} of {written}");
    }
    assert_eq!(
        (read.vogeler, read.results, read.errors),
        (foreign.vogeler, foreign.results, foreign.errors),
        "{written} is kept"
    );
    record
}

/// Each arrival changes what is its own and nothing else; a second time it changes nothing.
fn one_after_the_other(mut record: Record, sent: &[Sent]) {
    // When the data of a key was sent, or received where that is not known.
    let mut stood: BTreeMap<&str, i64> = BTreeMap::new();
    for (at, one) in (10..).step_by(10).zip(sent) {
        let (before, untouched) = (parts(&record), text(&record));
        let change = one.merge(&mut record, at);
        let after = parts(&record);
        if change.writes() {
            assert_eq!(allowed(before.clone(), &after, one), after, "{one:?} has changed what is not its own");
            let said = one.brings == Brings::Hello || record.answers(arrivals::run(), one.key()).is_some();
            assert!(said, "the record says what came of the run of {one:?}: {after:#?}");
        } else {
            assert_eq!(text(&record), untouched, "{one:?} is {change:?} and changes nothing");
        }
        match (one.data(), change) {
            (Some(data), Change::Stored) => assert_eq!(after.fields[one.key()], data),
            (Some(_), Change::Unchanged) => assert_eq!(after.fields[one.key()], before.fields[one.key()]),
            (None, Change::Unchanged) => panic!("{one:?} brings no data that could be unchanged"),
            (_, Change::Stored | Change::Held | Change::Superseded) => {}
        }
        let rolls_back = one.brings != Brings::Hello
            && one.place.is_none()
            && one.again
            && one.sent_at.zip(stood.get(one.key())).is_some_and(|(sent, stood)| sent < *stood);
        assert!(!rolls_back || change == Change::Superseded, "{one:?} came again after newer data and is {change:?}");
        if one.data().is_some() && change.writes() {
            // Nothing was sent after it was received, whatever the clock of its producer says.
            stood.insert(one.key(), one.sent_at.map_or(at, |sent| sent.min(at)));
        }
        a_second_time(&mut record, one, at + 5);
        let written = text(&record);
        let read = Record::from_document(arrivals::node(), &written, Timestamp::from_millisecond(at + 6))
            .unwrap_or_else(|error| panic!("{error}: {written}"));
        assert_eq!(text(&read), written, "a document that was read is written as it was");
    }
}

/// `before` with everything taken over from `after` that `sent` may change.
fn allowed(mut before: Parts, after: &Parts, sent: &Sent) -> Parts {
    adopt(&mut before.fields, &after.fields, "updated_at");
    let own = |members: &mut Members, after: &Members| adopt(members, after, sent.key());
    match sent.brings {
        Brings::Data(_) => {
            own(&mut before.fields, &after.fields);
            own(&mut before.results, &after.results);
            own(&mut before.errors, &after.errors);
        }
        Brings::Failure | Brings::TooLarge => own(&mut before.errors, &after.errors),
        Brings::Hello if sent.again => adopt(&mut before.vogeler, &after.vogeler, "clash"),
        Brings::Hello => {
            adopt(&mut before.vogeler, &after.vogeler, "client");
            adopt(&mut before.vogeler, &after.vogeler, "clash");
        }
    }
    before
}

/// What is counted is known again, and nothing is written. A producer that does not count is noted
/// once more, but its data is what it was.
fn a_second_time(record: &mut Record, sent: &Sent, at: i64) {
    let (before, untouched) = (parts(record), text(record));
    let change = sent.merge(record, at);
    if sent.place.is_some() || sent.brings == Brings::Hello {
        assert!(!change.writes(), "{sent:?} is {change:?} when it comes again");
        assert_eq!(text(record), untouched);
    } else if sent.data().is_some() {
        assert_ne!(change, Change::Stored, "{sent:?} is no new data when it comes again");
        assert_eq!(parts(record).fields.get(sent.key()), before.fields.get(sent.key()));
    }
}
