//! Data is let through exactly where a second reader finds that a database can hold it, as it was
//! printed, and what is refused is refused where it stands.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vogeler_fuzz::{expect_storable, json};
use vogeler_protocol::Data;
use vogeler_protocol::data::BadData;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let bare = text.trim_matches(|character: char| matches!(character, ' ' | '\t' | '\r' | '\n'));
    match (Data::parse(text), json::read(text)) {
        (Ok(data), Some(_)) => {
            assert_eq!(data.get(), bare, "data is what was printed");
            expect_storable(&data);
        }
        (Err(refusal), None) => stands_where_it_says(&refusal, bare.as_bytes()),
        (Ok(_), None) => panic!("was let through, and no database can hold it: {text}"),
        (Err(refusal), Some(document)) => panic!("{refusal}, although it can be stored: {document:?}"),
    }
});

fn stands_where_it_says(refusal: &BadData, text: &[u8]) {
    match *refusal {
        BadData::Syntax(_) => {}
        BadData::Depth { at } => assert!(b"[{".contains(&text[at]), "{refusal}"),
        BadData::Surrogate { at } => assert!(text[at..].starts_with(b"\\u"), "{refusal}"),
        BadData::NotFinite { at } => assert!(text[at] == b'-' || text[at].is_ascii_digit(), "{refusal}"),
        BadData::LongInteger { at, digits } => {
            let sign = usize::from(text[at] == b'-');
            let found = text[at + sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            assert_eq!(found, digits, "{refusal}");
        }
    }
}
