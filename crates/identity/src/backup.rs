//! A sealed backup of a cluster: what it is in words that anybody may read, and its content for who has the passphrase
//! (parity C-42).
//!
//! Used by `api`, which seals what the manager gives, by the daemon, which opens it on another host, and by `cli`, which
//! says what a file is. The key is made from the passphrase by PBKDF2 (RFC 8018) and seals with AES-256-GCM; the words are
//! sealed along, so they cannot be exchanged. A checksum behind it all tells a damaged file from a wrong passphrase.

use std::num::NonZeroU32;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    pbkdf2,
    rand::{SecureRandom, SystemRandom},
};

const MAGIC: &[u8] = b"RSWARM-BACKUP-1\n";
/// The beginning of the magic of all versions.
const FAMILY: &[u8] = b"RSWARM-BACKUP-";
const SALT_LEN: usize = 16;
/// As OWASP advises for PBKDF2 with SHA-256; a third of a second.
const ITERATIONS: u32 = 600_000;
/// What is read from a file is bounded, so that one made by somebody else cannot keep a host busy for hours.
const MAX_ITERATIONS: u32 = 10_000_000;
/// A key from fewer characters is guessed.
const MIN_PASSPHRASE: usize = 8;

/// Why a backup cannot be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    #[error(
        "the passphrase is too short: it keeps the keys of the cluster, so give at least {MIN_PASSPHRASE} characters"
    )]
    Passphrase,
    #[error("this is no backup of rswarm: such a file begins with RSWARM-BACKUP-1")]
    Foreign,
    #[error("this backup was made by a newer rswarm (its format is {0:?}, this program knows 1): use that version")]
    Version(String),
    #[error(
        "the backup is damaged or was cut off ({bytes} bytes, and the checksum does not fit): copy it once more from where it \
         was made, or take another one"
    )]
    Damaged { bytes: usize },
    #[error("the backup is whole, but this is not the passphrase that it was sealed with")]
    WrongPassphrase,
}

/// A backup that is whole.
#[derive(Debug)]
pub struct Backup<'a> {
    /// What it says of itself.
    pub words: &'a [u8],
    salt: &'a [u8],
    iterations: NonZeroU32,
    nonce: [u8; NONCE_LEN],
    /// All that comes before the sealed content.
    head: &'a [u8],
    content: &'a [u8],
}

/// Seals `content` under the passphrase; anybody can read `words`.
///
/// # Errors
/// When the passphrase is too short.
pub fn seal_backup(words: &[u8], content: Vec<u8>, passphrase: &str) -> Result<Vec<u8>, BackupError> {
    if passphrase.chars().count() < MIN_PASSPHRASE {
        return Err(BackupError::Passphrase);
    }
    let (mut salt, mut nonce) = ([0; SALT_LEN], [0; NONCE_LEN]);
    for random in [&mut salt[..], &mut nonce[..]] {
        SystemRandom::new().fill(random).expect("the kernel gives random bytes once it has booted");
    }
    let length = u32::try_from(words.len()).expect("a few words");
    let mut file = [MAGIC, &salt, &ITERATIONS.to_be_bytes(), &nonce, &length.to_be_bytes(), words].concat();
    let mut sealed = content;
    let iterations = NonZeroU32::new(ITERATIONS).expect("not 0");
    key(passphrase, &salt, iterations)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&file), &mut sealed)
        .expect("a value is far below the 64 GiB that AES-GCM can seal");
    file.append(&mut sealed);
    let checksum = digest(&SHA256, &file);
    file.extend_from_slice(checksum.as_ref());
    Ok(file)
}

