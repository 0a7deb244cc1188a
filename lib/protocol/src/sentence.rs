//! An error and what caused it, as one sentence a person can read.

use std::error::Error;
use std::fmt::Write as _;

/// `error` and its sources, outermost first, joined by colons.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").expect("a String takes all that is written");
        source = cause.source();
    }
    text
}
