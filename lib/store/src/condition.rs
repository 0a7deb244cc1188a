//! Conditions over records: what an operator types after `--where` and `find`.
//!
//! `facts.os.family == "Debian" && packages.openssl < "3.0.15"`. Start at [`Condition`]; docs/EXPRESSIONS.md tells
//! operators what everything means. `lexer` makes tokens of the text and `parser` a tree of them; `holds` asks it of a
//! record, and `selector` says as much of it to CouchDB as CouchDB can answer. There are no variables, functions or
//! arithmetic: the left side is a path, the right side a literal.

mod holds;
mod lexer;
mod parser;
mod path;
mod selector;
mod version;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::str::FromStr;

use regex::Regex;
use serde_json::Number;

pub use path::Path;
pub(crate) use selector::through_arrays;

/// Longest expression, in bytes.
const LONGEST: usize = 16 * 1024;

/// How deep parentheses may nest, and how many segments a path may have.
const DEEPEST: usize = 64;

/// A condition that a record meets or not. Printed it is read back as the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Expr);

impl Condition {
    /// The paths that it looks at.
    pub fn paths(&self) -> BTreeSet<&Path> {
        let mut paths = BTreeSet::new();
        self.0.collect(&mut paths);
        paths
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        if text.len() > LONGEST {
            return Err(ConditionError::new(text, text.len(), format!("longer than {LONGEST} bytes")));
        }
        parser::condition(text).map(Self)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    /// `&&` between two or more, none of which is `All` itself.
    All(Vec<Expr>),
    /// `||` between two or more, none of which is `Any` itself.
    Any(Vec<Expr>),
    /// `!` before anything but another `Not`.
    Not(Box<Expr>),
    Exists(Path),
    Compare(Path, Test),
}

impl Expr {
    fn collect<'a>(&'a self, paths: &mut BTreeSet<&'a Path>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect(paths)),
            Self::Not(inner) => inner.collect(paths),
            Self::Exists(path) | Self::Compare(path, _) => {
                paths.insert(path);
            }
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => join(f, parts, " && "),
            Self::Any(parts) => join(f, parts, " || "),
            Self::Not(inner) if matches!(**inner, Self::Exists(_)) => write!(f, "!{inner}"),
            Self::Not(inner) => write!(f, "!({inner})"),
            Self::Exists(path) => write!(f, "exists {path}"),
            Self::Compare(path, test) => write!(f, "{path} {test}"),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str) -> fmt::Result {
    for (position, part) in parts.iter().enumerate() {
        f.write_str(if position > 0 { between } else { "" })?;
        if matches!(part, Expr::Any(_)) { write!(f, "({part})")? } else { write!(f, "{part}")? }
    }
    Ok(())
}

/// What is asked of the values at the end of a path.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    Equal(Literal),
    Unequal(Literal),
    /// The literal is a number or a text.
    Order(Order, Literal),
    /// At least one.
    OneOf(Vec<Literal>),
    Like(Pattern),
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(literal) => write!(f, "== {literal}"),
            Self::Unequal(literal) => write!(f, "!= {literal}"),
            Self::Order(order, literal) => write!(f, "{} {literal}", order.sign()),
            Self::OneOf(literals) => {
                let literals: Vec<String> = literals.iter().map(Literal::to_string).collect();
                write!(f, "in [{}]", literals.join(", "))
            }
            Self::Like(pattern) => write!(f, "~ {}", lexer::quote(pattern.0.as_str())),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// The right side of a comparison.
#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(&lexer::quote(text)),
        }
    }
}

/// A regular expression. Two of the same text are equal.
#[derive(Debug, Clone)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Reads a number as JSON writes it. One with a fraction is read by the standard library, which rounds right, so that
/// it stays the same when it is printed and read again.
fn number(text: &str) -> Option<Number> {
    text.parse().ok()
}

/// Why a text is no condition or no path: shows the place, says what was expected there and, for a common mistake,
/// what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionError {
    text: String,
    /// Offset in bytes of what is wrong.
    at: usize,
    problem: String,
    hint: Option<String>,
}

