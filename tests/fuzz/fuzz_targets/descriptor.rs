//! A folder of descriptors of which two hold the input, one as YAML and one as a file of 2010: what
//! can be run is within its bounds, every fault names its file and is one line, and the descriptor
//! beside them serves on.
//!
//! It goes through [`Registry::read`] and the file system, as the agent does. Nothing is ever run.

#![no_main]

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vogeler_client::plugin::descriptor::{Broken, LARGEST_OUTPUT, LONGEST_TIMEOUT};
use vogeler_client::plugin::registry::Registry;
use vogeler_client::plugin::{Action, PING, Plugin};
use vogeler_protocol::Alias;
use vogeler_protocol::names::RESERVED_KEYS;

/// In the order in which they are read. The input comes first: it may take the alias of the good one,
/// which is then told, but not its place among what can be run.
const FILES: [&str; 3] = ["a.yaml", "b.cfg", "good.yaml"];

/// What stands in the last of them.
const GOOD: &str = "good: {command: echo hi, format: string}\n";

/// A folder of this process, as [`Registry`] wants it: nobody else may write it.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("vogeler-fuzz-{}", std::process::id()));
    DirBuilder::new().mode(0o700).recursive(true).create(&folder).expect("a folder can be made");
    for name in FILES {
        fs::write(folder.join(name), GOOD).expect("a file can be made");
        fs::set_permissions(folder.join(name), Permissions::from_mode(0o600)).expect("its mode can be set");
    }
    folder
});

fuzz_target!(|text: &[u8]| {
    for name in &FILES[..2] {
        fs::write(FOLDER.join(name), text).expect("a file of ours can be written");
    }
    let registry = Registry::read(&FOLDER, Path::new("/nonexistent"));
    let good: Alias = "good".parse().expect("an alias");
    assert!(registry.get(&good).is_some(), "the good one serves on: {:?}", registry.broken());
    for plugin in registry.plugins() {
        within_bounds(plugin);
    }
    let lines = 1 + text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
    for broken in registry.broken() {
        names_its_file(broken, lines);
    }
    let again = Registry::read(&FOLDER, Path::new("/nonexistent"));
    assert!(again.plugins().eq(registry.plugins()), "what is read twice is the same");
    assert_eq!(again.broken(), registry.broken());
});

fn within_bounds(plugin: &Plugin) {
    let key = plugin.key.as_str();
    assert!(!key.starts_with('_') && !RESERVED_KEYS.contains(&key), "{key:?} is not a plugin's to fill");
    assert!(plugin.timeout > Duration::ZERO && plugin.timeout <= LONGEST_TIMEOUT, "{plugin:?}");
    assert!((1..=LARGEST_OUTPUT).contains(&plugin.max_output), "{plugin:?}");
    match &plugin.action {
        Action::Ping => assert_eq!(plugin.alias.as_str(), PING),
        Action::Program(program) => {
            assert_ne!(plugin.alias.as_str(), PING, "it is built in");
            assert!(!program.path.as_os_str().is_empty(), "{plugin:?}");
            assert!((0..=19).contains(&program.nice), "{plugin:?}");
        }
    }
}

fn names_its_file(broken: &Broken, lines: u64) {
    let shown = broken.to_string();
    let name = broken.file.strip_prefix(&*FOLDER).ok().and_then(Path::to_str).unwrap_or_default();
    assert!(FILES.contains(&name) && shown.starts_with(&broken.file.display().to_string()), "{shown}");
    assert!(!broken.reason.trim().is_empty(), "{shown} says what is wrong");
    assert!(!shown.contains('\n'), "a fault is one line: {shown}");
    assert!(broken.line.is_none_or(|line| (1..=lines).contains(&line)), "of {lines} lines: {shown}");
    let taken = broken.reason == "another descriptor has registered this alias already";
    assert!(taken || name != "good.yaml", "nothing is wrong with the good one: {shown}");
}
