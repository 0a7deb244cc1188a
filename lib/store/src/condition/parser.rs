//! The tree of a condition, from its tokens.
//!
//! Start at [`condition`]. From loose to tight: `||`, `&&`, `!`, comparison. What is wrong is said at its first token;
//! much of this file knows how other languages write the same and says how it is written here.

use std::vec;

use regex::RegexBuilder;

use super::lexer::{self, Segment, Token};
use super::{ConditionError, DEEPEST, Expr, Literal, Path, Pattern, Test, number};

/// Most bytes that a compiled regular expression may take.
const LARGEST_PATTERN: usize = 1 << 20;

/// Reads a condition.
pub(super) fn condition(text: &str) -> Result<Expr, ConditionError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.any()?;
    if parser.token == Token::End {
        Ok(expr)
    } else if parser.token == Token::Close {
        Err(parser.error("no '(' opens what ends here"))
    } else {
        Err(parser.unlinked("&& or || or the end"))
    }
}

/// Reads a path that stands alone.
pub(super) fn path(text: &str) -> Result<Path, ConditionError> {
    let mut parser = Parser::new(text)?;
    let path = parser.segments()?;
    if parser.token == Token::End { Ok(path) } else { Err(parser.expected("nothing after the path")) }
}

struct Parser<'a> {
    text: &'a str,
    /// The token to read next, and its offset.
    token: Token,
    at: usize,
    rest: vec::IntoIter<(usize, Token)>,
    /// How many parentheses are open.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ConditionError> {
        let mut parser = Self { text, token: Token::End, at: 0, rest: lexer::tokens(text)?.into_iter(), depth: 0 };
        parser.take();
        Ok(parser)
    }

    /// Goes on to the next token.
    fn take(&mut self) {
        (self.at, self.token) = self.rest.next().unwrap_or((self.text.len(), Token::End));
    }

    fn accept(&mut self, token: &Token) -> bool {
        let is_it = self.token == *token;
        if is_it {
            self.take();
        }
        is_it
    }

    /// The bare word that comes next, if one does.
    fn word(&self) -> Option<&str> {
        let Token::Run(segments) = &self.token else { return None };
        match segments.as_slice() {
            [Segment { text, quoted: false }] => Some(text),
            _ => None,
        }
    }

    fn error(&self, problem: impl Into<String>) -> ConditionError {
        ConditionError::new(self.text, self.at, problem)
    }

    fn expected(&self, what: &str) -> ConditionError {
        let end = if self.token == Token::End { ", but here is the end" } else { "" };
        self.error(format!("expected {what}{end}"))
    }

    /// After a whole expression something came that links it to nothing.
    fn unlinked(&self, what: &str) -> ConditionError {
        let error = self.expected(what);
        match self.word() {
            Some("and" | "AND") => error.hint("write && for \"and\""),
            Some("or" | "OR") => error.hint("write || for \"or\""),
            _ => error,
        }
    }

    fn any(&mut self) -> Result<Expr, ConditionError> {
        let mut parts = Vec::new();
        loop {
            match self.all()? {
                Expr::Any(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            if !self.accept(&Token::Or) {
                return Ok(alone(parts, Expr::Any));
            }
        }
    }

    fn all(&mut self) -> Result<Expr, ConditionError> {
        let mut parts = Vec::new();
        loop {
            match self.one()? {
                Expr::All(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            if !self.accept(&Token::And) {
                return Ok(alone(parts, Expr::All));
            }
        }
    }

    fn one(&mut self) -> Result<Expr, ConditionError> {
        let (mut negated, mut bang) = (false, None);
        while self.token == Token::Not {
            bang = Some(self.at);
            negated = !negated;
            self.take();
        }
        let expr = if self.token == Token::Open {
            self.group()?
        } else if self.word() == Some("exists") {
            self.take();
            Expr::Exists(self.path("a path after exists")?)
        } else if let Some(at) = bang {
            let error = ConditionError::new(self.text, at, "! stands before exists and before '('");
            return Err(error.hint("write !(PATH == …) or PATH != …, or PATH == false"));
        } else {
            self.comparison()?
        };
        Ok(match expr {
            Expr::Not(inner) if negated => *inner,
            expr if negated => Expr::Not(Box::new(expr)),
            expr => expr,
        })
    }

    fn group(&mut self) -> Result<Expr, ConditionError> {
        if self.depth == DEEPEST {
            return Err(self.error(format!("more than {DEEPEST} parentheses inside of one another")));
        }
        self.depth += 1;
        self.take();
        let expr = self.any()?;
        self.depth -= 1;
        if self.accept(&Token::Close) { Ok(expr) } else { Err(self.unlinked("&& or || or ')'")) }
    }

    /// A path where one has to be, no bare word that means something else.
    fn path(&mut self, what: &str) -> Result<Path, ConditionError> {
        let Token::Run(segments) = &self.token else { return Err(self.expected(what)) };
        let word = segments.first().filter(|first| !first.quoted && lexer::WORDS.contains(&first.text.as_str()));
        let Some(Segment { text: word, .. }) = word else { return self.segments() };
        let error = self.error(format!("expected {what}; {word} is none"));
        Err(match word.as_str() {
            "not" => error.hint("write !( … ) for \"not\""),
            word => error.hint(format!("a name like this is put in quotes: \"{word}\"")),
        })
    }

    fn segments(&mut self) -> Result<Path, ConditionError> {
        let Token::Run(segments) = &self.token else { return Err(self.expected("a path")) };
        if segments.len() > DEEPEST {
            return Err(self.error(format!("a path of more than {DEEPEST} segments")));
        }
        if segments.iter().any(|segment| segment.text.is_empty()) {
            return Err(self.error("a path with an empty name in it"));
        }
        let path = Path::new(segments.iter().map(|segment| segment.text.clone()).collect());
        self.take();
        Ok(path)
    }

    fn comparison(&mut self) -> Result<Expr, ConditionError> {
        let path = self.path("a path, exists, ! or '('")?;
        let order = if let Token::Order(order) = self.token { Some(order) } else { None };
        let test = if self.accept(&Token::Equal) {
            Test::Equal(self.literal()?)
        } else if self.accept(&Token::Unequal) {
            Test::Unequal(self.literal()?)
        } else if let Some(order) = order {
            self.take();
            if matches!(self.word(), Some("true" | "false" | "null")) {
                return Err(self.error("only numbers and texts have an order"));
            }
            Test::Order(order, self.literal()?)
        } else if self.accept(&Token::Like) {
            Test::Like(self.pattern()?)
        } else if self.word() == Some("in") {
            self.take();
            Test::OneOf(self.list()?)
        } else {
            return Err(self.uncompared(&path));
        };
        Ok(Expr::Compare(path, test))
    }

    /// After a path something came that compares it with nothing.
    fn uncompared(&self, path: &Path) -> ConditionError {
        let error = self.expected(&format!("==, !=, <, <=, >, >=, in or ~ after {path}"));
        match self.word() {
            Some("is" | "eq") => error.hint("write == for \"is\""),
            Some("not") => error.hint(format!("write !({path} in […]) for \"not in\"")),
            Some("like" | "matches") => error.hint("write ~ for \"matches\""),
            Some("contains" | "has") => {
                error.hint(format!("write {path} == … for an element of an array, {path} ~ … for a part of a text"))
            }
            Some(_) => error,
            None if self.token == Token::OpenList => error.hint(format!("the first element of an array is {path}.0")),
            None => error.hint(format!("a path alone says nothing: write {path} == true, or exists {path}")),
        }
    }

    fn literal(&mut self) -> Result<Literal, ConditionError> {
        const WHAT: &str = "a text in quotes, a number, true, false or null";
        let Token::Run(segments) = &self.token else {
            let error = self.expected(WHAT);
            return Err(if self.token == Token::OpenList { error.hint("a list stands after in") } else { error });
        };
        if let [Segment { text, quoted: true }] = segments.as_slice() {
            let literal = Literal::Text(text.clone());
            self.take();
            return Ok(literal);
        }
        let written: Vec<&str> = segments.iter().map(|segment| segment.text.as_str()).collect();
        let written = written.join(".");
        let literal = match written.as_str() {
            _ if segments.iter().any(|segment| segment.quoted) => None,
            "null" => Some(Literal::Null),
            "true" => Some(Literal::Bool(true)),
            "false" => Some(Literal::Bool(false)),
            other => number(other).map(Literal::Number),
        };
        let quoted = lexer::quote(&written);
        let literal = literal.ok_or_else(|| self.expected(WHAT).hint(format!("write {quoted} for a text")))?;
        self.take();
        Ok(literal)
    }

    fn list(&mut self) -> Result<Vec<Literal>, ConditionError> {
        if !self.accept(&Token::OpenList) {
            return Err(self.expected("a list after in").hint("write in [\"a\", \"b\"]"));
        }
        if self.token == Token::CloseList {
            return Err(self.error("a list with nothing in it"));
        }
        let mut literals = vec![self.literal()?];
        while self.accept(&Token::Comma) {
            literals.push(self.literal()?);
        }
        if self.accept(&Token::CloseList) { Ok(literals) } else { Err(self.expected("',' or ']'")) }
    }

    fn pattern(&mut self) -> Result<Pattern, ConditionError> {
        let at = self.at;
        let Literal::Text(pattern) = self.literal()? else {
            return Err(ConditionError::new(self.text, at, "expected a regular expression in quotes"));
        };
        match RegexBuilder::new(&pattern).size_limit(LARGEST_PATTERN).build() {
            Ok(regex) => Ok(Pattern(regex)),
            // Its words have several lines, and the last of them says what is wrong.
            Err(error) => {
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                Err(ConditionError::new(self.text, at, format!("no regular expression: {reason}")))
            }
        }
    }
}

fn alone(mut parts: Vec<Expr>, several: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(part) if parts.is_empty() => part,
        last => {
            parts.extend(last);
            several(parts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Condition;

    fn refused(text: &str) -> String {
        text.parse::<Condition>().map(|condition| condition.to_string()).unwrap_err().to_string()
    }

    #[test]
    fn errors_show_the_place_and_the_way_out() {
        for (text, expected) in [
            (
                "facts.os.family == Debian",
                "column 20: expected a text in quotes, a number, true, false or null\
                 \n  facts.os.family == Debian\
                 \n                     ^\
                 \nwrite \"Debian\" for a text",
            ),
            (
                "packages.openssl < 3.0.15",
                "column 20: expected a text in quotes, a number, true, false or null\
                 \n  packages.openssl < 3.0.15\
                 \n                     ^\
                 \nwrite \"3.0.15\" for a text",
            ),
            (
                "facts.os.family = \"Debian\"",
                "column 17: there is no = here\
                 \n  facts.os.family = \"Debian\"\
                 \n                  ^\
                 \nwrite == for \"equal\"",
            ),
            (
                "a == 1 and b == 2",
                "column 8: expected && or || or the end\
                 \n  a == 1 and b == 2\
                 \n         ^\
                 \nwrite && for \"and\"",
            ),
            (
                "not exists a",
                "column 1: expected a path, exists, ! or '('; not is none\
                 \n  not exists a\
                 \n  ^\
                 \nwrite !( … ) for \"not\"",
            ),
            (
                "facts.virtual && a == 1",
                "column 15: expected ==, !=, <, <=, >, >=, in or ~ after facts.virtual\
                 \n  facts.virtual && a == 1\
                 \n                ^\
                 \na path alone says nothing: write facts.virtual == true, or exists facts.virtual",
            ),
            (
                "a ==",
                "column 5: expected a text in quotes, a number, true, false or null, but here is the end\
                 \n  a ==\
                 \n      ^",
            ),
            (
                "größe == 1 && a ~ '(x'",
                "column 19: no regular expression: unclosed group\
                 \n  größe == 1 && a ~ '(x'\
                 \n                    ^",
            ),
        ] {
            assert_eq!(refused(text), expected);
        }
    }

    #[test]
    fn common_mistakes_are_known() {
        for (text, column, words) in [
            ("", 1, "expected a path, exists, ! or '(', but here is the end"),
            ("(a == 1 or b == 2)", 9, "write || for"),
            ("(a == 1", 8, "expected && or || or ')', but here is the end"),
            ("a == 1)", 7, "no '(' opens"),
            ("a == 1 b == 2", 8, "expected && or ||"),
            ("!a == 1", 1, "write !(PATH == …) or PATH != …"),
            ("!a", 1, "PATH == false"),
            ("exists", 7, "expected a path after exists, but"),
            ("exists in", 8, "a name like this is put in quotes: \"in\""),
            ("a not in [1]", 3, "write !(a in […])"),
            ("a in 1", 6, "write in [\"a\", \"b\"]"),
            ("a in []", 7, "nothing in it"),
            ("a in [1", 8, "expected ',' or ']', but"),
            ("a in [1,]", 9, "expected a text in quotes"),
            ("a == [1]", 6, "a list stands after in"),
            ("jmx[0] == 1", 4, "the first element of an array is jmx.0"),
            ("jmx[0].port == 1", 7, "the first element of an array is jmx.0"),
            ("a contains 'x'", 3, "write a == … for an element"),
            ("a is 'x'", 3, "write == for"),
            ("a < true", 5, "only numbers and texts have an order"),
            ("a ~ 5", 5, "expected a regular expression in quotes"),
            ("a ~ '(?=x)'", 5, "look-around"),
            ("a ~ '(\\w{99}){99}'", 5, "exceeds size limit"),
            ("a == 007", 6, "write \"007\" for a text"),
            ("a == 1e999", 6, "write \"1e999\" for a text"),
            ("a == 'x'.y", 6, "write \"x.y\" for a text"),
            ("a.'' == 1", 1, "an empty name"),
            ("true == a", 1, "a name like this is put in quotes"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert_eq!(error.column(), column, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}a == 1{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(nested(DEEPEST).parse::<Condition>().unwrap().to_string(), "a == 1");
        assert!(refused(&nested(DEEPEST + 1)).starts_with("column 65: more than 64 parentheses"));
        let bangs = format!("{}(a == 1)", "!".repeat(10_001));
        assert_eq!(bangs.parse::<Condition>().unwrap().to_string(), "!(a == 1)");
    }
}
