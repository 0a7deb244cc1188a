//! What standard output is: how wide, how high, and whether colours are welcome.

use std::io::{self, IsTerminal as _};

use terminal_size::{Height, Width, terminal_size_of};

/// What a terminal that does not say is taken for: columns and lines of a VT100.
const USUAL: (usize, usize) = (80, 24);

/// What standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// The columns of a terminal; none where nothing is to be cut, because it is a pipe or a file.
    pub width: Option<usize>,
    /// The lines of a terminal; none where no pager can run, because it is no terminal or a dumb one.
    pub height: Option<usize>,
    /// Whether bold and red are welcome.
    pub colour: bool,
}

impl Screen {
    /// A pipe or a file.
    pub const PIPE: Self = Self { width: None, height: None, colour: false };

    /// What standard output is now. `COLUMNS` and `LINES` count before the terminal's own size; `NO_COLOR`
    /// (<https://no-color.org>), if it is not empty, and a dumb terminal mean no colours.
    pub fn from_environment() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self::PIPE;
        }
        let size = terminal_size_of(&stdout).map(|(Width(columns), Height(lines))| (columns.into(), lines.into()));
        Self::terminal(size.unwrap_or(USUAL), |name| std::env::var(name).ok())
    }

    fn terminal((columns, lines): (usize, usize), variable: impl Fn(&str) -> Option<String>) -> Self {
        let told = |name: &str| variable(name)?.parse().ok().filter(|size: &usize| *size > 0);
        let dumb = variable("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Self {
            width: Some(told("COLUMNS").unwrap_or(columns)),
            height: (!dumb).then(|| told("LINES").unwrap_or(lines)),
            colour: !dumb && variable("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// Whether part of the text would be out of sight; the shell's next prompt takes a line, too.
    pub(super) fn overflows(&self, text: &str) -> bool {
        self.height.is_some_and(|height| text.lines().count() >= height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(variables: &[(&str, &str)]) -> Screen {
        Screen::terminal((100, 40), |wanted| {
            variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_count_before_the_terminal() {
        let plain = Screen { width: Some(100), height: Some(40), colour: true };
        assert_eq!(screen(&[("TERM", "xterm")]), plain);
        assert_eq!(screen(&[("TERM", "xterm"), ("COLUMNS", "0"), ("LINES", "many")]), plain);
        let told = screen(&[("TERM", "xterm"), ("COLUMNS", "60"), ("LINES", "10")]);
        assert_eq!((told.width, told.height), (Some(60), Some(10)));
    }

    #[test]
    fn no_color_means_no_colours() {
        assert!(!screen(&[("TERM", "xterm"), ("NO_COLOR", "1")]).colour);
        assert!(screen(&[("TERM", "xterm"), ("NO_COLOR", "")]).colour, "empty is as if it were not set");
    }

    #[test]
    fn a_dumb_terminal_is_neither_coloured_nor_paged() {
        let dumb = Screen { width: Some(100), height: None, colour: false };
        assert_eq!(screen(&[("TERM", "dumb")]), dumb);
        assert_eq!(screen(&[]), dumb);
    }

    #[test]
    fn what_does_not_fit_above_the_prompt_overflows() {
        let screen = Screen { width: Some(80), height: Some(3), colour: false };
        assert!(!screen.overflows("1\n2\n"));
        assert!(screen.overflows("1\n2\n3\n"));
        assert!(!Screen::PIPE.overflows("1\n2\n3\n4\n"));
    }
}
