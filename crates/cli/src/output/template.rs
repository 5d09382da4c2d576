//! `--format`: the part of Go's `text/template` that people use with docker, over JSON values.
//!
//! Fields, chains, pipelines, variables, `if`/`else`, `range`, `with`, comments and trim markers,
//! docker's functions (`json`, `join`, `upper` …), and `.Label "KEY"` in lists. Pure. Anything else is refused with its place.

mod eval;
mod functions;
mod lexer;
mod optional;
mod parser;
mod printf;

use serde_json::Value;
use types::Labels;

use parser::Node;

/// A template ready to be run on many values.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// Why a template cannot be read or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("template parsing error: {0}")]
    Parse(String),
    #[error("template: {0}")]
    Run(String),
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        parser::parse(lexer::lex(text)?).map(|nodes| Self { nodes })
    }

    pub(crate) fn run(&self, value: &Value) -> Result<String, TemplateError> {
        eval::run(&self.nodes, value, None)
    }

    /// On a line of a list; `None` where what is listed has no labels.
    pub(crate) fn run_line(&self, value: &Value, labels: Option<&Labels>) -> Result<String, TemplateError> {
        eval::run(&self.nodes, value, labels)
    }

    /// The template of a table's heading: each field stands for its column's title.
    pub(crate) fn run_heading(&self, titles: &Value) -> Result<String, TemplateError> {
        eval::run_heading(&self.nodes, titles)
    }
}

#[cfg(test)]
mod tests;
