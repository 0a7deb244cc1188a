//! What a blowout does now, to standard error: a moving line on a terminal, a line a step elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Tells a person what is going on. Clones tell on the same line.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// To standard error.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(250));
        // The template is a constant; without it the line looks plainer.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// The next step begins.
    pub fn step(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.bar.is_hidden() {
            self.say(what);
        }
    }

    /// How far a step is.
    pub fn at(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Something that stays.
    #[allow(clippy::print_stderr, reason = "progress of a program that a person watches")]
    pub fn say(&self, what: &str) {
        self.bar.suspend(|| eprintln!("{what}"));
    }

    /// The line goes away.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
