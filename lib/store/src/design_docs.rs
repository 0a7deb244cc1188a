//! Folders that become design documents.
//!
//! ```text
//! packages/                      one design document, _design/packages
//!   views/by_name/map.js         one function expression
//!   views/by_name/reduce.js      one function expression, or _count, _sum, _stats, …
//!   filters/mine.js
//!   validate_doc_update.js
//! ```
//!
//! Start at [`read_all`]. Every function is compiled here as CouchDB does it, so that a typing
//! mistake is reported with its file and line before anything is uploaded. Nothing is called;
//! [`rehearse`](crate::view::rehearse) does that.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::view::Mapper;

/// Reduces that the database brings along.
const BUILT_IN: [&str; 4] = ["_count", "_sum", "_stats", "_approx_count_distinct"];

/// A design document as its folder says.
#[derive(Debug, Clone, PartialEq)]
pub struct DesignDoc {
    name: String,
    folder: PathBuf,
    views: BTreeMap<String, View>,
    filters: BTreeMap<String, String>,
    validate: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct View {
    map: String,
    reduce: Option<String>,
}

/// Why a folder is no design document.
#[derive(Debug, thiserror::Error)]
pub enum BadDesignDoc {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is no function to CouchDB.
    #[error("{}:{line}: {reason}", path.display())]
    Script {
        /// Which file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// The engine's words.
        reason: String,
    },
    /// A view that maps nothing.
    #[error("{} has no map.js", path.display())]
    NoMap {
        /// The view's folder.
        path: PathBuf,
    },
    /// Something that is not part of the layout, probably misspelt.
    #[error("{}: not part of a design document; known are views/NAME/map.js, views/NAME/reduce.js, filters/NAME.js \
             and validate_doc_update.js", path.display())]
    Stray {
        /// What.
        path: PathBuf,
    },
    /// Nothing to load.
    #[error("{} holds no design document, which is a folder with views/, filters/ or validate_doc_update.js", path.display())]
    Nothing {
        /// Where.
        path: PathBuf,
    },
}

/// The design documents of a folder: of each folder in it, or of itself if it is one.
///
/// # Errors
/// The first thing in it that cannot be loaded; see [`BadDesignDoc`].
pub fn read_all(folder: &Path) -> Result<Vec<DesignDoc>, BadDesignDoc> {
    folders(folder)?.iter().map(|folder| DesignDoc::read(folder)).collect()
}

/// The folders of the design documents in a folder, each to be read by [`DesignDoc::read`]; or itself if it is one.
///
/// # Errors
/// It cannot be read, or there is none in it.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>, BadDesignDoc> {
    if is_design_doc(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let folders: Vec<PathBuf> = entries(folder)?.into_iter().filter(|entry| is_design_doc(entry)).collect();
    if folders.is_empty() {
        return Err(BadDesignDoc::Nothing { path: folder.to_owned() });
    }
    Ok(folders)
}

fn is_design_doc(folder: &Path) -> bool {
    folder.join("views").is_dir() || folder.join("filters").is_dir() || folder.join("validate_doc_update.js").is_file()
}

/// What a folder holds, sorted; neither hidden files nor a README.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, BadDesignDoc> {
    let unreadable = |source| BadDesignDoc::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = name_of(&path);
        if !name.starts_with('.') && name != "README.md" {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl DesignDoc {
    /// Reads one folder.
    ///
    /// # Errors
    /// See [`BadDesignDoc`].
    pub fn read(folder: &Path) -> Result<Self, BadDesignDoc> {
        // `.` and `..` have no name of their own.
        let named = folder.canonicalize().map_err(|source| BadDesignDoc::Read { path: folder.to_owned(), source })?;
        let (name, folder) = (name_of(&named), folder.to_owned());
        let mut doc = Self { name, folder, views: BTreeMap::new(), filters: BTreeMap::new(), validate: None };
        for path in entries(&doc.folder)? {
            match name_of(&path).as_str() {
                "views" => {
                    for view in entries(&path)? {
                        doc.views.insert(name_of(&view), View::read(&view)?);
                    }
                }
                "filters" => {
                    for filter in entries(&path)? {
                        let name = name_of(&filter);
                        let name = name.strip_suffix(".js").ok_or(BadDesignDoc::Stray { path: filter.clone() })?;
                        doc.filters.insert(name.to_owned(), function(&filter)?);
                    }
                }
                "validate_doc_update.js" => doc.validate = Some(function(&path)?),
                _ => return Err(BadDesignDoc::Stray { path }),
            }
        }
        Ok(doc)
    }

    /// Its name, without `_design/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was read from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A view by which its index can be built, if it has one.
    pub fn first_view(&self) -> Option<&str> {
        self.views.keys().next().map(String::as_str)
    }

    /// The document, without id and revision.
    pub fn to_document(&self) -> Value {
        let mut document = json!({ "language": "javascript" });
        if !self.views.is_empty() {
            let view = |view: &View| match &view.reduce {
                Some(reduce) => json!({ "map": view.map, "reduce": reduce }),
                None => json!({ "map": view.map }),
            };
            document["views"] = self.views.iter().map(|(name, v)| (name.clone(), view(v))).collect();
        }
        if !self.filters.is_empty() {
            document["filters"] = json!(self.filters);
        }
        if let Some(validate) = &self.validate {
            document["validate_doc_update"] = validate.as_str().into();
        }
        document
    }

    /// Whether a document of the database says the same.
    pub fn same_as(&self, document: &Value) -> bool {
        let mut other = document.clone();
        if let Some(members) = other.as_object_mut() {
            members.retain(|name, _| !name.starts_with('_'));
        }
        other == self.to_document()
    }
}

impl View {
    fn read(folder: &Path) -> Result<Self, BadDesignDoc> {
        let mut map = None;
        let mut reduce = None;
        for path in entries(folder)? {
            match name_of(&path).as_str() {
                "map.js" => map = Some(function(&path)?),
                "reduce.js" => {
                    let text = text_of(&path)?;
                    let built_in = BUILT_IN.contains(&text.trim());
                    reduce = Some(if built_in { text.trim().to_owned() } else { function(&path)? });
                }
                _ => return Err(BadDesignDoc::Stray { path }),
            }
        }
        let map = map.ok_or_else(|| BadDesignDoc::NoMap { path: folder.to_owned() })?;
        Ok(Self { map, reduce })
    }
}

fn text_of(path: &Path) -> Result<String, BadDesignDoc> {
    fs::read_to_string(path).map_err(|source| BadDesignDoc::Read { path: path.to_owned(), source })
}

/// The text of a file that holds one function expression. Lines count as in the file.
fn function(path: &Path) -> Result<String, BadDesignDoc> {
    let text = text_of(path)?;
    check(&text).map(|()| text.trim_end().to_owned()).map_err(|(line, reason)| BadDesignDoc::Script {
        path: path.to_owned(),
        line,
        reason,
    })
}

/// Compiles `text` as CouchDB does; the line and the words of what is wrong.
fn check(text: &str) -> Result<(), (usize, String)> {
    let Err(error) = Mapper::new(&[("", text)]) else { return Ok(()) };
    let last = text.lines().count().max(1);
    let reason = match error.line {
        // A whole function that CouchDB takes for a statement, which is nothing to call.
        None if error.reason.contains("does not eval to a function") => {
            "no function to CouchDB, which wants one function expression and without a name: function (doc) { … }"
                .to_owned()
        }
        Some(_) | None => error.reason,
    };
    Err((error.line.unwrap_or(1).clamp(1, last), reason))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder with these files, by their paths in it.
    pub(crate) fn folder(files: &[(impl AsRef<Path>, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_folder_of_folders() {
        let dir = folder(&[
            ("README.md", "words"),
            ("jmx/README.md", "words"),
            ("jmx/views/by_port/map.js", "// which nodes\nfunction (doc) {\n  emit(doc._id, null);\n}\n"),
            ("jmx/views/by_port/reduce.js", "_count\n"),
            ("jmx/filters/mine.js", "function (doc, req) { return true; }"),
            ("jmx/validate_doc_update.js", "(doc, old) => { if (!doc) throw({forbidden: 'no'}); }"),
        ]);
        let docs = read_all(dir.path()).unwrap();
        let document = docs[0].to_document();
        assert_eq!(docs[0].name(), "jmx");
        assert_eq!(document["views"]["by_port"]["reduce"], "_count");
        assert!(document["views"]["by_port"]["map"].as_str().unwrap().starts_with("// which nodes"));
        assert!(document["filters"]["mine"].is_string() && document["validate_doc_update"].is_string());
        let mut live = document.clone();
        live["_id"] = "_design/jmx".into();
        live["_rev"] = "1-a".into();
        assert!(docs[0].same_as(&live));
        live["views"]["by_port"]["map"] = "function (doc) {}".into();
        assert!(!docs[0].same_as(&live));
        assert_eq!(read_all(&dir.path().join("jmx")).unwrap(), docs, "one folder by itself");
    }

    #[test]
    fn a_typing_mistake_is_reported_with_file_and_line() {
        for (text, line) in [
            ("function (doc) {\n  emit(doc._id, null;\n}\n", 2),
            ("function (doc) {\n  if (doc) {\n    emit(1);\n", 3),
            ("emit(1)", 1),
            ("1", 1),
            ("\n\nfunction (doc) {\n  emit(doc._id, null;\n}\n", 4),
        ] {
            let dir = folder(&[("d/views/v/map.js", text)]);
            let error = read_all(dir.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("d/views/v/map.js:{line}: ")), "{text}: {error}");
        }
    }

    #[test]
    fn a_function_with_a_name_is_nothing_to_couchdb() {
        for text in ["// words\nfunction by_port(doc) {\n  emit(doc._id, null);\n}\n", "var map = function (doc) {};"] {
            let dir = folder(&[("d/views/v/map.js", text)]);
            let error = read_all(dir.path()).unwrap_err().to_string();
            assert!(error.ends_with("map.js:1: no function to CouchDB, which wants one function expression and without a name: function (doc) { … }"), "{error}");
        }
        let dir = folder(&[
            ("d/views/v/map.js", "function (doc) {}"),
            ("d/views/v/reduce.js", "function sum(keys, values) {}"),
        ]);
        assert!(read_all(dir.path()).unwrap_err().to_string().contains("reduce.js:1: no function to CouchDB"));
    }

    #[test]
    fn a_text_keeps_what_stands_before_it() {
        let dir = folder(&[("d/views/v/map.js", "\n\n// words\nfunction (doc) {}\n\n")]);
        let document = DesignDoc::read(&dir.path().join("d")).unwrap().to_document();
        assert_eq!(document["views"]["v"]["map"], "\n\n// words\nfunction (doc) {}");
    }

    #[test]
    fn what_does_not_belong_there_is_named() {
        let dir = folder(&[("d/views/v/map.js", "function (doc) {}"), ("d/views/v/reduse.js", "_count")]);
        assert!(read_all(dir.path()).unwrap_err().to_string().contains("reduse.js: not part of a design document"));
        let dir = folder(&[("d/views/v/reduce.js", "_count")]);
        assert!(read_all(dir.path()).unwrap_err().to_string().ends_with("v has no map.js"));
        let dir = folder(&[("README.md", "")]);
        assert!(read_all(dir.path()).unwrap_err().to_string().contains("holds no design document"));
    }
}
