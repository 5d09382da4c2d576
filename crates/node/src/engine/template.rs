//! Placeholders in a spec: `{{.Service.Name}}`, `{{.Task.Slot}}` … (parity S-52), and in the data of secrets and configs
//! that are templates. Pure.

use types::{
    Assignment, DependencyKind, NodeId, Slot,
    template::{self, Piece, Placeholder},
};

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
    #[error("{text:?}: {why}")]
    Spec { text: String, why: types::template::TemplateError },
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
        let wrong = |why| TemplateError::Spec { text: text.to_owned(), why };
        template::check(text).map_err(wrong)?;
        let value = |placeholder: &str| Placeholder::parse(placeholder).map(|known| self.value(&known));
        fill(template::pieces(text).map_err(wrong)?, value).map_err(|_| TemplateError::OpenOfData)
    }

    /// The data of a secret or config, which may name the task's other ones and its environment (parity X-04). What
    /// is wrong is told without the data.
    pub(super) fn expand_data(&self, text: &str, sent: &Dependencies) -> Result<String, TemplateError> {
        let value = |placeholder: &str| {
            let known = Placeholder::parse(placeholder).map(|known| self.value(&known));
            known.or_else(|| self.call(placeholder, sent))
        };
        let pieces = template::pieces(text).map_err(|_| TemplateError::OpenOfData)?;
        fill(pieces, value).map_err(|(number, placeholder)| TemplateError::UnknownOfData {
            number,
            placeholder: placeholder.chars().take(SHOWN).collect(),
        })
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

    fn value(&self, placeholder: &Placeholder) -> String {
        let a = self.assignment;
        match placeholder {
            Placeholder::ServiceId => a.service.to_string(),
            Placeholder::ServiceName => a.service_name.to_string(),
            Placeholder::ServiceLabels => {
                let pairs: Vec<String> = a.service_labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("map[{}]", pairs.join(" "))
            }
            Placeholder::ServiceLabel(name) => a.service_labels.get(name).cloned().unwrap_or_default(),
            Placeholder::NodeId => self.node.map(|n| n.to_string()).unwrap_or_default(),
            Placeholder::NodeHostname => self.node_hostname.to_owned(),
            Placeholder::NodeOs => self.node_os.to_owned(),
            Placeholder::NodeArchitecture => self.node_architecture.to_owned(),
            Placeholder::TaskId => a.id.to_string(),
            Placeholder::TaskName => super::container_id::container_name(a),
            Placeholder::TaskSlot => match a.slot {
                Slot::Replica(number) => number.to_string(),
                Slot::Node(node) => node.to_string(),
            },
        }
    }
}

/// The first placeholder without a value is the error: its number, and what it says.
fn fill<'t>(pieces: Vec<Piece<'t>>, value: impl Fn(&str) -> Option<String>) -> Result<String, (usize, &'t str)> {
    let (mut out, mut number) = (String::new(), 0);
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Placeholder { text, .. } => {
                number += 1;
                out.push_str(&value(text).ok_or((number, text))?);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::assignment;

    #[test]
    fn s_52_placeholders_are_filled_in() {
        let mut assignment = assignment(3);
        assignment.service_labels = [("tier", "db"), ("a.b", "c")].map(|(k, v)| (k.into(), v.into())).into();
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
        assert_eq!(expand("{{index .Service.Labels \"a.b\"}}/{{.Service.Labels.tier}}"), Ok("c/db".into()));
        assert_eq!(expand("{{index .Service.Labels \"none\"}}{{.Service.Labels}}"), Ok("map[a.b:c tier:db]".into()));
        assert!(expand("{{.Task").is_err());
        let why = expand("x{{.Task.Colour}}").expect_err("unknown").to_string();
        assert!(why.contains("unknown placeholder {{.Task.Colour}} at character 2"), "{why}");
    }
}
