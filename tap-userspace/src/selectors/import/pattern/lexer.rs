//! A pattern's text as tokens, each with its place.

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Keyword, object type or property name.
    Word(String),
    /// `'…'`.
    Text(String),
    /// `h'…'` or `b'…'`, decoded.
    Bytes(Vec<u8>),
    /// `t'…'`.
    Time,
    /// A whole number.
    Number(i64),
    /// A number with a fraction.
    Fraction,
    /// Anything else that stands alone: `[`, `=`, `!=`, …
    Sign(&'static str),
}

/// Two characters before one: the longest fits.
const SIGNS: [&str; 18] =
    ["!=", "<>", "<=", ">=", "==", "[", "]", "(", ")", "=", "<", ">", ",", ".", ":", "*", "+", "^"];

/// All tokens, each with the byte it begins at.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if rest.starts_with("/*") || rest.starts_with("//") {
            return Err(format!("a comment at byte {at}: comments are not of the subset"));
        }
        let (token, length) = token(rest).map_err(|reason| format!("byte {at}: {reason}"))?;
        tokens.push((at, token));
        at += length;
    }
    Ok(tokens)
}

fn token(rest: &str) -> Result<(Token, usize), String> {
    for (prefix, what) in [("h'", 'h'), ("b'", 'b'), ("t'", 't'), ("'", '\'')] {
        if rest.starts_with(prefix) {
            let (text, length) = quoted(rest, prefix.len())?;
            return Ok((literal(what, text)?, length));
        }
    }
    if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        return Ok((Token::Sign(sign), sign.len()));
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    let word = rest.get(..length).unwrap_or_default();
    if word.is_empty() {
        return Err("a character that no pattern has".to_owned());
    }
    if word.strip_prefix('-').unwrap_or(word).starts_with(|c: char| c.is_ascii_digit()) {
        let fraction = rest.get(length..).is_some_and(|rest| {
            rest.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        if fraction {
            let digits = rest.get(length + 1..).unwrap_or_default();
            let more = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            return Ok((Token::Fraction, length + 1 + more));
        }
        let number = word.parse().map_err(|_number| "a number that is none".to_owned())?;
        return Ok((Token::Number(number), length));
    }
    Ok((Token::Word(word.to_owned()), length))
}

/// The text between quotes; a backslash takes the next character as it is.
fn quoted(rest: &str, from: usize) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut characters = rest.get(from..).unwrap_or_default().char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' => return Ok((text, from + at + 1)),
            '\\' => match characters.next() {
                Some((_, escaped @ ('\'' | '\\'))) => text.push(escaped),
                _ => return Err("a backslash before something else than a quote or a backslash".to_owned()),
            },
            other => text.push(other),
        }
    }
    Err("a quote that is not closed".to_owned())
}

fn literal(what: char, text: String) -> Result<Token, String> {
    use base64::Engine as _;
    match what {
        'h' => hex::decode(text).map(Token::Bytes).map_err(|_hex| "h'…' is not pairs of hex digits".to_owned()),
        'b' => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(Token::Bytes)
            .map_err(|_base64| "b'…' is not base64".to_owned()),
        't' => Ok(Token::Time),
        _ => Ok(Token::Text(text)),
    }
}
