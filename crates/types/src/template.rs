//! Placeholders in texts of a spec: `{{.Service.Name}}`, `{{index .Service.Labels "tier"}}` … (parity S-52). Pure.
//!
//! Read by admission, which refuses what is not known, and by nodes, which fill in.

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    Text(&'t str),
    /// What is between the braces, and at which character of the text they begin, counted from 1.
    Placeholder {
        text: &'t str,
        at: usize,
    },
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placeholder {
    ServiceId,
    ServiceName,
    /// All of them, as Go prints a map.
    ServiceLabels,
    /// The value of one; nothing if the service has it not.
    ServiceLabel(String),
    NodeId,
    NodeHostname,
    NodeOs,
    NodeArchitecture,
    TaskId,
    TaskName,
    TaskSlot,
}

/// Why a text cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the placeholder at character {at} does not end: write {{{{.Task.Slot}}}}, for example")]
    Open { at: usize },
    #[error(
        "unknown placeholder {{{{{placeholder}}}}} at character {at}: known are .Service.ID, .Service.Name, \
         .Service.Labels, index .Service.Labels \"NAME\", .Node.ID, .Node.Hostname, .Node.Platform.OS, \
         .Node.Platform.Architecture, .Task.ID, .Task.Name and .Task.Slot"
    )]
    Unknown { placeholder: String, at: usize },
}

/// How many characters of a wrong placeholder are shown.
const SHOWN: usize = 60;

/// Cuts a text up. Go's way: `{{- ` takes the white space before it away, ` -}}` that behind it, and `{{/* */}}` says
/// nothing.
///
/// # Errors
/// A placeholder does not end.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let at = text[..text.len() - after.len() - 2].chars().count() + 1;
        let (inner, mut remainder) = after.split_once("}}").ok_or(TemplateError::Open { at })?;
        let (mut before, mut placeholder) = (before, inner);
        if let Some(trimmed) = inner.strip_prefix("- ") {
            before = before.trim_end();
            placeholder = trimmed;
        }
        if let Some(trimmed) = placeholder.strip_suffix(" -") {
            remainder = remainder.trim_start();
            placeholder = trimmed;
        }
        all.push(Piece::Text(before));
        let placeholder = placeholder.trim();
        if !(placeholder.starts_with("/*") && placeholder.ends_with("*/")) {
            all.push(Piece::Placeholder { text: placeholder, at });
        }
        rest = remainder;
    }
    all.push(Piece::Text(rest));
    Ok(all)
}

impl Placeholder {
    /// `None`: there is no such placeholder.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            ".Service.ID" => Self::ServiceId,
            ".Service.Name" => Self::ServiceName,
            ".Service.Labels" => Self::ServiceLabels,
            ".Node.ID" => Self::NodeId,
            ".Node.Hostname" => Self::NodeHostname,
            ".Node.Platform.OS" => Self::NodeOs,
            ".Node.Platform.Architecture" => Self::NodeArchitecture,
            ".Task.ID" => Self::TaskId,
            ".Task.Name" => Self::TaskName,
            ".Task.Slot" => Self::TaskSlot,
            other => Self::ServiceLabel(label(other)?),
        })
    }
}

/// `index .Service.Labels "name"`, and `.Service.Labels.name` where the name is a word.
fn label(text: &str) -> Option<String> {
    if let Some(name) = text.strip_prefix(".Service.Labels.") {
        let is_word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        return is_word.then(|| name.to_owned());
    }
    let argument = text.strip_prefix("index")?.trim_start().strip_prefix(".Service.Labels")?;
    let argument = argument.starts_with(char::is_whitespace).then(|| argument.trim())?;
    let inner = |quote: char| argument.strip_prefix(quote)?.strip_suffix(quote);
    let name = inner('"').or_else(|| inner('`'))?;
    (!name.contains(['"', '`', '\\'])).then(|| name.to_owned())
}

/// Whether all placeholders of a text are known.
///
/// # Errors
/// The first that is not, with its place.
pub fn check(text: &str) -> Result<(), TemplateError> {
    for piece in pieces(text)? {
        if let Piece::Placeholder { text, at } = piece
            && Placeholder::parse(text).is_none()
        {
            let placeholder = text.chars().take(SHOWN).collect();
            return Err(TemplateError::Unknown { placeholder, at });
        }
    }
    Ok(())
}

/// Whether a text asks for labels of its service.
pub fn asks_for_labels(text: &str) -> bool {
    text.contains("{{") && text.contains(".Service.Labels")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_52_texts_are_cut_at_their_placeholders() {
        let placeholder = |text, at| Piece::Placeholder { text, at };
        assert_eq!(pieces("plain").expect("good"), [Piece::Text("plain")]);
        assert_eq!(
            pieces("ä={{ .Task.Slot }} {{- /* nothing */ -}} x").expect("good"),
            [Piece::Text("ä="), placeholder(".Task.Slot", 3), Piece::Text(""), Piece::Text("x")]
        );
        assert_eq!(pieces("a{{.Task"), Err(TemplateError::Open { at: 2 }));
    }

    #[test]
    fn s_52_labels_and_what_is_not_known() {
        let label = |name: &str| Some(Placeholder::ServiceLabel(name.to_owned()));
        assert_eq!(Placeholder::parse("index .Service.Labels \"a.b/c\""), label("a.b/c"));
        assert_eq!(Placeholder::parse("index  .Service.Labels   `x`"), label("x"));
        assert_eq!(Placeholder::parse(".Service.Labels.tier"), label("tier"));
        for bad in [
            ".Service.Labels.a.b",
            "index .Service.Labels",
            "index .Task.Slot \"a\"",
            ".Foo",
            "",
            "index .Service.Labels\"x\"",
        ] {
            assert_eq!(Placeholder::parse(bad), None, "{bad}");
        }
        let why = check("A={{.Task.Slot}}{{.Foo}}").expect_err("unknown").to_string();
        assert!(why.starts_with("unknown placeholder {{.Foo}} at character 17: known are .Service.ID"), "{why}");
        assert!(asks_for_labels("{{index .Service.Labels \"x\"}}") && !asks_for_labels(".Service.Labels"));
    }
}
