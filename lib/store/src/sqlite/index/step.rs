//! What mapping some documents again changes in an index, written at once.
//!
//! Start at [`Step::write`]. Each table is written in its own order, so that neighbours come one after the other: out of
//! order an index of some hundred megabytes is read and written many times over. Rows that stay as they are are not touched.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior, params};

use crate::sqlite::error::Trouble;
use crate::view::Placed;

/// An index on its way from one write to a later one.
pub(super) struct Step {
    pub(super) number: i64,
    pub(super) built: i64,
    pub(super) last: i64,
    /// The rows of each document, view by view.
    pub(super) mapped: BTreeMap<String, Vec<Vec<Placed>>>,
    /// The write that it cannot get past, and why.
    pub(super) spoilt: Option<(i64, String)>,
}

/// A row by what makes it another one: view, key, document and its place among those of the document.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Spot<'a> {
    view: i64,
    sort: Cow<'a, [u8]>,
    document: &'a str,
    place: i64,
}

/// What has to go, and what has to come.
struct Differences<'a> {
    gone: Vec<Spot<'a>>,
    come: Vec<(Spot<'a>, &'a Placed)>,
}

impl Step {
    /// Puts the rows of the documents in the place of what they had, unless another process was faster.
    pub(super) fn write(&self, database: &mut Connection, counted: &[bool]) -> Result<(), Trouble> {
        let Self { number, built, last, mapped: _, spoilt } = self;
        let (spoilt_by, words) = spoilt.as_ref().map(|(seq, words)| (*seq, words.as_str())).unzip();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let moved = transaction.execute(
            "UPDATE indexes SET seq = ?3, spoilt_by = ?4, spoilt = ?5 WHERE number = ?1 AND seq = ?2",
            params![number, built, last, spoilt_by, words],
        )?;
        if moved == 0 {
            return Ok(());
        }
        let Differences { mut gone, mut come } = self.differences(&transaction)?;
        {
            let mut removing = transaction.prepare_cached(
                "DELETE FROM spots WHERE number = ?1 AND document = ?2 AND view = ?3 AND sort = ?4 AND place = ?5",
            )?;
            for Spot { view, sort, document, place } in &gone {
                removing.execute(params![number, document, view, sort.as_ref(), place])?;
            }
            let mut adding = transaction.prepare_cached(
                "INSERT INTO spots (number, document, view, sort, place) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for (Spot { view, sort, document, place }, _) in &come {
                adding.execute(params![number, document, view, sort.as_ref(), place])?;
            }
            // A page of an index is written once, where neighbours come one after the other.
            gone.sort_unstable();
            come.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            let mut removing = transaction.prepare_cached(
                "DELETE FROM rows WHERE number = ?1 AND view = ?2 AND sort = ?3 AND document = ?4 AND place = ?5",
            )?;
            for Spot { view, sort, document, place } in &gone {
                removing.execute(params![number, view, sort.as_ref(), document, place])?;
            }
            let mut adding = transaction.prepare_cached(
                "INSERT INTO rows (number, view, sort, document, place, key, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for (Spot { view, sort, document, place }, row) in &come {
                adding.execute(params![number, view, sort.as_ref(), document, place, row.key, row.value])?;
            }
            let mut tallies: BTreeMap<(i64, &[u8]), i64> = BTreeMap::new();
            let signed = gone.iter().map(|spot| (spot, -1)).chain(come.iter().map(|(spot, _)| (spot, 1)));
            for (spot, sign) in signed.filter(|(spot, _)| usize::try_from(spot.view).is_ok_and(|view| counted[view])) {
                *tallies.entry((spot.view, spot.sort.as_ref())).or_default() += sign;
            }
            let mut counting = transaction.prepare_cached(
                "INSERT INTO tallies (number, view, sort, count) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET count = count + excluded.count",
            )?;
            let mut forgetting = transaction
                .prepare_cached("DELETE FROM tallies WHERE number = ?1 AND view = ?2 AND sort = ?3 AND count = 0")?;
            for ((view, sort), change) in tallies.into_iter().filter(|(_, change)| *change != 0) {
                counting.execute(params![number, view, sort, change])?;
                if change < 0 {
                    forgetting.execute(params![number, view, sort])?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// What is to be done, document by document; rows that stay as they are are left alone.
    fn differences(&self, database: &Connection) -> Result<Differences<'_>, Trouble> {
        let mut asked = database
            .prepare_cached(
                "SELECT view, sort, place, key, value FROM spots CROSS JOIN rows USING (number, view, sort, document, place)
                 WHERE spots.number = ?1 AND spots.document = ?2",
            )?;
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (document, views) in &self.mapped {
            let mut standing: BTreeMap<Spot<'_>, (String, String)> = BTreeMap::new();
            // An index of nothing yet has nothing to look for.
            if self.built > 0 {
                let mut rows = asked.query(params![self.number, document])?;
                while let Some(row) = rows.next()? {
                    let (view, sort, place) = (row.get(0)?, Cow::Owned(row.get(1)?), row.get(2)?);
                    standing.insert(Spot { view, sort, document, place }, (row.get(3)?, row.get(4)?));
                }
            }
            for (view, rows) in (0_i64..).zip(views) {
                for (place, row) in (0_i64..).zip(rows) {
                    let spot = Spot { view, sort: Cow::Borrowed(&row.sort), document, place };
                    match standing.get(&spot) {
                        Some((key, value)) if *key == row.key && *value == row.value => drop(standing.remove(&spot)),
                        Some(_) | None => come.push((spot, row)),
                    }
                }
            }
            gone.extend(standing.into_keys());
        }
        Ok(Differences { gone, come })
    }
}
