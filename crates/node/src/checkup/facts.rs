//! What is read on the host for the checks. No judgement here.

use std::{fs, path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use super::Places;

/// nft answers in milliseconds.
const NFT_LIMIT: Duration = Duration::from_secs(5);

/// What was found; None where it could not be read or is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// `nft -j list chains`.
    pub chains: Option<String>,
    /// Tables of the older iptables in the kernel.
    pub legacy_tables: Option<String>,
    /// Bytes of the file system with the state: all, and free for use.
    pub disk: Option<(u64, u64)>,
    pub state_dir: String,
    /// Connections tracked now, and at most.
    pub conntrack: Option<(u64, u64)>,
    /// Neighbours that the kernel may know (`gc_thresh3`).
    pub neighbours: Option<u64>,
    pub user_namespaces: Option<u64>,
}

impl Facts {
    pub async fn read(places: &Places) -> Self {
        let netfilter = |name: &str| number(&format!("/proc/sys/net/netfilter/{name}"));
        Self {
            chains: chains().await,
            legacy_tables: fs::read_to_string("/proc/net/ip_tables_names").ok(),
            disk: disk(&places.state_dir),
            state_dir: places.state_dir.display().to_string(),
            conntrack: netfilter("nf_conntrack_count").zip(netfilter("nf_conntrack_max")),
            neighbours: number("/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
            user_namespaces: number("/proc/sys/user/max_user_namespaces"),
        }
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

async fn chains() -> Option<String> {
    let mut command = Command::new("nft");
    command.args(["-j", "list", "chains"]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(NFT_LIMIT, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Of the directory, or of the nearest one above it that is there.
fn disk(directory: &Path) -> Option<(u64, u64)> {
    let there = directory.ancestors().find(|path| path.is_dir())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    Some((stat.blocks() * stat.fragment_size(), stat.blocks_available() * stat.fragment_size()))
}
