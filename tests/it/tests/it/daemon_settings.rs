//! What an operator sets on a host's daemon: its storage driver, its configuration file, and what of the containers follows.

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, until};
use nix::sys::signal::Signal;

use crate::{can_make_hosts, docker_paths};

/// Must fail, whatever the code, and say why.
fn refused(d: &Docker<'_>, line: &str, why: &str) -> Result<()> {
    let (code, _, err) = d.run(&line.split(' ').collect::<Vec<_>>())?;
    ensure!(code != 0 && err.contains(why), "docker {line}: exit code {code}: {err}");
    Ok(())
}

/// What containers do to their files is done and told as with overlayfs.
fn files_of_containers(d: &Docker<'_>) -> Result<()> {
    d.ok(&format!(
        "run --name one {IMAGE} sh -c echo~hello~>/etc/motd;rm~/etc/passwd;mkdir~/new;dd~if=/dev/zero~of=/new/big~bs=1k~count=300"
    ))?;
    let changes = d.ok("diff one")?;
    let mut lines: Vec<&str> = changes.lines().collect();
    lines.sort_unstable();
    ensure!(lines == ["A /etc/motd", "A /new", "A /new/big", "C /etc", "D /etc/passwd"], "{lines:?}");
    let sizes = d.ok("ps -as --filter name=one --format {{.Size}}")?;
    ensure!(sizes.starts_with("3") && sizes.contains("kB (virtual "), "{sizes}");
    let directory = tempfile::tempdir()?;
    let here = directory.path().display();
    d.ok(&format!("cp one:/etc/motd {here}/motd"))?;
    d.ok(&format!("cp {here}/motd one:/new/copied"))?;
    d.ok("commit one two:1")?;
    d.says("run --rm two:1 cat /etc/motd /new/copied", "hello\nhello")?;
    d.fails("run --rm two:1 cat /etc/passwd", "No such file")?;
    d.says("diff one", changes.replace("A /new/big", "A /new/big\nA /new/copied").trim())?;
    d.ok(&format!("export -o {here}/export.tar one"))?;
    ensure!(directory.path().join("export.tar").metadata()?.len() > 300_000, "the whole tree");
    d.ok("start -a one")?;
    d.ok("rm one")?;
    d.ok("rmi two:1")?;
    Ok(())
}

/// E-38, E-24: with plain copies containers run, change, are committed and removed as with overlayfs; those that were there
/// keep their driver; what does not work is refused.
#[test]
fn docker_e_38_storage_drivers() -> Result<()> {
    if !can_make_hosts("docker_e_38_storage_drivers") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("drivers2", 1, 0)?;
    let d = Docker::new(&t, "h1");
    d.says("info --format {{.Driver}}", "overlay2")?;
    d.ok(&format!("create --name old {IMAGE} true"))?;
    t.restart_with("h1", &["--storage-driver", "vfs"])?;
    d.says("info --format {{.Driver}}", "vfs")?;
    d.shows("info --format {{.DriverStatus}}", "Backing Filesystem")?;
    files_of_containers(&d)?;
    d.ok(&format!("create --name new {IMAGE} true"))?;
    d.says("inspect --format {{.Driver}} old new", "overlay2\nvfs")?;
    d.ok("start -a old")?;
    t.restart_with("h1", &[])?;
    d.ok("start -a new")?;
    d.says("diff new", "")?;
    d.ok("rm old new")?;
    let left = t
        .lab()
        .run("h1", &["sh", "-c", "ls /var/lib/rswarm/images/snapshots; grep -c snapshots /proc/self/mounts || true"])?;
    ensure!(left.trim() == "0", "{left}");

    let refused = |driver: &str| {
        let line = format!("rswarm daemon --state-dir /tmp/s --run-dir /tmp/r --storage-driver {driver} 2>&1 || true");
        t.lab().run("h1", &["sh", "-c", &line])
    };
    let said = refused("btrfs")?;
    ensure!(said.contains("storage driver btrfs does not work in") && said.contains("not on btrfs"), "{said}");
    ensure!(refused("aufs")?.contains("name one of overlay2, btrfs, vfs"));
    Ok(())
}

