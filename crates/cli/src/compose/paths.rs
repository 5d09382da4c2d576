//! Relative paths in a file mean its own directory, wherever its parts end up: they are made absolute before anything is merged.

use std::path::{Component, Path, PathBuf};

use super::node::{Content, Node};

/// Makes the paths of one file's tree absolute.
pub(crate) fn absolutize(root: &mut Node, base: &Path, home: Option<&str>) {
    let to = |text: &str| absolute(text, base, home);
    if let Some(services) = root.get_mut("services").and_then(Node::entries_mut) {
        for (_, service) in services {
            service_paths(service, &to);
        }
    }
    for kind in ["secrets", "configs"] {
        for (_, one) in root.get_mut(kind).and_then(Node::entries_mut).into_iter().flatten() {
            if let Some(file) = one.get_mut("file") {
                change(file, &to);
            }
        }
    }
}

fn service_paths(service: &mut Node, to: &dyn Fn(&str) -> String) {
    for name in ["env_file", "label_file"] {
        let Some(files) = service.get_mut(name) else { continue };
        change(files, to);
        if let Content::List(items) = &mut files.content {
            for item in items {
                change(item, to);
                if let Some(path) = item.get_mut("path") {
                    change(path, to);
                }
            }
        }
    }
    let Some(volumes) = service.get_mut("volumes") else { return };
    let Content::List(items) = &mut volumes.content else { return };
    for item in items {
        if let Content::Scalar { text, .. } = &mut item.content {
            if let Some((source, rest)) = text.split_once(':').filter(|(source, _)| is_path(source)) {
                *text = format!("{}:{rest}", to(source));
            }
        } else if item.get("type").and_then(Node::as_text) == Some("bind")
            && let Some(source) = item.get_mut("source")
        {
            change(source, to);
        }
    }
}

/// A path of the host, and no volume's name.
pub(crate) fn is_path(text: &str) -> bool {
    text.starts_with(['/', '.', '~'])
}

fn change(node: &mut Node, to: &dyn Fn(&str) -> String) {
    if let Content::Scalar { text, .. } = &mut node.content {
        *text = to(text);
    }
}

/// The path seen from `base`; `~` is the caller's home.
pub(crate) fn absolute(text: &str, base: &Path, home: Option<&str>) -> String {
    let path = match (text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')), home) {
        (Some(rest), Some(home)) => PathBuf::from(format!("{home}{rest}")),
        _ => base.join(text),
    };
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_their_file() {
        for (text, expected) in [
            ("./a", "/srv/x/a"),
            ("a/../b", "/srv/x/b"),
            ("../b", "/srv/b"),
            ("/c", "/c"),
            ("~/d", "/home/me/d"),
            (".", "/srv/x"),
        ] {
            assert_eq!(absolute(text, Path::new("/srv/x"), Some("/home/me")), expected);
        }
    }
}
