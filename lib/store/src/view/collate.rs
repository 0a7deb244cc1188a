//! The order of keys in a view: CouchDB's, as bytes.
//!
//! Start at [`sort_key`]. `null`, `false`, `true`, numbers by value, text, arrays, objects, in this order; arrays and
//! objects element by element, the shorter first; members of objects in the order they have, name before value. Text is
//! ordered by ICU's root collation with none of its settings changed, as CouchDB opens it: tertiary strength, nothing
//! skipped, no normalisation asked for. Text that ICU takes for equal (é in one character or in two, `"ab"` with a soft
//! hyphen in it) is one key: CouchDB has no tie-breaker either, and leaves such rows to the ids of their documents.
//!
//! ICU4X 2.4 (Unicode 17) is newer than the ICU 72 of Debian's CouchDB packages, and orders Han characters outside the
//! basic block after those in it, where that ICU goes by radical and strokes. Of 20,000 texts without Han characters, from
//! every other block of Unicode, 15 stood elsewhere; of 584 Han characters of the basic block 5.
//!
//! The bytes are for an index, not for an archive: ICU gives no promise over versions. [`fingerprint`] tells whether an
//! index was made with other ones.

use std::sync::LazyLock;

use icu_collator::options::CollatorOptions;
use icu_collator::{Collator, CollatorBorrowed, CollatorPreferences};
use serde_json::{Number, Value};
use sha1::{Digest, Sha1};

/// Ends text, an array or an object. Below everything that could follow instead, so that the shorter comes first; ICU's
/// keys have no zero byte.
const END: u8 = 0;
const NULL: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const NUMBER: u8 = 4;
const TEXT: u8 = 5;
const ARRAY: u8 = 6;
const OBJECT: u8 = 7;

/// What follows [`NUMBER`]: a floating point number, and what an integer has above it.
const NUMBER_LENGTH: usize = 10;

static ROOT: LazyLock<CollatorBorrowed<'static>> =
    LazyLock::new(|| match Collator::try_new(CollatorPreferences::default(), CollatorOptions::default()) {
        Ok(collator) => collator,
        Err(error) => unreachable!("the root collation is compiled in: {error}"),
    });

/// Bytes whose order is the order of the keys in a view. Keys that CouchDB takes for equal have equal bytes.
pub fn sort_key(key: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(key, &mut bytes);
    bytes
}

/// How many bytes of a sort key say in which group its row is: those of the first `level` elements of an array, all of
/// any other key.
pub(super) fn group_length(sort: &[u8], level: u32) -> usize {
    if sort.first() != Some(&ARRAY) {
        return sort.len();
    }
    let mut at = 1;
    for _ in 0..level {
        if sort.get(at).is_none_or(|tag| *tag == END) {
            return sort.len();
        }
        at = skip(sort, at);
    }
    at
}

/// Where the element that starts at `at` ends.
fn skip(sort: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = at;
    while let Some(tag) = sort.get(at) {
        at += 1;
        match *tag {
            NUMBER => at += NUMBER_LENGTH,
            TEXT => at += sort[at..].iter().position(|byte| *byte == END).map_or(0, |length| length + 1),
            ARRAY | OBJECT => depth += 1,
            END => depth = depth.saturating_sub(1),
            NULL | FALSE | TRUE => {}
            other => unreachable!("{other} starts no element"),
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A short text that changes when the same keys would have other bytes: with another version of ICU's data or of this
/// module. An index made under another fingerprint has to be made anew.
pub fn fingerprint() -> &'static str {
    // A sample of scripts and of what ICU treats specially; a change of its data that matters moves one of them.
    const SAMPLE: &str = "_ - , ; : ! ? . ' \" ( ) [ ] { } @ * / \\ & # % ` ^ + < = > | ~ $ € 0 1 ½ ² 9 a A ª á ä å æ b c ç \
        d ð e é f g h i ı j k l ł m n ñ o ø œ p q r s ß t þ u v w x y z ʒ α ά β ω а б я ӿ ա א ع अ ก ກ ཀ က ა ᄀ 가 각 あ ア か \
        が ㄅ ꀀ 一 丁 中 㐀 𠀀 😀 🫠 \u{2028} \u{ad} \u{301} \u{378} \u{e000} \u{fffe} \u{fff0} \u{fffd} \u{ffff} \u{10ffff}";
    static PRINT: LazyLock<String> = LazyLock::new(|| {
        let mut digest = Sha1::new();
        for word in SAMPLE.split(' ') {
            digest.update(sort_key(&Value::from(vec![Value::from(word), Value::from(1), Value::from(0.5)])));
        }
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    });
    &PRINT
}

fn write(key: &Value, bytes: &mut Vec<u8>) {
    match key {
        Value::Null => bytes.push(NULL),
        Value::Bool(false) => bytes.push(FALSE),
        Value::Bool(true) => bytes.push(TRUE),
        Value::Number(number) => {
            bytes.push(NUMBER);
            bytes.extend(number_key(number));
        }
        Value::String(text) => write_text(text, bytes),
        Value::Array(elements) => {
            bytes.push(ARRAY);
            for element in elements {
                write(element, bytes);
            }
            bytes.push(END);
        }
        Value::Object(members) => {
            bytes.push(OBJECT);
            for (name, value) in members {
                write_text(name, bytes);
                write(value, bytes);
            }
            bytes.push(END);
        }
    }
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(TEXT);
    let Ok(()) = ROOT.write_sort_key_to(text, bytes);
    bytes.push(END);
}

/// Orders numbers by their value, whole ones beyond 2^53 included: the next floating point number at or below, and how
/// much there is above it, which is less than 2^11 below 2^64.
pub(super) fn number_key(number: &Number) -> [u8; NUMBER_LENGTH] {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let (float, above) = match whole {
        Some(whole) => at_or_below(whole),
        None => (number.as_f64().unwrap_or_default(), 0),
    };
    // Zero has one key, whatever its sign.
    let bits = (float + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    let mut key = [0; NUMBER_LENGTH];
    key[..8].copy_from_slice(&ordered.to_be_bytes());
    key[8..].copy_from_slice(&above.to_be_bytes());
    key
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "what is lost is what this finds out")]
fn at_or_below(whole: i128) -> (f64, u16) {
    let nearest = whole as f64;
    let float = if nearest as i128 > whole { nearest.next_down() } else { nearest };
    (float, u16::try_from(whole - float as i128).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests;
