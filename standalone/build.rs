//! Lists the plugins and design documents of the repository, so that the program carries them along.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["plugins", "design-docs"] {
        collect(&top.join(folder), &mut files)?;
    }
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&top).expect("it is below").display().to_string();
        let _ = writeln!(list, "    ({name:?}, include_bytes!({:?})),", file.display().to_string());
    }
    list.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("files.rs"), list)
}

/// Every file below, in the order of their names.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut entries =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else if entry.file_name().is_some_and(|name| name != "README.md") {
            println!("cargo::rerun-if-changed={}", entry.display());
            files.push(entry);
        }
    }
    Ok(())
}
