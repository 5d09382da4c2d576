//! A YAML document as a tree in which each part knows its place. What a scalar means is up to who reads it.

/// Where something was written: a file of [`Sources`], line and column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The names of the files that were read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sources(pub(crate) Vec<String>);

impl Sources {
    pub(crate) fn add(&mut self, name: &str) -> usize {
        self.0.push(name.to_owned());
        self.0.len() - 1
    }

    /// `stack.yml:3:5`.
    pub(crate) fn show(&self, at: Place) -> String {
        let name = self.0.get(at.file).map_or("?", String::as_str);
        format!("{name}:{}:{}", at.line, at.column)
    }
}

/// What Compose's tags ask for when files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tag {
    #[default]
    None,
    /// `!override`: takes the place of what was there, merges nothing.
    Override,
    /// `!reset`: what was there goes.
    Reset,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) tag: Tag,
    pub(crate) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Null,
    Scalar { text: String, quoted: bool },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: Place,
}

impl Node {
    pub(crate) fn new(at: Place, content: Content) -> Self {
        Self { at, tag: Tag::None, content }
    }

    pub(crate) fn text(at: Place, text: impl Into<String>) -> Self {
        Self::new(at, Content::Scalar { text: text.into(), quoted: true })
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.content == Content::Null
    }

    /// Nothing if it is no map.
    pub(crate) fn entries(&self) -> &[(Key, Node)] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn entries_mut(&mut self) -> Option<&mut Vec<(Key, Node)>> {
        match &mut self.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Nothing if it is no list.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.entries_mut()?.iter_mut().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        let entries = self.entries_mut()?;
        let at = entries.iter().position(|(key, _)| key.name == name)?;
        Some(entries.remove(at).1)
    }

    pub(crate) fn put(&mut self, name: &str, node: Node) {
        let at = node.at;
        if let Some(present) = self.get_mut(name) {
            *present = node;
        } else if let Some(entries) = self.entries_mut() {
            entries.push((Key { name: name.to_owned(), at }, node));
        }
    }

    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Scalar { .. } => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// Calls for each scalar that is a value.
    pub(crate) fn each_text(&mut self, change: &mut dyn FnMut(&mut String, Place)) {
        let at = self.at;
        match &mut self.content {
            Content::Null => {}
            Content::Scalar { text, .. } => change(text, at),
            Content::List(items) => items.iter_mut().for_each(|item| item.each_text(change)),
            Content::Map(entries) => entries.iter_mut().for_each(|(_, node)| node.each_text(change)),
        }
    }
}
