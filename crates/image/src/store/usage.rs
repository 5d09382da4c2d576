//! What images take on the disk, and what of it they share (`system df`, parity E-24). Read from the catalog alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{State, Store};
use crate::digest::Digest;

/// One image's part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Bytes of layers that other images have too.
    pub shared_bytes: u64,
    /// Containers made from it or having it as a mount, running or not.
    pub containers: usize,
}

/// All images together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of the layers of all images, each once.
    pub layer_bytes: u64,
    pub images: BTreeMap<Digest, ImageUsage>,
}

fn measure(state: &State) -> DiskUsage {
    let mut owners: BTreeMap<&Digest, (u64, BTreeSet<&Digest>)> = BTreeMap::new();
    for (id, record) in &state.catalog.images {
        for layer in &record.layers {
            owners.entry(&layer.diff_id).or_insert_with(|| (layer.bytes, BTreeSet::new())).1.insert(id);
        }
    }
    let mut usage = DiskUsage { layer_bytes: owners.values().map(|(bytes, _)| bytes).sum(), ..DiskUsage::default() };
    for id in state.catalog.images.keys() {
        let containers = state.snapshots.values().filter(|snapshot| snapshot.needs(id)).count();
        usage.images.insert(id.clone(), ImageUsage { shared_bytes: 0, containers });
    }
    for (bytes, images) in owners.values().filter(|(_, images)| images.len() > 1) {
        for id in images {
            if let Some(image) = usage.images.get_mut(*id) {
                image.shared_bytes += bytes;
            }
        }
    }
    usage
}

impl Store {
    /// What the images take.
    pub fn disk_usage(&self) -> DiskUsage {
        measure(&self.inner.state())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        config::ImageConfig,
        store::catalog::{Catalog, ImageRecord, LayerRecord},
    };

    fn id(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn layers_of_several_images_are_counted_once_and_shown_as_shared() {
        let layer = |name: &str, bytes| LayerRecord { blob: id(name), diff_id: id(name), bytes };
        let image = |layers| ImageRecord {
            manifest: id("m"),
            indexes: [].into(),
            parent: None,
            layers,
            config: ImageConfig::default(),
        };
        let mut catalog = Catalog::default();
        catalog.images.insert(id("a"), image(vec![layer("base", 100), layer("base", 100), layer("a", 10)]));
        catalog.images.insert(id("b"), image(vec![layer("base", 100), layer("b", 1)]));
        let state = State { catalog, snapshots: BTreeMap::new(), pins: HashMap::new() };
        let usage = measure(&state);
        assert_eq!(usage.layer_bytes, 111);
        let shared = |name| usage.images[&id(name)].shared_bytes;
        assert_eq!((shared("a"), shared("b")), (100, 100));
    }
}
