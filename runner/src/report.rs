//! The end of a run in words: how many ended how, and who did not answer, and why.
//!
//! Start at [`text`] and [`json()`]. No I/O; a run that has just ended and one that is looked at later are told alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use vogeler_protocol::message::Notice;
use vogeler_protocol::{Alias, NodeName, RunId, Timestamp};

use crate::output::{self, one_line};
use crate::tallies::Tallies;
use crate::tally::{Line, State, Tally, lacks_alias};

/// Names that are listed for one reason before they are only counted.
const LISTED: usize = 10;

/// What there is to say of a name that nobody knows.
pub(crate) const NO_SUCH_NODE: &str = "no such node: no record and no queue of that name";

/// What a run is about.
#[derive(Debug, Clone)]
pub struct About {
    /// Its id.
    pub run: RunId,
    /// Its target, as it was typed.
    pub target: String,
    /// Until when the command waits for nodes that are off line.
    pub expires_at: Timestamp,
    /// Whether that time is past.
    pub has_expired: bool,
}

/// For a person: for each command a line of figures, then the nodes by what there is to say of them, the worst first.
pub fn text(about: &About, tallies: &Tallies) -> String {
    let mut text = String::new();
    for (command, tally) in tallies.iter() {
        let _ = writeln!(text, "{command} on {}: {}", about.target, figures(tally));
        for ((_, why), nodes) in reasons(about, tally) {
            let _ = writeln!(text, "  {}: {why}", listed(&nodes));
        }
        if tally.nobody_knows() {
            let _ = writeln!(
                text,
                "  nobody knows the alias {command}; who knows which: {} aliases; on a node: vogeler-client list",
                output::program()
            );
        }
    }
    text
}

/// How many ended how.
fn figures(tally: &Tally) -> String {
    let ended = [Notice::Stored, Notice::Unchanged, Notice::Failed, Notice::Rejected, Notice::Refused, Notice::Skipped]
        .into_iter()
        .map(|notice| (tally.count(notice), notice.to_string()))
        .filter(|(count, word)| *count > 0 || word == "stored");
    let of = |state: fn(&State) -> bool| tally.lines().filter(|(_, line)| state(&line.state)).count();
    let others = [
        (tally.running(), "still running"),
        (of(|state| *state == State::Waiting), "silent"),
        (of(|state| *state == State::Later), "not asked"),
        (of(|state| matches!(state, State::Replaced { .. })), "replaced"),
        (of(|state| *state == State::OffLine), "off line"),
        (of(|state| *state == State::Gone), "without a queue"),
        (of(|state| *state == State::Unknown), "unknown"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| (count, word.to_owned()));
    ended.chain(others).map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

/// The nodes of one reason, with its rank: the lower, the worse.
fn reasons<'a>(about: &About, tally: &'a Tally) -> BTreeMap<(u8, String), Vec<&'a str>> {
    let mut by_reason: BTreeMap<(u8, String), Vec<&str>> = BTreeMap::new();
    for (node, line) in tally.lines() {
        by_reason.entry(reason(about, line)).or_default().push(node.as_str());
    }
    by_reason
}

fn reason(about: &About, line: &Line) -> (u8, String) {
    let (rank, words) = match &line.state {
        State::Unknown => (0, NO_SUCH_NODE.to_owned()),
        State::Ended { event, detail } => {
            let rank = match event {
                Notice::Rejected => 1,
                Notice::Failed => 2,
                Notice::Refused => 3,
                Notice::Skipped => 9,
                Notice::Unchanged => 10,
                Notice::Stored | Notice::Accepted => 11,
            };
            // How much was stored is of each node's own; those are told together.
            let detail = detail.as_deref().filter(|_| *event != Notice::Stored);
            let detail = detail.map(|detail| format!(": {}", one_line(detail.to_owned()))).unwrap_or_default();
            (rank, format!("{event}{detail}"))
        }
        State::Running if line.left => (4, "accepted the command, and its client is not connected any more".to_owned()),
        State::Running => (4, "still running: it has accepted the command, and no result is stored yet".to_owned()),
        State::Waiting if line.left => (5, format!("on line at first, and not any more: {}", later(about))),
        State::Waiting => (5, "on line and silent: the command was delivered or waits behind others".to_owned()),
        State::Later => (6, "on line and not asked: the run ended before its batch".to_owned()),
        State::Gone => (7, "known, but its queue is gone: it does not get this command".to_owned()),
        State::Replaced { by } => {
            (6, format!("not known: a later run of this alias has replaced what there was ({by})"))
        }
        State::OffLine => (8, format!("off line: {}", later(about))),
    };
    (rank, words)
}

/// What becomes of a command that nobody takes.
fn later(about: &About) -> String {
    if about.has_expired {
        format!("nothing is known of it, and the command expired at {}", about.expires_at)
    } else {
        format!("gets it when it connects, until {}", about.expires_at)
    }
}

