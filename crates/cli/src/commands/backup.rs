//! `backup create`, `backup inspect`, and `init --from-backup` (parity C-42).

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use clap::{Args, Subcommand};
use identity::Backup;
use serde_json::{Value, json};

use crate::{
    client::Client,
    output::terminal::{print, print_bytes, print_error, stdout_is_terminal},
    wire::{self, stdin_is_terminal},
};

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Write the whole state of the cluster into a file, sealed with a passphrase
    #[command(
        after_help = "Examples:\n  rswarm backup create --passphrase-file key.txt cluster.backup\n  rswarm backup create --passphrase-file key.txt - | ssh store 'cat > cluster.backup'"
    )]
    Create(CreateArgs),
    /// Say what a backup holds; needs no daemon
    #[command(after_help = "Example: rswarm backup inspect cluster.backup")]
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// File to write, replaced in one step; - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Look whether this is the passphrase, too: the first line of a file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The backup; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PassphraseArgs {
    /// File whose first line is the passphrase of the backup (asked for at a terminal otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// Twice at a terminal where it is new: who mistyped it once would have no backup.
    fn read(&self, is_new: bool) -> anyhow::Result<String> {
        if let Some(path) = &self.passphrase_file {
            return passphrase_in(path);
        }
        ensure!(
            stdin_is_terminal(),
            "no passphrase was given, and there is no terminal to ask at: use --passphrase-file FILE"
        );
        let first = ask("Passphrase of the backup: ")?;
        if is_new {
            ensure!(first == ask("The same once more: ")?, "the two passphrases differ; nothing was written");
        }
        Ok(first)
    }
}

fn ask(question: &str) -> anyhow::Result<String> {
    print_error(question)?;
    let line = wire::read_line_unseen().context("read the passphrase")?;
    print_error("\n")?;
    Ok(line)
}

fn passphrase_in(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read the passphrase in {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    ensure!(!line.is_empty(), "the first line of {} is empty: it must be the passphrase", path.display());
    Ok(line)
}

pub(crate) async fn run(client: &Client, command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::Create(arguments) => create(client, &arguments).await,
        BackupCommand::Inspect(arguments) => inspect(&arguments),
    }
}

async fn create(client: &Client, arguments: &CreateArgs) -> anyhow::Result<()> {
    let to_stdout = arguments.file == Path::new("-");
    ensure!(
        !to_stdout || !stdout_is_terminal(),
        "a backup is not for the screen: name a file, or redirect standard output"
    );
    let body = json!({ "Passphrase": arguments.passphrase.read(true)? });
    let sealed = client.post_for_bytes("/swarm/backup", &body).await?;
    let words = words(&Backup::parse(&sealed).context("the daemon sent no whole backup; try again")?)?;
    if to_stdout {
        print_bytes(&sealed)?;
    } else {
        put(&arguments.file, &sealed).with_context(|| format!("write {}", arguments.file.display()))?;
    }
    print_error(&format!(
        "Backup of cluster {} at index {}: {} bytes. Keep the passphrase elsewhere: without it nobody opens the backup.\n",
        text(&words, "ClusterID"),
        text(&words, "Index"),
        sealed.len()
    ))
}

/// For root's eyes, and whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        // what is half written helps nobody
        let _ = fs::remove_file(&beside);
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).context("read standard input")?;
        return Ok(bytes);
    }
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn words(backup: &Backup<'_>) -> anyhow::Result<Value> {
    serde_json::from_slice(backup.words).context("what the backup says of itself is not understood; use a newer rswarm")
}

fn text(words: &Value, field: &str) -> String {
    words[field].as_str().map_or_else(|| words[field].to_string(), str::to_owned)
}

fn inspect(arguments: &InspectArgs) -> anyhow::Result<()> {
    let bytes = read(&arguments.file)?;
    let backup = Backup::parse(&bytes).with_context(|| arguments.file.display().to_string())?;
    print(&table(&words(&backup)?, bytes.len()))?;
    let Some(path) = &arguments.passphrase_file else { return Ok(()) };
    backup.open(&passphrase_in(path)?).with_context(|| arguments.file.display().to_string())?;
    print("Passphrase:   opens it\n")
}

fn table(words: &Value, bytes: usize) -> String {
    let rows = [
        ("Cluster", "ClusterID"),
        ("Taken at", "TakenAt"),
        ("On manager", "ManagerID"),
        ("Version", "Version"),
        ("Index", "Index"),
        ("Nodes", "Nodes"),
        ("Managers", "Managers"),
        ("Services", "Services"),
        ("Tasks", "Tasks"),
        ("Networks", "Networks"),
        ("Secrets", "Secrets"),
        ("Configs", "Configs"),
    ];
    let row = |(name, field): (&str, &str)| format!("{:<14}{}\n", format!("{name}:"), text(words, field));
    rows.into_iter().map(row).collect::<String>() + &row_of_bytes(bytes)
}

fn row_of_bytes(bytes: usize) -> String {
    format!("{:<14}{bytes}\n", "Bytes:")
}

/// Makes this host the first manager of the cluster in a backup; `places` says where it is to be. Gives the node's id.
pub(crate) async fn restore(
    client: &Client,
    file: &Path,
    passphrase: &PassphraseArgs,
    mut places: Value,
) -> anyhow::Result<String> {
    let bytes = read(file)?;
    // before anybody is asked for a passphrase
    Backup::parse(&bytes).with_context(|| file.display().to_string())?;
    places["Passphrase"] = json!(passphrase.read(false)?);
    let header = URL_SAFE.encode(places.to_string());
    let node = client.post_bytes("/swarm/restore", bytes, ("X-Swarm-Restore", &header)).await?;
    match node.as_str() {
        Some(node) => Ok(node.to_owned()),
        None => bail!("the daemon did not say which node this is now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_42_a_backup_is_written_for_its_owner_alone_and_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cluster.backup");
        put(&path, b"first").expect("written");
        put(&path, b"second").expect("replaced");
        assert_eq!(read(&path).expect("read"), b"second");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("a file").permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing lies beside it");
        let key = directory.path().join("key");
        fs::write(&key, "the passphrase\nand a remark\n").expect("written");
        assert_eq!(passphrase_in(&key).expect("a line"), "the passphrase");
        fs::write(&key, "\n").expect("written");
        assert!(passphrase_in(&key).expect_err("no passphrase").to_string().contains("first line"));
    }

    #[test]
    fn c_42_what_a_backup_says_is_shown() {
        let shown = table(&json!({ "ClusterID": "abc", "Index": 7, "Services": 2 }), 99);
        assert!(shown.starts_with("Cluster:      abc\n") && shown.contains("Index:        7\n"), "{shown}");
        assert!(shown.ends_with("Bytes:        99\n"), "{shown}");
    }
}
