//! `-v` and `--tmpfs`. What a source is (a directory or a volume's name) the daemon says.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use super::set_texts;
use crate::{commands::container::flags::Places, spec::edit::set};

pub(super) fn put(body: &mut Value, flags: &Places) -> anyhow::Result<()> {
    let (mut binds, mut volumes) = (Vec::new(), Map::new());
    for text in &flags.volume {
        ensure!(!text.is_empty(), "invalid empty volume spec: write [SOURCE:]TARGET[:OPTIONS]");
        match text.split_once(':') {
            None => {
                volumes.insert(text.clone(), json!({}));
            }
            Some((source, rest)) => binds.push(format!("{}:{rest}", from_here(source)?)),
        }
    }
    set_texts(body, "HostConfig.Binds", &binds);
    if !volumes.is_empty() {
        set(body, "Volumes", volumes);
    }
    if !flags.tmpfs.is_empty() {
        let entry = |text: &String| {
            let (target, options) = text.split_once(':').unwrap_or((text, ""));
            (target.to_owned(), Value::from(options))
        };
        set(body, "HostConfig.Tmpfs", flags.tmpfs.iter().map(entry).collect::<Map<_, _>>());
    }
    Ok(())
}

/// `.` and `..` are this shell's.
fn from_here(source: &str) -> anyhow::Result<String> {
    let is_path = source == "." || source == ".." || source.starts_with("./") || source.starts_with("../");
    if !is_path {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(Path::new(source)).with_context(|| format!("find the directory {source}"))?;
    path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{} is no text", path.display()))
}
