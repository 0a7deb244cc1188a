//! What simulated plugins print: how much, and text that compresses as a package list does, not as padding does.

use std::fmt::Write as _;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use vogeler_protocol::{Alias, Data};

/// How many different bodies a kind has. Each result differs from all others by its number all the same.
const BODIES: usize = 64;

/// Most bytes of a result: what a client sends at most.
const MOST: usize = 4 << 20;

/// The aliases that nodes have, and how many bytes each brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// At least one.
    pub kinds: Vec<Kind>,
}

/// One alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// What is asked for; also the field of the record that it fills.
    pub alias: Alias,
    /// Bytes of its data.
    pub bytes: usize,
}

impl FromStr for Profile {
    type Err = anyhow::Error;

    /// Reads `facts=8k,packages=60k`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let kinds = text.split(',').map(|part| {
            let (alias, size) =
                part.split_once('=').with_context(|| format!("{part:?} is not written as ALIAS=SIZE"))?;
            Ok(Kind { alias: alias.trim().parse()?, bytes: size_of(size)? })
        });
        Ok(Self { kinds: kinds.collect::<anyhow::Result<_>>()? })
    }
}

/// Bytes, as 2000, 2k or 1m.
///
/// # Errors
/// Anything else; less than 64 bytes, or more than a client sends.
pub fn size_of(text: &str) -> anyhow::Result<usize> {
    let text = text.trim().to_ascii_lowercase();
    let (digits, unit) = match text.strip_suffix(['k', 'm']) {
        Some(digits) if text.ends_with('k') => (digits, 1000),
        Some(digits) => (digits, 1_000_000),
        None => (text.as_str(), 1),
    };
    let Ok(number) = digits.parse::<usize>() else { bail!("{text:?} is no size; write 2000, 2k or 1m") };
    let bytes = number.saturating_mul(unit);
    ensure!((64..=MOST).contains(&bytes), "{text:?}: a result has from 64 bytes to 4 MiB");
    Ok(bytes)
}

/// Data of one kind, ready to be printed.
#[derive(Debug, Clone)]
pub struct Bodies {
    members: Vec<String>,
}

impl Bodies {
    /// Bodies of so many bytes, the same for the same seed.
    pub fn new(bytes: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self { members: (0..BODIES).map(|_| members(bytes.saturating_sub(40), &mut rng)).collect() }
    }

    /// Data that no other number has.
    ///
    /// # Panics
    /// Never: it is JSON by construction.
    pub fn text(&self, number: u64) -> String {
        let members = &self.members[usize::try_from(number).unwrap_or_default() % self.members.len()];
        format!(r#"{{"number":"{number:020}"{members}}}"#)
    }

    /// The same as a client has it.
    ///
    /// # Panics
    /// Never: it is JSON by construction.
    pub fn data(&self, number: u64) -> Data {
        #[allow(clippy::expect_used, reason = "see there")]
        Data::parse(&self.text(number)).expect("an object of strings")
    }
}

/// Names and versions, as a list of packages has them.
fn members(bytes: usize, rng: &mut fastrand::Rng) -> String {
    const STEMS: [&str; 8] = ["lib", "python3-", "perl-", "linux-", "gir1.2-", "node-", "ruby-", "golang-"];
    let mut text = String::with_capacity(bytes + 64);
    let mut member = 0;
    while text.len() + 60 < bytes {
        let (stem, word) = (STEMS[rng.usize(0..STEMS.len())], rng.u64(..) & 0xfff_ffff);
        let (major, minor, patch, build) = (rng.u8(0..20), rng.u8(0..100), rng.u8(0..50), rng.u32(..));
        // Writing to a string cannot fail.
        let _ = write!(text, r#","{stem}{word:07x}{member}":"{major}.{minor}.{patch}-{build:08x}""#);
        member += 1;
    }
    let rest = bytes.saturating_sub(text.len());
    if rest > 8 {
        let _ = write!(text, r#","z":"{}""#, (0..rest - 7).map(|_| rng.alphanumeric()).collect::<String>());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_sizes_as_they_are_typed() {
        let profile: Profile = "facts=8k, packages=60000".parse().unwrap();
        let kinds: Vec<_> = profile.kinds.iter().map(|kind| (kind.alias.as_str(), kind.bytes)).collect();
        assert_eq!(kinds, [("facts", 8000), ("packages", 60_000)]);
        for wrong in ["", "facts", "facts=", "facts=8x", "facts=1", "facts=5m", "Bad Alias=2k"] {
            assert!(wrong.parse::<Profile>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bodies_have_the_size_that_was_asked_for_and_differ() {
        for bytes in [64, 200, 2000, 60_000] {
            let bodies = Bodies::new(bytes, 1);
            let (one, other) = (bodies.data(1), bodies.data(1 + BODIES as u64));
            assert_ne!(one.get(), other.get());
            let off = one.get().len().abs_diff(bytes);
            assert!(off <= 16, "{} instead of {bytes}", one.get().len());
        }
    }
}
