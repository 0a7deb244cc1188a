//! Questions about nodes and their records, beside the runs.
//!
//! Start at [`answer`]. Each question has a file of its own, with its flags; `records` reads what lists are made of.
//! Nothing here knows a terminal: the caller prints what it gets, and only [`on_terminal`] asks back. Nothing but
//! `retire` changes anything.

mod age;
mod aliases;
mod diff;
mod errors;
mod find;
#[cfg(test)]
mod fixture;
pub(crate) mod near;
mod nodes;
mod place;
mod presence;
mod records;
mod retire;
mod show;
mod times;
mod view;

use clap_complete::engine::ArgValueCompleter;
use vogeler_messaging::Broker;
use vogeler_protocol::NodeName;
use vogeler_protocol::names::NameError;
use vogeler_store::Store;

pub use self::age::Age;
pub use self::aliases::Aliases;
pub use self::diff::Diff;
pub use self::errors::Errors;
pub use self::find::{Columns, Find};
pub use self::nodes::{By, Nodes};
pub use self::records::retired_at;
pub(crate) use self::records::unknown;
pub use self::retire::{Retire, on_terminal};
pub use self::show::Show;
pub use self::view::{View, ViewName};

use self::times::Times;
use crate::complete;
use crate::output::{Answer, Format, Rows};
use crate::run::Parts;

/// What an operator can ask.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Ask {
    /// List the nodes: on line or not, groups, client, age of the data, errors
    ///
    /// A node is on line while its client takes commands from its queue. One that has told nothing for 14 days is not
    /// asked and counts as off line; with `no queue`, commands do not wait for it either, until its client is back.
    /// Exit status 4 if TARGET names a node without a record, or means none at all.
    Nodes(Nodes),

    /// Show the record of a node, or a part of it
    ///
    /// As a table it is YAML, and a text is printed as it is. Exit status 4 if there is no such record or no such part.
    Show(Show),

    /// Find nodes by what has been collected from them
    ///
    /// One row for each node whose record meets the expression. Exit status 0, also where there is none.
    Find(Find),

    /// Ask a view of a design document
    ///
    /// `vogeler-server load` brings design documents to the database; `setup` brings those that come along.
    View(View),

    /// List what failed and has not succeeded since, node by node
    ///
    /// A failure stands beside the last good data of its key until the next success. What the plugin wrote to standard
    /// error is there too: `show NODE vogeler.errors`. Exit status as with `nodes`.
    Errors(Errors),

    /// List the command aliases that clients know, and how many know each
    ///
    /// As each client said when it started or read its plugins anew. Exit status as with `nodes`.
    Aliases(Aliases),

    /// Compare the records of two nodes
    ///
    /// One row for each value that differs or that only one has. Exit status 0 if there is none, 2 if there are some
    /// (1 is for usage and connection), 4 if there is no such record, or PATH leads to nothing in either.
    Diff(Diff),

    /// Show how old the data are, key by key
    ///
    /// By the time at which each node collected them. The last columns count the nodes, each of them once. Exit status
    /// as with `nodes`.
    Age(Age),

    /// Take nodes out of service: their records are marked, their queues removed
    ///
    /// Stop the client first. The record keeps its data, and the commands that wait are gone. Lists leave the node out;
    /// --retired shows it. If its client comes back it makes the queue anew, and whatever it tells then, its start
    /// included, makes the record live again. Exit status 0 if all were retired, 2 if some were not, 4 if there is no
    /// such record.
    Retire(Retire),
}

impl Ask {
    /// In which form the answer is wanted.
    pub fn format(&self) -> Format {
        let shape = match self {
            Self::Nodes(asked) => &asked.shape,
            Self::Show(asked) => &asked.shape,
            Self::Find(asked) => &asked.shape,
            Self::View(asked) => &asked.shape,
            Self::Errors(asked) => &asked.shape,
            Self::Aliases(asked) => &asked.shape,
            Self::Diff(asked) => &asked.shape,
            Self::Age(asked) => &asked.shape,
            Self::Retire(asked) => &asked.shape,
        };
        shape.output
    }
}

/// In which form an answer is wanted.
#[derive(Debug, Clone, clap::Args)]
pub struct Shape {
    /// How to print the answer
    ///
    /// Only `table` has ages in the place of times. Standard output gets nothing but the answer; notices go to standard
    /// error.
    #[arg(short = 'o', long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

/// Which nodes a list is of.
#[derive(Debug, Clone, clap::Args)]
pub struct Whom {
    /// Which nodes: all, names, group:NAME, patterns, @FILE, -, and !WORD to leave out
    ///
    /// As after `-n`. The records decide who is in a group; a node that has none is not in the list.
    #[arg(value_name = "TARGET", default_value = "all", add = ArgValueCompleter::new(complete::targets))]
    pub target: Vec<String>,

