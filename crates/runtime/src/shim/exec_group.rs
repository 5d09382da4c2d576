//! A control group of its own for one more command in a container, so that everything the command starts can be
//! told from the container's other processes and ended with it. It lies below the container's, whose
//! limits hold for it too. Called by the exec helper only.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{cgroup::CgroupLayout, process::Process};

/// Its name, before the helper's pid and start.
const PREFIX: &str = "exec-";

/// A killed process leaves its group at once, unless it hangs in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The group of one command.
pub(super) struct ExecGroup {
    /// Its own directory, where processes are counted.
    dir: PathBuf,
    /// The container's directories in the other hierarchies (v1), whose limits the command joins.
    others: Vec<PathBuf>,
}

impl ExecGroup {
    /// Makes it below the container's, and removes those whose helper is gone, with what is in them.
    pub(super) fn create(layout: &CgroupLayout, container: &str, helper: Process) -> io::Result<Self> {
        let cgroup = layout.cgroup(container);
        // On v1 any hierarchy would do; the freezer's has nothing that a new group would have to be given.
        let home = ["freezer", "pids", "memory"].iter().find_map(|name| cgroup.dir(name)).filter(|dir| dir.exists());
        let home = home.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the container has no control group"))?;
        sweep(&home);
        let dir = home.join(format!("{PREFIX}{}-{}", helper.pid, helper.start_ticks));
        fs::create_dir(&dir).map_err(|err| named(&dir, &err))?;
        let others = cgroup.dirs().into_iter().filter(|other| *other != home && other.exists()).collect();
        Ok(Self { dir, others })
    }

    /// Moves the calling process into it.
    pub(super) fn join(&self) -> io::Result<()> {
        let mut all = std::iter::once(&self.dir).chain(&self.others);
        let join = |dir: &PathBuf| fs::write(dir.join("cgroup.procs"), "0").map_err(|err| named(dir, &err));
        all.try_for_each(join)
    }

    /// Kills what is in it now.
    pub(super) fn signal_kill(&self) {
        signal_kill(&self.dir);
    }

    /// Kills what is in it and removes it. Bounded: what hangs in the kernel is left to the container's end.
    pub(super) fn kill(self) -> io::Result<()> {
        end(&self.dir)
    }

    /// The command has ended: what it left behind goes on as the container's own, as a daemon started by
    /// hand would.
    pub(super) fn dissolve(self) -> io::Result<()> {
        let parent = self.dir.parent().expect("it was made below the container's").join("cgroup.procs");
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            match fs::remove_dir(&self.dir) {
                Err(err) if err.kind() != io::ErrorKind::NotFound && Instant::now() < deadline => {}
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(named(&self.dir, &err)),
                _ => return Ok(()),
            }
            for pid in pids(&self.dir) {
                // One that has just ended cannot be moved and need not be.
                fs::write(&parent, pid.to_string()).ok();
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Ends what helpers left that were killed themselves.
fn sweep(container: &Path) {
    for entry in fs::read_dir(container).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        let Some((pid, ticks)) = owner else { continue };
        let (Ok(pid), Ok(start_ticks)) = (pid.parse(), ticks.parse()) else { continue };
        if !(Process { pid, start_ticks }).is_alive() {
            end(&entry.path()).ok(); // the next one tries again
        }
    }
}

fn end(dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        signal_kill(dir);
        match fs::remove_dir(dir) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(err) if Instant::now() > deadline => return Err(named(dir, &err)),
            Err(_) => thread::sleep(Duration::from_millis(2)),
            Ok(()) => return Ok(()),
        }
    }
}

/// Where the kernel knows no such order (v1), what is forked meanwhile is met the next time.
fn signal_kill(dir: &Path) {
    if fs::write(dir.join("cgroup.kill"), "1").is_err() {
        for pid in pids(dir) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

fn pids(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn named(path: &Path, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{}: {err}", path.display()))
}
