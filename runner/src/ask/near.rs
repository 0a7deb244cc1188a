//! What was probably meant: names that come near one that is not there.

use vogeler_protocol::NodeName;

/// So many names are told.
const MOST: usize = 3;

/// That there is no record of a node, and of which there is one.
pub(crate) fn no_record<'a>(node: &NodeName, known: impl Iterator<Item = &'a str>) -> String {
    format!("there is no record of {node}{}", hint(node.as_str(), known))
}

/// `; did you mean …?` with the names that come nearest, or nothing where none is near.
pub(crate) fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut near: Vec<(usize, &str)> =
        known.filter_map(|candidate| Some((distance(name, candidate)?, candidate))).collect();
    near.sort_unstable();
    let names: Vec<&str> = near.into_iter().take(MOST).map(|(_, candidate)| candidate).collect();
    match &*names {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        [first @ .., last] => format!("; did you mean {} or {last}?", first.join(", ")),
    }
}

/// How far a name is from another; none where it is too far for a slip of the fingers.
fn distance(name: &str, candidate: &str) -> Option<usize> {
    let goes_on = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'));
    if goes_on(candidate, name) || goes_on(name, candidate) {
        return Some(0);
    }
    let most = (name.chars().count() / 3).clamp(1, 2);
    let whole = strsim::damerau_levenshtein(name, candidate);
    // A name without its domain, mistyped.
    let host = candidate.split('.').next().filter(|_| !name.contains('.'));
    let distance = host.map_or(whole, |host| whole.min(strsim::damerau_levenshtein(name, host)));
    (distance <= most).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] =
        ["db01.example.com", "web01.example.com", "web02.example.com", "web03.example.com", "web04.example.com", "app"];

    fn hinted(name: &str) -> String {
        hint(name, KNOWN.into_iter())
    }

    #[test]
    fn slips_and_short_names() {
        assert_eq!(hinted("db01"), "; did you mean db01.example.com?");
        assert_eq!(hinted("bd01"), "; did you mean db01.example.com?");
        assert_eq!(hinted("db02.example.com"), "; did you mean db01.example.com or web02.example.com?");
        assert_eq!(hinted("app.example.com"), "; did you mean app?");
        assert_eq!(hinted("apps"), "; did you mean app?");
        let three = "; did you mean web01.example.com, web02.example.com or web03.example.com?";
        assert_eq!(hinted("web05"), three);
    }

    #[test]
    fn what_is_far_is_not_told() {
        for far in ["mail01", "x", "db01.example.org.invalid", ""] {
            assert_eq!(hinted(far), "", "{far}");
        }
    }

    #[test]
    fn a_sentence() {
        let node = "db1".parse().unwrap();
        let sentence = "there is no record of db1; did you mean db01.example.com?";
        assert_eq!(no_record(&node, KNOWN.into_iter()), sentence);
        assert_eq!(no_record(&node, std::iter::empty()), "there is no record of db1");
    }
}
