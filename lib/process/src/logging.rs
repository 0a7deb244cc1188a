//! Logging to standard error, one line an event.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How much a program says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what a person has to mend.
    Error,
    /// What a person may have to mend, too.
    Warn,
    /// Changes of state, too.
    #[default]
    Info,
    /// Each delivery and each command, too.
    Debug,
    /// Everything, the libraries included.
    Trace,
}

impl LogLevel {
    /// What is heard of ours, and of the libraries.
    fn filters(self) -> (LevelFilter, LevelFilter) {
        match self {
            Self::Error => (LevelFilter::ERROR, LevelFilter::OFF),
            Self::Warn => (LevelFilter::WARN, LevelFilter::OFF),
            Self::Info => (LevelFilter::INFO, LevelFilter::OFF),
            Self::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
            Self::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
        }
    }
}

/// Starts logging. To be called once, by `main`.
pub fn start(level: LogLevel) {
    start_but(level, &[]);
}

/// The same where some of our crates are to say less or more than that, as `vogeler_client`.
pub fn start_but(level: LogLevel, others: &[(&'static str, LogLevel)]) {
    let (ours, theirs) = level.filters();
    // Libraries report as errors what we handle and say in our own words.
    let filter = Targets::new()
        .with_default(theirs)
        // At trace it writes out every frame, the login included.
        .with_target("lapin", theirs.min(LevelFilter::DEBUG))
        .with_target("vogeler", ours)
        .with_targets(others.iter().map(|(target, level)| (*target, level.filters().0)));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false);
    // A second call would be a test that starts two programs in one process; the first one wins.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
