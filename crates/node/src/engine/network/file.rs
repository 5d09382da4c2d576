//! The networks of this host alone on disk: read at start, written whole with every change.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::local::LocalNetworks;
use crate::engine::EngineError;

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("local_networks.json")
}

/// What was written last; nothing on a host without such networks.
pub(super) fn load(state_dir: &Path) -> Result<LocalNetworks, EngineError> {
    let path = path(state_dir);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| EngineError::Damaged { path, reason: e.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LocalNetworks::default()),
        Err(source) => Err(EngineError::file("read", &path, source)),
    }
}

/// In one step: a crash leaves the old file or the new one.
pub(super) fn save(state_dir: &Path, networks: &LocalNetworks) -> Result<(), EngineError> {
    let path = path(state_dir);
    let beside = path.with_extension("new");
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(networks)?)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        fs::File::open(state_dir)?.sync_all()
    };
    write().map_err(|source| EngineError::file("write", &path, source))
}

#[cfg(test)]
mod tests {
    use types::{NetworkDriver, NetworkId, NetworkSpec, Timestamp};

    use super::*;
    use crate::engine::network::local::HostFacts;

    #[test]
    fn e31_networks_survive_and_a_damaged_file_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut networks = load(dir.path()).expect("none yet");
        let bridge = NetworkDriver::Bridge;
        let spec = NetworkSpec { driver: bridge, ..NetworkSpec::overlay("a".parse().expect("name")) };
        networks.create(&spec, NetworkId::from_random(1), Timestamp::EPOCH, &HostFacts::default()).expect("made");
        save(dir.path(), &networks).expect("written");
        assert_eq!(load(dir.path()).expect("read"), networks);
        fs::write(path(dir.path()), "{").expect("damage");
        assert!(load(dir.path()).expect_err("damaged").to_string().contains("local_networks.json"));
    }
}
