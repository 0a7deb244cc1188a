//! Where the client keeps what it must not forget: a directory of this machine, or what a simulation has in its place.
//!
//! [`Disk`] is as narrow as [`crate::state`] and [`crate::journal`] need it. What a file means is not known here.

mod memory;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

pub use memory::MemoryDisk;

/// Some files, held by one client at a time.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Where a file is, for a sentence.
    fn path(&self, name: &str) -> PathBuf;

    /// What a file holds; none if there is no such file.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes a file so that after a crash it is either the old one or the new one; on disk when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    fn replace(&self, name: &str, text: &str) -> io::Result<()>;

    /// Opens a file to write at its end; begins it if it is not there.
    ///
    /// # Errors
    /// It cannot be written.
    fn append(&self, name: &str) -> io::Result<Box<dyn Appending>>;
}

/// A file that grows.
pub trait Appending: fmt::Debug + Send {
    /// Writes at its end; after a crash of the machine that may be lost.
    ///
    /// # Errors
    /// It cannot be written.
    fn write(&mut self, text: &str) -> io::Result<()>;

    /// Returns when all of it is on disk.
    ///
    /// # Errors
    /// It cannot be written.
    fn sync(&mut self) -> io::Result<()>;

    /// How many bytes it has.
    ///
    /// # Errors
    /// The system cannot say.
    fn bytes(&self) -> io::Result<u64>;
}

/// Why a directory cannot be taken.
#[derive(Debug)]
pub enum NotTaken {
    /// Another client has it.
    InUse,
    /// This cannot be made or written.
    Io(PathBuf, io::Error),
}

/// A directory of this machine.
#[derive(Debug)]
pub struct Directory {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    /// Takes a directory for this client alone; makes it if it is missing.
    ///
    /// # Errors
    /// What [`NotTaken`] lists.
    pub fn take(dir: &Path) -> Result<Self, NotTaken> {
        let at = |path: &Path, error| NotTaken::Io(path.to_owned(), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| at(dir, error))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(|error| at(&path, error))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| NotTaken::InUse)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }
}

impl Disk for Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.path(name);
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        // The rename itself is on disk once its directory is.
        File::open(&self.dir)?.sync_all()
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn Appending>> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path(name))?;
        Ok(Box::new(file))
    }
}

impl Appending for File {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.write_all(text.as_bytes())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