impl ConditionError {
    fn new(text: &str, at: usize, problem: impl Into<String>) -> Self {
        Self { text: text.to_owned(), at, problem: problem.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// In which column it is, in characters, counted from one.
    pub fn column(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    /// The text around the place, cut where it is long, and how many characters of it stand before the place.
    fn excerpt(&self) -> (String, usize) {
        const BEFORE: usize = 60;
        const AFTER: usize = 40;
        let (before, after) = self.text.split_at(self.at);
        let left_out = before.chars().count().saturating_sub(BEFORE);
        let mut line: String = if left_out > 0 { "…".to_owned() } else { String::new() };
        line.extend(before.chars().skip(left_out));
        let caret = line.chars().count();
        line.extend(after.chars().take(AFTER));
        if after.chars().nth(AFTER).is_some() {
            line.push('…');
        }
        (line.replace(char::is_control, " "), caret)
    }
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, caret) = self.excerpt();
        write!(f, "column {}: {}\n  {line}\n  {:caret$}^", self.column(), self.problem, "")?;
        if let Some(hint) = &self.hint { write!(f, "\n{hint}") } else { Ok(()) }
    }
}

impl Error for ConditionError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        let condition: Condition = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let printed = condition.to_string();
        assert_eq!(printed.parse::<Condition>().as_ref(), Ok(&condition), "{text} is printed as {printed}");
        printed
    }

    #[test]
    fn what_is_printed_is_read_back_as_the_same() {
        for (text, expected) in [
            ("facts.os.family=='Debian'", r#"facts.os.family == "Debian""#),
            ("a<1&&b>=2.50||c!=null", "a < 1 && b >= 2.5 || c != null"),
            ("(a==1||b==2)&&(c==3&&d==4)", "(a == 1 || b == 2) && c == 3 && d == 4"),
            ("((a == 1)) || (b == 2 || c == 3)", "a == 1 || b == 2 || c == 3"),
            ("! exists a.b", "!exists a.b"),
            ("!(a == 1)", "!(a == 1)"),
            ("!!(a == 1) && !(!(b == 1))", "a == 1 && b == 1"),
            ("!!!(a == 1 && exists b)", "!(a == 1 && exists b)"),
            ("a in [ 'x',1,true,null,-1.5e-1 ]", r#"a in ["x", 1, true, null, -0.15]"#),
            (r#"a ~ '^6\.1\d "x"'"#, r#"a ~ "^6\\.1\\d \"x\"""#),
            (r#"a == 'it\'s \\ a\nb\tc\r'"#, r#"a == "it's \\ a\nb\tc\r""#),
            ("a == \"\"", r#"a == """#),
            ("a == 9007199254740993", "a == 9007199254740993"),
            ("a < 1.5E3", "a < 1500.0"),
            ("a == 0.1", "a == 0.1"),
            ("a == -0", "a == -0.0"),
            (r#""exists"."b c".'d"e' == 1"#, r#""exists"."b c"."d\"e" == 1"#),
            ("packages.libstdc++6 ~ 'x'", r#"packages.libstdc++6 ~ "x""#),
            ("'in'.'in' == 1", r#""in".in == 1"#),
        ] {
            assert_eq!(printed(text), expected);
        }
    }

    #[test]
    fn paths_are_told_once() {
        let condition: Condition = r#"!(b == 1) && (a.b ~ "x" || exists a.b || a in [1])"#.parse().unwrap();
        let paths: Vec<String> = condition.paths().into_iter().map(Path::to_string).collect();
        assert_eq!(paths, ["a", "a.b", "b"]);
    }

    #[test]
    fn too_long() {
        let long = format!("a == \"{}\"", "x".repeat(LONGEST));
        let error = long.parse::<Condition>().unwrap_err();
        assert_eq!(error.column(), long.len() + 1);
        assert!(error.to_string().starts_with("column 16392: longer than 16384 bytes\n  …xxxx"), "{error}");
        // What it would be printed as is longer, which is nobody's mistake.
        let tight = format!("a in[{}]", vec!["1"; LONGEST / 2 - 4].join(","));
        assert!(tight.len() <= LONGEST && tight.parse::<Condition>().is_ok());
    }
}
