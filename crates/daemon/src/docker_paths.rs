//! Docker's own places on the host, as links to this daemon's: `docker` without a host to talk to, and nearly every published
//! stack and monitor, look there. Made by `host` before anything else may look, and taken away when the daemon ends.
//!
//! They are for hosts without Docker. Nothing that is there is ever replaced, and only what still is our own link is removed.
//! A link opens nothing: who may use the socket is said by the socket's own mode and group.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    os::unix::fs::{FileTypeExt as _, symlink},
    path::{Path, PathBuf},
};

use types::Check;

use crate::config::Config;

/// Whose daemon has the links, if any has.
const STATE_DIR: &str = "/var/lib/rswarm";

/// Where Docker has it, and what a link there says: not from the root, so that it leads right below `/rootfs` too, where
/// monitors in containers see the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    place: &'static str,
    target: &'static str,
}

const SOCKET: Link = Link { place: "run/docker.sock", target: "rswarm/rswarm.sock" };
/// A dockerd that is installed while we run finds a daemon alive and ends, before it takes our data for its own.
const PID: Link = Link { place: "run/docker.pid", target: "rswarm/daemon.pid" };
/// By way of what goes with a boot: after a power cut it leads nowhere, until this daemon and not a dockerd has started.
const DATA: Link = Link { place: "var/lib/docker", target: "../../run/rswarm/data" };
const WAY: Link = Link { place: "run/rswarm/data", target: "../../var/lib/rswarm" };
/// The pid stands before the data.
const ALL: [Link; 4] = [PID, WAY, DATA, SOCKET];

/// The links that this daemon has; they go with it.
#[derive(Debug)]
pub struct DockerPaths {
    root: PathBuf,
    held: Vec<Link>,
}

impl DockerPaths {
    /// Makes the links that this host may have, and takes away what an earlier daemon left of those it may not. To be called
    /// by the one daemon that holds the state directory.
    pub fn make(config: &Config) -> Self {
        Self::make_for(Path::new("/"), config, &programs())
    }

    /// A daemon with another state directory runs beside the one whose links these are, and leaves them alone.
    fn make_for(root: &Path, config: &Config, programs: &OsStr) -> Self {
        match config.state_dir == Path::new(STATE_DIR) {
            true => Self::make_below(root, &wanted(config), programs),
            false => Self { root: root.to_owned(), held: Vec::new() },
        }
    }

    fn make_below(root: &Path, wanted: &[Link], programs: &OsStr) -> Self {
        let docker = sign_of_docker(root, programs);
        if let (Some(sign), false) = (&docker, wanted.is_empty()) {
            tracing::info!(sign, "Docker is on this host: no links are made at its places");
        }
        let may_be = |link: &Link| docker.is_none() && wanted.contains(link);
        let (wanted, others): (Vec<Link>, Vec<Link>) = ALL.into_iter().partition(may_be);
        others.iter().for_each(|link| link.remove(root));
        let mut held = Vec::new();
        for link in wanted {
            match link.make(root) {
                Ok(()) => held.push(link),
                Err(why) => {
                    tracing::info!(place = %link.at(root).display(), why, "this place of Docker's stays as it is");
                }
            }
        }
        if held.contains(&PID)
            && let Err(error) = fs::write(pid_file(root), std::process::id().to_string())
        {
            tracing::warn!(%error, path = %pid_file(root).display(), "cannot write the daemon's pid");
        }
        Self { root: root.to_owned(), held }
    }
}

impl Drop for DockerPaths {
    fn drop(&mut self) {
        self.held.iter().for_each(|link| link.remove(&self.root));
        if self.held.contains(&PID) {
            let _ = fs::remove_file(pid_file(&self.root));
        }
    }
}

impl Link {
    fn at(self, root: &Path) -> PathBuf {
        root.join(self.place)
    }

    fn is_ours(self, root: &Path) -> bool {
        fs::read_link(self.at(root)).is_ok_and(|target| target == Path::new(self.target))
    }

