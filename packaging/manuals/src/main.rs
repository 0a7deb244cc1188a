//! Writes man pages and shell completions of the four programs, from the words of their `--help`.
//!
//! ```sh
//! cargo run -p vogeler-manuals -- DIR
//! ```
//!
//! DIR gets `man/man1/*.1` and `completions/{bash,zsh,fish}/*`. The runner's completions ask the runner itself, which
//! knows nodes and aliases; those of the others are written out here.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_complete::env::Shells;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

fn main() -> anyhow::Result<()> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [folder] = words.as_slice() else { anyhow::bail!("usage: vogeler-manuals DIR") };
    write(Path::new(folder))
}

fn write(folder: &Path) -> anyhow::Result<()> {
    let made = |path: PathBuf| -> anyhow::Result<PathBuf> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    };
    let pages = made(folder.join("man/man1"))?;
    let standalone = vogeler_standalone::cli::Cli::definition;
    for program in [
        vogeler_client::cli::Cli::command(),
        vogeler_server::cli::Cli::command(),
        vogeler_runner::cli::Cli::command(),
        standalone(),
    ] {
        clap_mangen::generate_to(program, &pages).with_context(|| format!("cannot write to {}", pages.display()))?;
    }
    for shell in SHELLS {
        let shelf = made(folder.join("completions").join(shell.to_string()))?;
        for mut program in [vogeler_client::cli::Cli::command(), vogeler_server::cli::Cli::command(), standalone()] {
            let name = program.get_name().to_owned();
            clap_complete::generate_to(shell, &mut program, name, &shelf)
                .with_context(|| format!("cannot write to {}", shelf.display()))?;
        }
        asking(shell, &shelf)?;
    }
    Ok(())
}

/// The runner's completions; the file has the name that the shell looks for.
fn asking(shell: Shell, shelf: &Path) -> anyhow::Result<()> {
    const NAME: &str = "vogeler-runner";
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string()).with_context(|| format!("no completions for {shell}"))?;
    completer.write_registration("COMPLETE", NAME, NAME, NAME, &mut script)?;
    let file = match shell {
        Shell::Zsh => {
            // zsh runs the file for the first completion of a session; the script itself only defines how.
            script.extend_from_slice(
                b"[[ $funcstack[1] = _vogeler-runner ]] && _clap_dynamic_completer_vogeler_runner\n",
            );
            format!("_{NAME}")
        }
        Shell::Fish => format!("{NAME}.fish"),
        _ => format!("{NAME}.bash"),
    };
    let path = shelf.join(file);
    fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))
}