impl<'a> Backup<'a> {
    /// Looks whether a file is a backup and whole.
    ///
    /// # Errors
    /// When it is not, in words that say which.
    pub fn parse(file: &'a [u8]) -> Result<Self, BackupError> {
        let damaged = BackupError::Damaged { bytes: file.len() };
        if !file.starts_with(MAGIC) {
            let version = file.strip_prefix(FAMILY).and_then(|rest| rest.split(|byte| *byte == b'\n').next());
            // the first bytes of a file that was cut off within them are no other version
            return Err(match version.filter(|version| version.len() < 8 && file.len() > MAGIC.len()) {
                Some(version) => BackupError::Version(String::from_utf8_lossy(version).into_owned()),
                None if MAGIC.starts_with(file) && !file.is_empty() => damaged,
                None => BackupError::Foreign,
            });
        }
        let body_len = file.len().checked_sub(SHA256_OUTPUT_LEN).ok_or_else(|| damaged.clone())?;
        let (body, checksum) = file.split_at(body_len);
        if digest(&SHA256, body).as_ref() != checksum {
            return Err(damaged);
        }
        Self::of_body(body).ok_or(damaged)
    }

    fn of_body(body: &'a [u8]) -> Option<Self> {
        let rest = body.strip_prefix(MAGIC)?;
        let (salt, rest) = rest.split_at_checked(SALT_LEN)?;
        let (iterations, rest) = number(rest)?;
        let iterations = NonZeroU32::new(iterations).filter(|count| count.get() <= MAX_ITERATIONS)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN)?;
        let (length, rest) = number(rest)?;
        let (words, content) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let head = &body[..body.len() - content.len()];
        Some(Self { words, salt, iterations, nonce: nonce.try_into().ok()?, head, content })
    }

    /// The content.
    ///
    /// # Errors
    /// When it is another passphrase.
    pub fn open(&self, passphrase: &str) -> Result<Vec<u8>, BackupError> {
        let mut content = self.content.to_vec();
        let key = key(passphrase, self.salt, self.iterations);
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let opened = key.open_in_place(nonce, Aad::from(self.head), &mut content);
        let length = opened.map_err(|_| BackupError::WrongPassphrase)?.len();
        content.truncate(length);
        Ok(content)
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn key(passphrase: &str, salt: &[u8], iterations: NonZeroU32) -> LessSafeKey {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, passphrase.as_bytes(), &mut key);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("a key of 32 bytes is one for AES-256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &str = "correct horse";

    fn sealed() -> Vec<u8> {
        seal_backup(b"{\"of\":1}", b"the secrets of the cluster".to_vec(), PASSPHRASE).expect("sealed")
    }

    #[test]
    fn c_42_a_backup_opens_with_its_passphrase_alone() {
        let file = sealed();
        assert!(!file.windows(7).any(|part| part == b"secrets"));
        let backup = Backup::parse(&file).expect("whole");
        assert_eq!(backup.words, b"{\"of\":1}");
        assert_eq!(backup.open(PASSPHRASE).expect("opened"), b"the secrets of the cluster");
        assert_eq!(backup.open("another horse"), Err(BackupError::WrongPassphrase));
        assert_eq!(seal_backup(b"", Vec::new(), "short"), Err(BackupError::Passphrase));
    }

    #[test]
    fn c_42_whatever_happens_to_the_file_is_told_from_a_wrong_passphrase() {
        let file = sealed();
        for length in 1..file.len() {
            let cut = Backup::parse(&file[..length]).expect_err("cut off");
            assert_eq!(cut, BackupError::Damaged { bytes: length }, "{length}");
        }
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(Backup::parse(&changed).is_err(), "byte {at}");
        }
        // whole by its checksum, but with other words: the seal holds them too
        let mut forged = file[..file.len() - SHA256_OUTPUT_LEN].to_vec();
        let at = forged.windows(6).position(|part| part == b"{\"of\":").expect("the words") + 6;
        forged[at] = b'2';
        let checksum = digest(&SHA256, &forged);
        forged.extend_from_slice(checksum.as_ref());
        let backup = Backup::parse(&forged).expect("whole");
        assert_eq!(backup.open(PASSPHRASE), Err(BackupError::WrongPassphrase));
    }

    #[test]
    fn c_42_other_files_are_named() {
        assert_eq!(Backup::parse(b"").unwrap_err(), BackupError::Foreign);
        assert_eq!(Backup::parse(b"a tar, perhaps, of another program").unwrap_err(), BackupError::Foreign);
        let newer = [&b"RSWARM-BACKUP-2\n"[..], &[0; 64]].concat();
        assert_eq!(Backup::parse(&newer).unwrap_err(), BackupError::Version("2".to_owned()));
    }
}
