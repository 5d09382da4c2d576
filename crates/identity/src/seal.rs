//! Sealed files: a magic, a nonce, and the content under AES-256-GCM, bound to the file's name.
//!
//! Used by the vault alone. Says plain from sealed by the magic, so that a file may be either.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

/// No PEM text begins like this, and a random key does once in 2^128.
const MAGIC: &[u8] = b"RSWARM-SEALED-1\n";

pub(crate) type FileKey = [u8; 32];

pub(crate) fn random_key() -> FileKey {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).expect("the kernel gives random bytes once it has booted");
    key
}

pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Random nonces are safe for 2^32 files under one key: a node writes one in weeks.
pub(crate) fn seal(key: &FileKey, name: &str, plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).expect("the kernel gives random bytes once it has booted");
    let mut content = plain.to_vec();
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut content)
        .expect("keys are far below the 64 GiB that AES-GCM can seal");
    [MAGIC, &nonce, &content].concat()
}

/// `None` if it is not whole, of another name, or of another key.
pub(crate) fn unseal(key: &FileKey, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, content) = sealed.strip_prefix(MAGIC)?.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut content = content.to_vec();
    let length = cipher(key).open_in_place(nonce, Aad::from(name), &mut content).ok()?.len();
    content.truncate(length);
    Some(content)
}

/// Whether bytes could be a sealed key, whatever it is sealed with.
pub(crate) fn holds_key(sealed: &[u8]) -> bool {
    is_sealed(sealed) && sealed.len() == MAGIC.len() + NONCE_LEN + size_of::<FileKey>() + AES_256_GCM.tag_len()
}

fn cipher(key: &FileKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes is one for AES-256"))
}
