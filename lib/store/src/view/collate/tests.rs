//! The order that CouchDB 3.5.0 gave to the same keys.

use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Keys in the order in which CouchDB 3.5.0 (ICU 72) answered them; those of one line it takes for equal.
const RECORDED: &[&[&str]] = &[
    &["null"],
    &["false"],
    &["true"],
    &["-1e300"],
    &["-9007199254740992"],
    &["-1.5"],
    &["-1", "-1.0"],
    &["-0.5"],
    &["-5e-324"],
    &["0", "-0.0", "0.0"],
    &["5e-324"],
    &["0.1"],
    &["1", "1.0"],
    &["1.5"],
    &["2"],
    &["10"],
    &["9007199254740991"],
    &["9007199254740992"],
    &["9007199254740994"],
    &["18446744073709551616"],
    &["1e21"],
    &["1e300"],
    &[r#""""#, r#""\u00ad""#, r#""\u007f""#, r#""\u0001""#],
    &[r#""\u0301""#],
    &[r#""\ufffe""#],
    &[r#""\t""#],
    &[r#""\n""#],
    &[r#""\r\n""#],
    &[r#""\u2028""#],
    &[r#"" ""#],
    &[r#""  ""#],
    &[r#""_""#],
    &[r#""-""#],
    &[r#"",""#],
    &[r#""!""#],
    &[r#""?""#],
    &[r#"".""#],
    &[r#""'""#],
    &[r#""\"""#],
    &[r#""(""#],
    &[r#""[""#],
    &[r#""@""#],
    &[r#""*""#],
    &[r#""/""#],
    &[r#""\\""#],
    &[r##""#""##],
    &[r#""%""#],
    &[r#""`""#],
    &[r#""^""#],
    &[r#""°""#],
    &[r#""+""#],
    &[r#""<""#],
    &[r#""=""#],
    &[r#""|""#],
    &[r#""~""#],
    &[r#""😀""#],
    &[r#""$""#],
    &[r#""€""#],
    &[r#""0""#],
    &[r#""00""#],
    &[r#""01""#],
    &[r#""1""#],
    &[r#""½""#],
    &[r#""10""#],
    &[r#""2""#],
    &[r#""²""#],
    &[r#""²a""#],
    &[r#""a""#, r#""a\u0001""#],
    &[r#""A""#],
    &[r#""á""#],
    &[r#""à""#],
    &[r#""ä""#],
    &[r#""Ä""#],
    &[r#""a\ufffeb""#],
    &[r#""a b""#],
    &[r#""a_b""#],
    &[r#""a-b""#],
    &[r#""a.b""#],
    &[r#""aa""#],
    &[r#""aA""#],
    &[r#""Aa""#],
    &[r#""AA""#],
    &[r#""ab""#, r#""a\u00adb""#, r#""a\u200bb""#],
    &[r#""aB""#],
    &[r#""ＡＢ""#],
    &[r#""a\u0308b""#, r#""äb""#],
    &[r#""ab1""#],
    &[r#""ab10""#],
    &[r#""ab2""#],
    &[r#""ae""#],
    &[r#""AE""#],
    &[r#""æ""#],
    &[r#""Æ""#],
    &[r#""af""#],
    &[r#""a\uffff""#],
    &[r#""b""#],
    &[r#""B""#],
    &[r#""fi""#],
    &[r#""ﬁ""#],
    &[r#""i""#],
    &[r#""I""#],
    &[r#""ij""#],
    &[r#""ĳ""#],
    &[r#""ı""#],
    &[r#""n""#],
    &[r#""ñ""#],
    &[r#""o""#],
    &[r#""ø""#],
    &[r#""oe""#],
    &[r#""œ""#],
    &[r#""ss""#],
    &[r#""SS""#],
    &[r#""ß""#],
    &[r#""st""#],
    &[r#""web""#],
    &[r#""web01""#],
    &[r#""webz""#],
    &[r#""web\ufff0""#],
    &[r#""web\uffff""#],
    &[r#""z""#],
    &[r#""Z""#],
    &[r#""α""#],
    &[r#""Α""#],
    &[r#""ά""#],
    &[r#""β""#],
    &[r#""б""#],
    &[r#""я""#],
    &[r#""א""#],
    &[r#""ع""#],
    &[r#""가""#],
    &[r#""あ""#],
    &[r#""ア""#],
    &[r#""ｱ""#],
    &[r#""か""#],
    &[r#""が""#],
    &[r#""一""#],
    &[r#""丁""#],
    &[r#""中""#],
    &[r#""\u0378""#],
    &[r#""\ue000""#],
    &[r#""\ufff0""#],
    &[r#""\udbff\udfff""#],
    &[r#""\ufffd""#],
    &[r#""\uffff""#],
    &["[]"],
    &["[null]"],
    &["[false]"],
    &["[0]"],
    &["[0,null]"],
    &["[1]"],
    &["[1,1]"],
    &["[1,2]"],
    &[r#"[1,"a"]"#],
    &["[1,[]]"],
    &["[1,{}]"],
    &["[2]"],
    &[r#"[""]"#],
    &[r#"["",""]"#],
    &[r#"["a"]"#],
    &[r#"["a",1]"#],
    &[r#"["a","b"]"#],
    &[r#"["a","\ufff0"]"#],
    &[r#"["a",{}]"#],
    &[r#"["ab"]"#],
    &[r#"["b"]"#],
    &["[[]]"],
    &["[[],1]"],
    &["[[1]]"],
    &["[[1],1]"],
    &["[{}]"],
    &["{}"],
    &[r#"{"":null}"#],
    &[r#"{"a":null}"#],
    &[r#"{"a":1}"#],
    &[r#"{"a":1,"a2":0}"#],
    &[r#"{"a":1,"b":1}"#],
    &[r#"{"a":2}"#],
    &[r#"{"a":"b"}"#],
    &[r#"{"a":[]}"#],
    &[r#"{"a":[1]}"#],
    &[r#"{"a":{}}"#],
    &[r#"{"A":1}"#],
    &[r#"{"á":0}"#],
    &[r#"{"aa":0}"#],
    &[r#"{"b":0}"#],
    &[r#"{"b":1,"a":1}"#],
];

fn key(text: &str) -> Vec<u8> {
    sort_key(&serde_json::from_str(text).unwrap())
}

#[test]
fn awkward_keys_stand_as_couchdb_had_them() {
    for (index, line) in RECORDED.iter().enumerate() {
        for text in *line {
            assert_eq!(key(text), key(line[0]), "{text} is {}", line[0]);
            for later in &RECORDED[index + 1..] {
                assert!(key(text) < key(later[0]), "{text} comes before {}", later[0]);
            }
        }
    }
}

#[test]
fn whole_numbers_are_told_apart_beyond_what_a_float_holds() {
    let mut keys: Vec<Value> = vec![json!(i64::MIN), json!(i64::MIN + 1), json!(-9_007_199_254_740_993_i64)];
    keys.extend([
        json!(-9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
    ]);
    keys.extend([json!(i64::MAX - 1), json!(i64::MAX), json!(9_223_372_036_854_775_808_u64)]);
    keys.extend([json!(u64::MAX - 2048), json!(u64::MAX - 1), json!(u64::MAX), json!(18_446_744_073_709_551_616.0)]);
    assert!(keys.windows(2).all(|two| sort_key(&two[0]) < sort_key(&two[1])));
}

#[test]
fn numbers_are_read_to_the_last_digit() {
    // Only so with serde_json's float_roundtrip.
    for text in ["123456789012345680000", "1.7976931348623157e308", "0.1", "7.038531e-26", "9007199254740993.0"] {
        let Value::Number(number) = serde_json::from_str(text).unwrap() else { panic!("{text}") };
        assert_eq!(number.as_f64(), text.parse().ok(), "{text}");
    }
}

#[test]
fn a_group_is_the_first_elements_of_an_array() {
    let group = |text: &str, level| key(text)[..group_length(&key(text), level)].to_vec();
    assert_eq!(group(r#"["a",1]"#, 1), group(r#"["a",[2,{"x":[1]}],3]"#, 1));
    assert_eq!(group(r#"[{"x":[1,"y"]},0]"#, 1), group(r#"[{"x":[1,"y"]}]"#, 1));
    assert_eq!(group(r#"["é"]"#, 1), group("[\"e\u{301}\",2]", 1), "equal to ICU");
    assert_ne!(group(r#"["a"]"#, 2), group(r#"["a",1]"#, 2), "a shorter key is a group of its own");
    assert_ne!(group("[0]", 1), group("[]", 1));
    assert_eq!(group("\"text\"", 1), key("\"text\""));
}

#[test]
fn the_fingerprint_is_always_the_same() {
    assert_eq!(fingerprint(), fingerprint());
    assert_eq!(fingerprint().len(), 16);
}

/// What the module comment says, without bytes.
fn compare(one: &Value, other: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    };
    let first = |mut orders: Box<dyn Iterator<Item = Ordering> + '_>| orders.find(|order| order.is_ne());
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap().partial_cmp(&b.as_f64().unwrap()).unwrap(),
        },
        (Value::String(a), Value::String(b)) => ROOT.compare(a, b),
        (Value::Array(a), Value::Array(b)) => {
            first(Box::new(a.iter().zip(b).map(|(a, b)| compare(a, b)))).unwrap_or(a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let member = |((m, v), (n, w)): ((&String, &Value), (&String, &Value))| {
                ROOT.compare(m, n).then_with(|| compare(v, w))
            };
            first(Box::new(a.iter().zip(b).map(member))).unwrap_or(a.len().cmp(&b.len()))
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab\u{e9}e\u{301}A_\u{ad}\u{0}\u{1}\u{ffff}\u{fffe} -]{0,4}",
        proptest::collection::vec(any::<char>(), 0..4).prop_map(String::from_iter),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3_i64).prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has none", |x| x.is_finite()).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((text(), inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn bytes_are_ordered_as_the_keys_are(one in value(), other in value()) {
        prop_assert_eq!(sort_key(&one).cmp(&sort_key(&other)), compare(&one, &other));
    }

    #[test]
    fn a_longer_array_comes_later(elements in proptest::collection::vec(value(), 0..4), more in value(), next in value()) {
        let key = |elements: &[Value]| sort_key(&Value::from(elements.to_vec()));
        let longer = [elements.clone(), vec![more]].concat();
        prop_assert!(key(&elements) < key(&longer));
        let level = u32::try_from(elements.len()).unwrap();
        let other = [longer.clone(), vec![next]].concat();
        let group = |elements: &[Value]| key(elements)[..group_length(&key(elements), level)].to_vec();
        prop_assert_eq!(group(&longer), group(&other));
    }
}
