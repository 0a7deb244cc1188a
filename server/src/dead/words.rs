//! Dead letters in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vogeler_messaging::{Header, Message};

use super::{Fate, Letter};
use crate::letter;

/// A person's list: a line for each, the oldest first.
pub(super) fn list(letters: &[Letter]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut text = String::new();
    for letter in letters {
        let at = letter.at.map_or_else(|| "no time".to_owned(), |at| at.to_string());
        let copies = if letter.copies > 1 { format!(", {} copies", letter.copies) } else { String::new() };
        let _ = writeln!(text, "{at}  {}  {}  {} bytes{copies}", letter.id, named(letter), letter.bytes);
        let _ = writeln!(text, "    {}: {}", plain(&letter.reason), plain(&letter.detail));
    }
    let bytes: usize = letters.iter().map(|letter| letter.bytes * letter.copies).sum();
    let count = letters.len();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for letter in letters {
        *reasons.entry(&letter.reason).or_default() += 1;
    }
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {}", plain(reason))).collect();
    let s = if count == 1 { "" } else { "s" };
    let _ = writeln!(text, "{count} dead letter{s}, {bytes} bytes: {}", reasons.join(", "));
    text
}

/// Everything that is known of one, and its body.
pub(super) fn show(letter: &Letter, message: &Message) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{:16} {}", plain(name), plain(value));
    };
    line("id", &letter.id);
    line("reason", &letter.reason);
    line("detail", &letter.detail);
    line("node", letter.node.as_deref().unwrap_or("not known"));
    if let Some(at) = letter.at {
        line("at", &at.to_string());
    }
    line("size", &format!("{} bytes", letter.bytes));
    line("exchange", &letter.exchange);
    line("routing key", &letter.routing_key);
    line("login", letter.user_id.as_deref().unwrap_or("not told"));
    line("deliveries", &format!("{} before", letter.deliveries));
    for (name, value) in &letter.properties {
        line(name, value);
    }
    for (name, value) in &message.properties.headers {
        // How often somebody looked is of no interest; what is ours stands above.
        if name == "x-delivery-count" || letter::is_ours(name) {
            continue;
        }
        let value = match value {
            Header::Text(text) => text.clone(),
            Header::Number(number) => number.to_string(),
            Header::Flag(flag) => flag.to_string(),
        };
        line(&format!("header {name}"), &value);
    }
    text.push('\n');
    text.push_str(&readable(&message.body));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// What was done to one.
pub(super) fn done(letter: &Letter, fate: Fate) -> String {
    let what = match fate {
        Fate::Replayed => "replayed",
        Fate::Dropped => "dropped",
    };
    format!("{what} {}  {}  {}", letter.id, named(letter), plain(&letter.reason))
}

fn named(letter: &Letter) -> String {
    plain(letter.node.as_deref().unwrap_or("node not known"))
}

/// One line that does nothing to a terminal: whoever may publish could have sent anything.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || turns_text(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Characters that change the direction of what follows, by which one text is shown as another.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn readable(body: &[u8]) -> String {
    let harmful = |c: char| (c.is_control() && c != '\n' && c != '\t') || turns_text(c);
    let harmless = |c: char| if harmful(c) { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(body).chars().map(harmless).collect()
}