/// E-50: the daemon takes its file again on SIGHUP, tells it, and leaves all as it was if the file is wrong. Then E-27, E-38
/// and E-39, by Docker's own places.
#[test]
fn docker_e_50_settings_are_read_again() -> Result<()> {
    if !can_make_hosts("docker_e_50_settings_are_read_again") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("settings", 1, 0)?;
    let d = Docker::new(&t, "h1");
    let write = |text: &str| t.lab().run("h1", &["sh", "-c", &format!("echo '{text}' > /tmp/daemon.json")]);
    write(r#"{"labels": ["tier=front"], "max-concurrent-downloads": 1}"#)?;
    let daemon = t.restart_with("h1", &["--config-file", "/tmp/daemon.json"])?;
    d.says("info --format {{.Labels}}", "[tier=front]")?;
    let reload = || t.lab().signal("h1", daemon.process, Signal::SIGHUP);

    t.create("web", 1, &["--constraint", "engine.labels.tier==back"])?;
    let now = d.ok("info --format {{.SystemTime}}")?;
    // docker's `--until 0s` means the beginning of this second
    let since = format!("{}Z", now.trim().split('.').next().unwrap_or_default());
    write(
        r#"{"labels": ["tier=back"], "debug": true, "registry-mirrors": ["http://127.0.0.1:5001"], "insecure-registries": ["r.test"]}"#,
    )?;
    reload()?;
    d.comes_to_say(
        "info --format {{.Labels}}-{{.Debug}}-{{.RegistryConfig.Mirrors}}",
        "[tier=back] true [http://127.0.0.1:5001]".replace(' ', "-").as_str(),
    )?;
    t.running("web", 1)?;
    until("the reload is told", DEADLINE, || {
        let events = d.ok(&format!("events --since {since} --until 0s --filter type=daemon"))?;
        ensure!(events.contains("daemon reload") && events.contains(r#"labels=["tier=back"]"#), "{events}");
        ensure!(events.contains("debug=true") && events.contains("max-concurrent-downloads=3"), "{events}");
        Ok(())
    })?;

    for (text, why) in
        [(r#"{"lables": []}"#, "unknown field `lables`"), ("{", "EOF"), (r#"{"labels": ["x"]}"#, "write NAME=VALUE")]
    {
        write(text)?;
        reload()?;
        until("the daemon says why", DEADLINE, || {
            let log = std::fs::read_to_string(&daemon.log)?;
            ensure!(log.contains("all stays as it was") && log.contains(why), "{why:?} is not in {log}");
            Ok(())
        })?;
        d.says("info --format {{.Labels}}-{{.Debug}}", "[tier=back]-true")?;
    }
    let check = |arguments: &str| {
        let line = format!("rswarm daemon --validate --config-file /tmp/daemon.json {arguments} 2>&1 || true");
        t.lab().run("h1", &["sh", "-c", &line])
    };
    write(r#"{"labels": ["a=b"]}"#)?;
    ensure!(check("")?.trim() == "configuration OK");
    ensure!(check("--label c=d")?.contains("\"labels\" is set here and by --label"), "{}", check("--label c=d")?);
    docker_paths::lead_here(&t)
}

/// E-50, E-27, P25: what containers and tasks get when nobody says otherwise, and what networks get subnets of; new defaults
/// are for new containers, what is said comes first.
#[test]
fn docker_e_50_defaults_of_containers() -> Result<()> {
    if !can_make_hosts("docker_e_50_defaults_of_containers") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("defaults", 1, 0)?;
    let d = Docker::new(&t, "h1");
    let write = |text: &str| t.lab().run("h1", &["sh", "-c", &format!("echo '{text}' > /tmp/daemon.json")]);
    write(
        r#"{"log-driver": "local", "log-opts": {"max-size": "1m", "max-file": "2"}, "dns": ["9.9.9.9"], "live-restore": true,
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 900, "Soft": 800}}, "default-shm-size": "8m", "init": true,
            "default-address-pools": [{"base": "10.123.0.0/16", "size": 24}]}"#,
    )?;
    let daemon = t.restart_with("h1", &["--config-file", "/tmp/daemon.json"])?;
    d.says("info --format {{.LoggingDriver}}", "local")?;
    d.ok("network create pooled")?;
    let subnet = d.ok("network inspect --format {{(index~.IPAM.Config~0).Subnet}} pooled")?;
    ensure!(subnet.starts_with("10.123.") && subnet.trim().ends_with("/24"), "{subnet}");

    let look = "sh -c ulimit~-Sn;ulimit~-Hn;df~-k~/dev/shm~|~tail~-1~|~awk~'{print~$2}';grep~nameserver~/etc/resolv.conf;test~$$~=~1~&&~echo~first~||~echo~child";
    d.says(&format!("run --rm {IMAGE} {look}"), "800\n900\n8192\nnameserver 9.9.9.9\nchild")?;
    let own = "--ulimit nofile=700:700 --dns 8.8.8.8 --shm-size 4m --init=false";
    d.says(&format!("run --rm {own} {IMAGE} {look}"), "700\n700\n4096\nnameserver 8.8.8.8\nfirst")?;
    let log = "inspect --format {{.HostConfig.LogConfig.Type}}:{{index~.HostConfig.LogConfig.Config~\"max-size\"}}";
    d.ok(&format!("create --name mine {IMAGE}"))?;
    d.says(&format!("{log} mine"), "local:1m")?;
    // as Docker shows them: what holds when it starts is not its own, but for bounds
    let shown = "inspect --format {{json~.HostConfig.DNS}}~{{json~.HostConfig.Init}}";
    d.says(&format!("{shown} mine"), "[] null")?;
    d.says("inspect --format {{json~.HostConfig.Ulimits}} mine", r#"[{"Name":"nofile","Hard":900,"Soft":800}]"#)?;
    d.ok(&format!("create --name larger --log-opt max-size=2m {IMAGE}"))?;
    d.says(&format!("{log} larger"), "local:2m")?;
    t.create("web", 1, &[])?;
    let task = t.running("web", 1)?.0[0].container.clone();
    d.says(&format!("{log} {task}"), "local:1m")?;
    d.says(&format!("{shown} {task}"), "[] null")?;
    let first = "sh -c test~$$~=~1~&&~echo~first~||~echo~child;sleep~1000";
    d.ok(&format!("service create -d --name bare --init=false {IMAGE} {first}"))?;
    let bare = t.running("bare", 1)?.0[0].container.clone();
    d.says(&format!("{shown} {bare}"), "[] false")?;
    d.says("service inspect --format {{.Spec.TaskTemplate.ContainerSpec.Init}} bare", "false")?;
    d.comes_to_say(&format!("logs {bare}"), "first")?;
    d.says(&format!("exec {task} sh -c ulimit~-Sn;df~-k~/dev/shm~|~tail~-1~|~awk~'{{print~$2}}'"), "800\n8192")?;

    write(r#"{"log-opts": {"max-size": "3m"}}"#)?;
    t.lab().signal("h1", daemon.process, Signal::SIGHUP)?;
    d.comes_to_say("info --format {{.LoggingDriver}}", "json-file")?;
    d.ok(&format!("create --name later {IMAGE}"))?;
    d.says(&format!("{log} later mine"), "json-file:3m\nlocal:1m")?;
    Ok(())
}

/// E-50: the default bridge and published ports as a file of Docker's sets them. Containers that are there keep their addresses,
/// and the bridge with them, until they are gone; all else counts for them too.
#[test]
fn docker_e_50_the_default_bridge() -> Result<()> {
    if !can_make_hosts("docker_e_50_the_default_bridge") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("bridged", 1, 0)?;
    let d = Docker::new(&t, "h1");
    let serve = "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w";
    let run = |name: &str, more: &[&str]| {
        let line = [&["run", "-d", "--name", name][..], more, &[IMAGE, "sh", "-c", serve]].concat();
        let (code, _, err) = d.run(&line)?;
        ensure!(code == 0, "docker {line:?}: {err}");
        Ok(())
    };
    let ask = |at: &str| {
        let line = format!("busybox timeout 2 wget -q -O - http://{at}/ 2>&1 || true");
        t.lab().run("h1", &["sh", "-c", &line]).map(|said| said.trim() == "hello")
    };
    let network = |what: &str| d.ok(&format!("network inspect --format {{{{(index~.IPAM.Config~0).{what}}}}} bridge"));
    let answers = |at: &str| {
        until(at, DEADLINE, || {
            ensure!(ask(at)?, "{at} does not answer");
            Ok(())
        })
    };
    run("web", &["-p", "8091:80"])?;
    answers("127.0.0.1:8091")?;
    answers("[::1]:8091")?;
    let before = (network("Subnet")?, network("Gateway")?);

    let text = r#"{"bip": "10.77.0.1/24", "mtu": 1380, "icc": false, "userland-proxy": false, "iptables": true}"#;
    t.lab().run("h1", &["sh", "-c", &format!("echo '{text}' > /tmp/daemon.json")])?;
    let daemon = t.restart_with("h1", &["--config-file", "/tmp/daemon.json"])?;
    ensure!((network("Subnet")?, network("Gateway")?) == before, "{before:?}, {}", network("Subnet")?);
    let log = std::fs::read_to_string(&daemon.log)?;
    ensure!(log.contains("the default bridge keeps its address, because containers are on it"), "{log}");
    d.comes_to_say("exec web cat /sys/class/net/eth0/mtu", "1380")?;
    answers("127.0.0.1:8091")?;
    ensure!(!ask("[::1]:8091")?, "nothing leads there from IPv6 any more");
    d.shows("port web", "0.0.0.0:8091")?;
    ensure!(!d.ok("port web")?.contains("[::]"), "{}", d.ok("port web")?);
    run("other", &[])?;
    let address = d.ok("inspect --format {{.NetworkSettings.IPAddress}} web")?;
    let (address, gateway) = (address.trim(), before.1.trim());
    let (code, ..) = d.run(&["exec", "other", "ping", "-c", "1", "-W", "1", address])?;
    ensure!(code != 0, "containers of the default bridge are apart");
    d.ok(&format!("exec other ping -c 1 -W 2 {gateway}"))?;
    d.ok("rm -f web other")?;
    t.restart_with("h1", &["--config-file", "/tmp/daemon.json"])?;
    ensure!((network("Subnet")?.trim(), network("Gateway")?.trim()) == ("10.77.0.0/24", "10.77.0.1"));
    run("new", &["-p", "8091:80"])?;
    d.shows("inspect --format {{.NetworkSettings.IPAddress}} new", "10.77.0.")?;
    answers("127.0.0.1:8091")?;
    d.says("exec new cat /sys/class/net/eth0/mtu", "1380")?;
    copied_and_refused(&t)
}

/// What was copied and cannot be is told with what to do.
fn copied_and_refused(t: &ClusterUnderTest) -> Result<()> {
    let check = |text: &str| {
        let line = format!(
            "echo '{text}' > /tmp/other.json; rswarm daemon --validate --config-file /tmp/other.json 2>&1 || true"
        );
        t.lab().run("h1", &["sh", "-c", &line])
    };
    let refused = check(r#"{"storage-opts": ["overlay2.size=1G"]}"#)?;
    ensure!(refused.contains("\"storage-opts\": storage drivers have no options"), "{refused}");
    ensure!(check(r#"{"exec-opts": ["native.cgroupdriver=systemd"]}"#)?.contains("asks no systemd"));
    ensure!(check(r#"{"bip": "10.77.0.0/24"}"#)?.contains("give the bridge's own address"));
    Ok(())
}

/// S-65, E-15: a part of a volume, for containers and for services; nothing stays mounted, also after the daemon was killed.
#[test]
fn docker_s_65_parts_of_volumes() -> Result<()> {
    if !can_make_hosts("docker_s_65_parts_of_volumes") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("subpath", 1, 0)?;
    let d = Docker::new(&t, "h1");
    let fill = "mkdir -p /v/a/b; echo inside > /v/a/b/f; ln -s /etc /v/far; ln -s ../../../../../etc /v/a/up; ln -s a/b /v/near";
    d.run(&["run", "--rm", "-v", "data:/v", IMAGE, "sh", "-c", fill])?;
    let mount = |subpath: &str| format!("--mount type=volume,src=data,dst=/x,volume-subpath={subpath}");
    d.says(&format!("run --rm {} {IMAGE} cat /x/f", mount("a/b")), "inside")?;
    d.says(&format!("run --rm {} {IMAGE} cat /x/f", mount("near")), "inside")?;
    refused(&d, &format!("run --rm {} {IMAGE} true", mount("far")), "leads out of /var/lib")?;
    refused(&d, &format!("run --rm {} {IMAGE} true", mount("a/up")), "leads out of /var/lib")?;
    refused(&d, &format!("run --rm {} {IMAGE} true", mount("a/c")), "cannot access path \"a/c\" in ")?;
    refused(&d, &format!("run --rm {} {IMAGE} true", mount("../a")), "relative path")?;
    d.ok(&format!("run -d --name one {} {IMAGE} sh -c echo~more~>/x/g;sleep~10000", mount("a/b")))?;
    d.says("inspect --format {{(index~.HostConfig.Mounts~0).VolumeOptions.Subpath}} one", "a/b")?;

    t.create("web", 1, &["--mount", "type=volume,src=data,dst=/x,volume-subpath=a/b"])?;
    let (tasks, _) = t.running("web", 1)?;
    let seen = t.lab().run("h1", &["cat", &format!("/proc/{}/root/x/g", tasks[0].pid)])?;
    ensure!(seen.trim() == "more", "{seen}");
    t.create("lost", 1, &["--mount", "type=volume,src=data,dst=/x,volume-subpath=nowhere"])?;
    until("the task says why", DEADLINE, || {
        d.shows("service ps lost --no-trunc --format {{.Error}}", "cannot access path \"nowhere\" in ")
    })?;

    let places = || {
        t.lab().run(
            "h1",
            &["sh", "-c", "grep -c subpaths /proc/self/mounts || true; ls -A /run/rswarm/containers/.subpaths"],
        )
    };
    d.ok("service rm lost")?;
    ensure!(places()?.trim() == "0", "{}", places()?);
    // as a daemon that was killed while it made a container leaves it
    let left = "mkdir /run/rswarm/containers/.subpaths/x-0; mount --bind /var/lib/rswarm/volumes/data/_data /run/rswarm/containers/.subpaths/x-0";
    t.lab().run("h1", &["sh", "-c", left])?;
    t.cluster.stop_daemon("h1", Signal::SIGKILL)?;
    t.cluster.start_daemon("h1")?;
    ensure!(places()?.trim() == "0", "{}", places()?);
    d.says("exec one cat /x/g", "more")?;
    d.says(&format!("run --rm {} {IMAGE} cat /x/f", mount("a/b")), "inside")?;
    d.ok("rm -f one")?;
    Ok(())
}

/// E-27: files of a log that were rotated are compressed, and read as if they were not.
#[test]
fn docker_e_27_compressed_logs() -> Result<()> {
    if !can_make_hosts("docker_e_27_compressed_logs") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("packed", 1, 0)?;
    let d = Docker::new(&t, "h1");
    let options = "--log-driver json-file --log-opt max-size=20k --log-opt max-file=5 --log-opt compress=true";
    let count = "i=0;while~[~$i~-lt~800~];do~echo~line~$i;i=$((i+1));done";
    d.ok(&format!("run --name one {options} {IMAGE} sh -c {count}"))?;
    let path = d.ok("inspect --format {{.LogPath}} one")?.trim().to_owned();
    let (listed, _) = until("all but the newest file are compressed", DEADLINE, || {
        let listed = t.lab().run("h1", &["sh", "-c", &format!("ls {path}*")])?;
        ensure!(
            !listed.contains(".new")
                && listed.lines().filter(|line| line.ends_with(".gz")).count() + 1 == listed.lines().count(),
            "{listed}"
        );
        Ok(listed)
    })?;
    ensure!(listed.lines().count() >= 3, "{listed}");
    let all = d.ok("logs one")?;
    let lines: Vec<&str> = all.lines().collect();
    let first = 800 - lines.len();
    ensure!(lines.len() > 400 && lines.iter().zip(first..).all(|(line, at)| *line == format!("line {at}")), "{first}");
    let tail = d.ok("logs --tail 500 one")?;
    ensure!(tail.lines().next() == Some("line 300") && tail.lines().count() == 500, "{tail}");
    ensure!(d.ok("logs --since 1h one")? == all);
    d.says("logs --until 2001-01-01T00:00:00Z one", "")?;
    // what is damaged is told, and the rest is there
    t.lab().run("h1", &["truncate", "-s", "100", &format!("{path}.2.gz")])?;
    let (_, out, err) = d.run(&["logs", "one"])?;
    ensure!(err.contains(".2.gz is damaged"), "{err}");
    ensure!(out.lines().next() == lines.first().copied() && out.lines().last() == Some("line 799"), "{out}");
    ensure!(out.lines().count() < lines.len() && d.ok("logs --tail 5 one")?.lines().count() == 5, "{out}");
    refused(&d, &format!("run --rm --log-opt compress=true --log-opt max-file=1 {IMAGE} true"), "at least 2")?;
    d.ok("rm one")?;
    ensure!(t.lab().run("h1", &["sh", "-c", &format!("ls {path}* 2>/dev/null || true")])?.trim().is_empty());
    Ok(())
}

/// S-42: a service bounds swap beside memory; its tasks have it, and containers too.
#[test]
fn docker_s_42_swap_of_services() -> Result<()> {
    if !can_make_hosts("docker_s_42_swap_of_services") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("swap", 1, 0)?;
    let d = Docker::new(&t, "h1");
    t.create("web", 1, &["--limit-memory", "64m", "--memory-swap", "32m", "--memory-swappiness", "10"])?;
    let (tasks, _) = t.running("web", 1)?;
    let host =
        format!("inspect --format {{{{.HostConfig.Memory}}}}-{{{{.HostConfig.MemorySwap}}}} {}", tasks[0].container);
    d.says(&host, &format!("{}-{}", 64 << 20, 96 << 20))?;
    let resources = t.first()?.get("/services/web")?["Spec"]["TaskTemplate"]["Resources"].clone();
    ensure!(resources["SwapBytes"] == (32 << 20) && resources["MemorySwappiness"] == 10, "{resources}");
    let shown = t.cli("h1", &["service", "inspect", "--pretty", "web"])?;
    ensure!(shown.contains("Swap:") && shown.contains("32MiB"), "{shown}");
    t.cli("h1", &["service", "update", "--detach", "--memory-swap", "-1", "web"])?;
    let refused = t.cli_fails("h1", &["service", "create", "--detach", "--memory-swap", "1g", IMAGE])?;
    ensure!(refused.contains("set a memory limit too"), "{refused}");
    Ok(())
}
