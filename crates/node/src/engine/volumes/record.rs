//! What is known of a volume, beside its data: `volumes/<name>/volume.json`. Blocking.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use types::{Labels, Timestamp};

use super::options::Options;

/// Docker's mark of a volume that nobody gave a name.
pub(super) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

const RECORD: &str = "volume.json";
const DATA: &str = "_data";

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    pub created: Timestamp,
    pub labels: Labels,
    pub options: Options,
    /// The container an anonymous volume was made for; empty for all others.
    pub owner: String,
    /// The copy-up has been done.
    pub filled: bool,
    /// Containers that have it, running or not.
    pub users: BTreeSet<String>,
}

impl Record {
    pub(super) fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }
}

/// The name of the `index`th anonymous volume of a container: the same each time it is asked for, so that a
/// step that is repeated finds the volume it made.
pub(super) fn anonymous_name(owner: &str, index: usize) -> String {
    hex(&Sha256::digest(format!("anonymous volume {index} of {owner}")))
}

/// A name for a volume that somebody asked for without one.
pub(super) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 32];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Docker's rule, in its words.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.len() < 2 {
        return Err("volume name is too short, names should be at least two alphanumeric characters".to_owned());
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !begins || !name.bytes().all(allowed) {
        return Err(format!(
            "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        ));
    }
    if name.len() > 255 {
        return Err(format!("volume name of {} characters is too long: 255 are possible", name.len()));
    }
    Ok(())
}

pub(super) fn data_of(directory: &Path) -> PathBuf {
    directory.join(DATA)
}

/// All volumes below `root`. A record that cannot be read leaves its volume there, with nothing known of it:
/// the data are worth more than the labels.
pub(super) fn read_all(root: &Path) -> io::Result<BTreeMap<String, Record>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut all = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if check_name(&name).is_err() || !entry.file_type()?.is_dir() {
            continue;
        }
        let record = match fs::read(entry.path().join(RECORD)).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(record)) => record,
            Ok(Err(error)) => {
                tracing::warn!(volume = name, %error, "the volume's record is damaged: its labels and options are lost");
                Record::default()
            }
            // Nothing was put into it before its record was written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        all.insert(name, record);
    }
    Ok(all)
}

/// The old or the new record, whatever happens in between.
pub(super) fn write(directory: &Path, record: &Record) -> io::Result<()> {
    let text = serde_json::to_vec(record).map_err(io::Error::other)?;
    let new = directory.join("volume.json.new");
    fs::write(&new, text)?;
    fs::rename(new, directory.join(RECORD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_in_dockers_words() {
        for good in ["db", "a.b_c-d", "0x", &"a".repeat(255)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for (bad, part) in [
            ("", "too short"),
            ("a", "too short"),
            ("..", "invalid characters"),
            ("a/b", "\"a/b\" includes invalid characters"),
            ("a b", "invalid characters"),
            ("/srv/data", "use absolute path"),
            (&"a".repeat(256), "too long"),
        ] {
            assert!(check_name(bad).expect_err(bad).contains(part), "{bad}");
        }
    }

    #[test]
    fn anonymous_names_follow_from_their_container() {
        let name = anonymous_name("c1", 0);
        assert!(name.len() == 64 && check_name(&name).is_ok());
        assert_eq!(name, anonymous_name("c1", 0));
        assert_ne!(name, anonymous_name("c1", 1));
        assert_ne!(random_name().expect("random"), random_name().expect("random"));
    }
}
