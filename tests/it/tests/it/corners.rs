//! Corners of single containers that clients' own test suites look at (parity E-13 to E-41).

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use it::IMAGE;

use crate::{can_make_hosts, containers::Docker};

/// E-28, E-18: files of a volume are copied from and to a container that has ended, and to one that never ran; a
/// volume that is mounted read-only stays as it is. What has ended is committed without a pause.
#[test]
fn docker_e_28_cp_and_commit_of_what_does_not_run() -> Result<()> {
    if !can_make_hosts("docker_e_28_cp_and_commit_of_what_does_not_run") {
        return Ok(());
    }
    let d = Docker::up("cornercp")?;
    let here = tempfile::tempdir()?;
    let local = |name: &str| here.path().join(name).display().to_string();
    let write = ["sh", "-c", "echo kept > /vol/data; echo own > /own"];
    d.ok(&[&["run", "--name", "ended", "-v", "/vol", IMAGE], &write[..]].concat())?;
    d.ok(&["cp", "ended:/vol/data", &local("data")])?;
    ensure!(fs::read_to_string(local("data"))? == "kept\n");
    fs::write(local("more"), "more")?;
    d.ok(&["cp", &local("more"), "ended:/vol/more"])?;
    ensure!(d.ok(&["run", "--rm", "--volumes-from", "ended", IMAGE, "cat", "/vol/more"])? == "more");
    d.ok(&["create", "--name", "reader", "--volumes-from", "ended:ro", IMAGE, "true"])?;
    d.ok(&["cp", "reader:/vol/data", &local("again")])?;
    ensure!(fs::read_to_string(local("again"))? == "kept\n");
    d.no(1, "read-only", &["cp", &local("more"), "reader:/vol/other"])?;

    // all of one that runs: what the kernel shows in it is no file of its own
    d.ok(&["run", "-d", "--name", "whole", IMAGE, "sleep", "100000"])?;
    d.ok(&["cp", "whole:/", &local("whole")])?;
    for directory in ["proc", "sys", "dev"] {
        let inside = fs::read_dir(local(&format!("whole/{directory}")))?.count();
        ensure!(inside == 0, "{inside} things of /{directory} were copied");
    }
    ensure!(Path::new(&local("whole/etc")).is_dir());

    // with their owners: the archive's, but where a container has a user
    std::os::unix::fs::chown(local("more"), Some(4242), Some(4343))?;
    d.sleeper("used", &["-u", "33:34"])?;
    for (name, owner) in [("whole", "4242:4343"), ("used", "33:34")] {
        d.ok(&["cp", "-a", &local("more"), &format!("{name}:/owned")])?;
        let found = d.ok(&["exec", name, "stat", "-c", "%u:%g", "/owned"])?;
        ensure!(found == owner, "{name}: {found} instead of {owner}");
    }

    d.ok(&["commit", "ended", "made:1"])?;
    ensure!(d.ok(&["run", "--rm", "made:1", "cat", "/own"])? == "own");
    Ok(())
}

/// E-16: a link is a name, a line of /etc/hosts and variables on the host's bridge, a name of the resolver in a
/// network, where the other may come later; it can be taken away.
#[test]
fn docker_e_16_links() -> Result<()> {
    if !can_make_hosts("docker_e_16_links") {
        return Ok(());
    }
    let d = Docker::up("cornerlink")?;
    d.sleeper("db", &["--expose", "5432", "-e", "MODE=fast"])?;
    let address = d.field("db", "{{.NetworkSettings.IPAddress}}")?;
    d.sleeper("web", &["--link", "db:store"])?;
    let env = d.ok(&["exec", "web", "env"])?;
    for line in [
        "STORE_NAME=/web/store".to_owned(),
        format!("STORE_PORT=tcp://{address}:5432"),
        format!("STORE_PORT_5432_TCP_ADDR={address}"),
        "STORE_ENV_MODE=fast".to_owned(),
    ] {
        ensure!(env.lines().any(|known| known == line), "{line} is not in {env}");
    }
    ensure!(d.ok(&["exec", "web", "cat", "/etc/hosts"])?.contains(&format!("{address}\tstore")));
    d.ok(&["rm", "--link", "/web/store"])?;
    ensure!(!d.ok(&["exec", "web", "cat", "/etc/hosts"])?.contains("store"));
    d.no(1, "no link of this name", &["rm", "--link", "/web/store"])?;
    // Not "not found": docker would pull the image then.
    d.no(125, "No such container: nobody", &["run", "-d", "--link", "nobody", IMAGE, "true"])?;
    d.no(125, "No such container: nobody", &["run", "-d", "--volumes-from", "nobody", IMAGE, "true"])?;
    d.no(125, "No such container: nobody", &["run", "-d", "--pid", "container:nobody", IMAGE, "true"])?;

    d.ok(&["network", "create", "own"])?;
    d.sleeper("early", &["--network", "own", "--link", "db2:late"])?;
    ensure!(d.say(&["exec", "early", "nslookup", "late"])?.code != 0, "nobody has the name yet");
    d.sleeper("db2", &["--network", "own"])?;
    let address = d.field("db2", "{{.NetworkSettings.Networks.own.IPAddress}}")?;
    ensure!(d.ok(&["exec", "early", "nslookup", "late"])?.contains(&address));
    Ok(())
}

