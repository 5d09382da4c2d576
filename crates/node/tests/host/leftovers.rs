//! Ends what a failed run leaves: shims, containers, the data plane process. Called once nothing of the run is
//! executed any more that would start them again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const WITHIN: Duration = Duration::from_secs(5);

/// Everything but this process that is in its mount namespace, which nobody else has, and what that has begun.
pub fn end() {
    let Ok(own) = fs::read_link("/proc/self/ns/mnt") else { return };
    let me = std::process::id().cast_signed();
    let mut groups = BTreeSet::new();
    let until = Instant::now() + WITHIN;
    while Instant::now() < until {
        let here = |pid: &i32| *pid != me && fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|ns| ns == own);
        let mates: Vec<i32> = processes().filter(here).collect();
        let begun: Vec<i32> = mates.iter().flat_map(|pid| children(*pid)).collect();
        if mates.is_empty() {
            break;
        }
        groups.extend(begun.iter().flat_map(|pid| groups_of(*pid)));
        for pid in begun.into_iter().chain(mates) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for group in groups {
        let _ = fs::remove_dir(group);
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Its control groups below ours, in every hierarchy.
fn groups_of(pid: i32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.rsplit_once(":/")).map(|(_, path)| path);
    let own: BTreeSet<&str> = own.filter(|path| path.starts_with("rswarm/")).collect();
    let hierarchies: Vec<PathBuf> =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let roots = || hierarchies.iter().map(PathBuf::as_path).chain([Path::new("/sys/fs/cgroup")]);
    own.into_iter().flat_map(|path| roots().map(move |root| root.join(path))).filter(|path| path.is_dir()).collect()
}
