//! The tokens of a condition.
//!
//! Start at [`tokens`]. Paths, words and literals are one kind of token, a [`Token::Run`]: whether `3.0` is a number or
//! two segments follows from the side that it stands on, which is the parser's business.

use super::{ConditionError, Order};

/// Bare words that mean something where a path begins, or that other languages have there. A path that begins with one
/// has it in quotes.
pub(super) const WORDS: [&str; 8] = ["exists", "in", "true", "false", "null", "and", "or", "not"];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Segments with dots between them and no space: `a.b`, `"x"`, `3.0.15`, `true`.
    Run(Vec<Segment>),
    Equal,
    Unequal,
    Order(Order),
    Like,
    And,
    Or,
    Not,
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    /// What it means, without quotes.
    pub(super) text: String,
    pub(super) quoted: bool,
}

/// Every sign, longer ones before those that they begin with; for what other languages write, what to write here.
static SIGNS: [(&str, Result<Token, &str>); 25] = [
    ("===", Err("write == for \"equal\"")),
    ("!==", Err("write != for \"not equal\"")),
    ("<>", Err("write != for \"not equal\"")),
    ("=~", Err("write ~ for \"matches\"")),
    ("!~", Err("write !(PATH ~ \"…\") for \"does not match\"")),
    ("=<", Err("write <= for \"at most\"")),
    ("=>", Err("write >= for \"at least\"")),
    ("==", Ok(Token::Equal)),
    ("!=", Ok(Token::Unequal)),
    ("<=", Ok(Token::Order(Order::LessOrEqual))),
    (">=", Ok(Token::Order(Order::GreaterOrEqual))),
    ("<", Ok(Token::Order(Order::Less))),
    (">", Ok(Token::Order(Order::Greater))),
    ("~", Ok(Token::Like)),
    ("&&", Ok(Token::And)),
    ("||", Ok(Token::Or)),
    ("!", Ok(Token::Not)),
    ("(", Ok(Token::Open)),
    (")", Ok(Token::Close)),
    ("[", Ok(Token::OpenList)),
    ("]", Ok(Token::CloseList)),
    (",", Ok(Token::Comma)),
    ("=", Err("write == for \"equal\"")),
    ("&", Err("write && for \"and\"")),
    ("|", Err("write || for \"or\"")),
];

/// Whether a character needs no quotes in a segment.
pub(super) fn is_bare(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '+' | '@' | ':' | '/')
}

/// Puts a text in quotes.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Cuts a text into tokens, each with its offset in bytes. The last is the end.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ConditionError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = text[at..].trim_start();
        at = text.len() - rest.len();
        if rest.is_empty() {
            tokens.push((at, Token::End));
            return Ok(tokens);
        }
        let (token, end) = token(text, at)?;
        tokens.push((at, token));
        at = end;
    }
}

/// The token that begins at an offset, and where it ends.
fn token(text: &str, at: usize) -> Result<(Token, usize), ConditionError> {
    let rest = &text[at..];
    if let Some((sign, meaning)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
        return match meaning {
            Ok(token) => Ok((token.clone(), at + sign.len())),
            Err(hint) => Err(ConditionError::new(text, at, format!("there is no {sign} here")).hint(*hint)),
        };
    }
    if rest.starts_with(|first| is_bare(first) || matches!(first, '"' | '\'' | '.')) {
        return run(text, at);
    }
    let first: String = rest.chars().take(1).collect();
    let hint = if rest.starts_with(['“', '”', '„', '‘', '’', '«', '»', '`']) {
        "write \" or ' for quotes"
    } else {
        "a name with characters other than letters, digits and _ - + @ : / is put in quotes"
    };
    Err(ConditionError::new(text, at, format!("{first} means nothing here")).hint(hint))
}

