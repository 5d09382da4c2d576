//! Reading typed values out of a tree. What is wrong is noted with its place and reading goes on, so that all problems of
//! a file are told at once.

use std::rc::Rc;

use super::node::{Content, Node, Place};
use crate::{
    output::units::{parse_bytes, parse_cpus, parse_duration},
    spec::scalars::split_words,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Option<Place>,
    pub(crate) why: String,
}

impl Problem {
    pub(crate) fn new(at: Place, why: impl Into<String>) -> Self {
        Self { at: Some(at), why: why.into() }
    }

    /// About the whole, not one place.
    pub(crate) fn general(why: impl Into<String>) -> Self {
        Self { at: None, why: why.into() }
    }
}

/// What was noted so far.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// Keys that Swarm does not know, as docker lists them.
    pub(crate) unsupported: Vec<String>,
}

/// A value and what it is called: `service web: deploy.mode`.
#[derive(Debug, Clone)]
pub(crate) struct Field<'n> {
    pub(crate) node: &'n Node,
    owner: Rc<str>,
    path: String,
}

/// The keys of a map.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields<'n>(Vec<(&'n str, Field<'n>)>);

impl<'n> Fields<'n> {
    pub(crate) fn get(&self, name: &str) -> Option<&Field<'n>> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, field)| field)
    }
}

impl Check {
    pub(crate) fn text(&mut self, field: Option<&Field<'_>>) -> Option<String> {
        field?.text(self)
    }
}

impl<'n> Field<'n> {
    pub(crate) fn new(node: &'n Node, owner: &str) -> Self {
        Self { node, owner: owner.into(), path: String::new() }
    }

    fn child(&self, node: &'n Node, name: &str) -> Self {
        let path = match self.path.as_str() {
            "" => name.to_owned(),
            path if name.starts_with('[') => format!("{path}{name}"),
            path => format!("{path}.{name}"),
        };
        Self { node, owner: Rc::clone(&self.owner), path }
    }

    pub(crate) fn name(&self) -> String {
        match (&*self.owner, self.path.as_str()) {
            ("", path) => path.to_owned(),
            (owner, "") => owner.to_owned(),
            (owner, path) => format!("{owner}: {path}"),
        }
    }

    pub(crate) fn at(&self) -> Place {
        self.node.at
    }

    pub(crate) fn wrong(&self, check: &mut Check, why: impl std::fmt::Display) {
        check.problems.push(Problem::new(self.at(), format!("{}: {why}", self.name())));
    }

    pub(crate) fn warn(&self, check: &mut Check, why: impl std::fmt::Display) {
        check.warnings.push(Problem::new(self.at(), format!("{}: {why}", self.name())));
    }

    /// A map's entries whatever their keys are; none for null.
    pub(crate) fn entries(&self, check: &mut Check) -> Vec<(&'n str, Field<'n>)> {
        match &self.node.content {
            Content::Null => Vec::new(),
            Content::Map(entries) => {
                let entry =
                    |(key, node): &'n (super::node::Key, Node)| (key.name.as_str(), self.child(node, &key.name));
                entries.iter().map(entry).collect()
            }
            _ => {
                self.wrong(check, format!("a map is needed here, not {}", self.node.kind()));
                Vec::new()
            }
        }
    }

