//! A run that was begun before, looked at again.
//!
//! Start at [`status`]. The runner's own file says whom it expected and what it heard; the records say what came
//! since. What neither can say is told as such.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use vogeler_protocol::record::Answer;
use vogeler_protocol::{Alias, Clock, NodeName, RunId, Timestamp};
use vogeler_store::condition::Path as Field;
use vogeler_store::{Found, Store};

use crate::expected::Expected;
use crate::history::{self, Asked, Entry};
use crate::listen::read_records;
use crate::report::About;
use crate::tallies::Tallies;
use crate::tally::Tally;

/// What is known of a run.
#[derive(Debug)]
pub struct Status {
    /// What it was about.
    pub about: About,
    /// What came of it.
    pub tallies: Tallies,
    /// Whether nodes that lack the alias or are off line fail it.
    pub strict: bool,
    /// What has to be said beside it.
    pub notices: Vec<String>,
}

/// Everything that is known of a run: the last one, unless its id or the beginning of it is given.
///
/// # Errors
/// There is no such run, or nothing can be read of it.
pub async fn status<St: Store>(
    store: &St,
    folder: Option<&Path>,
    wanted: Option<&str>,
    clock: &Clock,
) -> anyhow::Result<Status> {
    let runs = folder.map(history::runs).transpose().context("cannot read the folder of runs")?.unwrap_or_default();
    let run = which(wanted, &runs)?;
    match folder.filter(|_| runs.contains(&run)) {
        Some(folder) => noted(store, folder, run, clock).await,
        None => elsewhere(store, run).await,
    }
}

fn which(wanted: Option<&str>, runs: &[RunId]) -> anyhow::Result<RunId> {
    let Some(wanted) = wanted else {
        return runs.first().copied().context("no run was begun here yet; name one by its id");
    };
    if let Ok(run) = wanted.parse() {
        return Ok(run);
    }
    ensure!(wanted.len() >= 4, "{wanted:?} is no id of a run, and too short for the beginning of one");
    let mut begin_so =
        runs.iter().filter(|run| run.to_string().starts_with(wanted) || run.to_string().ends_with(wanted));
    match (begin_so.next(), begin_so.next()) {
        (Some(run), None) => Ok(*run),
        (Some(_), Some(_)) => bail!("several runs have an id that begins or ends with {wanted:?}; give more of it"),
        (None, _) => bail!("no run that was begun here has an id that begins or ends with {wanted:?}"),
    }
}

/// A run of this machine and login.
async fn noted<St: Store>(store: &St, folder: &Path, run: RunId, clock: &Clock) -> anyhow::Result<Status> {
    let (asked, entries) = history::read(folder, run)?;
    let Asked { commands, target, issued_at, issuer, expires_at, open, strict, detached, expected, .. } = asked;
    let mut tallies = Tallies::new(&commands, &Tally::new(&expected, open, issued_at));
    if entries.iter().any(|entry| matches!(entry, Entry::Batch(_))) {
        tallies.wait_for_batches();
    }
    let mut left = None;
    for entry in &entries {
        match entry {
            Entry::Asked(_) => {}
            Entry::Batch(nodes) => tallies.ask(nodes),
            Entry::Event(event) => _ = tallies.hear(event, event.at),
            Entry::Left { at, .. } => left = Some(*at),
        }
    }
    let mut notices = vec![format!("begun at {issued_at} by {issuer}")];
    match left {
        Some(_) if detached => {
            notices.push("it was detached: nobody listened, and of refusals nothing is known".to_owned());
        }
        Some(at) if !tallies.are_over() => notices.push(format!(
            "the runner listened until {at}; of what came later only the records tell, and of refusals nothing"
        )),
        None => notices.push("the runner has not left it yet, or was killed".to_owned()),
        Some(_) => {}
    }
    if !read_records(store, run, &commands, &mut tallies, true, clock.now()).await {
        notices.push("the records cannot be read; this is what the runner heard itself".to_owned());
    }
    let about = About { run, target, expires_at, has_expired: clock.now() > expires_at };
    Ok(Status { about, tallies, strict, notices })
}

/// A run of another machine or login: only the records know of it.
async fn elsewhere<St: Store>(store: &St, run: RunId) -> anyhow::Result<Status> {
    let found = store.find(None, &[Field::member("vogeler")]).await?;
    let answers: Vec<(NodeName, Alias, Answer, Timestamp)> =
        found.iter().flat_map(|found| answers(found, run)).collect();
    ensure!(!answers.is_empty(), "no record knows of run {run}, and it was not begun here");
    let mut commands: Vec<Alias> = answers.iter().map(|(_, command, ..)| command.clone()).collect();
    commands.sort();
    commands.dedup();
    let begun = answers.iter().map(|(.., at)| *at).min().context("an answer")?;
    let mut tallies = Tallies::new(&commands, &Tally::new(&Expected::default(), true, begun));
    for (node, command, answer, at) in answers {
        tallies.read(&command, &node, answer, Some(at));
    }
    let target = "nodes that have answered".to_owned();
    let about = About { run, target, expires_at: begun, has_expired: false };
    let notice = "started elsewhere: whom it expected and who refused is not known, nor what a later run has replaced";
    Ok(Status { about, tallies, strict: false, notices: vec![notice.to_owned()] })
}