    /// Show retired nodes, too
    ///
    /// One that TARGET names is shown in any case.
    #[arg(long)]
    pub retired: bool,
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Operator<'a> {
    /// `user@host`, as it is noted in a record.
    pub name: &'a str,
    /// Asks whether to go on; none where nobody is there to be asked.
    pub confirm: &'a dyn Fn(&str) -> Option<bool>,
}

/// What a question came to.
#[derive(Debug, Default)]
pub struct Reply {
    /// For standard output; none where there is nothing to print.
    pub answer: Option<Answer>,
    /// Sentences for standard error.
    pub notices: Vec<String>,
    /// The exit status.
    pub status: u8,
}

impl From<Rows> for Reply {
    fn from(rows: Rows) -> Self {
        Self { answer: Some(rows.into()), ..Self::default() }
    }
}

/// Answers a question.
///
/// # Errors
/// A target that cannot be read, a database that cannot be read, or a broker that is away where it has to be asked.
pub async fn answer<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    ask: &Ask,
    operator: Operator<'_>,
) -> anyhow::Result<Reply> {
    let times = Times::new(parts.clock.now(), ask.format());
    match ask {
        Ask::Nodes(asked) => nodes::answer(parts, asked, times).await,
        Ask::Show(asked) => show::answer(&parts.store, asked, times).await,
        Ask::Find(asked) => find::answer(&parts.store, asked).await,
        Ask::View(asked) => view::answer(&parts.store, asked).await,
        Ask::Errors(asked) => errors::answer(&parts.store, asked, times).await,
        Ask::Aliases(asked) => aliases::answer(&parts.store, asked).await,
        Ask::Diff(asked) => diff::answer(&parts.store, asked).await,
        Ask::Age(asked) => age::answer(&parts.store, asked, times).await,
        Ask::Retire(asked) => retire::answer(parts, asked, operator, times.now()).await,
    }
}

/// Reads the name of a node as a target does, in lower case.
fn node_name(text: &str) -> Result<NodeName, NameError> {
    text.to_lowercase().parse()
}

#[cfg(test)]
mod tests {
    use super::fixture::parse;
    use super::*;

    #[test]
    fn every_question_has_a_form() {
        for words in [
            &["nodes"][..],
            &["show", "web01"],
            &["find", "exists packages"],
            &["view", "packages/by_name"],
            &["errors"],
            &["aliases"],
            &["diff", "web01", "web02"],
            &["age"],
            &["retire", "web01"],
        ] {
            assert_eq!(parse(words).unwrap().format(), Format::Table, "{words:?}");
            let words: Vec<&str> = words.iter().copied().chain(["-o", "csv"]).collect();
            assert_eq!(parse(&words).unwrap().format(), Format::Csv, "{words:?}");
        }
    }

    #[test]
    fn what_is_no_question() {
        for (words, sentence) in [
            (&["nodes", "--stale", "soon"][..], "is no duration"),
            (&["nodes", "--where", "a = 1"], "there is no = here"),
            (&["nodes", "--online", "--offline"], "cannot be used with"),
            (&["show", "web/01"], "may hold a-z"),
            (&["show", "web01", "a..b"], "a..b"),
            (&["show"], "required"),
            (&["find", "packages"], "packages"),
            (&["find", "exists a", "--columns", "a,,b"], "a,,b"),
            (&["view", "packages"], "say DDOC/VIEW, as packages/by_name"),
            (&["view", "a/b", "--key", "[1"], "it begins as JSON, but is none"),
            (&["view", "a/b", "--key", "1", "--start", "1"], "cannot be used with"),
            (&["view", "a/b", "--reduce", "--no-reduce"], "cannot be used with"),
            (&["errors", "--kind", "late"], "possible values: exit, signal"),
            (&["retire"], "required"),
        ] {
            let error = parse(words).unwrap_err().to_string();
            assert!(error.contains(sentence), "{words:?}: {error}");
        }
    }

    #[test]
    fn names_are_read_in_lower_case() {
        let Ask::Show(show) = parse(&["show", "WEB01.example.com"]).unwrap() else { panic!("it is show") };
        assert_eq!(show.node.as_str(), "web01.example.com");
    }
}
