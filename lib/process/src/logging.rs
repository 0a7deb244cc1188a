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

/// Starts logging. To be called once, by `main`.
pub fn start(level: LogLevel) {
    let (ours, theirs) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::OFF),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::OFF),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::OFF),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    // Libraries report as errors what we handle and say in our own words.
    let filter = Targets::new()
        .with_default(theirs)
        // At trace it writes out every frame, the login included.
        .with_target("lapin", theirs.min(LevelFilter::DEBUG))
        .with_target("vogeler", ours);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false);
    // A second call would be a test that starts two programs in one process; the first one wins.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
