//! The order of versions: one for Debian's, RPM's and plain ones.
//!
//! Start at [`against`]. A version is read as pieces, and the first two that differ decide. Where Debian's policy and
//! RPM agree, so does this. Where they do not: letters come before digits as in RPM (`5.el9` before `5.1.el9`, which
//! dpkg has the other way); separators count as with dpkg (`1.0+1` before `1.0.1`, which are one to RPM), save that
//! `_`, which no Debian version has, is `.`. Parts between hyphens are compared from the left, so that a kernel's
//! `6.1.0-20-amd64` comes before `6.1.0-21`; dpkg would take all but the last for the version of the program.
//!
//! Nothing is refused: texts that are no versions have an order too, and in timestamps of RFC 3339 and one time zone
//! it is that of time.

use std::cmp::Ordering;

/// Orders a version against the one that an operator wrote. What was not written is not compared: without an epoch
/// there none counts, and of what `-` divides no more counts than there is. So `1:9.2p1-2` is older than `9.3`, and
/// `3.0.15-1` is neither older nor newer than `3.0.15`.
pub(super) fn against(version: &str, written: &str) -> Ordering {
    let (epoch, version) = split_epoch(version);
    let (written_epoch, written) = split_epoch(written);
    let by_epoch = written_epoch.map_or(Ordering::Equal, |written| epoch.unwrap_or_default().cmp(&written));
    let hyphens = written.matches('-').count();
    let end = version.match_indices('-').nth(hyphens).map_or(version.len(), |(at, _)| at);
    by_epoch.then_with(|| compare(&version[..end], written))
}

/// What a version is made of, in the order in which the kinds of pieces come.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    /// Comes before everything, the end included: `1.0~rc1`.
    Tilde,
    End,
    /// What follows is a revision or release; so that `1.0-9` comes before `1.0.1-1`.
    Hyphen,
    /// A snapshot after a release (RPM): after the end, before all that goes on.
    Caret,
    Letters(&'a [u8]),
    Number(Digits<'a>),
    /// Any other byte that is no letter.
    Separator(u8),
}

/// A whole number of any length.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Digits<'a> {
    length: usize,
    /// Without leading zeros.
    digits: &'a [u8],
}

impl<'a> Digits<'a> {
    fn new(digits: &'a [u8]) -> Self {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        Self { length: digits.len() - zeros, digits: &digits[zeros..] }
    }
}

fn split_epoch(version: &str) -> (Option<Digits<'_>>, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
            (Some(Digits::new(epoch.as_bytes())), rest)
        }
        _ => (None, version),
    }
}

fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        let (piece, other) = (next(&mut left), next(&mut right));
        match piece.cmp(&other) {
            Ordering::Equal if piece == Piece::End => return Ordering::Equal,
            Ordering::Equal => {}
            decided @ (Ordering::Less | Ordering::Greater) => return decided,
        }
    }
}

