//! Where what is copied lands: `cp`'s rules, those of cp(1) with docker's `/.` for "what is in it". Pure.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    Local(String),
    Container {
        name: String,
        path: String,
    },
    /// Standard input or output: a tar.
    Stream,
}

impl Side {
    /// `CONTAINER:PATH`, `PATH` or `-`.
    pub(super) fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        match text.split_once(':') {
            Some((name, path)) if !text.starts_with(['/', '.']) => {
                Self::Container { name: name.to_owned(), path: path.to_owned() }
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Other,
    Nothing,
}

/// Where the source itself will be, in a directory that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: String,
    /// Empty: its content goes right into the directory.
    pub(super) name: String,
}

/// Whether what is in the directory is meant, not the directory.
fn means_content(path: &str) -> bool {
    path.ends_with("/.") || path == "." || path.trim_end_matches('/').is_empty()
}

/// The last word of a path; none of `/`, and of one that ends in `..`.
fn last(path: &str) -> Option<String> {
    Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned())
}

fn parent(path: &str) -> String {
    match Path::new(path).parent() {
        None => "/".to_owned(),
        Some(parent) if parent.as_os_str().is_empty() => ".".to_owned(),
        Some(parent) => parent.to_string_lossy().into_owned(),
    }
}

pub(super) fn place(source: &str, is_directory: bool, target: &str, found: Kind) -> anyhow::Result<Place> {
    match found {
        Kind::Directory => {
            let name = match is_directory && means_content(source) {
                true => String::new(),
                false => last(source).with_context(|| format!("{source:?} ends in no name"))?,
            };
            Ok(Place { directory: target.to_owned(), name })
        }
        Kind::Other | Kind::Nothing => {
            ensure!(!(found == Kind::Other && is_directory), "cannot copy directory to the file {target:?}");
            ensure!(
                is_directory || !target.ends_with('/'),
                "the destination directory must exist: {target:?} does not"
            );
            let name = last(target).with_context(|| format!("{target:?} ends in no name"))?;
            Ok(Place { directory: parent(target), name })
        }
    }
}

/// An entry's path below the first of its tar, which is what was asked for; `None` if it leads anywhere else.
pub(super) fn below(root: &Path, entry: &Path) -> Option<PathBuf> {
    let plain = plain(entry)?;
    plain.strip_prefix(root).ok().map(Path::to_owned)
}

/// Without `.`; `None` if there is a `..` or a root in it.
pub(super) fn plain(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        let container = |name: &str, path: &str| Side::Container { name: name.into(), path: path.into() };
        for (text, side) in [
            ("-", Side::Stream),
            ("web:/etc", container("web", "/etc")),
            ("./a:b", Side::Local("./a:b".into())),
            ("/a:b", Side::Local("/a:b".into())),
            ("plain", Side::Local("plain".into())),
        ] {
            assert_eq!(Side::parse(text), side);
        }
    }

    #[test]
    fn places_as_cp_knows_them() {
        let check = |source: &str, is_directory: bool, target: &str, found: Kind| {
            place(source, is_directory, target, found).map(|place| format!("{} {}", place.directory, place.name)).ok()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(check("/a/dir", true, "/to", Kind::Directory), some("/to dir"));
        assert_eq!(check("/a/dir/.", true, "/to", Kind::Directory), some("/to "));
        assert_eq!(check("/a/dir/.", true, "/to/new", Kind::Nothing), some("/to new"));
        assert_eq!(check("/", true, "to", Kind::Directory), some("to "));
        assert_eq!(check("/a/file", false, "/to/new", Kind::Nothing), some("/to new"));
        assert_eq!(check("/a/file", false, "new", Kind::Other), some(". new"));
        assert_eq!(check("/a/file", false, "/to/new/", Kind::Nothing), None);
        assert_eq!(check("/a/dir", true, "/to/file", Kind::Other), None);
    }

    #[test]
    fn entries_stay_below() {
        let check = |root: &str, entry: &str| below(Path::new(root), Path::new(entry)).map(|p| p.display().to_string());
        assert_eq!(check("etc", "etc/a"), Some("a".to_owned()));
        assert_eq!(check("", "./a/./b"), Some("a/b".to_owned()));
        for bad in ["etc/../../a", "/etc/a", "other/a"] {
            assert_eq!(check("etc", bad), None, "{bad}");
        }
    }
}
