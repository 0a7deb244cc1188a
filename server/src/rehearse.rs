//! `vogeler-server check --design-docs`: design documents tried over sample records, with neither broker nor database.
//!
//! Start at [`rehearse`]. The samples that come along are what the shipped plugins make of a handful of machines; those of
//! a site are better. What is found is [`vogeler_store::view`]'s affair.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::value::RawValue;
use vogeler_process::{Finding, Grade};
use vogeler_protocol::sentence;
use vogeler_store::design_docs::{self, DesignDoc};
use vogeler_store::view::{self, Severity};

/// Records as the shipped plugins make them: two machines, one that has only said hello, a retired one, and a document of
/// somebody else's.
const SAMPLES: &str = include_str!("rehearse/samples.json");

/// Runs every function of the design documents in a folder over samples; a line for each, and for what is worth a word.
///
/// # Errors
/// There is no design document, or the file of samples cannot be read.
pub fn rehearse(dir: &Path, file: Option<&Path>) -> anyhow::Result<Vec<Finding>> {
    let folders = design_docs::folders(dir)?;
    let mut samples = records(SAMPLES).context("the samples that come along")?;
    if let Some(file) = file {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        samples.extend(records(&text).with_context(|| format!("{} holds no records", file.display()))?);
    }
    Ok(folders.iter().flat_map(|folder| one(folder, &samples)).collect())
}

fn one(folder: &Path, samples: &[String]) -> Vec<Finding> {
    let doc = match DesignDoc::read(folder) {
        Ok(doc) => doc,
        Err(error) => return vec![Finding::bad(sentence(&error))],
    };
    let remarks = view::rehearse(&doc, samples);
    let mut findings: Vec<Finding> = remarks
        .iter()
        .map(|remark| Finding {
            grade: grade(remark.severity),
            text: format!("{}", folder.join(remark.to_string()).display()),
        })
        .collect();
    if !findings.iter().any(|finding| finding.grade == Grade::Bad) {
        findings.insert(0, Finding::good(format!("design document {} over {} samples", doc.name(), samples.len())));
    }
    findings
}

fn grade(severity: Severity) -> Grade {
    match severity {
        Severity::Hint => Grade::Hint,
        Severity::Warning => Grade::Warning,
        Severity::Error => Grade::Bad,
    }
}

/// The records of a text: objects, and those in arrays, in their order.
fn records(text: &str) -> anyhow::Result<Vec<String>> {
    let mut records = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>() {
        let value = value?;
        match value.get().as_bytes().first() {
            Some(b'{') => records.push(value.get().to_owned()),
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(value.get())?;
                let (objects, others): (Vec<&RawValue>, Vec<&RawValue>) =
                    elements.into_iter().partition(|element| element.get().starts_with('{'));
                ensure!(others.is_empty(), "a record is an object, and not {}", others[0]);
                records.extend(objects.into_iter().map(|record| record.get().to_owned()));
            }
            Some(_) | None => anyhow::bail!("a record is an object, and not {value}"),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn lines(dir: &Path, file: Option<&Path>) -> Vec<String> {
        rehearse(dir, file).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_ships_is_found_good() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../design-docs");
        let lines = lines(&shipped, None);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with("ok    design document ")), "{lines:?}");
    }

    #[test]
    fn every_document_is_looked_at_though_one_is_broken() {
        let dir = folder(&[
            ("a/views/v/map.js", "function (doc) {\n  emit(doc._id, null;\n}"),
            ("b/views/whole/map.js", "function (doc) { emit(doc._id, doc); }"),
            (
                "c/views/v/map.js",
                "// ports\nfunction (doc) {\n  doc.ports.forEach(function (port) { emit(port.port, null); });\n}",
            ),
            ("d/views/v/map.js", "function (doc) { if (doc.doc_type === 'system_record') emit(doc._id, null); }"),
        ]);
        let lines = lines(dir.path(), None);
        let at = |file: &str| dir.path().join(file).display().to_string();
        let [broken, fine, whole, throws, silent, hint] = &lines[..] else { panic!("{lines:?}") };
        assert!(broken.starts_with(&format!("FAIL  {}:2: SyntaxError", at("a/views/v/map.js"))), "{broken}");
        assert!(fine.starts_with("ok    design document b over "), "{fine}");
        assert!(
            whole.starts_with(&format!("warn  {}: emits the document whole: ", at("b/views/whole/map.js"))),
            "{whole}"
        );
        assert!(throws.starts_with(&format!("FAIL  {}:3: throws over ", at("c/views/v/map.js"))), "{throws}");
        assert!(silent.starts_with("ok    design document d over "), "{silent}");
        assert!(hint.starts_with(&format!("hint  {}: emits nothing for any of ", at("d/views/v/map.js"))), "{hint}");
    }

    #[test]
    fn samples_of_ones_own_are_run_beside() {
        let map = "function (doc) {\n  if (doc.tools) {\n    emit(doc.tools.port.toFixed(0), null);\n  }\n}";
        let dir = folder(&[
            ("d/views/v/map.js", map),
            ("one.json", "{\n  \"_id\": \"own1\",\n  \"tools\": {\"port\": 1}\n}\n"),
            ("list.json", r#"[{"_id": "own1", "tools": {"port": 1}}, {"_id": "own2", "tools": {}}]"#),
            ("lines.json", "{\"_id\": \"own2\", \"tools\": {}}\n{\"_id\": \"own3\", \"tools\": {}}\n"),
            ("wrong.json", "[{\"_id\": \"own1\"}, \"own2\"]"),
            ("none.json", "web01\n"),
        ]);
        let design = dir.path().join("d");
        let said = |name: &str| lines(&design, Some(&dir.path().join(name))).join("\n");
        assert!(said("one.json").starts_with("ok  "), "{}", said("one.json"));
        assert!(said("list.json").contains("map.js:3: throws over own2, "), "{}", said("list.json"));
        assert!(said("lines.json").contains("map.js:3: throws over 2 samples, first own2, "), "{}", said("lines.json"));
        for (name, words) in [
            ("wrong.json", "a record is an object, and not \"own2\""),
            ("none.json", "expected value"),
            ("gone.json", "cannot read"),
        ] {
            let error = rehearse(&design, Some(&dir.path().join(name))).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{error:#}");
        }
        assert!(rehearse(&dir.path().join("nowhere"), None).is_err());
    }

    #[test]
    fn the_samples_are_of_every_kind() {
        let samples: Vec<serde_json::Value> =
            records(SAMPLES).unwrap().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let has = |pointer: &str| samples.iter().any(|sample| sample.pointer(pointer).is_some());
        for pointer in [
            "/facts/os",
            "/packages/openssl",
            "/ps/0",
            "/ports/0",
            "/users/root",
            "/mounts/0",
            "/services/ssh",
            "/jmx/0",
            "/vogeler/errors/jmx",
            "/vogeler/retired",
        ] {
            assert!(has(pointer), "{pointer}");
        }
        assert!(samples.iter().any(|sample| sample.get("doc_type").is_none()));
    }
}
