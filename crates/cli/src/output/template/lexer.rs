//! Text and `{{ … }}` actions, the latter cut into tokens.

use super::TemplateError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.` alone.
    Dot,
    /// `.Name`; the flag says whether white space came before it, which separates arguments.
    Field(String, bool),
    Variable(String),
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Pipe,
    Open,
    Close,
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
    Comma,
}

/// A minus beside one of these, at an action's edge, takes the white space around the action away.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

pub(super) fn lex(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = source;
    let mut trim_next = false;
    while let Some(at) = rest.find("{{") {
        let mut text = &rest[..at];
        if trim_next {
            text = text.trim_start();
        }
        rest = &rest[at + 2..];
        if let Some(after) = rest.strip_prefix('-').filter(|after| after.starts_with(BLANKS)) {
            text = text.trim_end();
            rest = after;
        }
        push_text(&mut pieces, text);
        let (action, after, trim) = action(rest)?;
        rest = after;
        trim_next = trim;
        if !is_comment(action) {
            pieces.push(Piece::Action(tokens(action)?));
        }
    }
    push_text(&mut pieces, if trim_next { rest.trim_start() } else { rest });
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn is_comment(action: &str) -> bool {
    let action = action.trim();
    action.starts_with("/*") && action.ends_with("*/")
}

/// Up to the closing braces, which may stand inside a quoted text or a comment.
fn action(rest: &str) -> Result<(&str, &str, bool), TemplateError> {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    let begin = match rest.trim_start().starts_with("/*") {
        true => rest.find("*/").unwrap_or(rest.len()),
        false => 0,
    };
    for (at, c) in rest.char_indices().skip_while(|(at, _)| *at < begin) {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if rest[at..].starts_with("}}") => {
                let inner = &rest[..at];
                let trimmed = inner.strip_suffix('-').filter(|before| before.ends_with(BLANKS));
                return Ok((trimmed.unwrap_or(inner), &rest[at + 2..], trimmed.is_some()));
            }
            _ => {}
        }
    }
    Err(TemplateError::Parse(format!("unclosed action: {{{{{rest}")))
}

fn tokens(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = action;
    let mut spaced = true;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            c if c.is_whitespace() => {
                spaced = true;
                rest = &rest[c.len_utf8()..];
                continue;
            }
            '|' => single(&mut tokens, Token::Pipe),
            '(' => single(&mut tokens, Token::Open),
            ')' => single(&mut tokens, Token::Close),
            ',' => single(&mut tokens, Token::Comma),
            ':' if rest.starts_with(":=") => single(&mut tokens, Token::Declare) + 1,
            '=' => single(&mut tokens, Token::Assign),
            '"' => quoted(&mut tokens, rest)?,
            '`' => raw(&mut tokens, rest)?,
            '.' => field(&mut tokens, rest, spaced),
            '$' => {
                let name = word(&rest[1..]);
                tokens.push(Token::Variable(name.to_owned()));
                1 + name.len()
            }
            c if c.is_ascii_digit() || c == '-' || c == '+' => number(&mut tokens, rest)?,
            c if c.is_alphabetic() || c == '_' => {
                let name = word(rest);
                tokens.push(Token::Word(name.to_owned()));
                name.len()
            }
            other => return Err(TemplateError::Parse(format!("unexpected {other:?} in {{{{{action}}}}}"))),
        };
        spaced = false;
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn single(tokens: &mut Vec<Token>, token: Token) -> usize {
    tokens.push(token);
    1
}

fn word(rest: &str) -> &str {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    &rest[..end]
}

fn field(tokens: &mut Vec<Token>, rest: &str, spaced: bool) -> usize {
    let name = word(&rest[1..]);
    tokens.push(if name.is_empty() { Token::Dot } else { Token::Field(name.to_owned(), spaced) });
    1 + name.len()
}

fn quoted(tokens: &mut Vec<Token>, rest: &str) -> Result<usize, TemplateError> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                tokens.push(Token::Text(text));
                return Ok(at + 1);
            }
            '\\' => {
                let stands_for = escaped(&mut chars);
                text.push(stands_for.ok_or_else(|| TemplateError::Parse(format!("unknown escape in {rest}")))?);
            }
            c => text.push(c),
        }
    }
    Err(TemplateError::Parse(format!("unterminated quoted string {rest}")))
}

/// The character that a backslash and what follows it stand for, as in Go.
fn escaped(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let (_, c) = chars.next()?;
    Some(match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        '"' | '\\' => c,
        'x' => coded(chars, 0, 16, 2)?,
        'u' => coded(chars, 0, 16, 4)?,
        'U' => coded(chars, 0, 16, 8)?,
        c => coded(chars, c.to_digit(8)?, 8, 2)?,
    })
}

/// The character whose number goes on in so many digits.
fn coded(chars: &mut impl Iterator<Item = (usize, char)>, first: u32, radix: u32, digits: usize) -> Option<char> {
    let mut code = first;
    for _ in 0..digits {
        code = code.checked_mul(radix)?.checked_add(chars.next()?.1.to_digit(radix)?)?;
    }
    char::from_u32(code)
}

fn raw(tokens: &mut Vec<Token>, rest: &str) -> Result<usize, TemplateError> {
    let end = rest[1..].find('`').ok_or_else(|| TemplateError::Parse(format!("unterminated raw string {rest}")))?;
    tokens.push(Token::Text(rest[1..=end].to_owned()));
    Ok(end + 2)
}

fn number(tokens: &mut Vec<Token>, rest: &str) -> Result<usize, TemplateError> {
    let tail = &rest[1..];
    let end = 1 + tail.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(tail.len());
    let text = rest[..end].trim_start_matches('+');
    let number = serde_json::from_str(text).map_err(|_| TemplateError::Parse(format!("bad number {text:?}")))?;
    tokens.push(Token::Number(number));
    Ok(end)
}
