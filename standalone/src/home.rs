//! Where everything is: a database and one folder beside it, which may both be deleted.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
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

    /// Whether a database can be there at all.
    ///
    /// # Errors
    /// Its folder is not there: most likely a name that was mistyped.
    pub fn check(&self) -> anyhow::Result<()> {
        let folder = self.database.parent().filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            Some(folder) if !folder.is_dir() => {
                bail!("there is no folder {} for {}", folder.display(), self.database.display())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Makes this process the one that is at work on the records, for as long as the file lives.
    ///
    /// # Errors
    /// Another one is, or the folder cannot be written.
    pub fn take(&self) -> anyhow::Result<File> {
        let path = self.folder.join("lock");
        let open = fs::create_dir_all(&self.folder)
            .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
        let file = open.with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(
                "another vogeler is at work on {}: one run at a time for each file; --db names another one",
                self.database.display()
            ),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
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
