//! Tokens to a tree.

use serde_json::Value;

use super::{
    TemplateError, functions,
    lexer::{Piece, Token},
};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    /// `$x := pipeline`: prints nothing.
    Declare(String, Pipeline),
    /// `$x = pipeline`: prints nothing either.
    Assign(String, Pipeline),
    If {
        variable: Option<String>,
        test: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        variable: Option<String>,
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        key: Option<String>,
        item: Option<String>,
        over: Pipeline,
        each: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// No more of what the innermost range goes over.
    Break,
    /// On to the next.
    Continue,
}

/// Each command receives the result of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline(pub(super) Vec<Vec<Operand>>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Literal(Value),
    Function(String),
    /// A start and the fields below it.
    Path(Start, Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Start {
    Dot,
    Variable(String),
    Pipeline(Pipeline),
}

/// Deep nesting would overflow the stack; nobody writes templates like that.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0, ranges: 0 };
    let (nodes, end) = parser.block()?;
    match end {
        Stop::Source => Ok(nodes),
        Stop::End => Err(error("unexpected {{end}}")),
        Stop::Else(_) => Err(error("unexpected {{else}}")),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
    /// How many ranges this place is in.
    ranges: usize,
}

/// What ended a block.
enum Stop {
    Source,
    End,
    /// With the tokens after `else`: empty, or those of an `else if`.
    Else(Vec<Token>),
}

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error("blocks are nested too deeply"));
        }
        let mut nodes = Vec::new();
        let end = loop {
            match self.pieces.next() {
                None => break Stop::Source,
                Some(Piece::Text(text)) => nodes.push(Node::Text(text)),
                Some(Piece::Action(tokens)) => match tokens.split_first() {
                    Some((Token::Word(word), [])) if word == "end" => break Stop::End,
                    Some((Token::Word(word), rest)) if word == "else" => break Stop::Else(rest.to_vec()),
                    _ => nodes.push(self.action(&tokens)?),
                },
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn action(&mut self, tokens: &[Token]) -> Result<Node, TemplateError> {
        match tokens {
            [] => Err(error("missing value for command")),
            [Token::Word(word), rest @ ..] if word == "if" => self.conditional(rest, true),
            [Token::Word(word), rest @ ..] if word == "with" => self.conditional(rest, false),
            [Token::Word(word), rest @ ..] if word == "range" => self.range(rest),
            [Token::Word(word)] if word == "break" || word == "continue" => match self.ranges {
                0 => Err(error(&format!("{{{{{word}}}}} outside {{{{range}}}}"))),
                _ => Ok(if word == "break" { Node::Break } else { Node::Continue }),
            },
            [Token::Word(word), ..] if ["define", "template", "block"].contains(&word.as_str()) => {
                Err(error(&format!("{{{{{word}}}}} is not supported")))
            }
            [Token::Variable(name), Token::Declare, rest @ ..] => Ok(Node::Declare(name.clone(), pipeline(rest)?)),
            [Token::Variable(name), Token::Assign, rest @ ..] => Ok(Node::Assign(name.clone(), pipeline(rest)?)),
            _ => Ok(Node::Print(pipeline(tokens)?)),
        }
    }

    fn conditional(&mut self, tokens: &[Token], is_if: bool) -> Result<Node, TemplateError> {
        let (variable, tokens) = match tokens {
            [Token::Variable(name), Token::Declare, rest @ ..] => (Some(name.clone()), rest),
            tokens => (None, tokens),
        };
        let value = pipeline(tokens)?;
        let (then, otherwise) = self.branches()?;
        Ok(match is_if {
            true => Node::If { variable, test: value, then, otherwise },
            false => Node::With { variable, value, then, otherwise },
        })
    }

    fn range(&mut self, tokens: &[Token]) -> Result<Node, TemplateError> {
        let (key, item, rest) = match tokens {
            [Token::Variable(key), Token::Comma, Token::Variable(item), Token::Declare | Token::Assign, rest @ ..] => {
                (Some(key.clone()), Some(item.clone()), rest)
            }
            [Token::Variable(item), Token::Declare | Token::Assign, rest @ ..] => (None, Some(item.clone()), rest),
            rest => (None, None, rest),
        };
        let over = pipeline(rest)?;
        self.ranges += 1;
        let (each, otherwise) = self.branches()?;
        self.ranges -= 1;
        Ok(Node::Range { key, item, over, each, otherwise })
    }

    fn branches(&mut self) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let (then, end) = self.block()?;
        let otherwise = match end {
            Stop::Source => return Err(error("unexpected end of template: {{end}} is missing")),
            Stop::End => Vec::new(),
            Stop::Else(rest) => match rest.split_first() {
                None => match self.block()? {
                    (nodes, Stop::End) => nodes,
                    _ => return Err(error("expected {{end}} after {{else}}")),
                },
                // `else if`: the rest of the block is one conditional that eats the same `end`.
                Some((Token::Word(word), test)) if word == "if" => vec![self.conditional(test, true)?],
                Some((Token::Word(word), value)) if word == "with" => vec![self.conditional(value, false)?],
                Some(_) => return Err(error("unexpected words after {{else}}")),
            },
        };
        Ok((then, otherwise))
    }
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, TemplateError> {
    let mut cursor = Cursor { tokens, at: 0, depth: 0 };
    let pipeline = cursor.pipeline()?;
    if cursor.at < tokens.len() {
        return Err(error("unexpected ')'"));
    }
    Ok(pipeline)
}

struct Cursor<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error("parentheses are nested too deeply"));
        }
        let mut commands = vec![self.command()?];
        while self.peek() == Some(&Token::Pipe) {
            self.at += 1;
            commands.push(self.command()?);
        }
        self.depth -= 1;
        Ok(Pipeline(commands))
    }

    fn command(&mut self) -> Result<Vec<Operand>, TemplateError> {
        let mut operands = Vec::new();
        while let Some(token) = self.peek() {
            if matches!(token, Token::Pipe | Token::Close) {
                break;
            }
            operands.push(self.operand()?);
        }
        if operands.is_empty() { Err(error("missing value for command")) } else { Ok(operands) }
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let token = self.tokens[self.at].clone();
        self.at += 1;
        let start = match token {
            Token::Text(text) => return Ok(Operand::Literal(Value::String(text))),
            Token::Number(number) => return Ok(Operand::Literal(Value::Number(number))),
            Token::Word(word) => {
                return Ok(match word.as_str() {
                    "true" => Operand::Literal(Value::Bool(true)),
                    "false" => Operand::Literal(Value::Bool(false)),
                    "nil" => Operand::Literal(Value::Null),
                    name if functions::NAMES.contains(&name) => Operand::Function(word),
                    name => return Err(error(&format!("function {name:?} not defined"))),
                });
            }
            Token::Dot => Start::Dot,
            Token::Field(name, _) => {
                let mut fields = vec![name];
                self.chain(&mut fields);
                return Ok(Operand::Path(Start::Dot, fields));
            }
            Token::Variable(name) => Start::Variable(name),
            Token::Open => {
                let inner = self.pipeline()?;
                if self.peek() != Some(&Token::Close) {
                    return Err(error("unclosed '('"));
                }
                self.at += 1;
                Start::Pipeline(inner)
            }
            Token::Pipe | Token::Close | Token::Declare | Token::Assign | Token::Comma => {
                return Err(error(&format!("unexpected {token:?}")));
            }
        };
        let mut fields = Vec::new();
        self.chain(&mut fields);
        Ok(Operand::Path(start, fields))
    }

    /// Fields that follow without white space belong to the same operand.
    fn chain(&mut self, fields: &mut Vec<String>) {
        while let Some(Token::Field(name, false)) = self.peek() {
            fields.push(name.clone());
            self.at += 1;
        }
    }
}

fn error(text: &str) -> TemplateError {
    TemplateError::Parse(text.to_owned())
}
