//! Single containers, driven by the docker CLI (parity E-13 to E-35, E-39, E-41).

use std::{
    io::Write as _,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use nix::sys::signal::Signal;

use crate::can_make_hosts;

/// What a command of docker gave.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// One host, and the docker CLI that drives it.
pub(crate) struct Docker {
    pub(crate) t: ClusterUnderTest,
}

impl Docker {
    pub(crate) fn up(test: &str) -> Result<Self> {
        Ok(Self { t: ClusterUnderTest::up(test, 1, 0)? })
    }

    pub(crate) fn api(&self) -> Result<it::Api> {
        self.t.api("h1")
    }

    pub(crate) fn say(&self, arguments: &[&str]) -> Result<Said> {
        let socket = format!("unix://{}", self.t.lab().socket("h1")?.display());
        let mut command = Command::new("docker");
        command.args(["-H", &socket]).args(arguments).env("DOCKER_CONFIG", "/nonexistent");
        let Output { status, stdout, stderr } = command.output().context("run the docker CLI")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        Ok(Said { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) })
    }

    /// Must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Result<String> {
        let said = self.say(arguments)?;
        ensure!(said.code == 0, "docker {}: {} {}", arguments.join(" "), said.code, said.err);
        Ok(said.out)
    }

    /// Must fail with this code, saying this.
    pub(crate) fn no(&self, code: i32, part: &str, arguments: &[&str]) -> Result<()> {
        let said = self.say(arguments)?;
        let words = arguments.join(" ");
        ensure!(said.code == code, "docker {words}: exit code {} instead of {code}: {}", said.code, said.err);
        ensure!(said.err.contains(part), "docker {words}: {:?} does not say {part:?}", said.err);
        Ok(())
    }

    /// `docker run -d --name NAME … sleep`.
    pub(crate) fn sleeper(&self, name: &str, more: &[&str]) -> Result<String> {
        self.ok(&[&["run", "-d", "--name", name], more, &[IMAGE, "sleep", "10000"]].concat())
    }

    pub(crate) fn field(&self, name: &str, format: &str) -> Result<String> {
        self.ok(&["inspect", "--format", format, name])
    }

    pub(crate) fn is(&self, name: &str, format: &str, wanted: &str) -> Result<()> {
        let found = self.field(name, format)?;
        ensure!(found == wanted, "{name} {format}: {found:?} instead of {wanted:?}");
        Ok(())
    }

    /// Until the field is so.
    pub(crate) fn becomes(&self, name: &str, format: &str, wanted: &str) -> Result<()> {
        until(&format!("{name} {format} {wanted}"), DEADLINE, || self.is(name, format, wanted)).map(drop)
    }

    fn names(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let listed = self.ok(&[&["ps", "--format", "{{.Names}}"], arguments].concat())?;
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Runs a command in the container's namespaces.
    pub(crate) fn inside(&self, name: &str, command: &[&str]) -> Result<String> {
        let pid = self.field(name, "{{.State.Pid}}")?;
        let enter = ["nsenter", "-t", &pid, "-n", "-m", "-u", "-p", "busybox"];
        Ok(self.t.lab().run("h1", &[&enter[..], command].concat())?)
    }
}

