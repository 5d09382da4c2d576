//! Placeholders in a spec: `{{.Service.Name}}`, `{{.Task.Slot}}` … (parity S-52). Pure.

use types::{Assignment, NodeId, Slot};

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
}

impl Context<'_> {
    /// The text with every placeholder replaced.
    pub(super) fn expand(&self, text: &str) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let open = || TemplateError::Open { text: text.to_owned() };
            let (placeholder, remainder) = after.split_once("}}").ok_or_else(open)?;
            out.push_str(before);
            let value = self.value(placeholder.trim()).ok_or_else(|| TemplateError::Unknown {
                text: text.to_owned(),
                placeholder: placeholder.trim().to_owned(),
            })?;
            out.push_str(&value);
            rest = remainder;
        }
        out.push_str(rest);
        Ok(out)
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
