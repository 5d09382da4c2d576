//! YAML text to a [`Node`]: anchors, aliases and merge keys are resolved, keys that stand twice are refused. Pure.
//!
//! What a file may cost is bounded: aliases that multiply ("billion laughs") and endless nesting are refused.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag as YamlTag};

use super::{
    check::Problem,
    node::{Content, Key, Node, Place, Tag},
};

/// A large stack has some thousand; aliases multiply.
const MAX_NODES: usize = 200_000;
/// Compose nests six deep.
const MAX_DEPTH: usize = 64;

/// # Errors
/// The first thing that is not YAML, or all keys that stand twice.
pub(crate) fn parse(file: usize, text: &str) -> Result<Node, Vec<Problem>> {
    let parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    let mut reader = Reader { file, parser, anchors: HashMap::new(), nodes: 0, depth: 0, problems: Vec::new() };
    let start = Place { file, line: 1, column: 1 };
    match reader.document() {
        Err(problem) => Err(vec![problem]),
        Ok(_) if !reader.problems.is_empty() => Err(reader.problems),
        Ok(None) => Err(vec![Problem::new(start, "the file is empty: it needs at least `services:`")]),
        Ok(Some(node)) => Ok(node),
    }
}

struct Reader<'t> {
    file: usize,
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    depth: usize,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    fn place(&self, mark: Marker) -> Place {
        Place { file: self.file, line: mark.line(), column: mark.col() + 1 }
    }

    fn next(&mut self) -> Result<(Event<'t>, Place), Problem> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, self.place(span.start))),
            Some(Err(error)) => {
                Err(Problem::new(self.place(*error.marker()), format!("this is not YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Place { file: self.file, line: 1, column: 1 })),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut found: Option<Node> = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(found.filter(|node| !node.is_null())),
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if found.is_some() => {
                    return Err(Problem::new(at, "a second YAML document: give each its own file and its own -c"));
                }
                Event::DocumentStart(_) => {}
                event => found = Some(self.node(event, at)?),
            }
        }
    }

    fn count(&mut self, more: usize, at: Place) -> Result<(), Problem> {
        self.nodes += more;
        match self.nodes > MAX_NODES {
            true => Err(Problem::new(at, format!("more than {MAX_NODES} values, aliases resolved: this is no stack"))),
            false => Ok(()),
        }
    }

    fn node(&mut self, event: Event<'t>, at: Place) -> Result<Node, Problem> {
        let before = self.nodes;
        self.count(1, at)?;
        let (content, anchor, tag) = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(Problem::new(at, "this alias stands for nothing: its anchor is not closed yet"));
                };
                self.count(size, at)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => (scalar(text.into_owned(), style, tag.as_deref()), anchor, tag),
            Event::SequenceStart(anchor, tag) => (self.list(at)?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.map(at)?, anchor, tag),
            _ => return Err(Problem::new(at, "this is not YAML: a value is missing")),
        };
        let node = Node { at, tag: compose_tag(tag.as_deref()), content };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn deeper(&mut self, at: Place) -> Result<(), Problem> {
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err(Problem::new(at, format!("nested more than {MAX_DEPTH} deep"))),
            false => Ok(()),
        }
    }

    fn list(&mut self, at: Place) -> Result<Content, Problem> {
        self.deeper(at)?;
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => break,
                (event, at) => items.push(self.node(event, at)?),
            }
        }
        self.depth -= 1;
        Ok(Content::List(items))
    }

    fn map(&mut self, at: Place) -> Result<Content, Problem> {
        self.deeper(at)?;
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut inherited: Vec<Node> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            let name = match event {
                Event::MappingEnd => break,
                event => self.node(event, at)?,
            };
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at)?;
            match name.content {
                Content::Scalar { text, quoted: false } if text == "<<" => inherited.push(value),
                Content::Scalar { text, .. } => match entries.iter().find(|(key, _)| key.name == text) {
                    Some((first, _)) => {
                        let why = format!("the key {text:?} stands here twice, first in line {}", first.at.line);
                        self.problems.push(Problem::new(at, why));
                    }
                    None => entries.push((Key { name: text, at }, value)),
                },
                _ => return Err(Problem::new(at, "a key is a single word here, no list or map")),
            }
        }
        for source in inherited {
            self.inherit(&mut entries, source)?;
        }
        self.depth -= 1;
        Ok(Content::Map(entries))
    }

    /// `<<`: what is not there already.
    fn inherit(&mut self, entries: &mut Vec<(Key, Node)>, source: Node) -> Result<(), Problem> {
        match source.content {
            Content::Map(more) => {
                for (key, node) in more {
                    if !entries.iter().any(|(known, _)| known.name == key.name) {
                        entries.push((key, node));
                    }
                }
                Ok(())
            }
            Content::List(sources) => sources.into_iter().try_for_each(|source| self.inherit(entries, source)),
            _ => Err(Problem::new(source.at, "<< takes a map, or a list of maps, mostly an alias such as *defaults")),
        }
    }
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&YamlTag>) -> Content {
    let is_string = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    let quoted = style != ScalarStyle::Plain || is_string;
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" if !quoted => Content::Null,
        _ => Content::Scalar { text, quoted },
    }
}

fn compose_tag(tag: Option<&YamlTag>) -> Tag {
    match tag.map(|tag| (tag.handle.as_str(), tag.suffix.as_str())) {
        Some(("!", "reset")) => Tag::Reset,
        Some(("!", "override")) => Tag::Override,
        _ => Tag::None,
    }
}

/// The text of a tree, in block style. Scalars are quoted where another reader might take them for something else.
pub(crate) fn write(node: &Node) -> String {
    let mut out = String::new();
    match &node.content {
        Content::Map(entries) if !entries.is_empty() => write_map(entries, 0, &mut out),
        Content::List(items) if !items.is_empty() => write_list(items, 0, &mut out),
        _ => out = inline(node) + "\n",
    }
    out
}

fn write_map(entries: &[(Key, Node)], indent: usize, out: &mut String) {
    for (at, (key, node)) in entries.iter().enumerate() {
        if at > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&word(&key.name, false));
        out.push(':');
        write_value(node, indent, out);
    }
}

fn write_list(items: &[Node], indent: usize, out: &mut String) {
    for item in items {
        out.push_str(&" ".repeat(indent));
        out.push_str("- ");
        match &item.content {
            Content::Map(entries) if !entries.is_empty() => write_map(entries, indent + 2, out),
            _ => {
                out.push_str(&inline(item));
                out.push('\n');
            }
        }
    }
}

fn write_value(node: &Node, indent: usize, out: &mut String) {
    match &node.content {
        Content::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            write_map(entries, indent + 2, out);
        }
        Content::List(items) if !items.is_empty() => {
            out.push('\n');
            write_list(items, indent + 2, out);
        }
        _ => {
            out.push(' ');
            out.push_str(&inline(node));
            out.push('\n');
        }
    }
}

fn inline(node: &Node) -> String {
    match &node.content {
        Content::Null => "null".to_owned(),
        Content::Scalar { text, quoted } => word(text, *quoted),
        Content::List(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Content::Map(entries) => {
            let entry = |(key, node): &(Key, Node)| format!("{}: {}", word(&key.name, false), inline(node));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

fn word(text: &str, quoted: bool) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./@+%-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._".contains(c));
    let special = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_word = begins && text.chars().all(plain);
    let is_ambiguous = special.contains(&text.to_ascii_lowercase().as_str())
        || text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match is_word && !(quoted && is_ambiguous) {
        true => text.to_owned(),
        // a JSON string is a YAML string
        false => serde_json::Value::from(text).to_string(),
    }
}
