//! From the rows of an index to the answer of a view.
//!
//! Start at [`Plan`]: it refuses a question in CouchDB's words, says which part of an index is to be read and in which
//! direction, and makes the answer of the rows. It reads them one by one and no further than it has to.

use serde_json::Value;

use super::collate::{group_length, sort_key};
use super::reduce::{Group, NoReduction, Reducer};
use crate::{ViewQuery, ViewRow};

/// A row of a view's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// The key's place among all keys.
    pub sort: Vec<u8>,
    /// The document that emitted it.
    pub id: String,
    /// The key as JSON.
    pub key: String,
    /// The value as JSON.
    pub value: String,
}

impl IndexRow {
    /// Whether one document emitted both under one key. CouchDB keeps such rows together as one, and never turns their
    /// order round.
    pub(super) fn is_twin_of(&self, other: &Self) -> bool {
        self.id == other.id && self.key == other.key
    }
}

/// The part of an index to be read: keys from `low` to `high`, both included; none is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// The least sort key.
    pub low: Option<Vec<u8>>,
    /// The greatest sort key.
    pub high: Option<Vec<u8>>,
}

impl Range {
    /// Whether a sort key is in it.
    pub fn contains(&self, sort: &[u8]) -> bool {
        self.low.as_deref().is_none_or(|low| low <= sort) && self.high.as_deref().is_none_or(|high| sort <= high)
    }
}

/// A question that CouchDB refuses with status 400 and `query_parse_error`, in its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing to reduce with.
    #[error("Reduce is invalid for map-only views.")]
    NoReduce,
    /// Only what is reduced has groups.
    #[error("Invalid use of grouping on a map view.")]
    NoGroups,
    /// Start and end are the wrong way round.
    #[error("No rows can match your key range, reverse your start_key and end_key or set descending={descending}")]
    NoRange {
        /// What it would have to be.
        descending: bool,
    },
}

impl Refusal {
    /// The HTTP status of all of them.
    pub const STATUS: u16 = 400;
}

/// Why rows make no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer<E> {
    /// The index could not be read.
    #[error(transparent)]
    Index(E),
    /// What the index holds is no JSON.
    #[error("the index is damaged: {0}")]
    Damaged(#[source] serde_json::Error),
    /// The reduce has no result. CouchDB answers 500, and goes on doing so until the design document is changed.
    #[error(transparent)]
    Reduce(#[from] NoReduction),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouping {
    None,
    Exact,
    Level(u32),
}

/// How a question is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    range: Range,
    descending: bool,
    /// None where rows are wanted as they are.
    grouping: Option<Grouping>,
    limit: usize,
}

impl Plan {
    /// How to answer a question to a view with a reduce or without.
    ///
    /// # Errors
    /// The question makes no sense.
    pub fn new(query: &ViewQuery, has_reduce: bool) -> Result<Self, Refusal> {
        let ViewQuery { key, startkey, endkey, reduce, group, group_level, descending, limit } = query;
        let grouping = match (*group, *group_level) {
            (_, Some(0)) | (false, None) => Grouping::None,
            (true, None) => Grouping::Exact,
            (_, Some(level)) => Grouping::Level(level),
        };
        if !has_reduce && *reduce == Some(true) {
            return Err(Refusal::NoReduce);
        }
        let reduced = has_reduce && *reduce != Some(false);
        if !reduced && grouping != Grouping::None {
            return Err(Refusal::NoGroups);
        }
        // CouchDB reads them in the order of the address, where this crate puts the key first.
        let start = startkey.as_ref().or(key.as_ref()).map(sort_key);
        let end = endkey.as_ref().or(key.as_ref()).map(sort_key);
        let (low, high) = if *descending { (end, start) } else { (start, end) };
        if let (Some(low), Some(high)) = (&low, &high)
            && low > high
        {
            return Err(Refusal::NoRange { descending: !descending });
        }
        Ok(Self {
            range: Range { low, high },
            descending: *descending,
            grouping: reduced.then_some(grouping),
            limit: limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        })
    }

    /// The part of the index that is to be read.
    pub fn range(&self) -> &Range {
        &self.range
    }

    /// Whether it is to be read from the end: keys, ids and the rows of one document, all the other way round.
    pub fn descending(&self) -> bool {
        self.descending
    }

    /// Whether the rows are reduced.
    pub fn is_reduced(&self) -> bool {
        self.grouping.is_some()
    }

