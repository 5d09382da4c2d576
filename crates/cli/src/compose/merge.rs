//! One Compose tree laid over another, by Compose's rules: maps are joined, single values replaced, lists appended, with
//! the exceptions that the specification names. Pure.

use super::node::{Content, Key, Node, Tag};

/// Replaced whole.
const REPLACED: &[&str] = &["command", "entrypoint", "test", "driver"];
/// May be lists of `NAME=VALUE`, and are maps in truth.
const PAIRS: &[&str] = &["environment", "labels", "sysctls", "args", "driver_opts", "annotations"];
/// `HOST:ADDRESS`, or `HOST=ADDRESS`.
const HOSTS: &str = "extra_hosts";
/// Lists of names that are maps in truth.
const NAMED: &[&str] = &["networks", "depends_on"];
/// One text, or a list.
const ONE_OR_MORE: &[&str] = &["dns", "dns_search", "tmpfs", "env_file", "label_file"];
/// Maps whose keys are names that users gave.
const BY_USERS: &[&str] =
    &["services", "networks", "volumes", "secrets", "configs", "depends_on", "extra_hosts", "ulimits", "options"];
/// Lists in which an entry has a key of its own.
const KEYED: &[&str] = &["volumes", "secrets", "configs", "devices"];

/// `over` on `base`; `name` is the key that both stand under.
pub(crate) fn merge(base: Node, over: Node, name: &str) -> Node {
    if over.tag == Tag::Override || REPLACED.contains(&name) {
        return over;
    }
    if over.is_null() && over.tag != Tag::Reset {
        return base;
    }
    let (base, over) = (as_merged(base, name), as_merged(over, name));
    match (base.content, over.content) {
        (Content::Map(base), Content::Map(more)) => {
            Node { at: over.at, tag: over.tag, content: Content::Map(join(base, more, name)) }
        }
        (Content::List(base), Content::List(more)) => {
            Node { at: over.at, tag: over.tag, content: Content::List(append(base, more, name)) }
        }
        (_, content) => Node { at: over.at, tag: over.tag, content },
    }
}

fn join(mut base: Vec<(Key, Node)>, more: Vec<(Key, Node)>, parent: &str) -> Vec<(Key, Node)> {
    // options of one log driver mean nothing to another
    let driver = |entries: &[(Key, Node)]| {
        entries.iter().find(|(key, _)| key.name == "driver").and_then(|(_, node)| node.as_text().map(str::to_owned))
    };
    if let (Some(old), Some(new)) = (driver(&base), driver(&more))
        && old != new
    {
        base.retain(|(key, _)| key.name != "options");
    }
    for (key, node) in more {
        let place = base.iter().position(|(known, _)| known.name == key.name);
        match (place, node.tag) {
            (Some(at), Tag::Reset) => drop(base.remove(at)),
            (None, Tag::Reset) => {}
            (Some(at), _) => {
                let old = std::mem::replace(&mut base[at].1, Node::new(key.at, Content::Null));
                // a service may be called "command", a variable "dns"
                let name = if BY_USERS.contains(&parent) || PAIRS.contains(&parent) { "" } else { key.name.as_str() };
                base[at].1 = merge(old, node, name);
                base[at].0 = key;
            }
            (None, _) => base.push((key, node)),
        }
    }
    base
}

fn append(mut base: Vec<Node>, more: Vec<Node>, name: &str) -> Vec<Node> {
    for node in more {
        let same = |known: &Node| match KEYED.contains(&name) {
            true => entry_key(known) == entry_key(&node),
            false => known.content == node.content,
        };
        match base.iter().position(same) {
            Some(at) => base[at] = node,
            None => base.push(node),
        }
    }
    base
}

/// What makes an entry of `volumes`, `secrets` … one of its own: where it is in the container.
fn entry_key(node: &Node) -> String {
    let of = |name: &str| node.get(name).and_then(Node::as_text).map(str::to_owned);
    match node.as_text() {
        None => of("target").or_else(|| of("source")).unwrap_or_default(),
        Some(text) => {
            let mut parts = text.split(':');
            let first = parts.next().unwrap_or_default();
            parts.next().filter(|second| second.starts_with('/')).unwrap_or(first).to_owned()
        }
    }
}

/// The form in which a value can be merged.
fn as_merged(node: Node, name: &str) -> Node {
    let Node { at, tag, content } = node;
    let content = match content {
        Content::List(items) if PAIRS.contains(&name) => to_map(items, &['=']),
        Content::List(items) if name == HOSTS => to_map(items, &['=', ':']),
        Content::List(items) if NAMED.contains(&name) && items.iter().all(|item| item.as_text().is_some()) => {
            to_map(items, &[])
        }
        content @ Content::Scalar { .. } if ONE_OR_MORE.contains(&name) => Content::List(vec![Node::new(at, content)]),
        content => content,
    };
    Node { at, tag, content }
}

fn to_map(items: Vec<Node>, separators: &[char]) -> Content {
    let mut entries: Vec<(Key, Node)> = Vec::new();
    for item in items {
        let text = item.as_text().unwrap_or_default().to_owned();
        let (name, value) = match text.split_once(separators) {
            Some((name, value)) if !separators.is_empty() => (name.to_owned(), Node::text(item.at, value)),
            _ => (text, Node::new(item.at, Content::Null)),
        };
        entries.retain(|(key, _)| key.name != name);
        entries.push((Key { name, at: item.at }, value));
    }
    Content::Map(entries)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::compose::yaml;

    #[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
    fn check(base: &str, over: &str, expected: Expect) {
        let read = |text: &str| yaml::parse(0, text).expect("YAML");
        expected.assert_eq(&yaml::write(&merge(read(base), read(over), "web")));
    }

    /// K-01: several files are merged.
    #[test]
    fn k_01_files_are_merged() {
        check(
            "image: a:1\ncommand: [x, y]\nenvironment: [A=1, B=2]\nports: ['80:80']\nvolumes: ['data:/data', './a:/a']\n\
             dns: 1.1.1.1\nnetworks: [front]\nlogging: {driver: json-file, options: {max-size: 1m}}\n",
            "image: a:2\ncommand: [z]\nenvironment: {B: 3, C: null}\nports: ['80:80', '81:81']\nvolumes: ['other:/data:ro']\n\
             dns: [2.2.2.2]\nnetworks: {front: {aliases: [w]}, back: null}\nlogging: {driver: local}\n",
            expect![[r#"
                image: "a:2"
                command:
                  - z
                environment:
                  A: "1"
                  B: 3
                  C: null
                ports:
                  - "80:80"
                  - "81:81"
                volumes:
                  - "other:/data:ro"
                  - "./a:/a"
                dns:
                  - 1.1.1.1
                  - 2.2.2.2
                networks:
                  front:
                    aliases:
                      - w
                  back: null
                logging:
                  driver: local
            "#]],
        );
    }

    #[test]
    fn k_08_reset_and_override() {
        check(
            "ports: ['80:80']\nlabels: {a: 1}\nimage: x\n",
            "ports: !override ['81:81']\nlabels: !reset null\n",
            expect![[r#"
                ports:
                  - "81:81"
                image: x
            "#]],
        );
    }
}
