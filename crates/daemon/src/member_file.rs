//! What a host must remember of its cluster to come back by itself after a restart: where it
//! listens, what it is called, and whom it may turn to. One small file, replaced in one step.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use types::ManagerPeer;

const FILE_NAME: &str = "member.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFile {
    pub listen: SocketAddr,
    pub advertise: SocketAddr,
    pub data_address: IpAddr,
    pub managers: Vec<ManagerPeer>,
}

impl MemberFile {
    /// The file in `directory`, if the host is a member of a cluster.
    pub fn load(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE_NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let parsed = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is damaged; restore it from a backup, or remove {} and join the cluster anew",
                path.display(),
                directory.display()
            )
        })?;
        Ok(Some(parsed))
    }

    /// Writes the file; the one that was there stays if that fails.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        let temporary = directory.join(format!("{FILE_NAME}.new"));
        let bytes = serde_json::to_vec_pretty(self).context("encode the membership")?;
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&temporary)?;
            io::Write::write_all(&mut file, &bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            fs::File::open(directory)?.sync_all()
        };
        write().with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_says_when_it_is_damaged() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert_eq!(MemberFile::load(directory.path()).expect("absent is fine"), None);
        let file = MemberFile {
            listen: "0.0.0.0:2377".parse().expect("address"),
            advertise: "10.0.0.1:2377".parse().expect("address"),
            data_address: "10.0.0.1".parse().expect("address"),
            managers: Vec::new(),
        };
        file.save(directory.path()).expect("save");
        assert_eq!(MemberFile::load(directory.path()).expect("load"), Some(file));
        fs::write(directory.path().join(FILE_NAME), "{").expect("damage it");
        let error = MemberFile::load(directory.path()).expect_err("damaged").to_string();
        assert!(error.contains("is damaged"), "{error}");
    }
}
