//! A pattern's tokens as a tree. What the subset has not is refused by its name; nothing is skipped.

use super::lexer::{Token, tokens};
use crate::limits::{PATTERN_BYTES_MAX, PATTERN_DEPTH_MAX};

/// Comparisons joined by AND and OR.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// All of them.
    And(Vec<Node>),
    /// One of them.
    Or(Vec<Node>),
    /// A comparison.
    Comparison(Comparison),
}

/// A comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    /// Object type and path, without spaces.
    pub(super) path: String,
    /// How.
    pub(super) operator: Operator,
    /// With what; one value but for `IN`.
    pub(super) values: Vec<Value>,
}

/// How a comparison compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// `=`, or one of a list.
    Equal,
    /// Within a prefix.
    IsSubset,
}

/// What a comparison compares with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Text.
    Text(String),
    /// Number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// Reads a pattern.
pub(super) fn pattern(text: &str) -> Result<Node, String> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, end: text.len() };
    let node = parser.observations()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.unexpected("the pattern's end")),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(is);
        is
    }

    fn word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.at += usize::from(is);
        is
    }

    fn unexpected(&self, wanted: &str) -> String {
        let place = self.tokens.get(self.at).map_or(self.end, |(place, _)| *place);
        format!("byte {place}: {wanted} is expected")
    }

    /// Keywords that the subset has not; each says why.
    fn refuse_keywords(&self) -> Result<(), String> {
        let Some(Token::Word(word)) = self.peek() else { return Ok(()) };
        let why = match word.as_str() {
            "FOLLOWEDBY" => "FOLLOWEDBY is not of the subset: the tap decides on each packet by itself",
            "WITHIN" | "REPEATS" | "START" => "WITHIN, REPEATS and START are not of the subset: no rule counts packets",
            "NOT" => "NOT is not of the subset: a rule says what is selected, not what is left out",
            "MATCHES" => "MATCHES is not of the subset: no expression is searched in a packet",
            "LIKE" => "LIKE is not of the subset: no expression is searched in a packet",
            "ISSUPERSET" => "ISSUPERSET is not of the subset",
            "EXISTS" => "EXISTS is not of the subset",
            _ => return Ok(()),
        };
        Err(why.to_owned())
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.depth += 1;
        if self.depth > PATTERN_DEPTH_MAX {
            return Err(format!("parentheses within more than {PATTERN_DEPTH_MAX} others"));
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn observations(&mut self) -> Result<Node, String> {
        let mut alternatives = vec![self.observation()?];
        loop {
            self.refuse_keywords()?;
            if self.word("OR") {
                alternatives.push(self.observation()?);
            } else if self.word("AND") {
                return Err(
                    "AND between observations is not of the subset: the tap decides on each packet by itself".into()
                );
            } else {
                return Ok(one_or(alternatives, Node::Or));
            }
        }
    }

    fn observation(&mut self) -> Result<Node, String> {
        if self.sign("(") {
            let node = self.deeper(Self::observations)?;
            return self.closed(")", node);
        }
        if !self.sign("[") {
            self.refuse_keywords()?;
            return Err(self.unexpected("an observation in brackets"));
        }
        let node = self.deeper(Self::alternatives)?;
        self.closed("]", node)
    }

    fn closed(&mut self, sign: &str, node: Node) -> Result<Node, String> {
        self.refuse_keywords()?;
        if self.sign(sign) { Ok(node) } else { Err(self.unexpected(sign)) }
    }

    /// OR binds less than AND.
    fn alternatives(&mut self) -> Result<Node, String> {
        let mut alternatives = vec![self.conjunction()?];
        while self.word("OR") {
            alternatives.push(self.conjunction()?);
        }
        Ok(one_or(alternatives, Node::Or))
    }

    fn conjunction(&mut self) -> Result<Node, String> {
        let mut all = vec![self.test()?];
        while self.word("AND") {
            all.push(self.test()?);
        }
        Ok(one_or(all, Node::And))
    }

    fn test(&mut self) -> Result<Node, String> {
        if self.sign("(") {
            let node = self.deeper(Self::alternatives)?;
            return self.closed(")", node);
        }
        self.refuse_keywords()?;
        let path = self.path()?;
        self.refuse_keywords()?;
        if self.word("IN") {
            return Ok(Node::Comparison(Comparison { path, operator: Operator::Equal, values: self.list()? }));
        }
        if self.word("ISSUBSET") {
            return Ok(Node::Comparison(Comparison {
                path,
                operator: Operator::IsSubset,
                values: vec![self.value()?],
            }));
        }
        if self.sign("=") || self.sign("==") {
            return Ok(Node::Comparison(Comparison { path, operator: Operator::Equal, values: vec![self.value()?] }));
        }
        match self.peek() {
            Some(Token::Sign(sign @ ("!=" | "<>" | "<" | ">" | "<=" | ">="))) => {
                Err(format!("the comparison {sign} is not of the subset; =, IN and ISSUBSET are"))
            }
            _ => Err(self.unexpected("a comparison (=, IN, ISSUBSET)")),
        }
    }

    /// `type:name.name[*].'name'`.
    fn path(&mut self) -> Result<String, String> {
        let Some(Token::Word(kind)) = self.peek() else { return Err(self.unexpected("an object's type")) };
        let mut path = kind.clone();
        self.at += 1;
        if !self.sign(":") {
            return Err(self.unexpected("a colon after the object's type"));
        }
        path.push(':');
        loop {
            match self.peek() {
                Some(Token::Word(name) | Token::Text(name)) => path.push_str(name),
                _ => return Err(self.unexpected("a property's name")),
            }
            self.at += 1;
            while self.sign("[") {
                match self.peek() {
                    Some(Token::Sign("*")) => path.push_str("[*]"),
                    Some(Token::Number(_)) => path.push_str("[n]"),
                    _ => return Err(self.unexpected("an index or *")),
                }
                self.at += 1;
                if !self.sign("]") {
                    return Err(self.unexpected("]"));
                }
            }
            if !self.sign(".") {
                return Ok(path);
            }
            path.push('.');
        }
    }

    fn list(&mut self) -> Result<Vec<Value>, String> {
        if !self.sign("(") {
            return Err(self.unexpected("a list in parentheses"));
        }
        let mut values = vec![self.value()?];
        while self.sign(",") {
            values.push(self.value()?);
        }
        if self.sign(")") { Ok(values) } else { Err(self.unexpected(")")) }
    }

    fn value(&mut self) -> Result<Value, String> {
        let value = match self.peek() {
            Some(Token::Text(text)) => Value::Text(text.clone()),
            Some(Token::Number(number)) => Value::Number(*number),
            Some(Token::Bytes(bytes)) => Value::Bytes(bytes.clone()),
            Some(Token::Time | Token::Fraction) => return Err("times and fractions are not of the subset".to_owned()),
            _ => return Err(self.unexpected("a value")),
        };
        self.at += 1;
        Ok(value)
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(node) if nodes.is_empty() => node,
        Some(node) => {
            nodes.push(node);
            many(nodes)
        }
        None => many(nodes),
    }
}
