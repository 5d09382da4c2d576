//! Placeholders in a spec: `{{.Service.Name}}`, `{{.Task.Slot}}` … (parity S-52), and in the data of secrets and configs
//! that are templates. Pure.

use types::{Assignment, DependencyKind, NodeId, Slot};

use super::dependencies::Dependencies;

/// What placeholders stand for.
#[derive(Debug, Clone)]
pub(super) struct Context<'a> {
    pub assignment: &'a Assignment,
    pub node: Option<NodeId>,
    pub node_hostname: &'a str,
    pub node_os: &'a str,
    pub node_architecture: &'a str,
}

/// Why a text could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("{text:?} has a placeholder that does not end: write {{{{.Task.Slot}}}}")]
    Open { text: String },
    #[error(
        "{text:?} has the unknown placeholder {placeholder:?}; known are .Service.ID, .Service.Name, .Node.ID, \
         .Node.Hostname, .Node.Platform.OS, .Node.Platform.Architecture, .Task.ID, .Task.Name and .Task.Slot"
    )]
    Unknown { text: String, placeholder: String },
    #[error("it has a placeholder that does not end: write {{{{.Task.Slot}}}}")]
    OpenOfData,
    #[error(
        "its placeholder {number}, {placeholder}, is not known or names nothing of this task; beside those of a spec, \
         such as .Task.Slot, there are secret \"TARGET\", config \"TARGET\" and env \"NAME\""
    )]
    UnknownOfData { number: usize, placeholder: String },
}

/// How many characters of a wrong placeholder are shown.
const SHOWN: usize = 40;

impl Context<'_> {
    /// The text with every placeholder replaced.
    pub(super) fn expand(&self, text: &str) -> Result<String, TemplateError> {
        let unknown = |_, placeholder: &str| TemplateError::Unknown {
            text: text.to_owned(),
            placeholder: placeholder.to_owned(),
        };
        fill(text, || TemplateError::Open { text: text.to_owned() }, unknown, |placeholder| self.value(placeholder))
    }

    /// The data of a secret or config, which may name the task's other ones and its environment (parity X-04). What
    /// is wrong is told without the data.
    pub(super) fn expand_data(&self, text: &str, sent: &Dependencies) -> Result<String, TemplateError> {
        let unknown = |number, placeholder: &str| TemplateError::UnknownOfData {
            number,
            placeholder: placeholder.chars().take(SHOWN).collect(),
        };
        let value = |placeholder: &str| self.value(placeholder).or_else(|| self.call(placeholder, sent));
        fill(text, || TemplateError::OpenOfData, unknown, value)
    }

    /// `secret "target"`, `config "target"` and `env "NAME"`.
    fn call(&self, placeholder: &str, sent: &Dependencies) -> Option<String> {
        let (function, argument) = placeholder.split_once(char::is_whitespace)?;
        let argument = argument.trim();
        let inner = |quote: char| argument.strip_prefix(quote)?.strip_suffix(quote);
        let argument = inner('"').or_else(|| inner('`'))?;
        let kind = match function {
            "secret" => DependencyKind::Secret,
            "config" => DependencyKind::Config,
            "env" => return Some(self.variable(argument)),
            _ => return None,
        };
        let of_kind = || self.assignment.spec.container.dependencies.iter().filter(|wanted| wanted.kind == kind);
        let by_target = of_kind().find(|wanted| wanted.file.name == argument);
        let found = by_target.or_else(|| of_kind().find(|wanted| wanted.shown() == argument))?;
        String::from_utf8(sent.get(&found.id?)?.data.bytes().to_vec()).ok()
    }

    /// Of the spec; empty if it is not set there.
    fn variable(&self, name: &str) -> String {
        let env = self.assignment.spec.container.env.iter().rev();
        let value = env.filter_map(|variable| variable.split_once('=')).find(|(known, _)| *known == name);
        value.map(|(_, value)| self.expand(value).unwrap_or_else(|_| value.to_owned())).unwrap_or_default()
    }

    fn value(&self, placeholder: &str) -> Option<String> {
        let a = self.assignment;
        Some(match placeholder {
            ".Service.ID" => a.service.to_string(),
            ".Service.Name" => a.service_name.to_string(),
            ".Node.ID" => self.node.map(|n| n.to_string()).unwrap_or_default(),
            ".Node.Hostname" => self.node_hostname.to_owned(),
            ".Node.Platform.OS" => self.node_os.to_owned(),
            ".Node.Platform.Architecture" => self.node_architecture.to_owned(),
            ".Task.ID" => a.id.to_string(),
            ".Task.Name" => super::container_id::container_name(a),
            ".Task.Slot" => match a.slot {
                Slot::Replica(number) => number.to_string(),
                Slot::Node(node) => node.to_string(),
            },
            _ => return None,
        })
    }
}

/// Go's way: `{{- ` takes the white space before it away, ` -}}` that behind it, and `{{/* */}}` says nothing.
fn fill(
    text: &str,
    open: impl Fn() -> TemplateError,
    unknown: impl Fn(usize, &str) -> TemplateError,
    value: impl Fn(&str) -> Option<String>,
) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut number) = (text, 0);
    while let Some((before, after)) = rest.split_once("{{") {
        number += 1;
        let (inner, mut remainder) = after.split_once("}}").ok_or_else(&open)?;
        out.push_str(before);
        let mut placeholder = inner;
        if let Some(trimmed) = inner.strip_prefix("- ") {
            out.truncate(out.trim_end().len());
            placeholder = trimmed;
        }
        if let Some(trimmed) = placeholder.strip_suffix(" -") {
            remainder = remainder.trim_start();
            placeholder = trimmed;
        }
        let placeholder = placeholder.trim();
        if !(placeholder.starts_with("/*") && placeholder.ends_with("*/")) {
            out.push_str(&value(placeholder).ok_or_else(|| unknown(number, placeholder))?);
        }
        rest = remainder;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::assignment;

    #[test]
    fn placeholders_are_filled_in() {
        let assignment = assignment(3);
        let context = Context {
            assignment: &assignment,
            node: None,
            node_hostname: "host-a",
            node_os: "linux",
            node_architecture: "amd64",
        };
        let expand = |text: &str| context.expand(text);
        assert_eq!(expand("plain"), Ok("plain".into()));
        assert_eq!(expand("{{.Service.Name}}-{{ .Task.Slot }}@{{.Node.Hostname}}"), Ok("web-3@host-a".into()));
        assert!(matches!(expand("{{.Task"), Err(TemplateError::Open { .. })));
        assert!(matches!(expand("{{.Task.Colour}}"), Err(TemplateError::Unknown { .. })));
    }
}
