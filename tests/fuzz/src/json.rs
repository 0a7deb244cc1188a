//! JSON read a second time, after RFC 8259 and the limits that `vogeler_protocol::data` promises.
//!
//! Start at [`read`]. It builds a tree, which the code under test never does, and shares no line with
//! it. Limits come from the promise (`MAX_DEPTH`, `MAX_INTEGER_DIGITS`), not from the scanner.

use std::cmp::Ordering;

use vogeler_protocol::data::{MAX_DEPTH, MAX_INTEGER_DIGITS};

/// One storable JSON text.
#[derive(Debug)]
pub struct Document<'t> {
    /// What it holds.
    pub root: Node<'t>,
    /// How many arrays and objects are inside of one another at its deepest place.
    pub depth: usize,
}

/// One value; strings, numbers and words as they were printed.
#[derive(Debug)]
pub enum Node<'t> {
    /// A string with its quotes, a number, or one of the three words.
    Scalar(&'t str),
    /// `[…]`
    Array(Vec<Node<'t>>),
    /// `{…}`, its keys with their quotes, in the order in which they were printed.
    Object(Vec<(&'t str, Node<'t>)>),
}

/// The document in `text`; none where it is not one JSON text, or one that no database can hold.
pub fn read(text: &str) -> Option<Document<'_>> {
    let mut reader = Reader { text, at: 0, open: 0, depth: 0 };
    let root = reader.value()?;
    (reader.at == text.len()).then_some(Document { root, depth: reader.depth })
}

impl Node<'_> {
    /// The form that a digest is of: no white space, members sorted by their keys as printed, without
    /// their quotes. Members of one key stay in their order, because the last of them counts.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, "", |one, other| one[1..one.len() - 1].cmp(&other[1..other.len() - 1]));
        out
    }

    /// The same data with white space wherever there may be some, and its members the other way round.
    pub fn respelt(&self) -> String {
        let mut out = "\t".to_owned();
        self.write(&mut out, " \r\n\t", |one, other| other.cmp(one));
        out.push('\n');
        out
    }

    fn write(&self, out: &mut String, space: &str, order: fn(&str, &str) -> Ordering) {
        match self {
            Self::Scalar(text) => out.push_str(text),
            Self::Array(items) => {
                out.push('[');
                for (position, item) in items.iter().enumerate() {
                    out.push_str(if position > 0 { "," } else { "" });
                    out.push_str(space);
                    item.write(out, space, order);
                    out.push_str(space);
                }
                out.push(']');
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by(|(one, _), (other, _)| order(one, other));
                out.push('{');
                for (position, (key, value)) in members.into_iter().enumerate() {
                    out.push_str(if position > 0 { "," } else { "" });
                    for part in [space, *key, space, ":", space] {
                        out.push_str(part);
                    }
                    value.write(out, space, order);
                    out.push_str(space);
                }
                out.push('}');
            }
        }
    }
}

/// Everything here answers none as soon as the text cannot be stored.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    open: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn need(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<Node<'t>> {
        self.space();
        let node = match self.peek()? {
            b'{' => self.object()?,
            b'[' => self.array()?,
            b'"' => Node::Scalar(self.string()?),
            b'-' | b'0'..=b'9' => Node::Scalar(self.number()?),
            _ => Node::Scalar(self.word()?),
        };
        self.space();
        Some(node)
    }

    fn enter(&mut self, bracket: u8) -> Option<()> {
        self.need(bracket)?;
        self.open += 1;
        self.depth = self.depth.max(self.open);
        self.space();
        (self.open <= MAX_DEPTH).then_some(())
    }

    fn array(&mut self) -> Option<Node<'t>> {
        self.enter(b'[')?;
        let mut items = Vec::new();
        if !self.eat(b']') {
            items.push(self.value()?);
            while self.eat(b',') {
                items.push(self.value()?);
            }
            self.need(b']')?;
        }
        self.open -= 1;
        Some(Node::Array(items))
    }

    fn object(&mut self) -> Option<Node<'t>> {
        self.enter(b'{')?;
        let mut members = Vec::new();
        if !self.eat(b'}') {
            members.push(self.member()?);
            while self.eat(b',') {
                members.push(self.member()?);
            }
            self.need(b'}')?;
        }
        self.open -= 1;
        Some(Node::Object(members))
    }

    fn member(&mut self) -> Option<(&'t str, Node<'t>)> {
        self.space();
        let key = self.string()?;
        self.space();
        self.need(b':')?;
        Some((key, self.value()?))
    }

    fn string(&mut self) -> Option<&'t str> {
        let begin = self.at;
        self.need(b'"')?;
        while !self.eat(b'"') {
            match self.peek()? {
                b'\\' => self.escape()?,
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.text.get(begin..self.at)
    }

    fn escape(&mut self) -> Option<()> {
        self.need(b'\\')?;
        if !self.eat(b'u') {
            let plain = self.peek().is_some_and(|byte| b"\"\\/bfnrt".contains(&byte));
            self.at += 1;
            return plain.then_some(());
        }
        match self.unit()? {
            // The first half of a pair; the second has to stand right behind it.
            0xD800..=0xDBFF => {
                self.need(b'\\')?;
                self.need(b'u')?;
                (0xDC00..=0xDFFF).contains(&self.unit()?).then_some(())
            }
            0xDC00..=0xDFFF => None,
            _ => Some(()),
        }
    }

    fn unit(&mut self) -> Option<u16> {
        let hex = self.text.get(self.at..self.at + 4).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        self.at += 4;
        u16::from_str_radix(hex, 16).ok()
    }

    fn digits(&mut self) -> usize {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - begin
    }

    fn number(&mut self) -> Option<&'t str> {
        let begin = self.at;
        self.eat(b'-');
        let zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (zero && whole > 1) {
            return None;
        }
        let fraction = self.eat(b'.');
        if fraction && self.digits() == 0 {
            return None;
        }
        let exponent = self.eat(b'e') || self.eat(b'E');
        if exponent {
            let _sign = self.eat(b'+') || self.eat(b'-');
            if self.digits() == 0 {
                return None;
            }
        }
        let number = self.text.get(begin..self.at)?;
        let finite = !(fraction || exponent) || number.parse::<f64>().is_ok_and(f64::is_finite);
        (finite && whole <= MAX_INTEGER_DIGITS).then_some(number)
    }

    fn word(&mut self) -> Option<&'t str> {
        let rest = self.text.get(self.at..)?;
        let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word))?;
        self.at += word.len();
        Some(word)
    }
}
