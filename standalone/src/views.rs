//! Design documents: those that come along, and those of an author, who is told what is wrong with them.

use std::path::Path;

use vogeler_process::Grade;
use vogeler_runner::output;
use vogeler_server::{rehearse, setup};
use vogeler_store::sqlite::Sqlite;
use vogeler_store::{Synced, design_docs};

/// Loads the design documents that come along.
///
/// # Errors
/// The database does not take them.
pub async fn load_ours(store: &Sqlite, folder: &Path) -> anyhow::Result<()> {
    setup::sync(store, &design_docs::read_all(folder)?, |_, _| {}).await
}

/// Loads an author's design documents. What a rehearsal finds is told, and stops nothing: it is of samples.
///
/// # Errors
/// A function that is none, or what the database does not take.
pub async fn load_theirs(store: &Sqlite, folder: &Path) -> anyhow::Result<()> {
    let docs = design_docs::read_all(folder)?;
    for finding in rehearse::rehearse(folder, None)? {
        match finding.grade {
            Grade::Bad | Grade::Warning => output::notice(&finding.text),
            Grade::Good | Grade::Hint => {}
        }
    }
    setup::sync(store, &docs, |synced, line| match synced {
        Synced::Created | Synced::Updated => output::notice(&line),
        Synced::Unchanged => {}
    })
    .await
}
