//! Whom an operator means: what stands after `-n`, and how it becomes nodes.
//!
//! Start at [`Wanted`]. One word that every client can decide for itself (all, a group, a pattern) goes out as it is;
//! anything that is put together, left out or asked of the records is decided here, by the records, and goes out to
//! each node by name.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use vogeler_protocol::{Glob, Group, NodeName, Target};

/// One word of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Every node.
    All,
    /// One, by name.
    Node(NodeName),
    /// The members of a group.
    Group(Group),
    /// Those whose name matches.
    Glob(Glob),
}

impl FromStr for Word {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text.parse::<Target>()? {
            Target::All => Self::All,
            Target::Group(group) => Self::Group(group),
            Target::Glob(glob) => Self::Glob(glob),
            Target::Nodes(nodes) => match <[NodeName; 1]>::try_from(nodes) {
                Ok([node]) => Self::Node(node),
                Err(nodes) => bail!("these are {} names, and one is wanted here", nodes.len()),
            },
        })
    }
}

impl Word {
    /// Whether it means that node.
    pub fn means(&self, node: &NodeName, is_member: impl Fn(&Group, &NodeName) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Node(name) => name == node,
            Self::Group(group) => is_member(group, node),
            Self::Glob(glob) => glob.matches(node.as_str()),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Node(node) => write!(f, "{node}"),
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Glob(glob) => f.write_str(glob.as_str()),
        }
    }
}

/// What was typed, in lists: `web01,group:db,'app*',!app07,@file,-`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    text: String,
    include: Vec<Word>,
    exclude: Vec<Word>,
}

impl Wanted {
    /// These nodes, told as `text`.
    pub fn these(text: String, nodes: impl IntoIterator<Item = NodeName>) -> Self {
        Self { text, include: nodes.into_iter().map(Word::Node).collect(), exclude: Vec::new() }
    }

    /// Reads lists, and the files that they name.
    ///
    /// # Errors
    /// A word that is no target, or a file that cannot be read.
    pub fn read(lists: &[String]) -> anyhow::Result<Self> {
        Self::read_with(lists, |name| match name {
            "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("cannot read node names from standard input")?;
                Ok(text)
            }
            path => std::fs::read_to_string(path).with_context(|| format!("cannot read node names from {path}")),
        })
    }

    fn read_with(lists: &[String], mut open: impl FnMut(&str) -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let mut wanted = Self { text: lists.join(","), ..Self::default() };
        for word in lists.iter().flat_map(|list| split(list)) {
            let (negated, word) = match word.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, word),
            };
            ensure!(!word.is_empty(), "{:?} names nothing between two commas, or after a '!'", wanted.text);
            let file = if word == "-" { Some("-") } else { word.strip_prefix('@') };
            let words = match file {
                None => vec![word.parse().with_context(|| format!("{word:?} is no target"))?],
                Some(name) => in_file(name, &open(name)?)?,
            };
            if negated { wanted.exclude.extend(words) } else { wanted.include.extend(words) }
        }
        if wanted.include.is_empty() && !wanted.exclude.is_empty() {
            wanted.include.push(Word::All);
        }
        Ok(wanted)
    }

    /// Every node.
    pub fn all() -> Self {
        Self { text: "all".to_owned(), include: vec![Word::All], exclude: Vec::new() }
    }

    /// Whether nobody is meant, as by an empty file.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty()
    }

    /// The words that ask.
    pub fn included(&self) -> impl Iterator<Item = &Word> {
        self.include.iter()
    }

    /// The words that leave out.
    pub fn excluded(&self) -> impl Iterator<Item = &Word> {
        self.exclude.iter()
    }

    /// The target that clients can decide for themselves, or the names; none where records have to decide.
    pub fn as_target(&self) -> Option<Target> {
        if let ([one], []) = (&*self.include, &*self.exclude) {
            return Some(match one {
                Word::All => Target::All,
                Word::Node(node) => Target::Nodes(vec![node.clone()]),
                Word::Group(group) => Target::Group(group.clone()),
                Word::Glob(glob) => Target::Glob(glob.clone()),
            });
        }
        let mut names = BTreeSet::new();
        for word in &self.include {
            let Word::Node(node) = word else { return None };
            names.insert(node.clone());
        }
        for word in &self.exclude {
            match word {
                Word::All => names.clear(),
                Word::Node(node) => _ = names.remove(node),
                Word::Glob(glob) => names.retain(|node| !glob.matches(node.as_str())),
                Word::Group(_) => return None,
            }
        }
        Some(Target::Nodes(names.into_iter().collect()))
    }

    /// The groups that are named, whose members have to be known before [`Wanted::includes`] is asked.
    pub fn groups(&self) -> BTreeSet<&Group> {
        let mut groups = BTreeSet::new();
        for word in self.include.iter().chain(&self.exclude) {
            match word {
                Word::Group(group) => _ = groups.insert(group),
                Word::All | Word::Node(_) | Word::Glob(_) => {}
            }
        }
        groups
    }

    /// The nodes that are named themselves and not left out; they are asked for though nobody knows them.
    pub fn named(&self, is_member: impl Fn(&Group, &NodeName) -> bool) -> BTreeSet<NodeName> {
        let name = |word: &Word| match word {
            Word::Node(node) => Some(node.clone()),
            Word::All | Word::Group(_) | Word::Glob(_) => None,
        };
        let named = self.include.iter().filter_map(name);
        named.filter(|node| !means(&self.exclude, node, &is_member)).collect()
    }

    /// Whether a node that is known is meant.
    pub fn includes(&self, node: &NodeName, is_member: impl Fn(&Group, &NodeName) -> bool) -> bool {
        means(&self.include, node, &is_member) && !means(&self.exclude, node, &is_member)
    }
}

