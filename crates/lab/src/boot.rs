//! Starting hosts: groups, plan file, `unshare`, waiting for pid 1's answer, the cable.
//!
//! Called by `scene` (a new lab) and `faults` (a host after its kill). All hosts of one call boot
//! at the same time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use crate::cgroup::Cgroups;
use crate::host_init::{Answer, Plan, answer_file};
use crate::state::{HostState, LabState, Paths};
use crate::{Error, ProcessId, addr, net, tool};

/// Boot takes some 100 ms; on a machine busy with builds it may take many times that.
const BOOT_DEADLINE: Duration = Duration::from_secs(30);

/// Nothing in the host's groups this long after the start: it will not answer any more.
const BOOT_GRACE: Duration = Duration::from_millis(300);

/// Joins the control groups named first, then becomes the program. Writing 0 moves the writer.
pub const JOIN: &str =
    r#"n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 >"$1" || exit 125; shift; n=$((n-1)); done; exec "$@""#;

/// Starts the hosts at these places of `state.hosts`, records their pid 1 and plugs them in.
pub fn boot(state: &mut LabState, places: &[usize]) -> Result<(), Error> {
    let cgroups = Cgroups::of_machine()?;
    for &place in places {
        launch(state, &state.hosts[place], &cgroups)?;
    }
    let lab = state.spec.name.to_string();
    let mut cables = Vec::new();
    for &place in places {
        let host = &mut state.hosts[place];
        let init = await_answer(&lab, host, &cgroups)?;
        cgroups.clear_root(&lab, host.name.as_str());
        host.init = Some(init);
        cables.push((host.index, init.pid, host.cut));
    }
    net::plug(state, &cables)
}

/// Makes the folders and groups of a host. Its `/var/lib` may be there already, with what it held.
pub fn ensure_folders(state: &LabState, host: &HostState) -> Result<(), Error> {
    let paths = Paths::of(state.spec.name.as_str());
    let name = host.name.as_str();
    for dir in [paths.run(name), paths.lib(name), paths.logs(name), paths.host(name).join("fs")] {
        fs::create_dir_all(&dir).map_err(Error::io("make the folder", &dir))?;
    }
    let lib = paths.lib(name);
    let disk = state.spec.hosts.iter().find(|h| h.name == host.name).and_then(|h| h.disk_bytes);
    if let Some(bytes) = disk
        && !is_mount_point(&lib)
    {
        let size = format!("size={bytes},mode=755");
        mount(Some("tmpfs"), &lib, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .map_err(io::Error::from)
            .map_err(Error::io("mount", &lib))?;
    }
    Ok(())
}

/// Whether something is mounted right there, by our mount table.
pub fn is_mount_point(path: &Path) -> bool {
    mount_points().iter().any(|m| m == path)
}

/// Every mount point of the machine, in the order of mounting.
pub fn mount_points() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(|l| l.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn launch(state: &LabState, host: &HostState, cgroups: &Cgroups) -> Result<(), Error> {
    let lab = state.spec.name.as_str();
    let name = host.name.as_str();
    let dir = Paths::of(lab).host(name);
    ensure_folders(state, host)?;
    cgroups.ensure_host(lab, name)?;
    let plan_file = dir.join("plan.json");
    let plan = plan(state, host, cgroups, dir.clone())?;
    let text = serde_json::to_vec_pretty(&plan).map_err(io::Error::from).map_err(Error::io("encode", &plan_file))?;
    fs::write(&plan_file, text).map_err(Error::io("write", &plan_file))?;
    let answer = answer_file(&dir);
    File::create(&answer).map_err(Error::io("make", &answer))?;
    let log_file = dir.join("init.log");
    let log = File::create(&log_file).map_err(Error::io("make", &log_file))?;
    let log_too = log.try_clone().map_err(Error::io("open", &log_file))?;

    let join = cgroups.boot_files(lab, name);
    let status = Command::new("/bin/sh")
        .args(["-c", JOIN, "rswarm-lab", &join.len().to_string()])
        .args(&join)
        // Forked off: the host belongs to the machine, not to whoever made the lab.
        .args(["setsid", "--fork", "unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup"])
        .args(["--fork", "--kill-child", "--propagation", "private"])
        .arg(&state.spec.rswarm)
        .arg("lab-host")
        .arg(&plan_file)
        .env_clear()
        .env("PATH", tool::PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too)
        .status()
        .map_err(Error::io("run", Path::new("/bin/sh")))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Boot { host: name.to_owned(), why: format!("its start failed ({status}): {}", tail(&log_file)) })
}

fn plan(state: &LabState, host: &HostState, cgroups: &Cgroups, dir: PathBuf) -> Result<Plan, Error> {
    let rswarm = &state.spec.rswarm;
    let shim = rswarm.with_file_name("rswarm-shim");
    Ok(Plan {
        hostname: host.name.to_string(),
        dir,
        cgroups: cgroups.mounts(state.spec.cgroup)?,
        hosts: hosts_file(state),
        machine_id: machine_id(state.spec.name.as_str(), host.name.as_str()),
        share: state.spec.share.clone(),
        programs: [rswarm.clone(), shim].into_iter().filter(|p| p.is_file()).collect(),
    })
}

fn await_answer(lab: &str, host: &HostState, cgroups: &Cgroups) -> Result<ProcessId, Error> {
    let name = host.name.as_str();
    let dir = Paths::of(lab).host(name);
    let failed = |why: String| Error::Boot { host: name.to_owned(), why };
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(answer_file(&dir)).unwrap_or_default();
        if text.ends_with('\n') {
            return match serde_json::from_str(&text) {
                Ok(Answer::Ready(init)) => Ok(init),
                Ok(Answer::Failed(why)) => Err(failed(why)),
                Err(e) => Err(failed(format!("its pid 1 answered {text:?}: {e}"))),
            };
        }
        let took = begin.elapsed();
        if took > BOOT_GRACE && cgroups.is_empty(lab, name) {
            return Err(failed(format!("its pid 1 ended at once: {}", tail(&dir.join("init.log")))));
        }
        if took > BOOT_DEADLINE {
            return Err(failed(format!("no answer in {BOOT_DEADLINE:?}: {}", tail(&dir.join("init.log")))));
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// The last lines of a log, for an error's text.
pub fn tail(path: &Path) -> String {
    const LINES: usize = 20;
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return format!("nothing was written to {}", path.display());
    }
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Every host knows the others by name.
fn hosts_file(state: &LabState) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    for host in &state.hosts {
        let (v4, v6) = (addr::ipv4(state.number, host.index), addr::ipv6(state.number, host.index));
        text.push_str(&format!("{v4} {name}\n{v6} {name}\n", name = host.name));
    }
    text
}

/// 32 hexadecimal digits, the same for the same host on each start: two FNV-1a sums.
fn machine_id(lab: &str, host: &str) -> String {
    let sum = |text: String| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    };
    format!("{:016x}{:016x}", sum(format!("{lab}/{host}")), sum(format!("{host}\\{lab}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_ids_differ_and_stay() {
        let (a, b) = (machine_id("lab", "h1"), machine_id("lab", "h2"));
        assert_eq!(a.len(), 32);
        assert_ne!(a, b);
        assert_eq!(a, machine_id("lab", "h1"));
    }
}
