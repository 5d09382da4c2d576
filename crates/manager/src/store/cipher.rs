//! Seals every record before it reaches the disk, and opens it again (parity C-15).
//!
//! Used by the columns of the store. The key lies beside the database, readable by root only; it
//! must never be written anywhere else, and no record may be written around this module.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use crate::Error;

const KEY_BYTES: usize = 32;
const KEY_FILE: &str = "data.key";

/// AES-256-GCM with a fresh random nonce per record, stored in front of it. Random nonces are safe
/// for 2^32 records under one key; at 100 writes a second that is more than a year of writes, and
/// the key is made anew whenever a manager joins.
pub(crate) struct Cipher {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Cipher {
    /// The key in `directory`, made now if `fresh`.
    pub(crate) fn open(directory: &Path, fresh: bool) -> Result<Self, Error> {
        let path = directory.join(KEY_FILE);
        let random = SystemRandom::new();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && fresh => create_key(&path, &random)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::KeyMissing { path }),
            Err(source) => return Err(Error::file("read", path)(source)),
        };
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| Error::KeyDamaged {
            path,
            expected: KEY_BYTES,
            found: bytes.len(),
        })?;
        Ok(Self { key: LessSafeKey::new(key), random })
    }

    /// `plain` sealed and bound to its place (column and record key), so that records cannot be
    /// swapped for one another.
    pub(crate) fn seal(&self, place: &[u8], mut plain: Vec<u8>) -> Vec<u8> {
        let mut nonce = [0_u8; NONCE_LEN];
        self.random.fill(&mut nonce).expect("the kernel gives random bytes once it has booted");
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut plain)
            .expect("records are far below the 64 GiB that AES-GCM can seal");
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + tag.as_ref().len());
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut plain);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// The record that was sealed for `place`; `None` if it is damaged, of another place or of
    /// another key.
    pub(crate) fn unseal(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = rest.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(place), &mut buffer).ok()?.len();
        buffer.truncate(length);
        Some(buffer)
    }
}

fn create_key(path: &Path, random: &SystemRandom) -> Result<Vec<u8>, Error> {
    let mut key = vec![0_u8; KEY_BYTES];
    random.fill(&mut key).expect("the kernel gives random bytes once it has booted");
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(Error::file("write the key file", path))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn c_15_records_open_only_in_their_place_and_whole() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let cipher = Cipher::open(directory.path(), true).expect("new key");
        let sealed = cipher.seal(b"log/1", b"secret".to_vec());
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(cipher.unseal(b"log/1", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(cipher.unseal(b"log/2", &sealed), None);
        assert_eq!(cipher.unseal(b"log/1", &sealed[..sealed.len() - 1]), None);
        assert_eq!(cipher.unseal(b"log/1", b"x"), None);
        let again = Cipher::open(directory.path(), false).expect("same key");
        assert_eq!(again.unseal(b"log/1", &sealed).as_deref(), Some(&b"secret"[..]));
        let mode = fs::metadata(directory.path().join(KEY_FILE)).expect("key file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_or_short_key_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert!(matches!(Cipher::open(directory.path(), false), Err(Error::KeyMissing { .. })));
        fs::write(directory.path().join(KEY_FILE), b"short").expect("write");
        assert!(matches!(Cipher::open(directory.path(), false), Err(Error::KeyDamaged { found: 5, .. })));
    }
}
