//! What an operator sees of a run while it goes on, and its end.
//!
//! A line that moves on a terminal, nothing elsewhere; the end is that of [`report`]. What is no data goes to standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use vogeler_protocol::message::{Event, Notice};

use crate::output;
use crate::report::{self, About, NO_SUCH_NODE};
use crate::run::Request;
use crate::tallies::Tallies;
use crate::tally::State;

/// How to show a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Lines for a person.
    #[default]
    Text,
    /// One JSON object at the end.
    Json,
}

/// Shows a run.
pub struct Progress {
    output: Output,
    strict: bool,
    bar: Option<ProgressBar>,
    told: Option<Told>,
}

/// What was told of a run, where nobody looks on. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    end: String,
    notices: Vec<String>,
}

impl Told {
    /// The end of the run; empty until then.
    pub fn end(&self) -> String {
        self.lock().end.clone()
    }

    /// The sentences beside it.
    pub fn notices(&self) -> Vec<String> {
        self.lock().notices.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Progress {
    /// A progress line on a terminal, nothing elsewhere. `strict` is that of the exit status.
    pub fn new(output: Output, strict: bool) -> Self {
        let moving = output == Output::Text && io::stderr().is_terminal() && io::stdout().is_terminal();
        let bar = moving.then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { output, strict, bar, told: None }
    }

    /// Nothing is shown; what would be is kept in `told`.
    pub fn untold(output: Output, strict: bool, told: &Told) -> Self {
        Self { output, strict, bar: None, told: Some(told.clone()) }
    }

    fn print(&self, text: &str) -> io::Result<()> {
        match &self.told {
            Some(told) => told.lock().end.push_str(text),
            None => output::print(text)?,
        }
        Ok(())
    }

    /// A sentence beside the results; never on standard output.
    pub fn notice(&self, text: &str) {
        match (&self.told, &self.bar) {
            (Some(told), _) => told.lock().notices.push(text.to_owned()),
            (None, Some(bar)) => bar.suspend(|| output::notice(text)),
            (None, None) => output::notice(text),
        }
    }

    /// A node has said something; on a terminal what went wrong is shown at once.
    pub fn event(&self, event: &Event, tallies: &Tallies) {
        if let Some(bar) = &self.bar
            && matches!(event.event, Notice::Failed | Notice::Rejected | Notice::Refused)
        {
            let detail = event.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            let said = output::one_line(format!("{} {}: {}{detail}", event.command, event.node, event.event));
            bar.suspend(|| _ = writeln!(io::stderr(), "{said}"));
        }
        self.count(tallies);
    }

    /// The progress line's figures.
    pub fn count(&self, tallies: &Tallies) {
        if let Some(bar) = &self.bar {
            let (awaited, ended) = tallies.progress();
            // Of no nodes all have answered: such a bar would be full.
            if bar.length() == Some(0) && awaited > 0 {
                bar.enable_steady_tick(Duration::from_millis(200));
            }
            bar.set_length(awaited as u64);
            bar.set_position(ended as u64);
            let running = tallies.running();
            bar.set_message(if running > 0 { format!("{running} running") } else { String::new() });
        }
    }

    /// The end of a run that nobody waits for.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn queued(&self, about: &About, tallies: &Tallies, routed: usize, status: u8) -> io::Result<()> {
        self.clear();
        let (awaited, _) = tallies.progress();
        let text = match self.output {
            Output::Json => {
                // Nobody was listened to, and so nobody was silent.
                let mut json = report::json(about, tallies, status, self.strict);
                json["detached"] = true.into();
                let each = json.get_mut("commands").and_then(Value::as_array_mut).into_iter().flatten();
                each.for_each(|command| command["silent"] = json!([]));
                if json.get("silent").is_some() {
                    json["silent"] = json!([]);
                }
                object(&json)
            }
            Output::Text if routed == 0 => String::new(),
            Output::Text => {
                let commands: Vec<&str> = tallies.iter().map(|(command, _)| command.as_str()).collect();
                let (commands, count) = (commands.join(", "), awaited / commands.len().max(1));
                format!("{commands} on {}: queued as run {}; {count} nodes are on line\n", about.target, about.run)
            }
        };
        if let Some((_, tally)) = tallies.iter().next() {
            for (node, _) in tally.lines().filter(|(_, line)| line.state == State::Unknown) {
                self.notice(&format!("{node}: {NO_SUCH_NODE}"));
            }
        }
        self.print(&text)
    }

    /// The end of a run.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn end(&self, about: &About, tallies: &Tallies, status: u8) -> io::Result<()> {
        self.clear();
        self.print(&match self.output {
            Output::Json => object(&report::json(about, tallies, status, self.strict)),
            Output::Text => report::text(about, tallies),
        })
    }

    /// The operator has had enough before anything was sent.
    pub fn given_up(&self) {
        self.clear();
        self.notice("nothing was sent, and nobody was asked");
    }

    /// The operator has had enough.
    pub fn interrupted(&self, about: &About, request: &Request) {
        self.clear();
        let rest = if request.batch.is_some() { "; those whose batch has not begun are not asked" } else { "" };
        let left = if request.outlived {
            format!("the run goes on without us, and what comes of it lands in the records{rest}")
        } else {
            "what still runs is ended".to_owned()
        };
        self.notice(&format!("{left}; to look at it again: {} status {}", output::program(), about.run));
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A JSON object on a line, with nothing in it that a terminal would obey.
pub(crate) fn object(json: &Value) -> String {
    format!("{}\n", output::harmless(json.to_string()))
}
