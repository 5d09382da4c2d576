//! Compose's long form: what may be written shortly is written out, as `docker stack config` shows it (parity K-03). What
//! cannot be read, for it has a variable that was left alone, stays as it is. Pure.

use serde_json::Value;

use super::{
    node::{Content, Key, Node, Place},
    paths::is_path,
};
use crate::spec::{port, scalars::split_words};

/// Writes out all services of a merged tree.
pub(super) fn write_out(tree: &mut Node) {
    for (_, service) in tree.get_mut("services").and_then(Node::entries_mut).into_iter().flatten() {
        each(service, "command", words);
        each(service, "entrypoint", words);
        each(service, "environment", pairs);
        each(service, "labels", texts);
        if let Some(deploy) = service.get_mut("deploy") {
            each(deploy, "labels", texts);
        }
        if let Some(check) = service.get_mut("healthcheck") {
            each(check, "test", shell);
        }
        each(service, "networks", names);
        for field in ["secrets", "configs"] {
            each_item(service, field, source);
        }
        each_item(service, "ports", ports);
        each_item(service, "volumes", volume);
    }
}

fn each(of: &mut Node, field: &str, change: impl Fn(&Node) -> Option<Node>) {
    if let Some(node) = of.get_mut(field)
        && let Some(next) = change(node)
    {
        *node = next;
    }
}

/// Of a list: an item that says nothing to `change` stays.
fn each_item(of: &mut Node, field: &str, change: impl Fn(&Node) -> Option<Vec<Node>>) {
    if let Some(node) = of.get_mut(field)
        && let Content::List(items) = &mut node.content
    {
        *items = items.drain(..).flat_map(|item| change(&item).unwrap_or_else(|| vec![item])).collect();
    }
}

fn map(at: Place, entries: Vec<(&str, Node)>) -> Node {
    let key = |(name, node): (&str, Node)| (Key { name: name.to_owned(), at }, node);
    Node::new(at, Content::Map(entries.into_iter().map(key).collect()))
}

fn plain(at: Place, text: impl Into<String>) -> Node {
    Node::new(at, Content::Scalar { text: text.into(), quoted: false })
}

/// `sh -c 'x y'` to a list.
fn words(node: &Node) -> Option<Node> {
    let text = node.as_text()?;
    let words = split_words(text).ok()?;
    Some(Node::new(node.at, Content::List(words.into_iter().map(|word| Node::text(node.at, word)).collect())))
}

/// A command of one line is the shell's.
fn shell(node: &Node) -> Option<Node> {
    let text = node.as_text()?;
    let items = [Node::text(node.at, "CMD-SHELL"), Node::text(node.at, text)];
    Some(Node::new(node.at, Content::List(items.to_vec())))
}

/// `[A=1, B]` to a map, where B has the value that it has at the time.
fn pairs(node: &Node) -> Option<Node> {
    listed(node, |at| Node::new(at, Content::Null))
}

/// `[a=1, b]` to a map, where b is empty.
fn texts(node: &Node) -> Option<Node> {
    listed(node, |at| Node::text(at, ""))
}

fn listed(node: &Node, none: impl Fn(Place) -> Node) -> Option<Node> {
    let Content::List(items) = &node.content else { return None };
    let mut entries: Vec<(&str, Node)> = Vec::new();
    for item in items {
        let text = item.as_text()?;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Node::text(item.at, value)),
            None => (text, none(item.at)),
        };
        // the last one counts
        entries.retain(|(known, _)| *known != name);
        entries.push((name, value));
    }
    Some(map(node.at, entries))
}

/// `[front, back]` to a map.
fn names(node: &Node) -> Option<Node> {
    let Content::List(items) = &node.content else { return None };
    let entry = |item: &'_ Node| Some((item.as_text()?.to_owned(), Node::new(item.at, Content::Null)));
    let entries: Vec<(String, Node)> = items.iter().map(entry).collect::<Option<_>>()?;
    Some(map(node.at, entries.iter().map(|(name, node)| (name.as_str(), node.clone())).collect()))
}

fn source(item: &Node) -> Option<Vec<Node>> {
    let name = item.as_text()?;
    Some(vec![map(item.at, vec![("source", Node::text(item.at, name))])])
}

/// `8080:80`, and one of each for a range.
fn ports(item: &Node) -> Option<Vec<Node>> {
    let text = item.as_text().filter(|text| !text.contains('='))?;
    let all = port::parse(text).ok()?;
    let one = |port: &Value| {
        let mut entries = vec![("mode", plain(item.at, port["PublishMode"].as_str()?))];
        entries.push(("target", plain(item.at, port["TargetPort"].to_string())));
        if let Some(published) = port["PublishedPort"].as_u64().filter(|number| *number > 0) {
            entries.push(("published", plain(item.at, published.to_string())));
        }
        entries.push(("protocol", plain(item.at, port["Protocol"].as_str()?)));
        if let Some(address) = port["HostIP"].as_str().filter(|address| !address.is_empty()) {
            entries.push(("host_ip", Node::text(item.at, address)));
        }
        Some(map(item.at, entries))
    };
    all.iter().map(one).collect()
}

/// `[SOURCE:]TARGET[:OPTIONS]`
fn volume(item: &Node) -> Option<Vec<Node>> {
    let at = item.at;
    let parts: Vec<&str> = item.as_text()?.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return None,
    };
    if target.contains('$') || source.is_some_and(|source| source.contains('$')) {
        return None;
    }
    let is_bind = source.is_some_and(is_path);
    let mut entries = vec![("type", plain(at, if is_bind { "bind" } else { "volume" }))];
    entries.extend(source.map(|source| ("source", Node::text(at, source))));
    entries.push(("target", Node::text(at, target)));
    let mut own = if is_bind { vec![("create_host_path", plain(at, "true"))] } else { Vec::new() };
    for option in options.split(',').filter(|option| !matches!(*option, "" | "rw" | "z" | "Z")) {
        match option {
            "ro" => entries.push(("read_only", plain(at, "true"))),
            "nocopy" => own.push(("nocopy", plain(at, "true"))),
            "default" | "consistent" | "cached" | "delegated" => entries.push(("consistency", plain(at, option))),
            other => own.push(("propagation", plain(at, other))),
        }
    }
    if !own.is_empty() {
        entries.push((if is_bind { "bind" } else { "volume" }, map(at, own)));
    }
    Some(vec![map(at, entries)])
}
