//! The table of virtual addresses in an endpoint's namespace.
//!
//! A record beside it says what was loaded last, into which namespace, and which number the kernel gave
//! the ruleset then. While that number stands nobody has changed a rule there; asking for it costs
//! microseconds, so a thousand endpoints can be looked at without listing a single rule.

use std::{collections::BTreeMap, fs, io, net::IpAddr, os::unix::fs::DirBuilderExt, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    KernelError, netfilter, nft,
    session::{NamespaceFile, Session},
};
use crate::LoadedVips;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    namespace: u64,
    loaded: LoadedVips,
}

/// What is loaded in the namespace, if that is known.
pub fn observe(session: &Session, namespace: &NamespaceFile, record: &Path) -> io::Result<Option<LoadedVips>> {
    // No record, or one of another version: the table is loaded again, which costs nothing but a moment.
    let known = fs::read(record).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
    let Some(known) = known.filter(|known| namespace.inode().is_ok_and(|inode| inode == known.namespace)) else {
        return Ok(None);
    };
    let generation = session.visit(namespace, netfilter::ruleset_generation)??;
    Ok(Some(known.loaded).filter(|loaded| loaded.generation == generation))
}

/// Loads rules in one transaction and notes what is loaded then.
///
/// Rules that build on the ruleset numbered `onto` are not loaded onto another one.
pub async fn load(
    session: &Session,
    namespace: &NamespaceFile,
    record: &Path,
    (onto, ruleset): (Option<u32>, &str),
    digests: &BTreeMap<IpAddr, String>,
) -> Result<(), KernelError> {
    let asked = |source| KernelError::Netlink { doing: "ask for the state of the rules".to_owned(), source };
    let generation = || session.visit(namespace, netfilter::ruleset_generation).and_then(|asked| asked).map_err(asked);
    // Without a record a failure on the way, or a crash, ends in a load of the whole.
    forget(record)?;
    let before = generation()?;
    if onto.is_some_and(|onto| onto != before) {
        return Err(KernelError::RulesChanged);
    }
    let child = session.visit(namespace, || nft::spawn(&["-f", "-"])).map_err(asked)??;
    nft::converse(child, ruleset, "load the virtual addresses").await?;
    let loaded = LoadedVips { generation: generation()?, digests: digests.clone() };
    if loaded.generation != before.wrapping_add(1) {
        // Somebody else was at it in the same moment; the next look loads the whole.
        return Ok(());
    }
    let namespace = namespace.inode().map_err(asked)?;
    let text = serde_json::to_vec(&Record { namespace, loaded }).expect("numbers and strings are always JSON");
    let failed = |source| KernelError::File { doing: "write", path: record.to_owned(), source };
    if let Some(directory) = record.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(directory).map_err(failed)?;
    }
    fs::write(record, text).map_err(failed)
}

/// Nothing is known any more.
pub fn forget(record: &Path) -> Result<(), KernelError> {
    match fs::remove_file(record) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::File { doing: "remove", path: record.to_owned(), source })
        }
        _ => Ok(()),
    }
}
