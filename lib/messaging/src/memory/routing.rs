//! Which bindings a routing key meets.

use crate::ExchangeKind;

/// Whether a message with `key` goes where `pattern` is bound.
pub(super) fn meets(kind: ExchangeKind, pattern: &str, key: &str) -> bool {
    match kind {
        ExchangeKind::Fanout => true,
        ExchangeKind::Direct => pattern == key,
        ExchangeKind::Topic => {
            let pattern: Vec<&str> = pattern.split('.').collect();
            let key: Vec<&str> = key.split('.').collect();
            topic(&pattern, &key)
        }
    }
}

fn topic(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => (0..=key.len()).any(|taken| topic(rest, &key[taken..])),
        (Some((&"*", rest)), Some((_, left))) => topic(rest, left),
        (Some((word, rest)), Some((head, left))) => word == head && topic(rest, left),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_by_words() {
        for (pattern, key, expected) in [
            ("broadcasts.all", "broadcasts.all", true),
            ("node.*", "node.web01", true),
            ("node.*", "node.web01.example.com", false),
            ("node.#", "node.web01.example.com", true),
            ("#", "", true),
            ("#.com", "a.b.com", true),
            ("run.a", "run.b", false),
        ] {
            assert_eq!(meets(ExchangeKind::Topic, pattern, key), expected, "{pattern} {key}");
        }
    }
}
