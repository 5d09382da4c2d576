//! `swarm unlock`, `swarm unlock-key`, and what `init` and `swarm update` say of the key.

use std::io::Read as _;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::Client,
    output::terminal::{print, print_error},
    wire::{self, stdin_is_terminal},
};

/// An unlock key has 52 characters; more than this is no line that a person typed.
const MAX_KEY_BYTES: u64 = 4096;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rswarm swarm unlock-key\n  rswarm swarm unlock-key --rotate")]
pub(crate) struct UnlockKeyArgs {
    /// Only show the key
    #[arg(short, long)]
    quiet: bool,
    /// Replace the key: managers that run take the new one, those that are down still open with the old one
    #[arg(long)]
    rotate: bool,
}

/// Asks at a terminal, and takes the line that a script pipes in.
pub(crate) async fn unlock(client: &Client) -> anyhow::Result<()> {
    let info = client.get("/info").await?;
    match info["Swarm"]["LocalNodeState"].as_str().unwrap_or_default() {
        "locked" => {}
        "" | "inactive" => bail!("this node is not part of a swarm: `rswarm init` makes one, `rswarm join` enters one"),
        _ => bail!("swarm is not locked: this manager runs already, there is nothing to unlock"),
    }
    let key = read_key()?;
    client.post("/swarm/unlock", Some(&json!({ "UnlockKey": key }))).await.map(drop)
}

fn read_key() -> anyhow::Result<String> {
    let mut key = String::new();
    if stdin_is_terminal() {
        print_error("Enter unlock key: ")?;
        key = wire::read_line_unseen().context("read the unlock key")?;
        print_error("\n")?;
    } else {
        std::io::stdin().take(MAX_KEY_BYTES).read_to_string(&mut key).context("read the unlock key")?;
    }
    let key = key.lines().next().unwrap_or_default().trim().to_owned();
    ensure!(
        !key.is_empty(),
        "no unlock key was given: type it, or pipe it in; `rswarm swarm unlock-key` on another manager shows it"
    );
    Ok(key)
}

pub(crate) async fn unlock_key(client: &Client, arguments: UnlockKeyArgs) -> anyhow::Result<()> {
    if arguments.rotate {
        let swarm = client.get("/swarm").await?;
        ensure!(
            is_locked(&swarm),
            "cannot rotate because autolock is not turned on: turn it on with `rswarm swarm update --autolock`"
        );
        let path = format!("/swarm/update?version={}&rotateManagerUnlockKey=true", swarm["Version"]["Index"]);
        client.post(&path, Some(&swarm["Spec"])).await?;
        if !arguments.quiet {
            print("Successfully rotated manager unlock key.\n\n")?;
        }
    }
    let key = fetch(client).await?;
    ensure!(!key.is_empty(), "no unlock key is set: turn autolock on with `rswarm swarm update --autolock`");
    if arguments.quiet {
        return print(&format!("{key}\n"));
    }
    show(&key)
}

/// Whether managers are locked, by the spec.
pub(super) fn is_locked(swarm: &Value) -> bool {
    swarm["Spec"]["EncryptionConfig"]["AutoLockManagers"] == json!(true)
}

/// For whoever has just turned the lock on: the one moment when the key is sure to be wanted.
pub(super) async fn tell(client: &Client) -> anyhow::Result<()> {
    show(&fetch(client).await?)
}

async fn fetch(client: &Client) -> anyhow::Result<String> {
    let answer = client.get("/swarm/unlockkey").await?;
    Ok(answer["UnlockKey"].as_str().unwrap_or_default().to_owned())
}

fn show(key: &str) -> anyhow::Result<()> {
    print(&format!(
        "To unlock a manager after its daemon was restarted, run `rswarm swarm unlock` there and enter this key:\n\n    \
         {key}\n\nKeep it where no manager's disk is: without it a restarted manager cannot take its place again.\n"
    ))
}