    /// The answer, of the rows of [`Plan::range`], ordered by sort key, id and the order that
    /// [`arranged`](super::engine::arranged) gave them, all of it backwards where [`Plan::descending`] says so.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn answer<E>(
        &self,
        reducer: Option<&mut Reducer>,
        rows: impl IntoIterator<Item = Result<IndexRow, E>>,
    ) -> Result<Vec<ViewRow>, NoAnswer<E>> {
        if self.limit == 0 {
            return Ok(Vec::new());
        }
        let runs = Runs { rows: rows.into_iter(), next: None, descending: self.descending };
        match (self.grouping, reducer) {
            (Some(grouping), Some(reducer)) => self.groups(grouping, reducer, runs),
            (None, _) | (Some(_), None) => self.plain(runs),
        }
    }

    /// The answer of a view that counts its rows, of how many there are of each key: sort keys of [`Plan::range`] in the
    /// direction of the answer. `key` gives the key, as JSON, of the first row of a sort key.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn count<E>(
        &self,
        tallies: impl IntoIterator<Item = Result<(Vec<u8>, u64), E>>,
        mut key: impl FnMut(&[u8]) -> Result<String, E>,
    ) -> Result<Vec<ViewRow>, NoAnswer<E>> {
        let grouping = self.grouping.unwrap_or(Grouping::None);
        let mut answer: Vec<ViewRow> = Vec::new();
        let mut open: Option<(Vec<u8>, u64)> = None;
        let mut tallies = tallies.into_iter();
        while answer.len() < self.limit {
            let next = tallies.next().transpose().map_err(NoAnswer::Index)?;
            let has_ended = |(first, _): &mut (Vec<u8>, u64)| {
                next.as_ref().is_none_or(|(sort, _)| grouping.mark(first) != grouping.mark(sort))
            };
            if let Some((first, count)) = open.take_if(has_ended) {
                let key = grouping.key(&key(&first).map_err(NoAnswer::Index)?)?;
                answer.push(ViewRow { id: None, key, value: count.into() });
            }
            let Some((sort, count)) = next else { break };
            let (_, total) = open.get_or_insert((sort, 0));
            *total += count;
        }
        Ok(answer)
    }

    fn plain<E>(&self, runs: impl Iterator<Item = Result<Vec<IndexRow>, E>>) -> Result<Vec<ViewRow>, NoAnswer<E>> {
        let mut answer = Vec::new();
        for run in runs {
            for row in run.map_err(NoAnswer::Index)? {
                answer.push(ViewRow { id: Some(row.id), key: json(&row.key)?, value: json(&row.value)? });
                if answer.len() >= self.limit {
                    return Ok(answer);
                }
            }
        }
        Ok(answer)
    }

    fn groups<E>(
        &self,
        grouping: Grouping,
        reducer: &mut Reducer,
        runs: impl Iterator<Item = Result<Vec<IndexRow>, E>>,
    ) -> Result<Vec<ViewRow>, NoAnswer<E>> {
        let mut answer = Vec::new();
        let mut open: Option<(Vec<u8>, Value, Group)> = None;
        for run in runs {
            for row in run.map_err(NoAnswer::Index)? {
                let mark = grouping.mark(&row.sort);
                if let Some((_, key, group)) = open.take_if(|(of, ..)| of.as_slice() != mark) {
                    answer.push(ViewRow { id: None, key, value: group.finish(reducer)? });
                    if answer.len() >= self.limit {
                        return Ok(answer);
                    }
                }
                if open.is_none() {
                    open = Some((mark.to_vec(), grouping.key(&row.key)?, Group::default()));
                }
                if let Some((_, _, group)) = &mut open {
                    group.add(reducer, row)?;
                }
            }
        }
        if let Some((_, key, group)) = open {
            answer.push(ViewRow { id: None, key, value: group.finish(reducer)? });
        }
        Ok(answer)
    }
}

impl Grouping {
    /// What the rows of a group have in common.
    fn mark(self, sort: &[u8]) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Exact => sort,
            Self::Level(level) => &sort[..group_length(sort, level)],
        }
    }

    /// The key of a group, of which CouchDB shows the first.
    fn key<E>(self, key: &str) -> Result<Value, NoAnswer<E>> {
        match (self, json(key)?) {
            (Self::None, _) => Ok(Value::Null),
            (Self::Level(level), Value::Array(mut elements)) => {
                elements.truncate(usize::try_from(level).unwrap_or(usize::MAX));
                Ok(Value::Array(elements))
            }
            (Self::Exact | Self::Level(_), key) => Ok(key),
        }
    }
}

fn json<E>(text: &str) -> Result<Value, NoAnswer<E>> {
    serde_json::from_str(text).map_err(NoAnswer::Damaged)
}

/// Rows by runs of twins, each in the order of the index.
struct Runs<I> {
    rows: I,
    next: Option<IndexRow>,
    descending: bool,
}

impl<E, I: Iterator<Item = Result<IndexRow, E>>> Iterator for Runs<I> {
    type Item = Result<Vec<IndexRow>, E>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.next.take() {
            Some(row) => row,
            None => match self.rows.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            },
        };
        let mut run = vec![first];
        for row in self.rows.by_ref() {
            match row {
                Ok(row) if run[0].is_twin_of(&row) => run.push(row),
                Ok(row) => {
                    self.next = Some(row);
                    break;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        if self.descending {
            run.reverse();
        }
        Some(Ok(run))
    }
}

#[cfg(test)]
mod tests;
