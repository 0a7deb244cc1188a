//! How much a fault story does, and the table at the end of `make torture`.
//!
//! The stories are the same in `make test` and in `make torture`; only their volumes differ.

use std::env;
use std::fs::File;
use std::io::Write as _;

use vogeler_protocol::Random;

use crate::Account;

/// Set by `make torture`: the file that its table is made from.
const TABLE: &str = "VOGELER_TORTURE_TABLE";

/// The volume of a story: `full` under `make torture`, `quick` otherwise.
pub fn volume(quick: usize, full: usize) -> usize {
    if env::var_os(TABLE).is_some() { full } else { quick }
}

/// Randomness that says its seed, which is shown where the test fails; `VOGELER_TEST_SEED` draws the same again.
///
/// # Panics
/// `VOGELER_TEST_SEED` is no number.
#[allow(clippy::print_stderr, reason = "a failure may come up anywhere, and shows this beside")]
pub fn seeded() -> Random {
    let given = env::var("VOGELER_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse::<u64>().expect("VOGELER_TEST_SEED is a number"));
    let seed = given.unwrap_or_else(|| Random::from_system().uuid().as_u64_pair().1);
    eprintln!("what chance decides in this test: VOGELER_TEST_SEED={seed}");
    Random::seeded(seed)
}

/// Adds a line to the table of `make torture`; without one, says it to whoever runs the test.
///
/// # Panics
/// The table cannot be written.
#[allow(clippy::print_stdout, reason = "what a test has found")]
pub fn report(fault: &str, times: usize, account: &Account) {
    let Account { sent, stored, dead, missing, both: _ } = account;
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
