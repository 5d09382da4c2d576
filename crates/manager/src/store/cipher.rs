//! Seals every record before it reaches the disk, and opens it again (parity C-15).
//!
//! Used by the columns of the store. The key lies beside the database, readable by root only,
//! and sealed itself while managers are locked; it must never be written anywhere but in the vault, and no record may be written around this module.

use identity::Vault;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use crate::{Error, config::DATA_KEY_FILE};

const KEY_BYTES: usize = 32;

/// AES-256-GCM with a fresh random nonce per record, stored in front of it. Random nonces are safe
/// for 2^32 records under one key; at 100 writes a second that is more than a year of writes, and
/// the key is made anew whenever a manager joins.
pub(crate) struct Cipher {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Cipher {
    /// The key in the vault, made now if `fresh`.
    pub(crate) fn open(vault: &Vault, fresh: bool) -> Result<Self, Error> {
        let path = vault.directory().join(DATA_KEY_FILE);
        let random = SystemRandom::new();
        let bytes = match vault.read(DATA_KEY_FILE)? {
            Some(bytes) => bytes,
            None if fresh => {
                let mut key = vec![0_u8; KEY_BYTES];
                random.fill(&mut key).expect("the kernel gives random bytes once it has booted");
                vault.write(DATA_KEY_FILE, &key)?;
                key
            }
            None => return Err(Error::KeyMissing { path }),
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn vault(directory: &Path) -> Vault {
        Vault::open(directory, &[DATA_KEY_FILE]).expect("a vault")
    }

    #[test]
    fn c_15_records_open_only_in_their_place_and_whole() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let cipher = Cipher::open(&vault(directory.path()), true).expect("new key");
        let sealed = cipher.seal(b"log/1", b"secret".to_vec());
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(cipher.unseal(b"log/1", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(cipher.unseal(b"log/2", &sealed), None);
        assert_eq!(cipher.unseal(b"log/1", &sealed[..sealed.len() - 1]), None);
        assert_eq!(cipher.unseal(b"log/1", b"x"), None);
        let again = Cipher::open(&vault(directory.path()), false).expect("same key");
        assert_eq!(again.unseal(b"log/1", &sealed).as_deref(), Some(&b"secret"[..]));
        let mode = fs::metadata(directory.path().join(DATA_KEY_FILE)).expect("key file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_or_short_key_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert!(matches!(Cipher::open(&vault(directory.path()), false), Err(Error::KeyMissing { .. })));
        fs::create_dir(directory.path().join("raft")).expect("a directory");
        fs::write(directory.path().join(DATA_KEY_FILE), b"short").expect("write");
        assert!(matches!(Cipher::open(&vault(directory.path()), false), Err(Error::KeyDamaged { found: 5, .. })));
    }
}
