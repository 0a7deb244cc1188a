//! What a shell is told while somebody types: nodes, groups and aliases from the records, runs from the notes.
//!
//! Start at [`targets`]. A shell asks by running this program with COMPLETE in its environment, once for each TAB. So what
//! takes long or fails gives no candidates, and says nothing.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter as _};
use serde_json::Value;
use vogeler_store::{Database, Store, ViewQuery};

use crate::cli::{Cli, Flags};
use crate::history;

/// A person waits for it, at a prompt that does nothing else meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// The design document that comes along; its views are small and kept by the database.
const RECORDS: &str = "system_records";

/// For `-n` and its like: `all`, nodes, groups and files, also as the last word of a list, after a `!` or not.
pub fn targets(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let (before, word) = split(current);
    if let Some(path) = word.strip_prefix('@') {
        let prefix = format!("{before}@");
        let files = PathCompleter::any().complete(OsStr::new(path));
        return files.into_iter().map(|file| file.add_prefix(prefix.clone())).collect();
    }
    let (nodes, groups) = from_store(async |store| tokio::join!(nodes_of(&store), counted(&store, "by_group")));
    let nodes = nodes.into_iter().map(|node| (node, None));
    let groups = groups.into_iter().map(|(group, nodes)| (format!("group:{group}"), nodes));
    candidates(before, word, nodes.chain(groups).chain([("all".to_owned(), None)]))
}

/// Nodes, by their whole names.
pub fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    let known = from_store(async |store| nodes_of(&store).await);
    candidates("", &current.to_string_lossy(), known.into_iter().map(|node| (node, None)))
}

/// Aliases that some client knows.
pub fn aliases(current: &OsStr) -> Vec<CompletionCandidate> {
    let known = from_store(async |store| counted(&store, "by_alias").await);
    let known = known.into_iter().filter(|(alias, _)| alias != "ping").chain([("ping".to_owned(), None)]);
    candidates("", &current.to_string_lossy(), known)
}

/// Runs that were begun here, the newest first.
pub fn runs(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(runs) = history::folder().and_then(|folder| history::runs(&folder).ok()) else { return Vec::new() };
    let current = current.to_string_lossy();
    let runs = runs.into_iter().map(|run| run.to_string()).filter(|run| run.starts_with(current.as_ref()));
    runs.enumerate().map(|(place, run)| CompletionCandidate::new(run).display_order(Some(place))).collect()
}

/// What stands before the last word of a list, with its `!`, and the word.
fn split(current: &str) -> (&str, &str) {
    let start = current.rfind(',').map_or(0, |comma| comma + 1);
    let start = start + usize::from(current[start..].starts_with('!'));
    current.split_at(start)
}

fn candidates(
    before: &str,
    word: &str,
    known: impl Iterator<Item = (String, Option<u64>)>,
) -> Vec<CompletionCandidate> {
    let fitting = known.filter(|(name, _)| name.starts_with(word));
    let candidate = |(name, nodes): (String, Option<u64>)| {
        let help = nodes.map(|nodes| format!("{nodes} node{}", if nodes == 1 { "" } else { "s" }).into());
        CompletionCandidate::new(format!("{before}{name}")).help(help)
    };
    fitting.map(candidate).collect()
}

/// What a question to the database comes to; nothing where there is no answer in time.
fn from_store<T: Default, F: Future<Output = T>>(question: impl FnOnce(Database) -> F) -> T {
    let Some(store) = store() else { return T::default() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return T::default() };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, Box::pin(question(store))).await }).unwrap_or_default()
}

/// The database of the configuration and of the flags that stand on the line so far.
fn store() -> Option<Database> {
    // The words come after `--`, the name of the program first; the line is not whole, and need not be right yet.
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    Flags::from_arg_matches(&matches).ok()?.load([]).ok()?.store.open().ok()
}

async fn nodes_of(store: &impl Store) -> Vec<String> {
    let nodes = store.nodes().await.unwrap_or_default();
    nodes.into_iter().map(|known| known.node.to_string()).collect()
}

/// The keys of a view that counts nodes, and how many each has.
async fn counted(store: &impl Store, view: &str) -> Vec<(String, Option<u64>)> {
    let query = ViewQuery { group: true, ..ViewQuery::default() };
    let rows = store.view(RECORDS, view, &query).await.unwrap_or_default();
    let counted = |row: vogeler_store::ViewRow| match row.key {
        Value::String(key) => Some((key, row.value.as_u64())),
        _ => None,
    };
    rows.into_iter().filter_map(counted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_list_is_completed() {
        for (current, parts) in [
            ("", ("", "")),
            ("we", ("", "we")),
            ("!we", ("!", "we")),
            ("group:db,we", ("group:db,", "we")),
            ("web*,!we", ("web*,!", "we")),
            ("web01,", ("web01,", "")),
        ] {
            assert_eq!(split(current), parts, "{current}");
        }
    }

    #[test]
    fn candidates_keep_what_stands_before() {
        let known = [("web01".to_owned(), None), ("db01".to_owned(), None), ("group:web".to_owned(), Some(2))];
        let found = candidates("db01,!", "w", known.clone().into_iter());
        let values: Vec<_> = found.iter().map(CompletionCandidate::get_value).collect();
        assert_eq!(values, ["db01,!web01"]);
        let found = candidates("", "g", known.into_iter());
        assert_eq!(found[0].get_help().map(ToString::to_string).as_deref(), Some("2 nodes"));
    }
}
