//! The secret files of a node: plain, or sealed so that a manager whose daemon was restarted stays
//! locked until somebody gives the cluster's unlock key (parity C-14).
//!
//! Held by whoever reads or writes such a file: the daemon, the agent's renewal, the manager's store.
//! The files are sealed with a key of this host's own, and only that key, in `lock.key`, with the unlock
//! key: a new unlock key then replaces one file in one step, and a crash never leaves files of two keys.
//! It must never write a file plain while the vault is sealed, and never show a key in an error.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use types::UnlockKey;

use crate::{
    Error,
    seal::{self, FileKey},
};

const LOCK_FILE: &str = "lock.key";

/// A cheap handle; all copies share one state.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    /// The secret files, by their paths in the directory.
    files: Vec<&'static str>,
    state: Mutex<State>,
}

enum State {
    /// Files are plain.
    Plain,
    /// Files are sealed, and nobody has said the key yet.
    Locked,
    /// Files are sealed with this key, or about to be.
    Sealed(FileKey),
}

/// Why a vault did not open.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// In Docker's words.
    #[error("swarm could not be unlocked: invalid key provided")]
    WrongKey,
    #[error(transparent)]
    File(#[from] Error),
}

/// Where it is, never what is in it.
impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Vault").field(&self.inner.directory).finish()
    }
}

impl Vault {
    /// The vault of `directory`, which need not exist. It is locked if one of the files is sealed.
    ///
    /// # Errors
    /// When a file cannot be read, or files are sealed and what opens them is missing.
    pub fn open(directory: &Path, files: &[&'static str]) -> Result<Self, Error> {
        let state = Mutex::new(State::Plain);
        let inner = Inner { directory: directory.to_owned(), files: files.to_vec(), state };
        let mut is_sealed = false;
        for name in files {
            is_sealed |= inner.load(name)?.is_some_and(|bytes| seal::is_sealed(&bytes));
        }
        if is_sealed {
            inner.lock_file()?;
            *inner.state() = State::Locked;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    pub fn is_locked(&self) -> bool {
        matches!(*self.inner.state(), State::Locked)
    }

    /// Opens a locked vault; one that is not locked stays as it is.
    ///
    /// # Errors
    /// When the key is not the one, or the file it opens cannot be read or is damaged.
    pub fn unlock(&self, key: &UnlockKey) -> Result<(), UnlockError> {
        let mut state = self.inner.state();
        if matches!(*state, State::Locked) {
            let sealed = self.inner.lock_file()?;
            let file_key = open_lock(key, &sealed).ok_or(UnlockError::WrongKey)?;
            *state = State::Sealed(file_key);
        }
        Ok(())
    }

    /// What is in a file; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or the vault is locked.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let state = self.inner.state();
        self.inner.read(&state, name)
    }

    /// Puts a file in place in one step, mode 0600: sealed, if the vault is.
    ///
    /// # Errors
    /// When it cannot be written, and the one that was there stays; when the vault is locked.
    pub fn write(&self, name: &str, plain: &[u8]) -> Result<(), Error> {
        match &*self.inner.state() {
            State::Plain => self.inner.put(name, plain),
            State::Sealed(key) => self.inner.put(name, &seal::seal(key, name, plain)),
            State::Locked => Err(Error::Locked),
        }
    }

    /// Makes the files what the cluster wants: sealed under this unlock key, or plain without one. Says
    /// whether anything changed. Repeated after a failure or a crash it goes on where it was.
    ///
    /// # Errors
    /// When a file cannot be read or written; when the vault is locked.
    pub fn settle(&self, wanted: Option<&UnlockKey>) -> Result<bool, Error> {
        let mut state = self.inner.state();
        match (wanted, &*state) {
            (_, State::Locked) => Err(Error::Locked),
            (Some(unlock), State::Plain) => {
                let key = seal::random_key();
                self.inner.put(LOCK_FILE, &seal::seal(&unlock.0, LOCK_FILE, &key))?;
                // from here on whatever is written is sealed
                *state = State::Sealed(key);
                self.inner.convert(&state, Some(&key))?;
                Ok(true)
            }
            (Some(unlock), State::Sealed(key)) => {
                let present = self.inner.load(LOCK_FILE)?.and_then(|sealed| open_lock(unlock, &sealed));
                let is_other = present.as_ref() != Some(key);
                if is_other {
                    self.inner.put(LOCK_FILE, &seal::seal(&unlock.0, LOCK_FILE, key))?;
                }
                Ok(self.inner.convert(&state, Some(key))? || is_other)
            }
            (None, State::Sealed(_)) => {
                self.inner.convert(&state, None)?;
                *state = State::Plain;
                self.inner.remove(LOCK_FILE)?;
                Ok(true)
            }
            // what a crash or a full disk kept from being removed
            (None, State::Plain) => self.inner.remove(LOCK_FILE),
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes as they lie on the disk.
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.directory.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file_error("read", &path, source)),
        }
    }

    fn read(&self, state: &State, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(bytes) = self.load(name)? else { return Ok(None) };
        if !seal::is_sealed(&bytes) {
            return Ok(Some(bytes));
        }
        let State::Sealed(key) = state else { return Err(Error::Locked) };
        let plain = seal::unseal(key, name, &bytes);
        plain.map(Some).ok_or_else(|| Error::Sealed { path: self.shown(name) })
    }

    /// The sealed key of the files, whole.
    fn lock_file(&self) -> Result<Vec<u8>, Error> {
        let sealed = self.load(LOCK_FILE)?.ok_or_else(|| Error::LockMissing { path: self.shown(LOCK_FILE) })?;
        if !seal::holds_key(&sealed) {
            return Err(Error::Sealed { path: self.shown(LOCK_FILE) });
        }
        Ok(sealed)
    }

    /// Writes every file that is not yet as it should be, and removes what a broken write left beside it.
    fn convert(&self, state: &State, key: Option<&FileKey>) -> Result<bool, Error> {
        let mut changed = false;
        for name in &self.files {
            let is_sealed = self.load(name)?.map(|bytes| seal::is_sealed(&bytes));
            if is_sealed.is_some_and(|is_sealed| is_sealed != key.is_some()) {
                let plain = self.read(state, name)?.unwrap_or_default();
                let bytes = key.map(|key| seal::seal(key, name, &plain));
                self.put(name, bytes.as_deref().unwrap_or(&plain))?;
                changed = true;
            }
            self.remove(&partial(name))?;
        }
        Ok(changed)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.directory.join(name);
        let directory = path.parent().unwrap_or(&self.directory);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| file_error("create", directory, source))?;
        let temporary = self.directory.join(partial(name));
        write_synced(&temporary, bytes).map_err(|source| file_error("write", &temporary, source))?;
        fs::rename(&temporary, &path).map_err(|source| file_error("replace", &path, source))?;
        fs::File::open(directory).and_then(|d| d.sync_all()).map_err(|source| file_error("sync", directory, source))
    }

    fn remove(&self, name: &str) -> Result<bool, Error> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(file_error("remove", &path, source)),
        }
    }

    fn shown(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

/// The key of the files, if the unlock key is the one.
fn open_lock(key: &UnlockKey, sealed: &[u8]) -> Option<FileKey> {
    seal::unseal(&key.0, LOCK_FILE, sealed)?.try_into().ok()
}

/// Where a file is written before it takes its place.
fn partial(name: &str) -> String {
    format!("{name}.new")
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // a broken write may have left it, with another mode
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}

fn file_error(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { operation, path: path.display().to_string(), source }
}
