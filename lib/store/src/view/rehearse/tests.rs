use std::fs;
use std::time::Duration;

use super::*;
use crate::design_docs::tests::folder;

fn design(files: &[(&str, &str)]) -> DesignDoc {
    let files: Vec<_> = files.iter().map(|(name, text)| (format!("d/views/{name}"), *text)).collect();
    let dir = folder(&files);
    DesignDoc::read(&dir.path().join("d")).unwrap()
}

fn samples() -> Vec<String> {
    let sample = |name: &str, rest: &str| {
        format!(r#"{{"_id":"{name}","_rev":"1-a","system_name":"{name}","os":"linux",{rest}}}"#)
    };
    vec![
        sample("web01", r#""packages":{"openssl":"3.0.15"}"#),
        sample("web02", r#""packages":null"#),
        sample("web03", &format!(r#""packages":{{"text":"{}"}}"#, "x".repeat(2000))),
    ]
}

fn said(files: &[(&str, &str)]) -> Vec<(Severity, String)> {
    let limits = Limits { time: Duration::from_millis(200), ..Limits::default() };
    let remarks = rehearse_within(&design(files), &samples(), limits);
    remarks.into_iter().map(|remark| (remark.severity, remark.to_string())).collect()
}

fn one(files: &[(&str, &str)], severity: Severity, words: &str) {
    let said = said(files);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, severity, "{said:?}");
    assert!(said[0].1.contains(words), "{said:?}");
}

#[test]
fn good_views_go_without_a_word() {
    let map = "function (doc) { emit(doc.system_name, null); }";
    assert_eq!(said(&[("v/map.js", map)]), []);
    assert_eq!(said(&[("v/map.js", map), ("v/reduce.js", "_count")]), []);
    let reduce = "function (keys, values, rereduce) { return rereduce ? sum(values) : values.length; }";
    assert_eq!(said(&[("v/map.js", map), ("v/reduce.js", reduce)]), []);
    let part = "function (doc) { emit(doc._id, {_id: doc._id, os: doc.os}); }";
    assert_eq!(said(&[("v/map.js", part)]), [], "a part of it is not the whole");
}

#[test]
fn exceptions_have_a_file_and_a_line() {
    let map = "// packages\nfunction (doc) {\n  Object.keys(doc.packages.openssl).forEach(function (name) {\n    emit(name, null);\n  });\n}";
    let said = said(&[("v/map.js", map)]);
    assert_eq!(said.len(), 2, "{said:?}");
    for ((severity, words), over) in said.iter().zip(["over web02", "over web03"]) {
        assert_eq!(*severity, Severity::Error);
        assert!(words.starts_with("views/v/map.js:3: throws over web0") && words.contains(over), "{words}");
    }
    let throw = "function (doc) {\n  if (doc._id !== 'web01') throw new Error('no');\n  emit(1, null);\n}";
    one(
        &[("v/map.js", throw)],
        Severity::Error,
        "views/v/map.js:2: throws over 2 samples, first web02, which is left out of the view: Error: no",
    );
    let reduce = "function (keys, values) {\n  return values[0].none.at.all;\n}";
    one(
        &[("v/map.js", "function (doc) { emit(1, null); }"), ("v/reduce.js", reduce)],
        Severity::Error,
        "views/v/reduce.js:2: throws",
    );
}

#[test]
fn documents_emitted_whole_and_large_values_are_told() {
    for value in ["doc", "[doc]", "{record: doc}", "{_id: doc._id, os: doc.os, system_name: doc.system_name}"] {
        let map = format!("function (doc) {{ emit(doc._id, {value}); }}");
        let (severity, words) = said(&[("v/map.js", &map)]).remove(0);
        assert_eq!(severity, Severity::Warning);
        assert!(
            words.starts_with("views/v/map.js: emits the document whole: ") && words.contains("for web01"),
            "{words}"
        );
    }
    one(
        &[("v/map.js", "function (doc) { emit(doc._id, doc.packages); }")],
        Severity::Warning,
        "emits a value of 2011 bytes for web03",
    );
}

#[test]
fn silence_and_endlessness_are_told() {
    one(
        &[("v/map.js", "function (doc) { if (doc.os === 'Linux') emit(1); }")],
        Severity::Hint,
        "emits nothing for any of 3 samples",
    );
    one(
        &[("v/map.js", "function (doc) { while (true) {} }")],
        Severity::Error,
        "does not come to an end over 3 samples, first web01: it ran for more than 200ms",
    );
    one(
        &[("v/map.js", "function (doc) { throw 'fatal_error' }")],
        Severity::Error,
        "no question to the view is answered: fatal_error",
    );
}

#[test]
fn reduces_that_do_no_good_are_told() {
    let map = ("v/map.js", "function (doc) { emit(doc._id, doc.os); }");
    one(&[map, ("v/reduce.js", "_sum")], Severity::Error, "cannot add what the map emits: The _sum function requires");
    one(&[map, ("v/reduce.js", "_stats")], Severity::Error, "has no result: ");
    let long = ("v/map.js", "function (doc) { emit(doc._id, new Array(200).join('x')); }");
    let grows = "function (keys, values, rereduce) { return values; }";
    one(&[long, ("v/reduce.js", grows)], Severity::Warning, "does not shrink: 3 rows of ");
}

fn said_of(file: &str, text: &str) -> Vec<(Severity, String)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d").join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    let remarks = rehearse(&DesignDoc::read(&dir.path().join("d")).unwrap(), &samples());
    remarks.into_iter().map(|remark| (remark.severity, remark.to_string())).collect()
}

#[test]
fn filters_are_run() {
    let good = "function (doc, req) { return doc.os === (req.query.os || 'linux'); }";
    assert_eq!(said_of("filters/mine.js", good), []);
    let bad = "// mine\nfunction (doc, req) {\n  return doc.packages.openssl && req.query.os;\n}";
    let said = said_of("filters/mine.js", bad);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, Severity::Error);
    assert!(
        said[0].1.starts_with("filters/mine.js:3: fails over web02, and the changes end there: TypeError"),
        "{said:?}"
    );
}

#[test]
fn validations_are_run() {
    let file = "validate_doc_update.js";
    assert_eq!(said_of(file, "function (doc, old, user) { if (!user.name && old) throw({forbidden: 'no'}); }"), []);
    let forbids = "function (doc) {\n  if (!doc.packages) {\n    throw({forbidden: 'no packages'});\n  }\n}";
    let words = "validate_doc_update.js: does not let web02 be written, which becomes a dead letter: no packages";
    assert_eq!(said_of(file, forbids), [(Severity::Hint, words.to_owned())]);
    let said = said_of(file, "function (doc, old) {\n  if (old.packages) return;\n}");
    assert_eq!(said.len(), 1, "{said:?}");
    let words = "validate_doc_update.js:2: fails over 3 samples, first web01, which cannot be written: TypeError";
    assert!(said[0].0 == Severity::Error && said[0].1.starts_with(words), "{said:?}");
}