fn run(text: &str, start: usize) -> Result<(Token, usize), ConditionError> {
    let mut segments = Vec::new();
    let mut at = start;
    loop {
        let rest = &text[at..];
        let (segment, end) = if let Some(quote) = rest.chars().next().filter(|first| matches!(first, '"' | '\'')) {
            quoted(text, at, quote)?
        } else {
            let length = rest.find(|character| !is_bare(character)).unwrap_or(rest.len());
            (Segment { text: rest[..length].to_owned(), quoted: false }, at + length)
        };
        if end == at {
            let hint = if text[..at].ends_with(']') {
                "the first element of an array is jmx.0, all its ports are jmx.port"
            } else {
                "a name with dots or spaces in it is put in quotes: packages.\"python3.11\""
            };
            return Err(ConditionError::new(text, at, "a name is missing beside the dot").hint(hint));
        }
        segments.push(segment);
        at = end;
        if text[at..].starts_with(|next| is_bare(next) || matches!(next, '"' | '\'')) {
            let error = ConditionError::new(text, at, "expected a dot or a space beside the quotes");
            return Err(error.hint("in quotes, a quote of the same kind has a backslash before it"));
        }
        if !text[at..].starts_with('.') {
            return Ok((Token::Run(segments), at));
        }
        at += 1;
    }
}

/// A segment in quotes, and where it ends. A backslash before anything but a quote, a backslash, n, r or t is itself,
/// so that regular expressions need not double it.
fn quoted(text: &str, start: usize, quote: char) -> Result<(Segment, usize), ConditionError> {
    let mut meant = String::new();
    let mut characters = text[start..].char_indices().skip(1).peekable();
    while let Some((offset, character)) = characters.next() {
        if character == quote {
            return Ok((Segment { text: meant, quoted: true }, start + offset + quote.len_utf8()));
        }
        let escaped = match characters.peek() {
            Some((_, next)) if character == '\\' => match next {
                '"' | '\'' | '\\' => Some(*next),
                'n' => Some('\n'),
                'r' => Some('\r'),
                't' => Some('\t'),
                _ => None,
            },
            _ => None,
        };
        if escaped.is_some() {
            characters.next();
        }
        meant.push(escaped.unwrap_or(character));
    }
    Err(ConditionError::new(text, start, format!("no {quote} ends what begins here")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(text: &str) -> Vec<(String, bool)> {
        match tokens(text).unwrap().remove(0).1 {
            Token::Run(segments) => segments.into_iter().map(|segment| (segment.text, segment.quoted)).collect(),
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn tokens_need_no_space() {
        let signs: Vec<Token> =
            tokens("a==1&&!(b<2||c in[3,'x'])").unwrap().into_iter().map(|(_, token)| token).collect();
        let runs = signs.iter().filter(|token| matches!(token, Token::Run(_))).count();
        assert_eq!((signs.len(), runs), (19, 8));
        assert_eq!(signs.last(), Some(&Token::End));
        assert_eq!(tokens("  ").unwrap(), [(2, Token::End)]);
    }

    #[test]
    fn quotes() {
        for (text, expected) in [
            (r#""a b""#, "a b"),
            (r"'a b'", "a b"),
            (r#""it's""#, "it's"),
            (r#"'say "x"'"#, r#"say "x""#),
            (r#""say \"x\"""#, r#"say "x""#),
            (r#""^\d+\.\w\\\\$""#, r"^\d+\.\w\\$"),
            (r#""a\nb\tc\r""#, "a\nb\tc\r"),
            (r#""""#, ""),
            ("'ü€'", "ü€"),
        ] {
            assert_eq!(run_of(text), [(expected.to_owned(), true)], "{text}");
            assert_eq!(run_of(&quote(expected)), [(expected.to_owned(), true)], "{}", quote(expected));
        }
        assert_eq!(run_of("a.'b.c'.0"), [("a".into(), false), ("b.c".into(), true), ("0".into(), false)]);
    }

    #[test]
    fn what_is_no_token_is_said_at_its_place() {
        for (text, at, words) in [
            ("a = 1", 2, "there is no = here"),
            ("a == 'x", 5, "no ' ends"),
            (r#"a == "x\""#, 5, "no \" ends"),
            ("a == 1 & b", 7, "write && for"),
            ("a == “x”", 5, "write \" or ' for quotes"),
            ("a.$b == 1", 2, "a name is missing"),
            ("a. == 1", 2, "a name is missing"),
            ("ü$ == 1", 2, "is put in quotes"),
            ("'a'b == 1", 3, "expected a dot or a space"),
        ] {
            let error = tokens(text).unwrap_err();
            assert_eq!(error.at, at, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
