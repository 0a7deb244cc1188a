//! Which dead letters are meant.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};

use super::Listing;
use crate::letter::Letter;

/// The least that is taken as the beginning of an id.
const SHORTEST_PREFIX: usize = 4;

/// Which letters are meant; every condition that is given has to hold.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Ids, or their beginnings; fingerprints once they were looked up. Any letter if there is none.
    pub ids: Vec<String>,
    /// The node that they are of.
    pub node: Option<String>,
    /// Why they died.
    pub reason: Option<String>,
}

impl Listing {
    /// Keeps those that are meant.
    ///
    /// # Errors
    /// No letter, or several, have an id that begins so; or nothing is meant although something was asked for.
    pub fn keep(&mut self, choice: &Choice) -> anyhow::Result<()> {
        let choice = choice.looked_up(self)?;
        self.letters.retain(|letter| choice.means(letter));
        Ok(())
    }
}

impl Choice {
    /// The same with whole ids. Words that fit no letter are a mistake in typing rather than a wish.
    pub(super) fn looked_up(&self, listing: &Listing) -> anyhow::Result<Self> {
        let ids = self.ids.iter().map(|id| whole_id(id, listing)).collect::<anyhow::Result<_>>()?;
        let choice = Self { ids, ..self.clone() };
        let asked = choice.node.is_some() || choice.reason.is_some();
        if asked && listing.cut.is_none() && !listing.letters.iter().any(|letter| choice.means(letter)) {
            let reasons: BTreeSet<&str> = listing.letters.iter().map(|letter| letter.reason.as_str()).collect();
            let reasons = reasons.into_iter().collect::<Vec<_>>().join(", ");
            let there = if reasons.is_empty() { "there are none at all" } else { "the reasons here are" };
            let end = if reasons.is_empty() { String::new() } else { format!(" {reasons}") };
            bail!("no dead letter is like that; nothing was done; {there}{end}");
        }
        Ok(choice)
    }

    pub(super) fn means(&self, letter: &Letter) -> bool {
        (self.ids.is_empty() || self.ids.contains(&letter.fingerprint))
            && self.node.as_ref().is_none_or(|node| letter.node.as_ref() == Some(node))
            && self.reason.as_ref().is_none_or(|reason| letter.reason == *reason)
    }
}

/// The fingerprint of the letter whose id begins so.
pub(super) fn whole_id(beginning: &str, listing: &Listing) -> anyhow::Result<String> {
    let letters = &listing.letters;
    if let Some(letter) = letters.iter().find(|letter| letter.id == beginning) {
        return Ok(letter.fingerprint.clone());
    }
    ensure!(
        beginning.len() >= SHORTEST_PREFIX,
        "{beginning:?} is too short for the beginning of an id; give {SHORTEST_PREFIX} characters or more"
    );
    let mut begin_so = letters.iter().filter(|letter| letter.id.starts_with(beginning));
    match (begin_so.next(), begin_so.next()) {
        (Some(letter), None) => Ok(letter.fingerprint.clone()),
        (Some(_), Some(_)) => bail!("several dead letters have an id that begins with {beginning:?}; nothing was done"),
        (None, _) if listing.cut.is_some() => {
            bail!("none of the dead letters that can be read has the id {beginning:?}; nothing was done")
        }
        (None, _) => bail!("no dead letter has the id {beginning:?}; nothing was done"),
    }
}
