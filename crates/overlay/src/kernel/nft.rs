//! Our nftables table in the kernel, through the `nft` program (netlink's own form has no stable text).
//!
//! Whether the kernel still has what was loaded is told by comparing `nft list table` now with what it
//! said right after loading; the record survives this process in a file beside it.

use std::{fs, io, path::Path, process::Stdio, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use super::KernelError;
use crate::{
    NftTable,
    nft::{TABLE, digest},
};

/// nft answers in milliseconds; a hanging one must not hold up the host's network for ever.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// What was loaded, and how the kernel listed it then.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    loaded: String,
    listed: String,
}

/// Swaps the table in one transaction.
pub async fn load(ruleset: &str, loaded: &str, record: &Path) -> Result<(), KernelError> {
    run(&["-f", "-"], ruleset, "load the table").await?;
    let listed = list().await?.unwrap_or_default();
    let record_text = Record { loaded: loaded.to_owned(), listed: digest(&listed) };
    let text = serde_json::to_string(&record_text).expect("two strings are always JSON");
    fs::write(record, text).map_err(|source| KernelError::File { doing: "write", path: record.to_owned(), source })
}

/// Removes the table if it is there; one transaction, so it cannot fail for having gone meanwhile.
pub async fn remove(record: &Path) -> Result<(), KernelError> {
    run(&["-f", "-"], &format!("table {TABLE}\ndelete table {TABLE}\n"), "remove the table").await?;
    match fs::remove_file(record) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::File { doing: "remove", path: record.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// How the table stands, by the record of what was loaded.
pub async fn observe(record: &Path) -> Result<NftTable, KernelError> {
    let Some(listing) = list().await? else { return Ok(NftTable::Absent) };
    // No record, or one of another version: the table is loaded again, which costs nothing but a moment.
    let known = fs::read_to_string(record).ok().and_then(|text| serde_json::from_str::<Record>(&text).ok());
    match known {
        Some(record) if record.listed == digest(&listing) => Ok(NftTable::Loaded { digest: record.loaded }),
        _ => Ok(NftTable::Unknown),
    }
}

/// The table without counters and other state, or None if there is none.
async fn list() -> Result<Option<String>, KernelError> {
    let mut arguments = vec!["--stateless", "list", "table"];
    arguments.extend(TABLE.split(' '));
    match run(&arguments, "", "list the table").await {
        Ok(text) => Ok(Some(text)),
        Err(KernelError::Nft { said, .. }) if said.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs nft in the calling thread's namespace and returns what it prints.
pub(crate) async fn run(arguments: &[&str], input: &str, doing: &'static str) -> Result<String, KernelError> {
    converse(spawn(arguments)?, input, doing).await
}

/// Starts nft in the namespace the calling thread is in; [`converse`] may follow from another.
pub(super) fn spawn(arguments: &[&str]) -> Result<Child, KernelError> {
    let mut command = Command::new("nft");
    command.args(arguments).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(KernelError::NftMissing)
}

/// Gives nft its input and returns what it prints.
pub(super) async fn converse(mut child: Child, input: &str, doing: &'static str) -> Result<String, KernelError> {
    let failed = |said: String| KernelError::Nft { doing, said };
    let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    let conversation = async {
        // A broken pipe means that nft has ended: its own words say why.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIME_LIMIT, conversation)
        .await
        .map_err(|_| failed(format!("no answer within {} s", TIME_LIMIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.split_whitespace().collect::<Vec<_>>().join(" ")))
}
