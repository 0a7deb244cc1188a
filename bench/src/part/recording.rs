//! What a server has sent to its database, kept for a replay.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vogeler_protocol::{Group, NodeName};
use vogeler_store::condition::{self, Condition};
use vogeler_store::design_docs::DesignDoc;
use vogeler_store::{Fate, Found, KnownNode, PutError, Row, Store, StoreError, Synced, ViewQuery, ViewRow};

/// A document that was sent and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: String,
    /// Whether it had a revision.
    pub update: bool,
    /// All of it.
    pub document: Vec<u8>,
}

/// A store that writes down what is put into another. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct Recording<St> {
    inner: St,
    file: Option<Arc<Mutex<BufWriter<File>>>>,
    bytes: Arc<AtomicU64>,
}

impl<St> Recording<St> {
    /// Writes to that file, if there is one; counts bytes in any case.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(inner: St, path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(File::create).transpose()?;
        let file = file.map(|file| Arc::new(Mutex::new(BufWriter::with_capacity(1 << 20, file))));
        Ok(Self { inner, file, bytes: Arc::default() })
    }

    /// Bytes of documents that were put.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns when the file can be read.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }

    fn note(&self, rows: &[Row], fates: &[Fate]) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, _) in rows.iter().zip(fates).filter(|(_, fate)| matches!(fate, Fate::Stored { .. })) {
            for part in [row.id.as_str().as_bytes(), &row.document] {
                file.write_all(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes())?;
                file.write_all(part)?;
            }
        }
        Ok(())
    }
}

/// What was written down.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<Sent>> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut all = Vec::new();
    while let Some(id) = part(&mut file)? {
        let document = part(&mut file)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        // A record begins with its id and, where it has one, its revision.
        let update = document[..document.len().min(600)].windows(6).any(|window| window == b"\"_rev\"");
        all.push(Sent { id: String::from_utf8_lossy(&id).into_owned(), update, document });
    }
    Ok(all)
}

fn part(file: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match file.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

impl<St: Store> Store for Recording<St> {
    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        self.inner.probe_write().await
    }

    async fn describe(&self) -> Result<String, StoreError> {
        self.inner.describe().await
    }

    async fn create(&self) -> Result<bool, StoreError> {
        self.inner.create().await
    }

    async fn fetch(&self, ids: &[NodeName]) -> Result<Vec<Option<String>>, StoreError> {
        self.inner.fetch(ids).await
    }

    async fn put(&self, rows: &[Row]) -> Result<Vec<Fate>, PutError> {
        let fates = self.inner.put(rows).await?;
        let bytes: usize = rows.iter().map(|row| row.document.len()).sum();
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Err(error) = self.note(rows, &fates) {
            tracing::error!(%error, "what was sent cannot be written down; there will be no replay");
        }
        Ok(fates)
    }

    async fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        self.inner.nodes().await
    }

    async fn members(&self, group: &Group) -> Result<Vec<NodeName>, StoreError> {
        self.inner.members(group).await
    }

    async fn find(&self, condition: Option<&Condition>, fields: &[condition::Path]) -> Result<Vec<Found>, StoreError> {
        self.inner.find(condition, fields).await
    }

    async fn view(&self, design: &str, view: &str, query: &ViewQuery) -> Result<Vec<ViewRow>, StoreError> {
        self.inner.view(design, view, query).await
    }

    async fn sync_design(&self, doc: &DesignDoc) -> Result<Synced, StoreError> {
        self.inner.sync_design(doc).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vogeler_store::memory::MemoryStore;

    #[tokio::test]
    async fn what_was_put_is_read_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sent");
        let recording = Recording::new(MemoryStore::created(), Some(&path)).unwrap();
        let row = |id: &str, document: &str| Row { id: id.parse().unwrap(), document: document.into() };
        let new = recording.put(&[row("a", r#"{"_id":"a"}"#), row("b", r#"{"_id":"b"}"#)]).await.unwrap();
        let Fate::Stored { rev } = &new[0] else { panic!("{new:?}") };
        let again = format!(r#"{{"_id":"a","_rev":"{rev}"}}"#);
        recording.put(&[row("a", &again), row("b", r#"{"_id":"b"}"#)]).await.unwrap();
        recording.flush().unwrap();
        let sent: Vec<_> = read(&path).unwrap().into_iter().map(|sent| (sent.id, sent.update)).collect();
        assert_eq!(sent, [("a".into(), false), ("b".into(), false), ("a".into(), true)], "a conflict was not stored");
        assert!(recording.bytes() > 50);
    }
}