/// Takes the next piece off a version.
fn next<'a>(rest: &mut &'a [u8]) -> Piece<'a> {
    // A byte of a character beyond ASCII counts as a letter, so that no character is torn apart.
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
    let Some(first) = rest.first() else { return Piece::End };
    let length = if is_letter(first) {
        rest.iter().take_while(|byte| is_letter(byte)).count()
    } else if first.is_ascii_digit() {
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    } else {
        1
    };
    let (run, after) = rest.split_at(length);
    *rest = after;
    match first {
        b'~' => Piece::Tilde,
        b'-' => Piece::Hyphen,
        b'^' => Piece::Caret,
        b'_' => Piece::Separator(b'.'),
        digit if digit.is_ascii_digit() => Piece::Number(Digits::new(run)),
        letter if is_letter(letter) => Piece::Letters(run),
        separator => Piece::Separator(*separator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each comes before all that follow it; those with a bar between them are equal.
    const ASCENDING: &[&[&str]] = &[
        // Debian policy 5.6.12: the tilde, and what it is for.
        &["~~", "~~a", "~", "", "a"],
        &["1.0~beta1~svn1245", "1.0~beta1", "1.0", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0.1-1"],
        &["1.0-1~bpo12+1", "1.0-1~deb12u1", "1.0-1", "1.0-1+deb12u1", "1.0-1+deb12u10"],
        &["3.0.14-1", "3.0.15~rc1-1", "3.0.15", "3.0.15-1~deb12u1", "3.0.15-1", "3.0.16"],
        &["1.0-9", "1.0+dfsg-1", "1.0+git20230101-1", "1.0.1-1"],
        &["2.0-1", "2.0a-1", "2.0.1-1"],
        &["9.2p1-2", "9.2p2-1", "9.2p10-1", "9.3p1-1"],
        // RPM: letters, digits and separators; the tilde; the caret.
        &["1.0|1.000", "1.0.1|1_0_1", "1.01|1.1|1.0001", "1.10", "2.0"],
        &["5.5p1", "5.5p10", "5.6p1", "6.5p1"],
        &["xyz.4", "2", "8", "10xyz", "10.1xyz"],
        &["6.0", "6.0.rc1"],
        &["10a1", "10a2", "10b1", "10b2"],
        &["1.0a", "1.0aa"],
        &["1.fc4", "1.0"],
        &["1.0~rc1~git123", "1.0~rc1", "1.0~rc1^git1", "1.0", "1.0^", "1.0^git1~pre", "1.0^git1", "1.0^git2", "1.01"],
        &["1.0^20160101", "1.0^20160102", "1.0.1"],
        &["4.18.0-80.el8", "4.18.0-80.1.2.el8_0", "4.18.0-80.4.2.el8_0", "4.18.0-193.el8"],
        &["1.1.1k-5.el8_4", "1.1.1k-5.el8_5", "1.1.1k-6.el8_5"],
        // What a kernel says of itself.
        &["5.14.0-362.el9.x86_64", "6.1.0-9-amd64", "6.1.0-20-amd64", "6.1.0-21-amd64"],
        // Plain ones, addresses, and numbers longer than any integer.
        &["9", "10", "99999999999999999999999998", "99999999999999999999999999"],
        &["10.0.0.9", "10.0.0.10", "10.0.1.1"],
        &["bookworm", "bullseye", "büster"],
        // RFC 3339, and parts of it.
        &[
            "2025-12-31T23:59:59.999Z",
            "2026",
            "2026-09",
            "2026-11-01",
            "2026-11-01T00:00:00.000Z",
            "2026-11-20T09:59:59.999Z",
            "2026-11-20T10:00:00.000Z",
            "2026-11-20T10:00:00.001Z",
            "2026-12",
            "2026-12-01",
        ],
    ];

    #[test]
    fn older_before_newer() {
        for chain in ASCENDING {
            let ranked =
                chain.iter().enumerate().flat_map(|(rank, equal)| equal.split('|').map(move |one| (rank, one)));
            let ranked: Vec<(usize, &str)> = ranked.collect();
            for (rank, left) in &ranked {
                for (other, right) in &ranked {
                    assert_eq!(compare(left, right), rank.cmp(other), "{left:?} and {right:?}");
                }
            }
        }
    }

    #[test]
    fn what_was_not_written_is_not_compared() {
        use Ordering::{Equal, Greater, Less};
        for (version, written, expected) in [
            ("1:9.2p1-2+deb12u3", "9.3", Less),
            ("1:9.2p1-2+deb12u3", "1:9.3", Less),
            ("1:9.2p1-2+deb12u3", "0:9.3", Greater),
            ("9.2p1-2", "1:9.0", Less),
            ("2:1.0", "10:0.5", Less),
            ("3.0.15-1~deb12u1", "3.0.15", Equal),
            ("3.0.15-1~deb12u1", "3.0.15-1", Less),
            ("3.0.15-1", "3.0.15-0", Greater),
            ("3.0.15~rc1-1", "3.0.15", Less),
            ("3.0.15", "3.0.15-1", Less),
            ("6.1.0-20-amd64", "6.1.0-21", Less),
            ("6.1.0-21-amd64", "6.1.0-21", Equal),
            ("2026-11-20T10:00:00.000Z", "2026-11", Equal),
            ("2026-11-20T10:00:00.000Z", "2026-11-20", Greater),
            ("2026-11-20T10:00:00.000Z", "2026-12", Less),
        ] {
            assert_eq!(against(version, written), expected, "{version} against {written}");
        }
    }
}