/// E-22, E-25: `wait` answers with each end of a container that comes again.
#[test]
fn docker_e_25_wait_for_what_comes_again() -> Result<()> {
    if !can_make_hosts("docker_e_25_wait_for_what_comes_again") {
        return Ok(());
    }
    let d = Docker::up("cornerwait")?;
    d.ok(&["run", "-d", "--name", "again", "--restart", "always", IMAGE, "sh", "-c", "sleep 1; exit 7"])?;
    ensure!(d.ok(&["wait", "again"])? == "7");
    ensure!(d.field("again", "{{.State.Status}}")? != "exited");
    Ok(())
}

/// E-13, E-18, E-20, E-41: what is asked is what is shown and what holds.
#[test]
fn docker_e_18_settings_at_their_edges() -> Result<()> {
    if !can_make_hosts("docker_e_18_settings_at_their_edges") {
        return Ok(());
    }
    let d = Docker::up("corneredge")?;
    d.sleeper("bounded", &["--pids-limit", "32", "-w", "/tmp/../tmp/", "--annotation", "a=b", "-e", "GONE"])?;
    d.is("bounded", "{{.HostConfig.PidsLimit}} {{.Config.WorkingDir}} {{.HostConfig.Annotations.a}}", "32 /tmp b")?;
    ensure!(d.field("bounded", "{{.HostConfig.MaskedPaths}}")?.contains("/proc/kcore"));
    ensure!(d.ok(&["exec", "bounded", "pwd"])? == "/tmp");
    d.ok(&["update", "--pids-limit", "-1", "bounded"])?;
    d.is("bounded", "{{.HostConfig.PidsLimit}}", "0")?;
    let own = d.ok(&["exec", "bounded", "cat", "/proc/self/cgroup"])?;
    ensure!(!own.is_empty());

    d.sleeper("alone", &["--ipc", "none"])?;
    ensure!(d.say(&["exec", "alone", "ls", "/dev/shm"])?.code != 0, "there is no shared memory");
    d.sleeper("secretive", &[])?;
    d.no(125, "non-shareable IPC", &["run", "-d", "--ipc", "container:secretive", IMAGE, "true"])?;
    d.sleeper("open", &["--ipc", "shareable"])?;
    d.sleeper("guest", &["--ipc", "container:open"])?;
    d.ok(&["exec", "open", "touch", "/dev/shm/seen"])?;
    d.ok(&["exec", "guest", "ls", "/dev/shm/seen"])?;

    let check = ["--health-cmd", "echo one; echo two >&2; exit 3", "--health-interval", "200ms"];
    d.sleeper("sick", &check)?;
    d.becomes("sick", "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}", "3 one\ntwo")?;
    let slow = ["--health-cmd", "echo begun; sleep 60", "--health-interval", "200ms", "--health-timeout", "300ms"];
    d.sleeper("slow", &slow)?;
    let wanted = "-1 Health check exceeded timeout (300ms): begun";
    d.becomes("slow", "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}", wanted)?;
    Ok(())
}
