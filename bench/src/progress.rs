//! What a blowout does now, to standard error: a moving line on a terminal; elsewhere a line a step, and one now and then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written about a long step, where there is no terminal.
const EVERY: Duration = Duration::from_secs(15);

/// Tells a person what is going on. Clones tell on the same line.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    /// When a line was last written, where there is no terminal.
    told: Arc<Mutex<Instant>>,
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
        Self { bar, told: Arc::new(Mutex::new(Instant::now())) }
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
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bar.is_hidden() && told.elapsed() > EVERY {
            *told = Instant::now();
            self.say(what);
        }
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
