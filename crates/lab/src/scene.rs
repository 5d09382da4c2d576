//! [`Lab`]: making one, finding one, asking about one. The rest of its methods are in `exec`, `faults`, `teardown`.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::cgroup::Cgroups;
use crate::state::{self, HostState, LabState, LabSummary, Paths, ROOT};
use crate::{Error, LabSpec, ProcessId, addr, boot, lock, net, teardown, tool};

/// A lab that is there. Dropping the value changes nothing; see [`crate::Guard`] for tests.
#[derive(Debug, Clone)]
pub struct Lab {
    pub(crate) name: String,
}

impl Lab {
    /// Makes a lab and waits until every host is up and plugged in.
    ///
    /// # Errors
    /// Everything is checked before anything is made; what was made is removed again on failure.
    pub fn up(spec: &LabSpec) -> Result<Self, Error> {
        tool::check_machine()?;
        check(spec)?;
        let cgroups = Cgroups::of_machine()?;
        cgroups.mounts(spec.cgroup)?;
        let mut state = reserve(spec)?;
        let lab = Self { name: spec.name.to_string() };
        let made = make(&mut state, &cgroups).and_then(|()| state::write(&state));
        if let Err(e) = made {
            // The first error is the one to tell; what is left over is still found by its name.
            let _ = teardown::remove(&lab.name);
            return Err(e);
        }
        Ok(lab)
    }

