//! How a program ends.

use std::process::ExitCode;

/// Usage, configuration or connection.
pub const TROUBLE: u8 = 1;

/// Prints what went wrong, if anything did, once and with its causes, and returns the exit status.
pub fn report(program: &str, outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        #[allow(clippy::print_stderr, reason = "the last words of a program")]
        {
            eprintln!("{program}: {error:#}");
        }
        ExitCode::from(TROUBLE)
    })
}

/// Parses the command line: help and version end the program well, anything wrong with status 1,
/// which is usage to the runner's callers; clap's own 2 means something else there.
///
/// # Errors
/// The status to end with, everything being printed already.
pub fn parse_flags<C: clap::Parser>() -> Result<C, ExitCode> {
    parsed(C::try_parse())
}

/// The same of a command line that was parsed already.
///
/// # Errors
/// As of [`parse_flags`].
pub fn parsed<C>(cli: Result<C, clap::Error>) -> Result<C, ExitCode> {
    cli.map_err(|error| {
        // Nothing can be done about a terminal that is gone.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(TROUBLE) } else { ExitCode::SUCCESS }
    })
}