/// E-13, E-25, E-26: the life of a container, its exit codes and what is refused.
#[test]
fn docker_e_25_life_of_a_container() -> Result<()> {
    if !can_make_hosts("docker_e_25_life_of_a_container") {
        return Ok(());
    }
    let d = Docker::up("clife")?;
    let id = d.sleeper("web", &["-e", "A=b", "-l", "tier=front", "-w", "/tmp", "-h", "there"])?;
    ensure!(id.len() == 64, "{id}");
    d.is("web", "{{.State.Status}} {{.State.Running}} {{.RestartCount}}", "running true 0")?;
    d.is("web", "{{.Config.Hostname}} {{.Config.WorkingDir}} {{index .Config.Labels \"tier\"}}", "there /tmp front")?;
    d.is("web", "{{.Name}} {{.Path}} {{json .Args}}", "/web sleep [\"10000\"]")?;
    ensure!(d.field("web", "{{json .Config.Env}}")?.contains("A=b"));
    ensure!(d.inside("web", &["hostname"])?.trim() == "there");
    ensure!(d.field(&id[..6], "{{.Id}}")? == id, "by the beginning of its id");
    ensure!(d.ok(&["top", "web"])?.contains("sleep 10000"));
    ensure!(d.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web"])? == "web 1");
    d.no(125, "is already in use by container", &["run", "-d", "--name", "web", IMAGE, "true"])?;
    d.no(1, "No such container: nobody", &["stop", "nobody"])?;
    d.no(1, "No such container: nobody", &["rm", "nobody"])?;
    d.no(1, "container is running: stop the container before removing or force remove", &["rm", "web"])?;

    d.ok(&["pause", "web"])?;
    d.is("web", "{{.State.Status}} {{.State.Paused}}", "paused true")?;
    ensure!(d.ok(&["ps", "--format", "{{.Status}}"])?.ends_with("(Paused)"));
    d.no(1, "is already paused", &["pause", "web"])?;
    d.no(1, "cannot start a paused container", &["start", "web"])?;
    d.ok(&["unpause", "web"])?;
    d.no(1, "is not paused", &["unpause", "web"])?;

    d.ok(&["rename", "web", "shop"])?;
    d.no(1, "No such container: web", &["port", "web"])?;
    ensure!(d.ok(&["stop", "-t", "1", "shop"])? == "shop");
    d.is("shop", "{{.State.Status}} {{.State.ExitCode}}", "exited 137")?;
    d.no(1, "is not running", &["kill", "shop"])?;
    ensure!(d.ok(&["stop", "shop"])? == "shop", "once more is fine");
    ensure!(d.ok(&["wait", "shop"])? == "137");
    ensure!(d.names(&[])?.is_empty() && d.names(&["-a"])? == ["shop"]);
    d.ok(&["start", "shop"])?;
    d.is("shop", "{{.State.Running}} {{.State.ExitCode}}", "true 0")?;
    d.ok(&["restart", "-t", "0", "shop"])?;
    d.is("shop", "{{.State.Running}}", "true")?;

    let trap = "trap 'exit 7' TERM; while :; do sleep 0.1; done";
    d.ok(&["run", "-d", "--name", "polite", IMAGE, "sh", "-c", trap])?;
    d.ok(&["stop", "polite"])?;
    d.is("polite", "{{.State.ExitCode}}", "7")?;
    d.ok(&["run", "-d", "--name", "init", "--init", IMAGE, "sleep", "10000"])?;
    until("its init is shown as Docker's", DEADLINE, || {
        let shown = d.ok(&["top", "init"])?;
        ensure!(shown.contains("/sbin/docker-init -- sleep 10000"), "{shown}");
        Ok(())
    })?;
    d.ok(&["kill", "-s", "TERM", "init"])?;
    ensure!(d.ok(&["wait", "init"])? == "143");
    d.ok(&["run", "-d", "--name", "three", IMAGE, "sh", "-c", "exit 3"])?;
    ensure!(d.ok(&["wait", "three"])? == "3");
    d.no(127, "executable file not found in $PATH", &["run", "-d", "--name", "none", IMAGE, "nonesuch"])?;
    d.is("none", "{{.State.Status}} {{.State.ExitCode}}", "created 127")?;
    d.no(125, "No such image: no/such:1", &["run", "--pull", "never", "-d", "no/such:1"])?;

    d.ok(&["run", "-d", "--rm", "--name", "brief", IMAGE, "true"])?;
    until("--rm takes it away", DEADLINE, || {
        ensure!(!d.names(&["-a"])?.contains(&"brief".to_owned()));
        Ok(())
    })?;
    ensure!(d.ok(&["rm", "-f", "shop"])? == "shop");
    starts_under_way(&d)?;
    let pruned = d.ok(&["container", "prune", "-f"])?;
    ensure!(pruned.contains("Deleted Containers") && d.names(&["-a"])?.is_empty(), "{pruned}");
    let left = d.t.lab().run("h1", &["sh", "-c", "ls /var/lib/rswarm/containers | wc -l"])?;
    ensure!(left.trim() == "0", "{left} records left");
    Ok(())
}

/// E-26: who removes a container while it is started, having left the start alone, has removed it.
fn starts_under_way(d: &Docker) -> Result<()> {
    let api = d.api()?;
    for delay in [0, 5, 15, 30, 60, 120] {
        let id = d.ok(&["create", IMAGE, "sleep", "1000"])?;
        let start = format!("POST /containers/{id}/start HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n");
        let mut starting = std::os::unix::net::UnixStream::connect(api.socket())?;
        starting.write_all(start.as_bytes())?;
        std::thread::sleep(Duration::from_millis(delay));
        let removed = api.request("DELETE", &format!("/containers/{id}?force=1"), "", b"")?;
        ensure!(removed.status == 204, "{delay} ms after the start: {} {}", removed.status, removed.text());
        ensure!(api.request("GET", &format!("/containers/{id}/json"), "", b"")?.status == 404, "{id} is gone");
    }
    Ok(())
}

/// E-23, E-24, E-27: lists and logs.
#[test]
fn docker_e_23_lists_and_logs() -> Result<()> {
    if !can_make_hosts("docker_e_23_lists_and_logs") {
        return Ok(());
    }
    let d = Docker::up("clists")?;
    d.sleeper("a1", &["-l", "color=red", "-v", "data:/data"])?;
    d.sleeper("b2", &["-l", "color=blue", "--expose", "99"])?;
    d.ok(&["create", "--name", "c3", IMAGE, "true"])?;
    d.ok(&["run", "-d", "--name", "d4", IMAGE, "sh", "-c", "exit 4"])?;
    d.becomes("d4", "{{.State.Status}}", "exited")?;
    for (filter, wanted) in [
        ("name=a", &["a1"][..]),
        ("label=color", &["a1", "b2"]),
        ("label=color=red", &["a1"]),
        ("status=created", &["c3"]),
        ("status=exited", &["d4"]),
        ("exited=4", &["d4"]),
        ("ancestor=app:1", &["a1", "b2", "c3", "d4"]),
        ("volume=data", &["a1"]),
        ("network=bridge", &["a1", "b2", "c3", "d4"]),
        ("expose=99", &["b2"]),
        ("before=b2", &["a1"]),
        ("since=b2", &["c3", "d4"]),
        ("health=none", &["a1", "b2", "c3", "d4"]),
        ("is-task=true", &[]),
    ] {
        let found = d.names(&["-a", "--filter", filter])?;
        ensure!(found == wanted, "{filter}: {found:?}");
    }
    ensure!(d.names(&["-n", "1"])? == ["d4"] && d.names(&["-l"])? == ["d4"]);
    ensure!(d.ok(&["ps", "-s", "--format", "{{.Size}}"])?.contains("virtual"));
    ensure!(d.ok(&["ps", "-a", "--filter", "name=c3", "--format", "{{.Status}}"])? == "Created");
    d.no(1, "invalid filter", &["ps", "--filter", "color=red"])?;

    let script = "echo one; echo two >&2; sleep 0.2; echo three";
    d.ok(&["run", "-d", "--name", "talk", IMAGE, "sh", "-c", script])?;
    d.ok(&["wait", "talk"])?;
    let said = d.say(&["logs", "talk"])?;
    ensure!(said.out == "one\nthree" && said.err == "two", "{} {}", said.out, said.err);
    ensure!(d.ok(&["logs", "--tail", "1", "talk"])? == "three");
    ensure!(d.ok(&["logs", "-t", "--tail", "1", "talk"])?.ends_with("Z three"));
    ensure!(d.ok(&["logs", "--since", "2000000000", "talk"])?.is_empty());
    ensure!(d.ok(&["logs", "-f", "talk"])?.lines().count() == 2);
    d.ok(&["run", "-d", "-t", "--name", "tty", IMAGE, "echo", "raw"])?;
    d.ok(&["wait", "tty"])?;
    ensure!(d.ok(&["logs", "tty"])?.contains("raw"));
    d.ok(&["run", "-d", "--name", "mute", "--log-driver", "none", IMAGE, "echo", "x"])?;
    d.no(1, "does not support reading", &["logs", "mute"])?;
    d.no(125, "log driver", &["run", "-d", "--log-driver", "splunk", IMAGE, "true"])?;
    d.ok(&["start", "talk"])?;
    d.ok(&["wait", "talk"])?;
    ensure!(d.ok(&["logs", "talk"])?.lines().count() == 4, "both runs");
    Ok(())
}

/// E-14, E-16, E-17, E-31, E-35: ports, names, links and networks.
#[test]
fn docker_e_14_ports_and_networks() -> Result<()> {
    if !can_make_hosts("docker_e_14_ports_and_networks") {
        return Ok(());
    }
    let d = Docker::up("cnets")?;
    let serve = "mkdir -p /w; echo hello > /w/index.html; httpd -f -p 80 -h /w";
    d.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", IMAGE, "sh", "-c", serve])?;
    let ports = d.ok(&["port", "web"])?;
    ensure!(ports.contains("80/tcp -> 0.0.0.0:8080") && ports.contains("80/tcp -> 127.0.0.1:8081"), "{ports}");
    until("the published port answers", DEADLINE, || {
        for loopback in ["127.0.0.1", "[::1]"] {
            let got =
                d.t.lab().run("h1", &["busybox", "wget", "-q", "-O", "-", &format!("http://{loopback}:8080/")])?;
            ensure!(got.trim() == "hello", "{loopback}: {got}");
        }
        Ok(())
    })?;
    ensure!(d.ok(&["ps", "--format", "{{.Ports}}"])?.contains("0.0.0.0:8080->80/tcp"));
    let held = "Bind for 0.0.0.0:8080 failed: port is already allocated";
    d.no(125, held, &["run", "-d", "--name", "late", "-p", "8080:80", IMAGE, "sleep", "9"])?;
    d.sleeper("next", &["-p", "8080-8090:80"])?;
    ensure!(d.ok(&["port", "next", "80"])?.starts_with("0.0.0.0:808"));
    d.sleeper("any", &["-P", "--expose", "77/udp"])?;
    ensure!(d.ok(&["port", "any"])?.starts_with("77/udp -> 0.0.0.0:"));

    d.ok(&["network", "create", "--subnet", "172.31.9.0/24", "own"])?;
    d.sleeper("one", &["--network", "own", "--network-alias", "uno", "--ip", "172.31.9.7"])?;
    d.is("one", "{{.NetworkSettings.Networks.own.IPAddress}} {{.HostConfig.NetworkMode}}", "172.31.9.7 own")?;
    d.sleeper("two", &["--network", "own", "--mac-address", "02:42:11:22:33:44"])?;
    d.is("two", "{{.NetworkSettings.Networks.own.MacAddress}}", "02:42:11:22:33:44")?;
    for name in ["one", "uno"] {
        until("it is found by name", DEADLINE, || d.inside("two", &["ping", "-c", "1", "-W", "1", name]))?;
    }
    d.sleeper("linked", &["--link", "web:shop"])?;
    ensure!(d.inside("linked", &["wget", "-q", "-O", "-", "http://shop/"])?.trim() == "hello");
    d.sleeper("hosts", &["--add-host", "db:192.0.2.9", "--add-host", "me:host-gateway", "--dns", "192.0.2.53"])?;
    let hosts = d.inside("hosts", &["cat", "/etc/hosts"])?;
    ensure!(hosts.contains("192.0.2.9\tdb") && hosts.contains("\tme\n"), "{hosts}");
    ensure!(d.inside("hosts", &["cat", "/etc/resolv.conf"])?.contains("nameserver 192.0.2.53"));
    d.sleeper("same", &["--network", "container:one"])?;
    ensure!(d.inside("same", &["ip", "-4", "-o", "addr"])?.contains("172.31.9.7"));
    d.sleeper("alone", &["--network", "none"])?;
    ensure!(d.inside("alone", &["ip", "-o", "link"])?.lines().count() == 1);
    d.sleeper("hosted", &["--network", "host"])?;
    ensure!(d.inside("hosted", &["hostname"])?.trim() == "h1");
    let ids = "{{len .NetworkSettings.SandboxID}} {{len .NetworkSettings.Networks.host.EndpointID}}";
    d.is("hosted", ids, "64 64")?;
    let said = d.say(&["create", "--network", "host", "-p", "80:80", IMAGE, "true"])?;
    ensure!(said.err.contains("Published ports are discarded when using host network mode"), "{}", said.err);
    d.no(
        1,
        "syslog-address",
        &["create", "--log-driver", "syslog", "--log-opt", "syslog-address=bad://x", IMAGE, "true"],
    )?;
    d.no(125, "network nowhere not found", &["run", "-d", "--network", "nowhere", IMAGE, "true"])?;

    d.ok(&["network", "connect", "own", "linked"])?;
    until("it is found after connect", DEADLINE, || d.inside("linked", &["ping", "-c", "1", "-W", "1", "one"]))?;
    d.ok(&["restart", "-t", "0", "linked"])?;
    ensure!(!d.field("linked", "{{.NetworkSettings.Networks.own.IPAddress}}")?.is_empty(), "after a restart too");
    d.ok(&["network", "disconnect", "own", "linked"])?;
    d.is("linked", "{{len .NetworkSettings.Networks}}", "1")?;
    Ok(())
}

/// E-15, E-18, E-19, E-41: mounts, limits, rights, health.
#[test]
fn docker_e_18_mounts_limits_and_health() -> Result<()> {
    if !can_make_hosts("docker_e_18_mounts_limits_and_health") {
        return Ok(());
    }
    let d = Docker::up("climits")?;
    d.sleeper("mm", &["-v", "data:/data", "-v", "/tmp/made:/host:ro", "-v", "/own", "--tmpfs", "/fast:size=1m"])?;
    d.inside("mm", &["touch", "/data/kept", "/fast/x"])?;
    ensure!(d.inside("mm", &["touch", "/host/x"]).is_err(), "it is read-only");
    d.is("mm", "{{len .Mounts}}", "3")?;
    d.sleeper("from", &["--volumes-from", "mm"])?;
    d.inside("from", &["ls", "/data/kept"])?;
    d.no(
        125,
        "bind source path does not exist",
        &["run", "-d", "--mount", "type=bind,src=/no/such,dst=/x", IMAGE, "true"],
    )?;
    d.ok(&["rm", "-f", "-v", "mm", "from"])?;

    let limits = [
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--ulimit",
        "nofile=99",
        "--read-only",
        "--shm-size",
        "8m",
    ];
    d.sleeper("small", &limits)?;
    d.is(
        "small",
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}",
        "67108864 500000000 50",
    )?;
    ensure!(d.inside("small", &["touch", "/x"]).is_err(), "its root is read-only");
    ensure!(d.inside("small", &["df", "-k", "/dev/shm"])?.contains("8192"));
    d.ok(&["update", "--memory", "96m", "--memory-swap", "192m", "--restart", "always", "small"])?;
    d.is("small", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "100663296 always")?;
    d.sleeper(
        "caps",
        &["--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges", "-u", "65534:65534"],
    )?;
    let status = d.inside("caps", &["cat", "/proc/1/status"])?;
    ensure!(status.contains("CapBnd:\t0000000000000001") && status.contains("NoNewPrivs:\t1"), "{status}");
    ensure!(status.contains("Uid:\t65534"), "{status}");
    d.no(125, "AppArmor", &["run", "-d", "--security-opt", "apparmor=mine", IMAGE, "true"])?;

    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "200ms", "--health-retries", "2"];
    d.sleeper("sick", &check)?;
    d.becomes("sick", "{{.State.Health.Status}}", "unhealthy")?;
    d.inside("sick", &["touch", "/tmp/well"])?;
    d.becomes("sick", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", "healthy 0")?;
    ensure!(d.ok(&["ps", "--filter", "health=healthy", "--format", "{{.Status}}"])?.ends_with("(healthy)"));
    Ok(())
}

