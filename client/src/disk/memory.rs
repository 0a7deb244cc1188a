//! The disk of a virtual node: it outlives its client, and what was not synced may not outlive its machine.
//!
//! For simulations, as the broker and the database in memory are.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Appending, Disk};

/// Some files in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<BTreeMap<String, File>>>);

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// How many of them are on disk.
    synced: usize,
}

impl MemoryDisk {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine loses power: of what was not synced, some is left. `left` says how many bytes, of so many at most.
    pub fn lose(&self, left: impl Fn(usize) -> usize) {
        for file in self.lock().values_mut() {
            let kept = file.synced + left(file.bytes.len() - file.synced);
            file.bytes.truncate(kept);
            file.synced = kept;
        }
    }

    /// All of it is gone, as on a disk that was replaced.
    pub fn wipe(&self) {
        self.lock().clear();
    }
}

impl Disk for MemoryDisk {
    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().get(name).map(|file| file.bytes.clone()))
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        self.lock().insert(name.to_owned(), File { bytes: text.into(), synced: text.len() });
        Ok(())
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn Appending>> {
        self.lock().entry(name.to_owned()).or_default();
        Ok(Box::new(Open { disk: self.clone(), name: name.to_owned() }))
    }
}

#[derive(Debug)]
struct Open {
    disk: MemoryDisk,
    name: String,
}

impl Open {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> T) -> T {
        act(self.disk.lock().entry(self.name.clone()).or_default())
    }
}

impl Appending for Open {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.with(|file| file.bytes.extend_from_slice(text.as_bytes()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|file| file.synced = file.bytes.len());
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.with(|file| u64::try_from(file.bytes.len()).unwrap_or(u64::MAX)))
    }
}
