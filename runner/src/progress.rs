//! What an operator sees: a line that moves on a terminal, plain lines elsewhere, JSON for programs.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use vogeler_protocol::message::Notice;
use vogeler_protocol::{Alias, NodeName, RunId, Target, Timestamp};

use crate::tally::{Line, State, Tally, lacks_alias};

/// How to show a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Lines for a person.
    Text,
    /// One JSON object at the end.
    Json,
}

/// What a run is about.
#[derive(Debug, Clone)]
pub struct About {
    /// Its id.
    pub run: RunId,
    /// The alias.
    pub command: Alias,
    /// The target.
    pub target: Target,
    /// Until when the command waits for nodes that are off line.
    pub expires_at: Timestamp,
}

/// Shows a run.
pub struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the runner speaks")]
impl Progress {
    /// A progress line on a terminal, plain lines elsewhere.
    pub fn new(output: Output) -> Self {
        let moving = output == Output::Text && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let bar = moving.then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}  {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { output, bar }
    }

    /// A sentence beside the results; never on standard output.
    pub fn notice(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("vogeler-runner: {text}")),
            None => eprintln!("vogeler-runner: {text}"),
        }
    }

    /// One node has moved on.
    pub fn node(&self, node: &NodeName, tally: &Tally) {
        let line = tally.lines().find(|(name, _)| *name == node).map(|(_, line)| line);
        if let (Output::Text, Some(line)) = (self.output, line)
            && matches!(line.state, State::Ended { .. })
        {
            let text = sentence(node, line);
            match &self.bar {
                Some(bar) => bar.suspend(|| println!("{text}")),
                None => println!("{text}"),
            }
        }
        self.count(tally);
    }

    /// The progress line's figures.
    pub fn count(&self, tally: &Tally) {
        if let Some(bar) = &self.bar {
            let (all, open) = (tally.awaited(), tally.outstanding().len());
            bar.set_length(all as u64);
            bar.set_position((all - open) as u64);
            let running = tally.lines().filter(|(_, line)| line.state == State::Running).count();
            bar.set_message(if running > 0 { format!("{running} running") } else { String::new() });
        }
    }

    /// The end of a run that nobody waits for.
    pub fn queued(&self, about: &About, tally: &Tally, routed: usize, status: u8) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        match self.output {
            Output::Json => {
                let mut json = as_json(about, tally, status);
                json["detached"] = true.into();
                json["silent"] = json!([]);
                println!("{json}");
            }
            Output::Text if routed == 0 => {}
            Output::Text => println!(
                "{} on {}: queued as run {}; {} nodes are on line",
                about.command,
                about.target,
                about.run,
                tally.awaited()
            ),
        }
        for (node, _) in tally.lines().filter(|(_, line)| line.state == State::Unknown) {
            self.notice(&format!("{node}: no such node: no record and no queue of that name"));
        }
    }

    /// The end of a run.
    pub fn end(&self, about: &About, tally: &Tally, status: u8) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        match self.output {
            Output::Json => println!("{}", as_json(about, tally, status)),
            Output::Text => print!("{}", summary(about, tally)),
        }
    }
}

fn sentence(node: &NodeName, line: &Line) -> String {
    let State::Ended { event, detail } = &line.state else { return node.to_string() };
    let seconds =
        line.after_ms.map(|ms| format!("{:.2} s", Duration::from_millis(ms).as_secs_f64())).unwrap_or_default();
    let detail = detail.as_deref().unwrap_or("");
    format!("{:<32} {event:<9} {seconds:>8}  {detail}", node.as_str()).trim_end().to_owned()
}

/// The last lines: how many ended how, and then those who did not, by what there is to say of them.
fn summary(about: &About, tally: &Tally) -> String {
    let words = [Notice::Stored, Notice::Unchanged, Notice::Failed, Notice::Rejected, Notice::Refused, Notice::Skipped];
    let mut parts: Vec<String> = words
        .into_iter()
        .map(|notice| (notice, tally.count(notice)))
        .filter(|(notice, count)| *count > 0 || *notice == Notice::Stored)
        .map(|(notice, count)| format!("{count} {notice}"))
        .collect();
    let mut others: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (node, line) in tally.lines() {
        let why = match &line.state {
            State::Waiting => "on line and silent: the command was delivered or waits behind others".to_owned(),
            State::Running => "accepted it, and no result is stored yet".to_owned(),
            State::OffLine => format!("off line: gets it when it connects, until {}", about.expires_at),
            State::Gone => "known, but its queue is gone: it does not get this command".to_owned(),
            State::Unknown => "no such node: no record and no queue of that name".to_owned(),
            State::Ended { .. } => continue,
        };
        others.entry(why).or_default().push(node.as_str());
    }
    let silent = tally.outstanding().len();
    if silent > 0 {
        parts.push(format!("{silent} silent"));
    }
    let mut text = format!("{} on {}: {}\n", about.command, about.target, parts.join(", "));
    for (why, nodes) in others {
        text.push_str(&format!("  {}: {why}\n", listed(&nodes)));
    }
    if tally.nobody_knows() {
        text.push_str(&format!("  nobody knows the alias {}; a node's aliases: vogeler-client list\n", about.command));
    }
    text
}

/// Up to ten names, and how many more there are.
fn listed(nodes: &[&str]) -> String {
    const SHOWN: usize = 10;
    let mut text = nodes.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if nodes.len() > SHOWN {
        text.push_str(&format!(" and {} more", nodes.len() - SHOWN));
    }
    text
}

fn as_json(about: &About, tally: &Tally, status: u8) -> serde_json::Value {
    let nodes: serde_json::Map<String, serde_json::Value> =
        tally.lines().map(|(node, line)| (node.to_string(), json!(line))).collect();
    let lacking: Vec<&str> =
        tally.lines().filter(|(_, line)| lacks_alias(&line.state)).map(|(node, _)| node.as_str()).collect();
    json!({
        "run": about.run,
        "command": about.command,
        "target": about.target,
        "expires_at": about.expires_at,
        "exit_status": status,
        "stored": tally.count(Notice::Stored),
        "unchanged": tally.count(Notice::Unchanged),
        "failed": tally.count(Notice::Failed),
        "rejected": tally.count(Notice::Rejected),
        "lack_the_alias": lacking,
        "silent": tally.outstanding(),
        "nodes": nodes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expected::Expected;

    #[test]
    fn the_summary_says_who_did_not_answer_and_why() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let expected = Expected {
            on_line: names(&["web01"]),
            off_line: names(&["db01"]),
            unknown: names(&["wbe02"]),
            ..Expected::default()
        };
        let tally = Tally::new(&expected, false, Timestamp::from_millisecond(0));
        let about = About {
            run: "019aa0b0-0000-7000-8000-000000000001".parse().unwrap(),
            command: "rpms".parse().unwrap(),
            target: "web01,db01,wbe02".parse().unwrap(),
            expires_at: Timestamp::from_millisecond(0),
        };
        let text = summary(&about, &tally);
        assert!(text.starts_with("rpms on db01,wbe02,web01: 0 stored, 1 silent\n"), "{text}");
        assert!(
            text.contains("  db01: off line: gets it when it connects, until 1970-01-01T00:00:00.000Z\n"),
            "{text}"
        );
        assert!(text.contains("  wbe02: no such node"), "{text}");
        let json = as_json(&about, &tally, 4);
        assert_eq!(json["nodes"]["web01"]["state"], "waiting");
        assert_eq!(json["exit_status"], 4);
    }
}
