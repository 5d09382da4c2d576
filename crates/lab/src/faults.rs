//! What can happen to a host: power failure and return, a pulled cable, a wall between two hosts, a
//! slow line, a frozen process.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::cgroup::Cgroups;
use crate::state::{self, Paths};
use crate::{Error, Lab, ProcessId, boot, net};

/// What a host finds in `/var/lib` when it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateDir {
    /// What it had before: the same machine after a power failure.
    Keep,
    /// Nothing: a new machine with the old name and address.
    Fresh,
}

impl Lab {
    /// Power failure: the cable goes first, so that no peer hears a goodbye, then every process at once.
    ///
    /// # Errors
    /// Unknown host; processes that do not end.
    pub fn kill(&self, host: &str) -> Result<(), Error> {
        let index = self.state()?.host(host)?.index;
        net::unplug(&self.name, index);
        let cgroups = Cgroups::of_machine()?;
        state::change(&self.name, |state| {
            let host = state.host_mut(host)?;
            if let Some(init) = host.init.take() {
                // The kernel ends everything in the host's pid namespace with its pid 1.
                let _ = init.signal(Signal::SIGKILL);
            }
            host.daemon = None;
            Ok(())
        })?;
        cgroups.kill_host(&self.name, host)?;
        cgroups.remove_host(&self.name, host)
    }

    /// Starts a host again after [`Lab::kill`]. `/run` and `/tmp` are empty, as after any boot.
    ///
    /// # Errors
    /// [`Error::HostRunning`] if it was not killed, [`Error::Boot`] if it does not come up.
    pub fn start(&self, host: &str, keep: StateDir) -> Result<(), Error> {
        state::change(&self.name, |state| {
            let place = state.hosts.iter().position(|h| h.name.as_str() == host);
            let Some(place) = place else { return state.host(host).map(drop) };
            if state.hosts[place].init.is_some_and(ProcessId::alive) {
                return Err(Error::HostRunning { lab: self.name.clone(), host: host.to_owned() });
            }
            let paths = Paths::of(&self.name);
            empty(&paths.run(host))?;
            if keep == StateDir::Fresh {
                empty(&paths.lib(host))?;
            }
            boot::boot(state, &[place])
        })
    }

    /// Pulls the host's cable out at the switch: it sees its carrier go.
    ///
    /// # Errors
    /// Unknown or stopped host.
    pub fn cut(&self, host: &str) -> Result<(), Error> {
        self.set_cable(host, false)
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// Unknown or stopped host.
    pub fn heal(&self, host: &str) -> Result<(), Error> {
        self.set_cable(host, true)
    }

    fn set_cable(&self, host: &str, connected: bool) -> Result<(), Error> {
        let (state, _) = self.running(host)?;
        net::set_cable(&self.name, state.host(host)?.index, connected)?;
        state::change(&self.name, |state| {
            state.host_mut(host)?.cut = !connected;
            Ok(())
        })
    }

    /// Two hosts no longer reach each other by IP; both still reach all others, and no carrier is lost.
    ///
    /// # Errors
    /// Unknown host.
    pub fn cut_between(&self, a: &str, b: &str) -> Result<(), Error> {
        self.set_apart(a, b, true)
    }

    /// Takes [`Lab::cut_between`] back.
    ///
    /// # Errors
    /// Unknown host.
    pub fn heal_between(&self, a: &str, b: &str) -> Result<(), Error> {
        self.set_apart(a, b, false)
    }

    fn set_apart(&self, a: &str, b: &str, apart: bool) -> Result<(), Error> {
        state::change(&self.name, |state| {
            let (a, b) = (state.host(a)?.index, state.host(b)?.index);
            let pair = (a.min(b), a.max(b));
            state.apart.retain(|p| *p != pair);
            if apart {
                state.apart.push(pair);
            }
            net::apply_apart(state)
        })
    }

    /// Bounds what a host receives, in bits per second; `None` lifts it. A kill lifts it too.
    ///
    /// # Errors
    /// Unknown or stopped host; a rate `tc` does not take.
    pub fn limit(&self, host: &str, bits_per_second: Option<u64>) -> Result<(), Error> {
        let (state, _) = self.running(host)?;
        net::set_limit(&self.name, state.host(host)?.index, bits_per_second)
    }

    /// Stops a process of a host (SIGSTOP) without ending it.
    ///
    /// # Errors
    /// [`Error::ForeignProcess`] if it is not, or no longer, a process of that host.
    pub fn pause(&self, host: &str, process: ProcessId) -> Result<(), Error> {
        self.signal(host, process, Signal::SIGSTOP)
    }

    /// Lets a paused process go on (SIGCONT).
    ///
    /// # Errors
    /// As [`Lab::pause`].
    pub fn resume(&self, host: &str, process: ProcessId) -> Result<(), Error> {
        self.signal(host, process, Signal::SIGCONT)
    }

    /// Sends any signal to a process of a host.
    ///
    /// # Errors
    /// As [`Lab::pause`].
    pub fn signal(&self, host: &str, process: ProcessId, signal: Signal) -> Result<(), Error> {
        self.state()?.host(host)?;
        let foreign = || Error::ForeignProcess { host: host.to_owned(), pid: process.pid };
        if !Cgroups::of_machine()?.holds(&self.name, host, process.pid) {
            return Err(foreign());
        }
        match process.signal(signal) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(foreign()),
        }
    }
}

/// Removes what is in a folder, not the folder: it may be a mount point.
fn empty(dir: &Path) -> Result<(), Error> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}
