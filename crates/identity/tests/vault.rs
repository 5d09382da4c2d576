//! Secret files on a disk that is written half, cut off, or opened with the wrong key (parity C-14).
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use identity::{Error, UnlockError, Vault};
use types::UnlockKey;

const FILES: &[&str] = &["node.pem", "raft/data.key"];
const ONE: UnlockKey = UnlockKey([1; 32]);
const TWO: UnlockKey = UnlockKey([2; 32]);
const PEM: &[u8] = b"-----BEGIN PRIVATE KEY----- very secret";
const DATA_KEY: &[u8] = &[7; 32];

fn vault(directory: &Path) -> Vault {
    Vault::open(directory, FILES).unwrap()
}

fn filled(directory: &Path) -> Vault {
    let vault = vault(directory);
    vault.write("node.pem", PEM).unwrap();
    vault.write("raft/data.key", DATA_KEY).unwrap();
    vault
}

fn holds_all(vault: &Vault) {
    assert_eq!(vault.read("node.pem").unwrap().as_deref(), Some(PEM));
    assert_eq!(vault.read("raft/data.key").unwrap().as_deref(), Some(DATA_KEY));
}

/// Whether any file in the directory shows what is secret.
fn shows_secrets(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return shows_secrets(&path);
        }
        let bytes = fs::read(&path).unwrap();
        [b"very secret".as_slice(), DATA_KEY, &ONE.0, &TWO.0]
            .iter()
            .any(|secret| bytes.windows(secret.len()).any(|part| part == *secret))
    })
}

#[test]
fn c_14_a_sealed_vault_opens_with_its_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    let first = filled(directory.path());
    assert!(!first.is_locked() && shows_secrets(directory.path()));
    assert!(first.settle(Some(&ONE)).unwrap());
    assert!(!shows_secrets(directory.path()));
    assert!(!first.settle(Some(&ONE)).unwrap(), "nothing is left to do");
    holds_all(&first);

    let restarted = vault(directory.path());
    assert!(restarted.is_locked());
    assert!(matches!(restarted.read("node.pem"), Err(Error::Locked)));
    assert!(matches!(restarted.write("node.pem", PEM), Err(Error::Locked)));
    assert!(matches!(restarted.settle(None), Err(Error::Locked)), "nobody opens it by settling");
    let refused = restarted.unlock(&TWO).unwrap_err();
    assert!(matches!(refused, UnlockError::WrongKey) && restarted.is_locked(), "{refused}");
    restarted.unlock(&ONE).unwrap();
    holds_all(&restarted);
    // a renewed certificate stays sealed
    restarted.write("node.pem", b"renewed, very secret").unwrap();
    assert!(!shows_secrets(directory.path()));

    assert!(restarted.settle(None).unwrap());
    let plain = vault(directory.path());
    assert!(!plain.is_locked() && !directory.path().join("lock.key").exists());
    assert_eq!(plain.read("node.pem").unwrap().unwrap(), b"renewed, very secret");
    assert!(!plain.settle(None).unwrap());
}

#[test]
fn c_14_a_rotated_key_takes_the_old_ones_place() {
    let directory = tempfile::tempdir().unwrap();
    let first = filled(directory.path());
    first.settle(Some(&ONE)).unwrap();
    assert!(first.settle(Some(&TWO)).unwrap());
    let restarted = vault(directory.path());
    assert!(matches!(restarted.unlock(&ONE), Err(UnlockError::WrongKey)));
    restarted.unlock(&TWO).unwrap();
    holds_all(&restarted);
}

#[test]
fn c_14_a_founding_manager_never_writes_its_keys_plain() {
    let directory = tempfile::tempdir().unwrap();
    let empty = vault(directory.path());
    assert!(empty.settle(Some(&ONE)).unwrap());
    empty.write("node.pem", PEM).unwrap();
    empty.write("raft/data.key", DATA_KEY).unwrap();
    assert!(!shows_secrets(directory.path()));
    holds_all(&empty);
}

#[test]
fn c_14_files_that_are_cut_off_or_exchanged_are_named() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).settle(Some(&ONE)).unwrap();
    let path = directory.path().join("raft/data.key");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let opened = vault(directory.path());
        opened.unlock(&ONE).unwrap();
        match opened.read("raft/data.key") {
            // shorter than the magic: no sealed file, and no key either, which the store says
            Ok(Some(bytes)) => assert!(bytes.len() == length && length < 16),
            Err(Error::Sealed { path }) => assert!(path.ends_with("raft/data.key"), "{path}"),
            other => panic!("{length}: {other:?}"),
        }
    }
    fs::copy(directory.path().join("node.pem"), &path).unwrap();
    let opened = vault(directory.path());
    opened.unlock(&ONE).unwrap();
    assert!(matches!(opened.read("raft/data.key"), Err(Error::Sealed { .. })), "another file's content");
    fs::write(&path, &whole).unwrap();
    holds_all(&opened);

    let lock = directory.path().join("lock.key");
    let whole = fs::read(&lock).unwrap();
    fs::write(&lock, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(Vault::open(directory.path(), FILES), Err(Error::Sealed { .. })));
    fs::remove_file(&lock).unwrap();
    let error = Vault::open(directory.path(), FILES).unwrap_err();
    assert!(matches!(error, Error::LockMissing { .. }) && error.to_string().contains("lock.key"), "{error}");
}

#[test]
fn c_14_a_crash_at_any_step_is_gone_on_from() {
    // as it is when only one of the files is sealed yet
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).settle(Some(&ONE)).unwrap();
    fs::write(directory.path().join("node.pem"), PEM).unwrap();
    fs::write(directory.path().join("node.pem.new"), PEM).unwrap();
    let restarted = vault(directory.path());
    assert!(restarted.is_locked());
    restarted.unlock(&ONE).unwrap();
    holds_all(&restarted);
    assert!(restarted.settle(Some(&ONE)).unwrap());
    assert!(!shows_secrets(directory.path()), "not in what a broken write left either");

    // as it is when the lock is written and no file is sealed yet
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).settle(Some(&ONE)).unwrap();
    fs::write(directory.path().join("node.pem"), PEM).unwrap();
    fs::write(directory.path().join("raft/data.key"), DATA_KEY).unwrap();
    let restarted = vault(directory.path());
    assert!(!restarted.is_locked());
    restarted.settle(Some(&TWO)).unwrap();
    let restarted = vault(directory.path());
    assert!(matches!(restarted.unlock(&ONE), Err(UnlockError::WrongKey)));
    restarted.unlock(&TWO).unwrap();
    holds_all(&restarted);
    restarted.settle(None).unwrap();
    holds_all(&vault(directory.path()));
}
