//! Where monitors look for a container's files in Docker's data. cAdvisor drops every container of which it does not find
//! `image/overlay2/layerdb/mounts/ID/mount-id`, and measures `overlay2/THAT/diff`. Both are links to the snapshots, where
//! these names are, so nothing has to be made or removed with a container. Called once by the engine when it starts.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use image::StorageDriver;

/// Relative, so that they lead right wherever the state directory is mounted.
pub(super) fn ensure(state_dir: &Path, driver: StorageDriver) -> io::Result<()> {
    let layers = state_dir.join(format!("image/{driver}/layerdb"));
    fs::create_dir_all(&layers)?;
    link("../../../images/snapshots", &layers.join("mounts"))?;
    link("images/snapshots", &state_dir.join("overlay2"))
}

fn link(target: &str, place: &Path) -> io::Result<()> {
    match symlink(target, place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-38: a container's layer is found where cAdvisor looks, whichever driver there is, and however often this is done.
    #[test]
    fn e_38_layers_are_found_where_monitors_look() {
        let directory = tempfile::tempdir().expect("a directory");
        let state_dir = directory.path();
        let snapshot = state_dir.join("images/snapshots/abc");
        fs::create_dir_all(snapshot.join("diff")).expect("made");
        fs::write(snapshot.join("mount-id"), "abc").expect("written");
        for driver in [StorageDriver::Overlay2, StorageDriver::Vfs, StorageDriver::Overlay2] {
            ensure(state_dir, driver).expect("linked");
            let mount_id = state_dir.join(format!("image/{driver}/layerdb/mounts/abc/mount-id"));
            let layer = fs::read_to_string(mount_id).expect("the id of the layer");
            // not a link itself: who walks it follows none
            let diff = fs::symlink_metadata(state_dir.join("overlay2").join(layer).join("diff")).expect("the layer");
            assert!(diff.is_dir());
        }
    }
}