    /// One that a killed daemon left is as good.
    fn make(self, root: &Path) -> Result<(), String> {
        match symlink(self.target, self.at(root)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.is_ours(root) {
                true => Ok(()),
                false => Err(what_is_at(&self.at(root))),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    fn remove(self, root: &Path) {
        if self.is_ours(root)
            && let Err(error) = fs::remove_file(self.at(root))
        {
            tracing::warn!(%error, place = %self.at(root).display(), "a link at Docker's place stays");
        }
    }
}

/// What `rswarm doctor` says of them.
pub fn check(config: &Config) -> Check {
    check_below(Path::new("/"), &wanted(config), &programs())
}

fn check_below(root: &Path, wanted: &[Link], programs: &OsStr) -> Check {
    const SUBJECT: &str = "Docker's places";
    if wanted.is_empty() {
        return Check::pass(
            SUBJECT,
            "no links there: they are switched off, or the daemon's own places are not the usual",
        );
    }
    if let Some(sign) = sign_of_docker(root, programs) {
        return Check::pass(SUBJECT, format!("no links there: Docker is on this host ({sign})"));
    }
    if wanted.iter().all(|link| link.is_ours(root)) {
        return Check::pass(SUBJECT, "/run/docker.sock and /var/lib/docker lead to rswarm's");
    }
    let foreign = wanted.iter().filter(|link| !link.is_ours(root)).map(|link| link.at(root));
    let foreign: Vec<String> = foreign
        .filter(|place| fs::symlink_metadata(place).is_ok())
        .map(|place| format!("{}: {}", place.display(), what_is_at(&place)))
        .collect();
    match foreign.is_empty() {
        true => {
            Check::pass(SUBJECT, "no links there: rswarm daemon makes them when it starts, unless it is told not to")
        }
        false => Check::warn(
            SUBJECT,
            format!(
                "{}; if it is nobody's, remove it and restart rswarm daemon, which makes a link there",
                foreign.join("; ")
            ),
        ),
    }
}

fn wanted(config: &Config) -> Vec<Link> {
    let is_usual = config.state_dir == Path::new(STATE_DIR) && config.run_dir == Path::new("/run/rswarm");
    match config.docker_paths && is_usual {
        false => Vec::new(),
        true if config.socket_path() == Path::new("/run/rswarm/rswarm.sock") => ALL.to_vec(),
        true => vec![PID, WAY, DATA],
    }
}

fn programs() -> std::ffi::OsString {
    env::var_os("PATH").unwrap_or_default()
}

fn pid_file(root: &Path) -> PathBuf {
    root.join("run").join(PID.target)
}

/// Why Docker is taken to be here, or to have been; its data and its places are its own then.
fn sign_of_docker(root: &Path, programs: &OsStr) -> Option<String> {
    let directories = env::split_paths(programs).filter(|directory| directory.is_absolute());
    if let Some(program) = directories.map(|directory| directory.join("dockerd")).find(|path| path.is_file()) {
        return Some(format!("{} is installed", program.display()));
    }
    let is_others = |link: &&Link| fs::symlink_metadata(link.at(root)).is_ok() && !link.is_ours(root);
    [PID, DATA].iter().find(is_others).map(|link| format!("{} is there", link.at(root).display()))
}

fn what_is_at(place: &Path) -> String {
    let found = fs::symlink_metadata(place);
    let text = match found.is_ok_and(|found| found.file_type().is_socket()) {
        // bound as /run or as /var/run
        true if is_listened_on(SOCKET.place) => "a socket on which another program listens",
        true => "a socket on which nobody listens, as a unit of Docker's leaves it",
        false => "something else is there",
    };
    text.to_owned()
}

/// By the kernel's list, since a connection might wait for who listens.
fn is_listened_on(end: &str) -> bool {
    /// Of sockets that accept connections, in the column of flags (`__SO_ACCEPTCON`).
    const ACCEPTS: &str = "00010000";
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    sockets.lines().any(|line| line.ends_with(end) && line.split_whitespace().nth(3) == Some(ACCEPTS))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn host() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for directory in ["run/rswarm", "var/lib/rswarm", "bin"] {
            fs::create_dir_all(root.path().join(directory)).expect("made");
        }
        root
    }

    fn leads(root: &Path, link: Link) -> Option<PathBuf> {
        fs::read_link(link.at(root)).ok()
    }

    /// E-50: links where nothing is, as long as the daemon runs; those of a daemon that was killed are gone on with.
    #[test]
    fn e_50_dockers_places_lead_to_the_daemon_while_it_runs() {
        let root = host();
        let root = root.path();
        fs::write(root.join("run/rswarm/rswarm.sock"), "s").expect("written");
        let made = DockerPaths::make_below(root, &ALL, OsStr::new(""));
        assert_eq!(fs::read_to_string(root.join("run/docker.sock")).expect("followed"), "s");
        let data = root.join("var/lib/rswarm").canonicalize().expect("there");
        assert_eq!(DATA.at(root).canonicalize().expect("there"), data);
        let pid = fs::read_to_string(root.join("run/docker.pid")).expect("followed");
        assert_eq!(pid, std::process::id().to_string(), "a dockerd sees that a daemon is alive");
        assert_eq!(
            check_below(root, &ALL, OsStr::new("")).text,
            "/run/docker.sock and /var/lib/docker lead to rswarm's"
        );
        std::mem::forget(made); // as if it were killed
        fs::remove_file(WAY.at(root)).expect("as by a reboot");
        assert!(!DATA.at(root).exists(), "no dockerd finds our data there before we are");
        let again = DockerPaths::make_below(root, &ALL, OsStr::new(""));
        assert_eq!(again.held, ALL);
        drop(again);
        assert!(ALL.iter().all(|link| leads(root, *link).is_none()), "all are gone");
        assert!(!root.join("run/rswarm/daemon.pid").exists());
        assert!(check_below(root, &ALL, OsStr::new("")).text.contains("when it starts"));
    }

    /// E-50: nothing is replaced, and what has become another's is not removed.
    #[test]
    fn e_50_what_is_there_stays() {
        let root = host();
        let root = root.path();
        let listener = UnixListener::bind(SOCKET.at(root)).expect("another's socket");
        assert_eq!(what_is_at(&SOCKET.at(root)), "a socket on which another program listens");
        drop(listener);
        let made = DockerPaths::make_below(root, &ALL, OsStr::new(""));
        assert_eq!(made.held, [PID, WAY, DATA], "a stale socket is Docker's unit's");
        assert!(check_below(root, &ALL, OsStr::new("")).text.contains("docker.sock: a socket on which"));
        fs::remove_file(DATA.at(root)).expect("removed");
        symlink("/srv/docker", DATA.at(root)).expect("another's link");
        drop(made);
        assert_eq!(leads(root, DATA), Some("/srv/docker".into()));
        assert!(SOCKET.at(root).exists());
    }

    /// E-50: where Docker is, no link is made, and none is left from before it came.
    #[test]
    fn e_50_no_link_beside_docker() {
        let root = host();
        let root = root.path();
        let none = |made: &DockerPaths| made.held.is_empty() && ALL.iter().all(|link| leads(root, *link).is_none());
        std::mem::forget(DockerPaths::make_below(root, &ALL, OsStr::new("")));
        fs::write(root.join("bin/dockerd"), "").expect("written");
        let bin = root.join("bin");
        assert!(none(&DockerPaths::make_below(root, &ALL, bin.as_os_str())), "it is installed");
        assert!(check_below(root, &ALL, bin.as_os_str()).text.contains("dockerd is installed"));
        fs::create_dir(DATA.at(root)).expect("made");
        assert!(none(&DockerPaths::make_below(root, &ALL, OsStr::new(""))), "it has data");
        fs::remove_dir(DATA.at(root)).expect("removed");
        fs::write(PID.at(root), "1").expect("written");
        assert!(none(&DockerPaths::make_below(root, &ALL, OsStr::new(""))), "it runs");
        fs::remove_file(PID.at(root)).expect("removed");
        assert!(none(&DockerPaths::make_below(root, &[], OsStr::new(""))), "switched off");
        assert_eq!(DockerPaths::make_below(root, &ALL, OsStr::new("")).held, ALL);
    }

    /// E-50: a second daemon on a host, with places of its own, leaves those of the first alone; the first takes its own away
    /// once it is told to have none.
    #[test]
    fn e_50_a_daemon_beside_another_touches_no_link() {
        let root = host();
        let root = root.path();
        let first = DockerPaths::make_below(root, &ALL, OsStr::new(""));
        let make = |words: &[&str]| {
            let config = Config::from_words([&["rswarm daemon", "--run-dir", "/run/rswarm"][..], words].concat());
            DockerPaths::make_for(root, &config.expect("flags"), OsStr::new(""))
        };
        let second = make(&["--state-dir", "/srv/rswarm"]);
        assert!(second.held.is_empty() && ALL.iter().all(|link| link.is_ours(root)), "they are the first's");
        drop(second);
        assert!(ALL.iter().all(|link| link.is_ours(root)), "also when the second ends");
        std::mem::forget(first); // as if it were killed
        drop(make(&["--state-dir", STATE_DIR, "--docker-paths", "false"]));
        assert!(ALL.iter().all(|link| leads(root, *link).is_none()));
    }

    /// E-50: for the usual places alone, and not where it is switched off.
    #[test]
    fn e_50_which_links_are_wanted() {
        let wanted = |words: &[&str]| {
            let config = Config::from_words([&["rswarm daemon"], words].concat());
            super::wanted(&config.expect("flags"))
        };
        // the environment may name others
        let usual = ["--state-dir", "/var/lib/rswarm", "--run-dir", "/run/rswarm"];
        assert_eq!(wanted(&usual), ALL);
        assert!(wanted(&[&usual[..], &["--docker-paths", "false"]].concat()).is_empty());
        assert_eq!(wanted(&[&usual[..], &["--socket", "/run/docker.sock"]].concat()), [PID, WAY, DATA]);
        assert!(wanted(&["--state-dir", "/srv/rswarm", "--run-dir", "/run/rswarm"]).is_empty());
    }
}
