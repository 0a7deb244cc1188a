//! What the command line asks for, done: a run, a look at one, a question.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;
use vogeler_messaging::{Broker, Session as _};
use vogeler_process::signals::StopSignals;
use vogeler_store::Store;

use crate::ask::{self, Ask, Operator};
use crate::cli::{LookBack, RunFlags};
use crate::expected;
use crate::history::{self, Entry};
use crate::output::{self, Answer, Column, Format, Rows, cell};
use crate::progress::{self, Output, Progress};
use crate::report;
use crate::run::{self, Parts, Request};
use crate::select;
use crate::status;
use crate::tally::{GOOD, NO_SUCH};

/// Asks the nodes, or prints whom it would ask.
///
/// # Errors
/// As [`run::run`].
pub async fn ask_nodes<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    request: &Request,
    flags: &RunFlags,
) -> anyhow::Result<u8> {
    let output = flags.output.unwrap_or_default();
    if flags.dry_run {
        return rehearse(parts, request, output).await;
    }
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    let progress = Progress::new(output, request.strict);
    run::run(parts, request, &progress, async move { signals.recv().await }).await
}

/// Prints who would be asked.
async fn rehearse<B: Broker, St: Store>(parts: &Parts<B, St>, request: &Request, output: Output) -> anyhow::Result<u8> {
    let selection = select::select(&parts.store, &request.choice).await?;
    selection.notices.iter().for_each(|notice| output::notice(notice));
    let session = parts.broker.connect().await?;
    let expected = expected::presence(&session, &selection.target, &selection.known, parts.clock.now())
        .await
        .context("cannot ask which nodes are on line")?;
    session.close().await;
    if selection.known.is_none() && !selection.is_named() {
        bail!("who would be asked is for the records to say");
    }
    let states = [
        (&expected.on_line, "on line"),
        (&expected.off_line, "off line"),
        (&expected.gone, "no queue"),
        (&expected.unknown, "unknown"),
    ];
    let mut nodes: Vec<_> =
        states.iter().flat_map(|(nodes, state)| nodes.iter().map(move |node| (node, *state))).collect();
    nodes.sort();
    let mut rows = Rows::new([Column::new("node", "node"), Column::new("state", "state")]);
    for (node, state) in &nodes {
        rows.push([cell(node), cell(state)]);
    }
    let figures = states.map(|(nodes, word)| format!("{} {word}", nodes.len()));
    let asked = expected.on_line.len() + expected.off_line.len();
    output::notice(&format!("{asked} nodes would be asked: {}", figures.join(", ")));
    show(&rows.into(), if output == Output::Json { Format::Json } else { Format::Table })?;
    let no_such = nodes.is_empty() || !expected.unknown.is_empty() || !selection.strangers.is_empty();
    Ok(if no_such { NO_SUCH } else { GOOD })
}

/// Looks at runs that were begun here: one, or the list of them, which needs neither broker nor database. `outlived` says
/// whether nodes are there when the runner has left.
///
/// # Errors
/// As [`status::status`], or the folder of runs cannot be read.
pub async fn look_back<B, St: Store>(
    parts: impl FnOnce() -> anyhow::Result<Parts<B, St>>,
    folder: Option<&Path>,
    asked: &LookBack,
    outlived: bool,
) -> anyhow::Result<u8> {
    let output = asked.output.unwrap_or_default();
    if asked.list {
        return list_runs(folder, output);
    }
    look_at_run(&parts()?, folder, asked, outlived).await
}

async fn look_at_run<B, St: Store>(
    parts: &Parts<B, St>,
    folder: Option<&Path>,
    asked: &LookBack,
    outlived: bool,
) -> anyhow::Result<u8> {
    let mut known = status::status(&parts.store, folder, asked.run.as_deref(), &parts.clock).await?;
    if !outlived {
        known.tallies.leave_all();
    }
    for notice in &known.notices {
        output::notice(notice);
    }
    let exit_status = known.tallies.exit_status(known.strict);
    let about = &known.about;
    output::print(&match asked.output.unwrap_or_default() {
        Output::Json => progress::object(&report::json(about, &known.tallies, exit_status, known.strict)),
        Output::Text => format!("run {}\n{}", about.run, report::text(about, &known.tallies)),
    })?;
    Ok(exit_status)
}

/// Answers a question about nodes and records.
///
/// # Errors
/// As [`ask::answer`].
pub async fn answer<B: Broker, St: Store>(parts: &Parts<B, St>, asked: &Ask, issuer: &str) -> anyhow::Result<u8> {
    let operator = Operator { name: issuer, confirm: &ask::on_terminal };
    let reply = ask::answer(parts, asked, operator).await?;
    if let Some(answer) = &reply.answer {
        show(answer, asked.format())?;
    }
    for notice in &reply.notices {
        output::notice(notice);
    }
    Ok(reply.status)
}

fn list_runs(folder: Option<&Path>, output: Output) -> anyhow::Result<u8> {
    let mut rows = Rows::new([
        Column::new("run", "run"),
        Column::new("at", "at"),
        Column::new("commands", "commands"),
        Column::new("target", "target"),
        Column::new("exit_status", "exit status"),
    ]);
    let folder = folder.context("there is no home for notes of runs: HOME is not set")?;
    for run in history::runs(folder).context("cannot read the folder of runs")? {
        // One that was cut short in its first line is no run.
        let Ok((asked, entries)) = history::read(folder, run) else { continue };
        let left = entries.iter().rev().find_map(|entry| match entry {
            Entry::Left { exit_status, .. } => Some(Value::from(*exit_status)),
            Entry::Asked(_) | Entry::Batch(_) | Entry::Event(_) => None,
        });
        rows.push([cell(&asked.run), cell(&asked.issued_at), cell(&asked.commands), cell(&asked.target), left]);
    }
    show(&rows.into(), if output == Output::Json { Format::Json } else { Format::Table })?;
    Ok(GOOD)
}

fn show(answer: &Answer, format: Format) -> anyhow::Result<()> {
    output::show(answer, format).context("cannot write the answer")
}

/// Who asks, for the nodes' logs: `user@host`.
pub fn issuer() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| "?".to_owned(), |user| user.name);
    let host = nix::unistd::gethostname().map_or_else(|_| "?".to_owned(), |host| host.to_string_lossy().into_owned());
    format!("{user}@{host}")
}
