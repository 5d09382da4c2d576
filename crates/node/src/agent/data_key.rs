//! The key with which this host's data plane encrypts, kept on its disk. The secret half never leaves the host.
//!
//! Made by the agent at its first start. A file that is damaged is replaced: the managers hear of the new
//! public half with the next session, and the peers follow.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use overlay::{
    PrivateKey,
    wireguard::{self, WireguardError},
};

const FILE_NAME: &str = "wireguard.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum DataKeyError {
    #[error("{operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("make a key for the data plane")]
    Make(#[source] WireguardError),
}

/// The key in `directory`, made if it is not there: the secret half and the public one.
///
/// # Errors
/// When the file cannot be read or written, or the system has no random numbers.
pub(super) fn load_or_make(directory: &Path) -> Result<(PrivateKey, [u8; 32]), DataKeyError> {
    let path = directory.join(FILE_NAME);
    let failed = |operation, source| DataKeyError::Io { operation, path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => {
            if let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) {
                let private = PrivateKey::from(key);
                let public = wireguard::public_key(&private);
                return Ok((private, public));
            }
            tracing::warn!(file = %path.display(), "the data plane's key is damaged; a new one is made");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed("read", source)),
    }
    let (private, public) = wireguard::generate_key_pair().map_err(DataKeyError::Make)?;
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).mode(0o600).open(&beside);
    let written = file.and_then(|mut file| file.write_all(private.bytes()).and_then(|()| file.sync_all()));
    written.and_then(|()| fs::rename(&beside, &path)).map_err(|source| failed("write", source))?;
    Ok((private, public))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn n04_the_key_is_made_once_and_for_root_only() {
        let directory = tempfile::tempdir().expect("directory");
        let (private, public) = load_or_make(directory.path()).expect("made");
        let path = directory.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(directory.path()).expect("kept"), (private, public));
        fs::write(&path, b"short").expect("damage");
        assert_ne!(load_or_make(directory.path()).expect("made anew").1, public);
    }
}
