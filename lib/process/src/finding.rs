//! What a check found: one line for each thing that has to be right.

use std::fmt;
use std::process::ExitCode;

/// How it is with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// As it should be.
    Good,
    /// It may be meant so.
    Hint,
    /// It works, at a price.
    Warning,
    /// Not as it should be.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub grade: Grade,
    /// What was looked at, and what was found.
    pub text: String,
}

impl Finding {
    /// As it should be.
    pub fn good(text: impl Into<String>) -> Self {
        Self { grade: Grade::Good, text: text.into() }
    }

    /// Not as it should be.
    pub fn bad(text: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, text: text.into() }
    }

    /// A thing that has to be there, by what asking for it answered; `mend` says how to make it.
    pub fn existing<T, E: fmt::Display>(what: &str, found: Result<Option<T>, E>, mend: &str) -> Self {
        match found {
            Ok(Some(_)) => Self::good(format!("{what}: there")),
            Ok(None) => Self::bad(format!("{what}: missing; {mend}")),
            Err(reason) => Self::bad(format!("{what}: {reason}")),
        }
    }
}

/// Prints findings, one a line; the exit status of a check: 1 if anything is not as it should be.
#[allow(clippy::print_stdout, reason = "what a person asked to see")]
pub fn print_findings(findings: &[Finding]) -> ExitCode {
    for finding in findings {
        println!("{finding}");
    }
    ExitCode::from(u8::from(findings.iter().any(|finding| finding.grade == Grade::Bad)))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = match self.grade {
            Grade::Good => "ok  ",
            Grade::Hint => "hint",
            Grade::Warning => "warn",
            Grade::Bad => "FAIL",
        };
        write!(f, "{grade}  {}", self.text)
    }
}
