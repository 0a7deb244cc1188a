//! Where everything is: a database and one folder beside it, which may both be deleted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use vogeler_protocol::NodeName;

/// The file of the records and what belongs to it.
#[derive(Debug, Clone)]
pub struct Home {
    /// The records.
    pub database: PathBuf,
    folder: PathBuf,
}

impl Home {
    /// That of a database.
    pub fn of(database: &Path) -> Self {
        let mut folder = OsString::from(database);
        folder.push(".d");
        Self { database: database.to_owned(), folder: folder.into() }
    }

    /// What the program carries along, written out.
    pub fn bundle(&self) -> PathBuf {
        self.folder.join("bundle")
    }

    /// What a node must not forget.
    pub fn state(&self, node: &NodeName) -> PathBuf {
        self.folder.join("nodes").join(node.as_str())
    }

    /// Where runs are noted.
    pub fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }
}