    /// A map's entries; keys that are not in `known` and do not begin with `x-` are refused.
    pub(crate) fn fields(&self, check: &mut Check, known: &[&str]) -> Fields<'n> {
        let mut fields = Vec::new();
        for (key, node) in self.node.entries() {
            let field = self.child(node, &key.name);
            if known.contains(&key.name.as_str()) {
                fields.push((key.name.as_str(), field));
            } else if !key.name.starts_with("x-") {
                let hint = match nearest(&key.name, known) {
                    Some(near) => format!("; do you mean {near:?}?"),
                    None => String::new(),
                };
                let why = format!("{}: unknown key{hint}", field.name());
                check.problems.push(Problem::new(key.at, why));
            }
        }
        if !matches!(self.node.content, Content::Map(_) | Content::Null) {
            self.wrong(check, format!("a map is needed here, not {}", self.node.kind()));
        }
        // a key without a value says nothing
        fields.retain(|(_, field)| !field.node.is_null());
        Fields(fields)
    }

    pub(crate) fn items(&self, check: &mut Check) -> Vec<Field<'n>> {
        match &self.node.content {
            Content::Null => Vec::new(),
            Content::List(items) => {
                items.iter().enumerate().map(|(at, node)| self.child(node, &format!("[{at}]"))).collect()
            }
            _ => {
                self.wrong(check, format!("a list is needed here, not {}", self.node.kind()));
                Vec::new()
            }
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.content, Content::Map(_))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.content, Content::List(_))
    }

    pub(crate) fn text(&self, check: &mut Check) -> Option<String> {
        let found = self.node.as_text().map(str::to_owned);
        if found.is_none() {
            self.wrong(check, format!("a text is needed here, not {}", self.node.kind()));
        }
        found
    }

    pub(crate) fn texts(&self, check: &mut Check) -> Vec<String> {
        self.items(check).iter().filter_map(|item| item.text(check)).collect()
    }

    /// One text, or a list.
    pub(crate) fn one_or_more(&self, check: &mut Check) -> Vec<String> {
        match self.node.as_text() {
            Some(text) => vec![text.to_owned()],
            None => self.texts(check),
        }
    }

    /// A command: a list, or one text that is split as a shell does.
    pub(crate) fn words(&self, check: &mut Check) -> Vec<String> {
        match self.node.as_text().map(split_words) {
            None => self.texts(check),
            Some(Ok(words)) => words,
            Some(Err(why)) => {
                self.wrong(check, format!("{why}; mend the quotes, or write a list"));
                Vec::new()
            }
        }
    }

    /// A map, or a list of `NAME=VALUE`; without `=`, or with null, there is no value. The last of a name counts.
    pub(crate) fn pairs(&self, check: &mut Check) -> Vec<(String, Option<String>)> {
        let mut pairs: Vec<(String, Option<String>)> = Vec::new();
        let mut add = |name: String, value: Option<String>| {
            pairs.retain(|(known, _)| *known != name);
            pairs.push((name, value));
        };
        match &self.node.content {
            Content::List(_) => {
                for text in self.texts(check) {
                    match text.split_once('=') {
                        Some((name, value)) => add(name.to_owned(), Some(value.to_owned())),
                        None => add(text, None),
                    }
                }
            }
            _ => {
                for (name, field) in self.entries(check) {
                    let value = if field.node.is_null() { None } else { field.text(check) };
                    add(name.to_owned(), value);
                }
            }
        }
        pairs
    }

    fn parsed<T>(&self, check: &mut Check, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(check)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.wrong(check, why);
                None
            }
        }
    }

    pub(crate) fn boolean(&self, check: &mut Check) -> Option<bool> {
        self.parsed(check, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Ok(true),
            "false" | "no" | "off" | "n" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        })
    }

    pub(crate) fn natural(&self, check: &mut Check) -> Option<u64> {
        self.parsed(check, |text| text.parse().map_err(|_| format!("{text:?} is no whole number from 0")))
    }

    pub(crate) fn integer(&self, check: &mut Check) -> Option<i64> {
        self.parsed(check, |text| text.parse().map_err(|_| format!("{text:?} is no whole number")))
    }

    pub(crate) fn fraction(&self, check: &mut Check) -> Option<f64> {
        let bad = |text: &str| format!("{text:?} is no number from 0 to 1");
        self.parsed(check, |text| match text.parse::<f64>() {
            Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
            _ => Err(bad(text)),
        })
    }

    /// Octal, as file modes are written: 0440, "0440", 0o440.
    pub(crate) fn mode(&self, check: &mut Check) -> Option<u32> {
        self.parsed(check, |text| {
            let digits = text.trim_start_matches("0o");
            let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
            mode.ok_or_else(|| format!("{text:?} is no file mode: write octal digits such as 0440"))
        })
    }

    pub(crate) fn nanoseconds(&self, check: &mut Check) -> Option<u64> {
        self.parsed(check, |text| parse_duration(text).map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn bytes(&self, check: &mut Check) -> Option<u64> {
        self.parsed(check, parse_bytes)
    }

    pub(crate) fn cpus(&self, check: &mut Check) -> Option<u64> {
        self.parsed(check, parse_cpus)
    }

    pub(crate) fn one_of(&self, check: &mut Check, known: &[&str]) -> Option<String> {
        self.parsed(check, |text| match known.contains(&text) {
            true => Ok(text.to_owned()),
            false => {
                let near = nearest(text, known).map_or(String::new(), |near| format!("; do you mean {near:?}?"));
                Err(format!("{text:?} is none of {}{near}", known.join(", ")))
            }
        })
    }
}

/// The known word that a mistyped one was most likely meant to be.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(word);
    let letters = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    let steps = |name: &str| match letters(&wanted) == letters(&plain(name)) {
        // letters that changed places are one slip
        true => 1,
        false => distance(&wanted, &plain(name)),
    };
    let close = known.iter().map(|name| (steps(name), *name));
    let (steps, name) = close.min()?;
    (steps <= 1 + word.len() / 4).then_some(name)
}

/// How many letters must be changed, put in or left out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_nearest_word() {
        let known = ["image", "volumes", "network_mode", "deploy"];
        for (word, near) in [
            ("imgae", Some("image")),
            ("volume", Some("volumes")),
            ("network-mode", Some("network_mode")),
            ("zzz", None),
        ] {
            assert_eq!(super::nearest(word, &known), near, "{word}");
        }
    }
}
