//! Shows a long text through the operator's pager.
//!
//! Start at [`page`]. Whether a text is long enough is decided elsewhere. There is no pager of our own: where none can
//! be started, the text is printed as it is.

use std::io::{self, Write as _};
use std::process::{Command, ExitStatus, Stdio};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::unless_gone;

/// The pager where none is named.
const USUAL: &str = "less";

/// How `less` behaves unless its user has said otherwise: it ends by itself when all fits (F), lets bold and red
/// through (R), moves sideways over long lines (S) and leaves the text on the screen (X). A variable and not flags,
/// because the `less` of `BusyBox` ends over flags that it does not know.
const LESS: (&str, &str) = ("LESS", "FRSX");

/// Shows the text and waits until the pager has ended; false where there is none.
///
/// # Errors
/// The pager cannot be written to or waited for. That it was left before the end is no error.
pub(super) fn page(text: &str) -> io::Result<bool> {
    match chosen(|name| std::env::var(name).ok()) {
        Some(words) => Ok(through(&words, text)?.is_some()),
        None => Ok(false),
    }
}

/// The words of the pager's command line; none where it is to be no pager.
fn chosen(variable: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let line = variable("VOGELER_PAGER").or_else(|| variable("PAGER")).unwrap_or_else(|| USUAL.to_owned());
    let words = shell_words::split(&line).ok()?;
    (!words.is_empty() && words != ["cat"]).then_some(words)
}

fn through(words: &[String], text: &str) -> io::Result<Option<ExitStatus>> {
    let Some((program, arguments)) = words.split_first() else { return Ok(None) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped());
    if std::env::var_os(LESS.0).is_none() {
        command.env(LESS.0, LESS.1);
    }
    // Ctrl-C goes to both: it must not end this program and leave the pager without its terminal. The handler stays
    // for the life of the process, which has nothing left to do.
    let _interrupts = Handle::try_current().is_ok().then(|| signal(SignalKind::interrupt()));
    let Ok(mut pager) = command.spawn() else { return Ok(None) };
    // The end of the pipe goes with `input`, or the pager would wait for more.
    let written = pager.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let status = pager.wait()?;
    unless_gone(written)?;
    Ok(Some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        shell_words::split(line).unwrap()
    }

    fn chosen_of(variables: &[(&str, &str)]) -> Option<Vec<String>> {
        chosen(|wanted| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_pager_is_the_operators() {
        assert_eq!(chosen_of(&[]), Some(words("less")));
        assert_eq!(chosen_of(&[("PAGER", "most -s")]), Some(words("most -s")));
        assert_eq!(chosen_of(&[("PAGER", "most"), ("VOGELER_PAGER", "'/a b/less' -R")]), Some(words("'/a b/less' -R")));
    }

    #[test]
    fn an_empty_pager_is_none() {
        assert_eq!(chosen_of(&[("PAGER", "most"), ("VOGELER_PAGER", "")]), None);
        assert_eq!(chosen_of(&[("PAGER", "cat")]), None);
        assert_eq!(chosen_of(&[("PAGER", "'unbalanced")]), None);
    }

    #[test]
    fn the_pager_gets_all_of_the_text() {
        let text = "line\n".repeat(100_000);
        let status = through(&words("sh -c 'test $(wc -l) -eq 100000 && test -n \"${LESS+set}\"'"), &text).unwrap();
        assert!(status.unwrap().success());
    }

    #[test]
    fn a_pager_that_is_left_early_is_no_error() {
        let text = "line\n".repeat(100_000);
        assert!(through(&words("true"), &text).unwrap().is_some());
    }

    #[test]
    fn a_pager_that_is_not_there_is_none() {
        assert!(through(&words("/nowhere/pager"), "text\n").unwrap().is_none());
    }

    #[tokio::test]
    async fn within_the_runtime_it_works_the_same() {
        assert!(through(&words("sh -c 'cat >/dev/null'"), "text\n").unwrap().unwrap().success());
    }
}
