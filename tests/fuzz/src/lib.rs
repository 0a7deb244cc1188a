//! What the fuzz targets share: judges that have nothing in common with what they judge.
//!
//! A target is a file in `fuzz_targets/`; each says in its first lines what holds of every input.
//! Start at [`expect_storable`], which is what holds of all data, whatever it was read from. [`json`]
//! reads JSON a second time; [`arrivals`] makes results out of bytes; [`parts`] takes a record's
//! document to pieces without reading them.
//!
//! `make fuzz` runs all of them, `tests/fuzz/run.sh NAME` one. What a target has found becomes a test
//! of the crate it was found in, and its input a file in `corpus/`.

pub mod arrivals;
pub mod json;
pub mod parts;

use serde_json::Value;
use vogeler_protocol::data::MAX_DEPTH;
use vogeler_protocol::{Data, Digest};

/// Data above this size is let pass unjudged: reading it takes ten times its size, and a fuzzer that
/// has found out how aliases multiply would do nothing else.
pub const LARGE: usize = 64 << 10;

/// Panics unless `data` is what a database can hold, as serde_json and a second reader see it, and
/// unless its digest is that of the data and not of its spelling.
pub fn expect_storable(data: &Data) {
    let text = data.get();
    if text.len() > LARGE {
        return;
    }
    let Some(document) = json::read(text) else { panic!("was let through, and no database can hold it: {text}") };
    let again = Data::parse(text).expect("data is data");
    assert_eq!(again.get(), text, "data is kept as it was printed");
    match serde_json::from_str::<Value>(text) {
        Ok(_) => {}
        // serde_json gives up at the 128th level, where Vogeler still lets it through.
        Err(_) if document.depth == MAX_DEPTH => {}
        // It multiplies by powers of ten where the standard library rounds right, and so loses what
        // is within a rounding error of the largest double.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        // A key of its own, by which it hands itself a text that is to be read once more.
        Err(_) if text.contains("$serde_json::private::") => {}
        Err(error) => panic!("serde_json does not read {text}: {error}"),
    }
    let digest = Digest::of_data(data);
    let canonical = Digest::of_bytes(document.root.canonical().as_bytes());
    assert_eq!(
        digest.as_str().strip_prefix("sha256:"),
        canonical.as_str().strip_prefix("bytes:"),
        "the digest of {text} is that of its canonical form"
    );
    let respelt = document.root.respelt();
    let other = Data::parse(&respelt).unwrap_or_else(|error| panic!("{error}: only white space was added: {respelt}"));
    assert_eq!(Digest::of_data(&other), digest, "neither white space nor order counts: {text} is {respelt}");
}