fn means(words: &[Word], node: &NodeName, is_member: impl Fn(&Group, &NodeName) -> bool) -> bool {
    words.iter().any(|word| word.means(node, &is_member))
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The words of a list. A comma within `[…]` is part of a pattern.
fn split(list: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut from, mut inside) = (0, false);
    for (place, c) in list.char_indices() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            ',' if !inside => {
                words.push(list[from..place].trim());
                from = place + 1;
            }
            _ => {}
        }
    }
    words.push(list[from..].trim());
    words
}

/// One word a line; what follows on a line is not looked at, so that the first column of a table or of CSV will do. The
/// head of that column is no node.
fn in_file(name: &str, text: &str) -> anyhow::Result<Vec<Word>> {
    let lines = text.lines().enumerate().filter_map(|(number, line)| {
        let cell = split(line.trim_start())[0];
        let word = cell.split_whitespace().next().filter(|word| !word.starts_with('#'))?;
        let is_head = number == 0
            && ["node", "id"].iter().any(|head| word.eq_ignore_ascii_case(head))
            && word.len() < line.trim().len();
        (!is_head).then_some((number + 1, word))
    });
    lines
        .map(|(number, word)| {
            let name = if name == "-" { "standard input" } else { name };
            word.parse().with_context(|| format!("line {number} of {name}: {word:?} is no target"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(list: &str) -> anyhow::Result<Wanted> {
        Wanted::read_with(&[list.to_owned()], |name| match name {
            "-" => Ok("web01\nweb02   on line\n\n# no node\ngroup:db\n".to_owned()),
            "table" => Ok("Node   On line\nweb01  yes\n".to_owned()),
            "csv" => Ok("node,on_line,groups\nweb01,yes,web\ndb01,,\n".to_owned()),
            "names" => Ok("node\n[aw]pp1,x\n".to_owned()),
            "empty" => Ok("\n".to_owned()),
            "bad" => Ok("web01\nno/node\n".to_owned()),
            other => anyhow::bail!("no file {other}"),
        })
    }

    fn included(list: &str) -> Vec<&'static str> {
        let wanted = wanted(list).unwrap();
        let is_member = |group: &Group, node: &NodeName| group.as_str() == "db" && node.as_str().starts_with("db");
        let all = ["app1", "db01", "db02", "web01", "web02"];
        all.into_iter().filter(|node| wanted.includes(&node.parse().unwrap(), is_member)).collect()
    }

    #[test]
    fn what_is_put_together_is_decided_by_the_records() {
        assert_eq!(included("web01,group:db"), ["db01", "db02", "web01"]);
        assert_eq!(included("all,!group:db,!web02"), ["app1", "web01"]);
        assert_eq!(included("!w*"), ["app1", "db01", "db02"]);
        assert_eq!(included("[ad,x]*,!db01"), ["app1", "db02"]);
        assert_eq!(included("-"), ["db01", "db02", "web01", "web02"]);
        assert!(wanted("web01,group:db").unwrap().as_target().is_none());
    }

    #[test]
    fn what_another_command_prints_will_do() {
        assert_eq!(included("@table"), ["web01"]);
        assert_eq!(included("@csv"), ["db01", "web01"]);
        assert_eq!(included("@names"), ["app1"]);
        assert_eq!(wanted("@names").unwrap().named(|_, _| false), BTreeSet::from(["node".parse().unwrap()]));
        assert!("web01,web02".parse::<Word>().is_err());
    }

    #[test]
    fn what_clients_can_decide_goes_out_as_it_is() {
        for list in ["all", "group:db", "web*", "web01", "web01,web02"] {
            assert_eq!(wanted(list).unwrap().as_target(), Some(list.parse().unwrap()), "{list}");
        }
        assert_eq!(wanted("web01,web02,!web02").unwrap().as_target(), Some("web01".parse().unwrap()));
        assert_eq!(wanted("all,!web02").unwrap().as_target(), None);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let told = |list: &str| format!("{:#}", wanted(list).unwrap_err());
        assert!(told("web01,,web02").contains("names nothing between two commas"), "{}", told("web01,,web02"));
        assert!(told("@bad").starts_with("line 2 of bad: \"no/node\" is no target: "), "{}", told("@bad"));
        assert!(told("@missing").contains("no file missing"), "{}", told("@missing"));
        assert!(wanted("@empty").unwrap().is_empty());
    }
}