    /// The lab of that name.
    ///
    /// # Errors
    /// Lists the labs there are if it is unknown.
    pub fn open(name: &str) -> Result<Self, Error> {
        if state::read(name).is_some() {
            return Ok(Self { name: name.to_owned() });
        }
        let names = state::names();
        if names.iter().any(|n| n == name) {
            return Err(Error::HalfMade { lab: name.to_owned() });
        }
        let known = match names.as_slice() {
            [] => "there is none; make one with `rswarm lab up`".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Err(Error::UnknownLab { name: name.to_owned(), known })
    }

    /// All labs of this machine, also half-made ones.
    #[must_use]
    pub fn list() -> Vec<LabSummary> {
        let mut all = state::names();
        // Groups or a switch without a folder: somebody emptied /run by hand.
        all.extend(net::switches());
        all.extend(Cgroups::of_machine().map(|c| c.labs()).unwrap_or_default());
        all.sort();
        all.dedup();
        all.into_iter().map(|name| LabSummary { state: state::read(&name), name }).collect()
    }

    /// Removes the lab and everything in it.
    ///
    /// # Errors
    /// Names what would not go; calling it again goes on from there.
    pub fn down(&self) -> Result<(), Error> {
        teardown::remove(&self.name)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is written down about it now.
    ///
    /// # Errors
    /// [`Error::HalfMade`] if the lab was removed or never finished.
    pub fn state(&self) -> Result<LabState, Error> {
        state::read(&self.name).ok_or_else(|| Error::HalfMade { lab: self.name.clone() })
    }

    /// Names of the hosts, in the order of their addresses.
    ///
    /// # Errors
    /// As [`Lab::state`].
    pub fn hosts(&self) -> Result<Vec<String>, Error> {
        Ok(self.state()?.hosts.iter().map(|h| h.name.to_string()).collect())
    }

    /// The host's IPv4 address.
    ///
    /// # Errors
    /// [`Error::UnknownHost`], which lists the hosts there are.
    pub fn address(&self, host: &str) -> Result<Ipv4Addr, Error> {
        let state = self.state()?;
        Ok(addr::ipv4(state.number, state.host(host)?.index))
    }

    /// Path on the machine of the host's `/run/rswarm/rswarm.sock`.
    ///
    /// # Errors
    /// [`Error::UnknownHost`].
    pub fn socket(&self, host: &str) -> Result<PathBuf, Error> {
        self.state()?.host(host)?;
        Ok(Paths::of(&self.name).run(host).join("rswarm.sock"))
    }

    /// Path on the machine of the host's `/var/lib`.
    ///
    /// # Errors
    /// [`Error::UnknownHost`].
    pub fn var_lib(&self, host: &str) -> Result<PathBuf, Error> {
        self.state()?.host(host)?;
        Ok(Paths::of(&self.name).lib(host))
    }

    /// Logs of everything spawned on the host, by name, a name's oldest first: `(path, text)`.
    ///
    /// # Errors
    /// [`Error::UnknownHost`], or a log that cannot be read.
    pub fn logs(&self, host: &str) -> Result<Vec<(PathBuf, String)>, Error> {
        self.state()?.host(host)?;
        let dir = Paths::of(&self.name).logs(host);
        let entries = fs::read_dir(&dir).map_err(Error::io("list", &dir))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            Ok((path, String::from_utf8_lossy(&bytes).into_owned()))
        };
        paths.into_iter().map(read).collect()
    }

    /// The command with which a person walks into the host.
    ///
    /// # Errors
    /// [`Error::UnknownHost`], [`Error::HostDown`].
    pub fn door(&self, host: &str) -> Result<String, Error> {
        let init = self.running(host)?.1;
        Ok(format!("nsenter -t {} -m -u -i -n -p -C -r -w bash", init.pid))
    }

    /// State, and pid 1 of a host that runs.
    pub(crate) fn running(&self, host: &str) -> Result<(LabState, ProcessId), Error> {
        let state = self.state()?;
        let init = state.host(host)?.init.filter(|init| init.alive());
        let init = init.ok_or_else(|| Error::HostDown { lab: self.name.clone(), host: host.to_owned() })?;
        Ok((state, init))
    }
}

fn check(spec: &LabSpec) -> Result<(), Error> {
    let bad = |why: String| Err(Error::BadSpec(why));
    if spec.hosts.is_empty() || spec.hosts.len() > addr::MOST_HOSTS {
        return bad(format!("a lab has 1 to {} hosts, not {}", addr::MOST_HOSTS, spec.hosts.len()));
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        if spec.hosts[..i].iter().any(|h| h.name == host.name) {
            return bad(format!("two hosts are called {}; give each its own name", host.name));
        }
    }
    if !(1280..=65_535).contains(&spec.underlay_mtu) {
        return bad(format!("an underlay MTU of {} bytes is not usable; choose 1280 to 65535", spec.underlay_mtu));
    }
    for path in &spec.share {
        if !path.is_absolute() || !path.exists() {
            return bad(format!("the shared path {} must be absolute and exist", path.display()));
        }
    }
    let program = fs::metadata(&spec.rswarm).ok();
    let executable = program.is_some_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if !spec.rswarm.is_absolute() || !executable {
        return Err(Error::MissingProgram { path: spec.rswarm.clone() });
    }
    Ok(())
}

/// Takes the name and a number, and writes both down before anything else exists.
fn reserve(spec: &LabSpec) -> Result<LabState, Error> {
    let root = Path::new(ROOT);
    fs::create_dir_all(root).map_err(Error::io("make the folder", root))?;
    let _lock = lock::take(&teardown::root_lock())?;
    let taken: Vec<u8> = state::names().iter().filter_map(|n| Some(state::read(n)?.number)).collect();
    let number = state::free_number(&taken)?;
    let name = spec.name.as_str();
    let dir = Paths::of(name).dir;
    match fs::create_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::Exists { name: name.to_owned() });
        }
        other => other.map_err(Error::io("make the folder", &dir))?,
    }
    mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .map_err(io::Error::from)
        .map_err(Error::io("mount", &dir))?;
    let hosts = (1_u8..).zip(&spec.hosts).map(|(index, h)| HostState {
        name: h.name.clone(),
        index,
        init: None,
        daemon: None,
        cut: false,
    });
    let state = LabState {
        spec: spec.clone(),
        number,
        creator: ProcessId::own(),
        hosts: hosts.collect(),
        apart: Vec::new(),
        cluster: None,
    };
    state::write(&state)?;
    Ok(state)
}

fn make(state: &mut LabState, cgroups: &Cgroups) -> Result<(), Error> {
    cgroups.ensure_lab(state.spec.name.as_str(), state.spec.cgroup)?;
    net::ensure_switch(state)?;
    let all: Vec<usize> = (0..state.hosts.len()).collect();
    boot::boot(state, &all)
}