/// What a record says of a run, whatever its commands were.
fn answers(found: &Found, run: RunId) -> Vec<(NodeName, Alias, Answer, Timestamp)> {
    let of_run = |entry: &&Value| {
        let also = entry["also_runs"].as_array().is_some_and(|also| also.iter().any(|id| *id == run.to_string()));
        also || entry["run"] == run.to_string()
    };
    let entries = |of: &str| {
        let entries = found.record["vogeler"][of].as_object();
        entries.into_iter().flat_map(|entries| entries.values()).filter(of_run).collect::<Vec<_>>()
    };
    let read = |entry: &Value, answer: Answer| {
        let command = entry["command"].as_str()?.parse().ok()?;
        let at = serde_json::from_value(entry["received_at"].clone()).ok()?;
        Some((found.node.clone(), command, answer, at))
    };
    let stored = |entry: &Value| {
        if entry["changed_at"] == entry["received_at"] { Answer::Stored } else { Answer::Unchanged }
    };
    let failed = |entry: &Value| Answer::Failed(entry["message"].as_str().unwrap_or_default().to_owned());
    let good = entries("results").into_iter().filter_map(|entry| read(entry, stored(entry)));
    good.chain(entries("errors").into_iter().filter_map(|entry| read(entry, failed(entry)))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vogeler_protocol::Random;
    use vogeler_protocol::message::{Event, Notice, Version};
    use vogeler_store::Row;
    use vogeler_store::memory::MemoryStore;

    use super::*;
    use crate::history::History;
    use crate::report;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + 1000 * second)
    }

    fn run(second: i64) -> RunId {
        RunId::new(at(second), &Random::seeded(9))
    }

    /// A store in which `db01` has answered this run, and `db02` a later one.
    async fn store() -> MemoryStore {
        let store = MemoryStore::created();
        let rows: Vec<Row> = [("db01", run(0)), ("db02", run(60))]
            .into_iter()
            .map(|(id, run)| {
                let entry = json!({ "command": "rpms", "run": run, "format": "json", "received_at": at(5),
                    "changed_at": at(5), "bytes": 2, "digest": format!("sha256:{}", "0".repeat(64)) });
                let document = json!({ "_id": id, "vogeler": { "results": { "packages": entry } } });
                Row { id: id.parse().unwrap(), document: document.to_string().into_bytes() }
            })
            .collect();
        store.put(&rows).await.unwrap();
        store
    }

    fn begin(folder: &Path) {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let expected = Expected {
            on_line: names(&["web01", "web02"]),
            off_line: names(&["db01", "db02", "db03"]),
            ..Expected::default()
        };
        let asked = Asked {
            run: run(0),
            commands: vec!["rpms".parse().unwrap()],
            target: "all".into(),
            issued_at: at(0),
            expires_at: at(3600),
            issuer: "a@b".into(),
            open: false,
            strict: false,
            detached: false,
            expected,
        };
        let mut history = History::begin(folder, asked).unwrap();
        let event = Event {
            v: Version,
            run: run(0),
            command: "rpms".parse().unwrap(),
            node: "web01".parse().unwrap(),
            event: Notice::Refused,
            at: at(1),
            detail: Some("expired".into()),
        };
        history.note(&Entry::Event(event)).unwrap();
        history.note(&Entry::Left { at: at(90), exit_status: 130 }).unwrap();
    }

    #[tokio::test]
    async fn what_was_heard_and_what_came_since_is_told_together() {
        let folder = tempfile::tempdir().unwrap();
        begin(folder.path());
        let clock = Clock::new(|| at(100));
        let status = status(&store().await, Some(folder.path()), None, &clock).await.unwrap();
        let text = report::text(&status.about, &status.tallies);
        assert!(text.starts_with("rpms on all: 1 stored, 1 refused, 1 silent, 1 replaced, 1 off line\n"), "{text}");
        assert!(text.contains(&format!(
            "db02: not known: a later run of this alias has replaced what there was ({})",
            run(60)
        )));
        assert!(status.notices[1].starts_with("the runner listened until "), "{:?}", status.notices);
    }

    #[tokio::test]
    async fn of_a_run_that_was_started_elsewhere_the_records_tell() {
        let clock = Clock::new(|| at(100));
        let id = run(0).to_string();
        let status = status(&store().await, None, Some(&id), &clock).await.unwrap();
        let text = report::text(&status.about, &status.tallies);
        assert!(text.starts_with("rpms on nodes that have answered: 1 stored\n  db01: stored\n"), "{text}");
        assert!(status.notices[0].starts_with("started elsewhere: "), "{:?}", status.notices);
        let none = super::status(&store().await, None, Some(&run(7).to_string()), &clock).await.unwrap_err();
        assert!(none.to_string().starts_with("no record knows of run "), "{none}");
        assert!(super::status(&store().await, None, None, &clock).await.is_err());
    }

    #[test]
    fn a_part_of_an_id_is_enough() {
        let runs = [run(9), run(5)];
        assert_eq!(which(None, &runs).unwrap(), runs[0]);
        let end = runs[1].to_string();
        assert_eq!(which(Some(&end[end.len() - 6..]), &runs[1..]).unwrap(), runs[1]);
        assert!(which(Some("ffffffff"), &runs).unwrap_err().to_string().contains("no run that was begun here"));
        assert!(which(Some(&end[..4]), &runs).unwrap_err().to_string().contains("several runs"));
    }
}
