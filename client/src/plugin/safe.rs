//! Whether a file is one that only root and the client's user can change.
//!
//! Whoever can change a descriptor or a program decides what the agent runs, mostly as root.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsafe {
    /// It cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {uid}; it has to belong to root or to the user that runs the client", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose.
        uid: u32,
    },
    /// Others may write it.
    #[error("{} can be written by others than its owner; chmod go-w {}", path.display(), path.display())]
    Mode {
        /// Which.
        path: PathBuf,
    },
}

/// Looks at `path`, and at what it links to.
pub(super) fn only_ours(path: &Path) -> Result<(), Unsafe> {
    let meta = fs::metadata(path).map_err(|source| Unsafe::Io { path: path.to_owned(), source })?;
    let uid = meta.uid();
    if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        return Err(Unsafe::Owner { path: path.to_owned(), uid });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(Unsafe::Mode { path: path.to_owned() });
    }
    Ok(())
}
