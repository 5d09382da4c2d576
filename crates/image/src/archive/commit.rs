//! `commit`: what a container has changed becomes one more layer over its image's.

use std::collections::BTreeSet;

use types::ImageReference;

use super::{changes::apply_changes, load::manifest_of};
use crate::{
    config::{HistoryEntry, RunConfig},
    digest::Digest,
    error::{Error, Result},
    store::{MAX_LAYERS, Store, catalog::ImageRecord, images::NewImage},
    tree::pack_layer,
};

/// What `commit` adds to the container's files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommitOptions {
    pub reference: Option<ImageReference>,
    /// Dockerfile instructions, as for an import.
    pub changes: Vec<String>,
    pub message: String,
    pub author: String,
    /// What the container does; as its image has it where nothing is said.
    pub container: Option<RunConfig>,
    /// What containers of the new image do, as far as it says something; the rest is as this container does.
    pub config: Option<RunConfig>,
}

impl Store {
    /// Makes an image from a container's root filesystem; gives its id. The container should stand still meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], [`Error::BadChange`], [`Error::TooManyLayers`], [`Error::NoSpace`].
    pub async fn commit(&self, container: &str, options: CommitOptions) -> Result<Digest> {
        let snapshot = self.comparable(container).await?;
        // It may have been removed by force, and with it what it is made of; Docker commits no such container either.
        let (parent, parent_pin) = self.pin_image(&snapshot.image)?;
        if snapshot.layers.len() + 1 > MAX_LAYERS {
            return Err(Error::TooManyLayers(snapshot.layers.len() + 1));
        }
        let mut config = parent.config;
        if let Some(container) = options.container {
            // Docker hands on neither the image's triggers nor its shell.
            let healthcheck = container.healthcheck.clone().or(config.config.healthcheck.take());
            config.config = RunConfig { healthcheck, ..container };
        }
        let created_by = config.config.cmd.join(" ");
        if let Some(own) = options.config {
            config.config = merged(config.config, own);
        }
        apply_changes(&mut config.config, &options.changes)?;
        let container = container.to_owned();
        let _core = self.inner.unpacking.acquire().await.map_err(|_| Error::Interrupted("unpacking".to_owned()))?;
        let committed = self
            .run("making a layer of a container", move |inner| {
                let (tree, differences) = inner.differences(&container, &snapshot)?;
                let layer = inner.spool_written(|out| Ok(pack_layer(&tree, &differences, out)?))?;
                let _blob_pin = inner.pin([layer.digest.clone()]);
                inner.keep(&layer)?;
                let (record, _layer_pin) = inner.unpack_unknown(&layer.digest)?;
                let created = Some(jiff::Timestamp::now().to_string());
                config.created.clone_from(&created);
                config.author.clone_from(&options.author);
                config.rootfs.diff_ids.push(record.diff_id.clone());
                config.history.push(HistoryEntry {
                    created,
                    created_by,
                    author: options.author,
                    comment: options.message,
                    empty_layer: false,
                });
                let bytes = serde_json::to_vec(&config).expect("a configuration has only string keys");
                let config_file = inner.spool(&mut bytes.as_slice(), Error::ReadArchive)?;
                let id = config_file.digest.clone();
                let _config_pin = inner.pin([id.clone()]);
                inner.keep(&config_file)?;
                let mut layers = snapshot.layers;
                layers.push(record);
                let sized = layers.iter().map(|layer| (layer.blob.clone(), inner.blob_size(&layer.blob).unwrap_or(0)));
                let manifest = manifest_of((id.clone(), config_file.size), sized);
                let _manifest_pin = inner.pin([Digest::of(&manifest)]);
                let manifest = inner.put_blob(&manifest)?;
                let tags = options.reference.into_iter().map(ImageReference::with_default_tag).collect();
                let parent = Some(snapshot.image);
                let record = ImageRecord { manifest, indexes: BTreeSet::new(), parent, layers, config };
                inner.add_image(NewImage { id: id.clone(), record, tags, repo_digest: None, is_brought: false })?;
                Ok(id)
            })
            .await;
        drop(parent_pin);
        if committed.is_err() {
            self.gc().await?;
        }
        committed
    }
}

/// `own` over `base`, field by field; variables and labels name by name.
fn merged(base: RunConfig, own: RunConfig) -> RunConfig {
    fn either<T>(own: T, base: T, is_empty: impl Fn(&T) -> bool) -> T {
        if is_empty(&own) { base } else { own }
    }
    let name = |entry: &String| entry.split('=').next().map(str::to_owned);
    let kept = base.env.into_iter().filter(|entry| !own.env.iter().any(|over| name(over) == name(entry)));
    RunConfig {
        env: kept.collect::<Vec<_>>().into_iter().chain(own.env.clone()).collect(),
        labels: base.labels.into_iter().chain(own.labels).collect(),
        exposed_ports: base.exposed_ports.into_iter().chain(own.exposed_ports).collect(),
        volumes: base.volumes.into_iter().chain(own.volumes).collect(),
        user: either(own.user, base.user, String::is_empty),
        // A command belongs to the entrypoint it was written for.
        cmd: if own.cmd.is_empty() && own.entrypoint.is_empty() { base.cmd } else { own.cmd },
        entrypoint: either(own.entrypoint, base.entrypoint, Vec::is_empty),
        working_dir: either(own.working_dir, base.working_dir, String::is_empty),
        stop_signal: either(own.stop_signal, base.stop_signal, String::is_empty),
        healthcheck: own.healthcheck.or(base.healthcheck),
        shell: either(own.shell, base.shell, Vec::is_empty),
        on_build: either(own.on_build, base.on_build, Vec::is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_goes_over_what_was() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let base = RunConfig {
            env: words(&["A=1", "B=1"]),
            entrypoint: words(&["run"]),
            cmd: words(&["it"]),
            user: "web".to_owned(),
            ..RunConfig::default()
        };
        let own = RunConfig { env: words(&["B=2"]), entrypoint: words(&["go"]), ..RunConfig::default() };
        let both = merged(base.clone(), own);
        assert_eq!((both.env, both.cmd, both.entrypoint), (words(&["A=1", "B=2"]), Vec::new(), words(&["go"])));
        assert_eq!((both.user.as_str(), merged(base.clone(), RunConfig::default())), ("web", base));
    }
}
