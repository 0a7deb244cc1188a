//! How much a fault story does, and the table at the end of `make torture`.
//!
//! The stories are the same in `make test` and in `make torture`; only their volumes differ.

use std::env;
use std::fs::File;
use std::io::Write as _;

use crate::Account;

/// Set by `make torture`: the file that its table is made from.
const TABLE: &str = "VOGELER_TORTURE_TABLE";

/// The volume of a story: `full` under `make torture`, `quick` otherwise.
pub fn volume(quick: usize, full: usize) -> usize {
    if env::var_os(TABLE).is_some() { full } else { quick }
}

/// Adds a line to the table of `make torture`; without one, says it to whoever runs the test.
///
/// # Panics
/// The table cannot be written.
#[allow(clippy::print_stdout, reason = "what a test has found")]
pub fn report(fault: &str, times: usize, account: &Account) {
    let Account { sent, stored, dead, missing } = account;
    let line = format!("{fault}\t{times}\t{sent}\t{stored}\t{dead}\t{}\n", missing.len());
    match env::var_os(TABLE) {
        // One write a line: stories run side by side.
        Some(table) => {
            let file = File::options().create(true).append(true).open(table);
            file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the table of the torture");
        }
        None => println!("{}", line.trim_end()),
    }
}
