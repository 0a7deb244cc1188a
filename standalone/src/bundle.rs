//! Plugins and design documents that the program carries along, written out for those who read folders.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Each file with its path in the repository.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Brings a folder to what the program carries along: `plugins`, with programs in `plugins/bin`, and `design-docs`. What
/// else is there is removed: it is of another version. To be called by the process that is at work, and no other; what a
/// crash leaves half done is done again.
///
/// # Errors
/// The folder cannot be written.
pub fn unpack(folder: &Path) -> io::Result<()> {
    if is_unpacked(folder) {
        return Ok(());
    }
    clear(folder)?;
    for (name, content) in FILES {
        write(&folder.join(name), content)?;
    }
    Ok(())
}

fn is_unpacked(folder: &Path) -> bool {
    let same = |(name, content): &(&str, &[u8])| fs::read(folder.join(name)).is_ok_and(|there| there == *content);
    FILES.iter().all(same) && count(folder).is_ok_and(|files| files == FILES.len())
}

fn count(folder: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    // A client runs nothing that others could have written.
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let is_program = folder.ends_with("bin");
    let mode = if is_program { 0o755 } else { 0o644 };
    OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_carried_along_is_written_out_and_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("below/bundle");
        unpack(&folder).unwrap();
        let facts = folder.join("plugins/bin/facts");
        // Whatever the umask: ours to run, and nobody else's to write.
        assert_eq!(fs::metadata(&facts).unwrap().permissions().mode() & 0o722, 0o700);
        assert!(folder.join("design-docs/packages/views/by_name/map.js").is_file());
        let written = fs::metadata(&facts).unwrap().modified().unwrap();
        unpack(&folder).unwrap();
        assert_eq!(fs::metadata(&facts).unwrap().modified().unwrap(), written, "nothing to do, nothing done");
        fs::write(&facts, "old").unwrap();
        fs::write(folder.join("plugins/gone.yaml"), "gone: {command: gone}").unwrap();
        unpack(&folder).unwrap();
        assert!(fs::read(&facts).unwrap().len() > 100);
        assert!(!folder.join("plugins/gone.yaml").exists());
        assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }
}
