//! `-v` and `--tmpfs`. What a source is (a directory or a volume's name) the daemon says.

use anyhow::ensure;
use serde_json::{Map, Value, json};

use super::set_texts;
use crate::{
    commands::container::flags::Places,
    spec::{edit::set, mount::from_here},
};

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