/// Up to ten names, and how many more there are.
fn listed(nodes: &[&str]) -> String {
    let mut text = nodes.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if nodes.len() > LISTED {
        let _ = write!(text, " and {} more", nodes.len() - LISTED);
    }
    text
}

/// For a program: complete. Of several commands each is one of `commands`, with an exit status of its own.
pub fn json(about: &About, tallies: &Tallies, exit_status: u8, strict: bool) -> Value {
    let commands: Vec<Value> =
        tallies.iter().map(|(command, tally)| one(about, command, tally, tally.exit_status(strict))).collect();
    match <[Value; 1]>::try_from(commands) {
        Ok([mut command]) => {
            command["exit_status"] = exit_status.into();
            command
        }
        Err(commands) => json!({
            "run": about.run,
            "target": about.target,
            "expires_at": about.expires_at,
            "exit_status": exit_status,
            "commands": commands,
        }),
    }
}

fn one(about: &About, command: &Alias, tally: &Tally, exit_status: u8) -> Value {
    let nodes: Map<String, Value> = tally.lines().map(|(node, line)| (node.to_string(), json!(line))).collect();
    let that_are = |state: fn(&State) -> bool| -> Vec<&NodeName> {
        tally.lines().filter(|(_, line)| state(&line.state)).map(|(node, _)| node).collect()
    };
    json!({
        "run": about.run,
        "command": command,
        "target": about.target,
        "expires_at": about.expires_at,
        "exit_status": exit_status,
        "stored": tally.count(Notice::Stored),
        "unchanged": tally.count(Notice::Unchanged),
        "failed": tally.count(Notice::Failed),
        "rejected": tally.count(Notice::Rejected),
        "lack_the_alias": that_are(lacks_alias),
        "silent": tally.outstanding(),
        "off_line": that_are(|state| *state == State::OffLine),
        "unknown": that_are(|state| *state == State::Unknown),
        "nodes": nodes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expected::Expected;
    use vogeler_protocol::record::Answer;

    fn about() -> About {
        About {
            run: "019aa0b0-0000-7000-8000-000000000001".parse().unwrap(),
            target: "web*,db01,wbe02".to_owned(),
            expires_at: Timestamp::from_millisecond(0),
            has_expired: false,
        }
    }

    fn tallies() -> Tallies {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let expected = Expected {
            on_line: names(&["web01", "web02", "web03", "web04"]),
            off_line: names(&["db01"]),
            unknown: names(&["wbe02"]),
            ..Expected::default()
        };
        let command: Alias = "rpms".parse().unwrap();
        let now = Timestamp::from_millisecond(0);
        let mut tallies = Tallies::new(std::slice::from_ref(&command), &Tally::new(&expected, false, now));
        let mut say = |node: &str, answer| tallies.read(&command, &node.parse().unwrap(), answer, Some(now));
        say("web01", Answer::Stored);
        say("web02", Answer::Failed("exited with status 3".to_owned()));
        say("web03", Answer::Failed("exited with status 3".to_owned()));
        tallies
    }

    #[test]
    fn the_figures_come_first_and_the_worst_next() {
        let expected = "rpms on web*,db01,wbe02: 1 stored, 2 failed, 1 silent, 1 off line, 1 unknown
  wbe02: no such node: no record and no queue of that name
  web02, web03: failed: exited with status 3
  web04: on line and silent: the command was delivered or waits behind others
  db01: off line: gets it when it connects, until 1970-01-01T00:00:00.000Z
  web01: stored
";
        assert_eq!(text(&about(), &tallies()), expected);
    }

    #[test]
    fn json_is_complete() {
        let json = json(&about(), &tallies(), 4, false);
        assert_eq!((&json["nodes"]["web04"]["state"], &json["exit_status"]), (&"waiting".into(), &4.into()));
        assert_eq!(json["nodes"]["web02"]["detail"], "exited with status 3");
        assert_eq!((&json["off_line"][0], &json["unknown"][0]), (&"db01".into(), &"wbe02".into()));
        let commands = ["rpms".parse().unwrap(), "facts".parse().unwrap()];
        let both = super::json(
            &about(),
            &Tallies::new(&commands, &Tally::new(&Expected::default(), false, Timestamp::from_millisecond(0))),
            3,
            false,
        );
        assert_eq!(both["commands"][1]["command"], "facts");
    }

    #[test]
    fn what_a_node_says_neither_moves_the_cursor_nor_forges_a_line() {
        let mut tallies = tallies();
        let (command, now) = ("rpms".parse().unwrap(), Timestamp::from_millisecond(0));
        let said = Answer::Failed("\u{1b}[31mred\u{9b}2J\n  web01: stored".to_owned());
        tallies.read(&command, &"web09".parse().unwrap(), said, Some(now));
        let text = text(&about(), &tallies);
        let line = r"  web09: failed: \u001b[31mred\u009b2J\n  web01: stored";
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }
}