/// Says what arrives at a journal's socket, at two of syslog's, and at those of gelf and fluentd, one message to a line.
const LOG_SERVER: &str = r#"
import os, select, socket
def local(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    return s
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", port))
    return s
def tcp(port):
    return socket.create_server(("127.0.0.1", port))
servers = {tcp(5515): "stream", tcp(24224): "fluentd"}
sockets = {local("/run/systemd/journal/socket"): "journal", udp(5514): "udp", udp(12201): "gelf", **servers}
sockets[local("/run/own/log")] = "local"
while True:
    for s in select.select(list(sockets), [], [])[0]:
        name = sockets[s]
        if s in servers:
            sockets[s.accept()[0]] = name
            continue
        data = s.recv(65536)
        if not data:
            del sockets[s]
            continue
        print(name, data, flush=True)
"#;

/// E-27, S-62: the lines of a container in syslog and in the journal, and with `logs` as well.
#[test]
fn docker_e_27_log_drivers() -> Result<()> {
    if !can_make_hosts("docker_e_27_log_drivers") {
        return Ok(());
    }
    let d = Docker::up("logdrivers")?;
    for driver in ["journald", "fluentd"] {
        let reached = format!("{driver} cannot be reached");
        d.no(125, &reached, &["run", "-d", "--log-driver", driver, IMAGE, "true"])?;
    }
    let server = d.t.lab().spawn("h1", "logs", &["python3", "-c", LOG_SERVER], &[])?;
    until("the server listens", DEADLINE, || d.t.lab().run("h1", &["test", "-S", "/run/own/log"]).map_err(Into::into))?;

    let speak = "echo hello; echo trouble >&2";
    let run = |name: &str, driver: &[&str]| {
        d.ok(&[&["run", "--name", name, "--log-driver"], driver, &[IMAGE, "sh", "-c", speak]].concat())?;
        let kept = d.ok(&["logs", name])?;
        ensure!(kept == "hello", "docker logs {name}: {kept:?}");
        Ok(())
    };
    let to = |address: &'static str| ["syslog", "--log-opt", address];
    run("udp", &[&to("syslog-address=udp://127.0.0.1:5514")[..], &["--log-opt", "syslog-format=rfc5424"]].concat())?;
    run(
        "tcp",
        &[&to("syslog-address=tcp://127.0.0.1:5515")[..], &["--log-opt", "tag={{.Name}}/{{.ImageName}}"]].concat(),
    )?;
    let facility = ["--log-opt", "syslog-facility=local3"];
    run("local", &[&to("syslog-address=unixgram:///run/own/log")[..], &facility].concat())?;
    run("journal", &["journald", "--label", "tier=web", "--log-opt", "labels=tier"])?;
    run("file", &["local", "--log-opt", "max-size=1m"])?;
    let plain = ["gelf", "--log-opt", "gelf-address=udp://127.0.0.1:12201", "--log-opt", "gelf-compression-type=none"];
    run(
        "gelf",
        &[&plain[..], &["--label", "tier=web", "--log-opt", "labels=tier", "--log-opt", "tag=t/{{.Name}}"]].concat(),
    )?;
    run("fluent", &["fluentd", "--log-opt", "tag=docker.{{.Name}}"])?;
    d.is(
        "udp",
        "{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config \"syslog-format\"}}",
        "syslog rfc5424",
    )?;
    let id = d.field("udp", "{{.Id}}")?[..12].to_owned();

    let options = ["--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:5514"];
    let service = ["service", "create", "-d", "--name", "web", "--log-opt", "tag={{.Name}}"];
    d.ok(&[&service[..], &options, &[IMAGE, "sh", "-c", "echo of a task; sleep 1000"]].concat())?;
    let wanted: [Vec<String>; 8] = [
        vec!["udp b'<30>1 ".into(), format!(" {id} "), " - hello'".into()],
        vec!["udp b'<27>1 ".into(), " - trouble'".into()],
        vec!["stream b'<30>".into(), format!("tcp/{IMAGE}[")],
        vec!["local b'<158>".into(), "]: hello'".into()],
        vec![
            "journal b'".into(),
            "CONTAINER_NAME=journal\\nCONTAINER_TAG".into(),
            "TIER=web\\nPRIORITY=6".into(),
            "MESSAGE=hello".into(),
        ],
        vec!["udp b'<30>".into(), "web.1.".into(), "of a task".into()],
        vec![
            "gelf b'".into(),
            "\"short_message\":\"hello\"".into(),
            "\"_command\":\"sh -c echo hello; echo trouble >&2\"".into(),
            "\"_tag\":\"t/gelf\",\"_tier\":\"web\"}".into(),
        ],
        vec!["fluentd b'".into(), "docker.fluent".into(), "/fluent".into(), "hello".into()],
    ];
    until("all of it has arrived", DEADLINE, || {
        let said = std::fs::read_to_string(&server.log)?;
        for parts in &wanted {
            let is_there = said.lines().any(|line| parts.iter().all(|part| line.contains(part.as_str())));
            ensure!(is_there, "{parts:?} is not in:\n{said}");
        }
        Ok(())
    })?;
    d.no(
        125,
        "known are fluentd, gelf, journald, json-file, local, none, syslog",
        &["run", "-d", "--log-driver", "splunk", IMAGE, "true"],
    )?;
    d.no(125, "gelf-address=\"\": it is required", &["run", "-d", "--log-driver", "gelf", IMAGE, "true"])?;
    d.no(125, "unknown log opt \"colour\"", &["run", "-d", "--log-opt", "colour=red", IMAGE, "true"])?;
    ensure!(d.ok(&["info", "--format", "{{.Plugins.Log}}"])? == "[fluentd gelf journald json-file local none syslog]");
    Ok(())
}

/// E-22, E-39: restart policies, and a daemon that is killed: everything is accounted for.
#[test]
fn docker_e_22_restarts_and_a_killed_daemon() -> Result<()> {
    if !can_make_hosts("docker_e_22_restarts_and_a_killed_daemon") {
        return Ok(());
    }
    let d = Docker::up("crestart")?;
    d.ok(&["run", "-d", "--name", "fails", "--restart", "on-failure:2", IMAGE, "sh", "-c", "exit 5"])?;
    d.becomes("fails", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", "exited 5 2")?;
    d.sleeper("always", &["--restart", "always"])?;
    let first = d.field("always", "{{.State.Pid}}")?;
    d.t.lab().run("h1", &["kill", "-9", &first])?;
    until("it comes again", DEADLINE, || {
        ensure!(d.field("always", "{{.State.Running}} {{.RestartCount}}")? == "true 1");
        ensure!(d.field("always", "{{.State.Pid}}")? != first);
        Ok(())
    })?;
    d.sleeper("plain", &["-p", "8080:80"])?;
    d.sleeper("ends", &["--restart", "unless-stopped"])?;
    d.sleeper("gone", &["--rm"])?;
    d.sleeper("stopped", &["--restart", "unless-stopped"])?;
    d.ok(&["stop", "-t", "0", "stopped"])?;
    let pid = |name: &str| d.field(name, "{{.State.Pid}}");
    let (plain, ends, gone) = (pid("plain")?, pid("ends")?, pid("gone")?);

    d.t.cluster.stop_daemon("h1", Signal::SIGKILL)?;
    for victim in [&ends, &gone] {
        d.t.lab().run("h1", &["kill", "-9", victim])?;
    }
    std::thread::sleep(Duration::from_millis(500));
    d.t.cluster.start_daemon("h1")?;
    ensure!(pid("plain")? == plain, "the same process");
    d.is("plain", "{{.State.Status}}", "running")?;
    ensure!(d.ok(&["port", "plain"])?.contains("0.0.0.0:8080"));
    until("what ended meanwhile comes again", DEADLINE, || {
        ensure!(d.field("ends", "{{.State.Running}}")? == "true" && pid("ends")? != ends);
        Ok(())
    })?;
    d.is("stopped", "{{.State.Status}}", "exited")?;
    until("--rm holds", DEADLINE, || {
        ensure!(d.names(&["-a"])? == ["always", "ends", "fails", "plain", "stopped"], "{:?}", d.names(&["-a"])?);
        Ok(())
    })?;
    d.ok(&["stop", "-t", "0", "plain"])?;
    d.is("plain", "{{.State.ExitCode}}", "137")?;
    Ok(())
}
