//! Our own command line at the containers of a host: what a docker user types, and what he sees (parity E-13 to E-29,
//! E-35, E-41, E-42). Output and exit codes are docker's.

use std::time::Duration;

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::{ExecOptions, ExecOutput};

use crate::can_make_hosts;

/// A command of these tests takes a second; thirty times that is one that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Own {
    t: ClusterUnderTest,
}

impl Own {
    fn up(test: &str) -> Result<Self> {
        Ok(Self { t: ClusterUnderTest::up(test, 1, 0)? })
    }

    fn say_with(&self, arguments: &[&str], stdin: &str, env: &[(&str, &str)]) -> Result<ExecOutput> {
        let argv = [&["rswarm"], arguments].concat();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options =
            ExecOptions { timeout: Some(PATIENCE), stdin: stdin.as_bytes().to_vec(), env, ..ExecOptions::default() };
        let mut said = self.t.lab().exec("h1", &argv, &options)?;
        ensure!(!said.stderr.contains("panicked"), "rswarm {}: {}", arguments.join(" "), said.stderr);
        said.stdout.truncate(said.stdout.trim_end().len());
        Ok(said)
    }

    fn say(&self, arguments: &[&str]) -> Result<ExecOutput> {
        self.say_with(arguments, "", &[])
    }

    /// Must succeed.
    fn ok(&self, arguments: &[&str]) -> Result<String> {
        let said = self.say(arguments)?;
        ensure!(said.code == 0, "rswarm {}: {} {}", arguments.join(" "), said.code, said.stderr);
        Ok(said.stdout)
    }

    /// Must succeed and print this.
    fn is(&self, wanted: &str, arguments: &[&str]) -> Result<()> {
        let found = self.ok(arguments)?;
        ensure!(found == wanted, "rswarm {}: {found:?} instead of {wanted:?}", arguments.join(" "));
        Ok(())
    }

    /// Must fail with this code, saying this.
    fn no(&self, code: i32, part: &str, arguments: &[&str]) -> Result<()> {
        let said = self.say(arguments)?;
        let words = arguments.join(" ");
        ensure!(said.code == code, "rswarm {words}: exit code {} instead of {code}: {}", said.code, said.stderr);
        ensure!(said.stderr.contains(part), "rswarm {words}: {:?} does not say {part:?}", said.stderr);
        Ok(())
    }

    fn sleeper(&self, name: &str, more: &[&str]) -> Result<String> {
        self.ok(&[&["run", "-d", "--name", name], more, &[IMAGE, "sleep", "10000"]].concat())
    }

    fn on_host(&self, script: &str) -> Result<String> {
        Ok(self.t.lab().run("h1", &["sh", "-c", script])?.trim_end().to_owned())
    }
}

/// E-13, E-25, E-26: run in the foreground and not, its exit codes, and all that happens to a container.
#[test]
fn own_cli_e_13_run_and_life() -> Result<()> {
    if !can_make_hosts("own_cli_e_13_run_and_life") {
        return Ok(());
    }
    let own = Own::up("ownlife")?;
    let said = own.say(&["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    ensure!(said.code == 7 && said.stdout == "out" && said.stderr == "err\n", "{said:?}");
    let said = own.say_with(&["run", "--rm", "-i", IMAGE, "cat"], "through and back", &[])?;
    ensure!(said.code == 0 && said.stdout == "through and back", "{said:?}");
    own.is("", &["run", "--rm", IMAGE, "true"])?;
    own.no(127, "executable file not found in $PATH", &["run", "--rm", IMAGE, "nonesuch"])?;
    own.no(126, "permission denied", &["run", "--rm", IMAGE, "/etc/passwd"])?;
    own.no(125, "No such image: no/such:1", &["run", "--rm", "--pull", "never", "no/such:1"])?;
    own.no(125, "cannot specify both --restart and --rm", &["run", "--rm", "--restart", "always", IMAGE])?;
    own.no(125, "both --attach and --detach", &["run", "-d", "-a", "stdout", IMAGE])?;
    own.no(125, "not a TTY", &["run", "-it", IMAGE, "true"])?;
    own.no(125, "--nonesuch", &["run", "--nonesuch", IMAGE])?;
    own.no(1, "required", &["run"])?;
    own.is("", &["ps", "-aq"])?;
    ensure!(own.ok(&["run", "--help"])?.contains("--health-cmd"));

    let env = [("TAKEN", "from the shell")];
    let words = "echo $A $TAKEN; pwd; id -u; hostname; cat /etc/hosts";
    let run = ["run", "--rm", "-e", "A=b", "-e", "TAKEN", "-e", "UNSET", "-w", "/tmp", "-u", "65534"];
    let more = ["-h", "there", "--add-host", "db:192.0.2.9", "--dns", "192.0.2.53", IMAGE, "sh", "-c", words];
    let said = own.say_with(&[&run[..], &more].concat(), "", &env)?;
    let lines: Vec<&str> = said.stdout.lines().collect();
    ensure!(lines[..4] == ["b from the shell", "/tmp", "65534", "there"], "{said:?}");
    ensure!(said.stdout.contains("192.0.2.9\tdb"), "{said:?}");
    own.is("one two", &["run", "--rm", "--entrypoint", "echo", IMAGE, "one", "two"])?;

    let id = own.sleeper("web", &["-l", "tier=front", "--stop-timeout", "1"])?;
    ensure!(id.len() == 64, "{id}");
    own.no(125, "is already in use by container", &["run", "-d", "--name", "web", IMAGE, "true"])?;
    own.is("running front", &["inspect", "-f", "{{.State.Status}} {{.Config.Labels.tier}}", "web"])?;
    own.is("web", &["pause", "web"])?;
    own.no(1, "is already paused", &["pause", "web"])?;
    own.is("web", &["unpause", "web"])?;
    own.is("", &["rename", "web", "shop"])?;
    own.no(1, "No such container: web", &["stop", "web"])?;
    own.no(1, "may be empty", &["rename", "shop", ""])?;
    let said = own.say(&["stop", "-t", "0", "nobody", "shop"])?;
    ensure!(said.code == 1 && said.stdout == "shop" && said.stderr.contains("nobody"), "{said:?}");
    own.is("137", &["wait", "shop"])?;
    own.is("shop", &["start", "shop"])?;
    own.is("shop", &["restart", "-t", "0", "shop"])?;
    own.no(1, "container is running", &["rm", "shop"])?;
    own.is("shop", &["kill", "-s", "KILL", "shop"])?;
    until("it has ended", DEADLINE, || {
        own.is("exited 137", &["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "shop"])
    })?;
    own.no(1, "is not running", &["kill", "shop"])?;
    own.is("shop", &["rm", "shop"])?;
    let said = own.say(&["rm", "-f", "shop"])?;
    ensure!(said.code == 0 && said.stdout.is_empty() && said.stderr.contains("No such container"), "{said:?}");

    let made = own.ok(&["create", "--name", "later", IMAGE, "sh", "-c", "echo started; exit 4"])?;
    ensure!(made.len() == 64, "{made}");
    own.no(4, "", &["start", "-a", "later"])?;
    own.no(1, "cannot start and attach multiple", &["start", "-a", "later", "other"])?;
    own.is("started", &["logs", "-n", "1", "later"])?;
    own.ok(&["container", "create", "--name", "idle", IMAGE])?;
    let said = own.say_with(&["container", "prune"], "n\n", &[])?;
    ensure!(said.code == 0 && said.stdout.contains("remove all stopped containers"), "{said:?}");
    let pruned = own.ok(&["container", "prune", "-f"])?;
    ensure!(pruned.starts_with("Deleted Containers:\n") && pruned.contains("Total reclaimed space: "), "{pruned}");
    own.is("", &["container", "ls", "-aq"])?;
    own.t.no_containers()
}

/// E-14, E-15, E-17 to E-22, E-41: flags of run, as the daemon has understood them and as the container sees them.
#[test]
fn own_cli_e_18_flags_of_run() -> Result<()> {
    if !can_make_hosts("own_cli_e_18_flags_of_run") {
        return Ok(());
    }
    let own = Own::up("ownflags")?;
    own.on_host(
        "mkdir -p /root/.cache/own-flags; cd /root/.cache/own-flags; echo FILE=yes > env; echo label=read > labels",
    )?;
    let files = "/root/.cache/own-flags";
    let limits = "run -d --name small -m 64m --memory-swap 128m --cpus 0.5 --cpu-shares 512 --pids-limit 50 --ulimit nofile=99:100 \
                  --read-only --shm-size 8m --tmpfs /run:size=1m --restart on-failure:3 --init --stop-signal INT --log-opt max-size=1m \
                  --cap-drop ALL --cap-add CHOWN --security-opt no-new-privileges --oom-score-adj 100 --sysctl net.ipv4.ip_forward=1";
    let words: Vec<&str> = limits.split_whitespace().collect();
    let files = [format!("{files}/env"), format!("{files}/labels")];
    own.ok(&[&words[..], &["--env-file", &files[0], "--label-file", &files[1], IMAGE, "sleep", "10000"]].concat())?;
    let host = "{{.Memory}} {{.MemorySwap}} {{.NanoCpus}} {{.CpuShares}} {{.PidsLimit}} {{.ReadonlyRootfs}} {{.ShmSize}} \
                {{.RestartPolicy.Name}}:{{.RestartPolicy.MaximumRetryCount}} {{.OomScoreAdj}}";
    let wanted = "67108864 134217728 500000000 512 50 true 8388608 on-failure:3 100";
    own.is(wanted, &["inspect", "-f", &format!("{{{{with .HostConfig}}}}{host}{{{{end}}}}"), "small"])?;
    own.is("INT read", &["inspect", "-f", "{{.Config.StopSignal}} {{.Config.Labels.label}}", "small"])?;
    let seen =
        own.ok(&["exec", "small", "sh", "-c", "ulimit -n; echo $FILE; cat /proc/sys/net/ipv4/ip_forward; touch /x"]);
    ensure!(seen.is_err_and(|error| error.to_string().contains("Read-only file system")));
    own.is("99\nyes\n1", &["exec", "small", "sh", "-c", "ulimit -n; echo $FILE; cat /proc/sys/net/ipv4/ip_forward"])?;
    own.is("small", &["update", "--memory", "96m", "--memory-swap", "192m", "--restart", "always", "small"])?;
    own.is(
        "100663296 always",
        &["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "small"],
    )?;
    own.no(1, "one or more flags", &["update", "small"])?;
    own.no(1, "Minimum memory limit allowed is 6MB", &["update", "-m", "1m", "small"])?;

    let serve = "mkdir -p /w; echo hello > /w/index.html; httpd -f -p 80 -h /w";
    let ports = ["-p", "8080:80", "-p", "127.0.0.1:8081-8082:81-82/udp", "--expose", "99"];
    own.ok(&[&["run", "-d", "--name", "web"], &ports[..], &[IMAGE, "sh", "-c", serve]].concat())?;
    until("the published port answers", DEADLINE, || {
        let got = own.on_host("busybox wget -q -O - http://127.0.0.1:8080/")?;
        ensure!(got == "hello", "{got}");
        Ok(())
    })?;
    own.is(
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n81/udp -> 127.0.0.1:8081\n82/udp -> 127.0.0.1:8082",
        &["port", "web"],
    )?;
    own.is("127.0.0.1:8082", &["port", "web", "82/udp"])?;
    own.no(1, "no public port '99/tcp' published for web", &["port", "web", "99"])?;
    let shown = own.ok(&["ps", "--filter", "name=web", "--format", "{{.Ports}}"])?;
    ensure!(shown.contains("0.0.0.0:8080->80/tcp") && shown.contains("127.0.0.1:8081-8082->81-82/udp"), "{shown}");
    own.no(125, "port is already allocated", &["run", "-d", "-p", "8080:80", IMAGE, "sleep", "9"])?;
    for (flag, value, part) in [
        ("-p", "80:x", "invalid containerPort"),
        ("-p", "1-2:1-3", "invalid ranges"),
        ("-p", "80/none", "invalid proto"),
        ("-m", "much", "not a size"),
        ("--cpus", "some", "not a number of CPUs"),
        ("--network", "nowhere", "network nowhere not found"),
        ("--network-alias", "x", "only supported for user-defined networks"),
        ("-v", "/a:b", "must be absolute"),
        ("--mount", "type=bind,dst=/x", "needs source"),
        ("--ulimit", "nonsense", "SOFT[:HARD]"),
        ("--restart", "sometimes", "unknown policy"),
        ("--health-interval", "5", "not a duration"),
        ("--pull", "maybe", "invalid pull option"),
        ("--env-file", "/no/such", "/no/such"),
        ("--security-opt", "seccomp=/no/such", "seccomp profile (/no/such)"),
        ("--device", "/dev/null:/x:y", "bad mode"),
        ("--gpus", "all", "could not select device driver"),
        ("--log-driver", "splunk", "log driver"),
        ("--name", "a b", "Invalid container name"),
    ] {
        own.no(125, part, &["run", "-d", flag, value, IMAGE, "true"])?;
    }

    own.ok(&["network", "create", "--driver", "bridge", "--subnet", "172.31.9.0/24", "own"])?;
    own.sleeper("one", &["--network", "name=own,alias=uno,ip=172.31.9.7", "-v", "data:/data", "-v", "/anonymous"])?;
    own.sleeper("two", &["--network", "own", "--network-alias", "zwei", "--volumes-from", "one:ro"])?;
    until("it is found by its alias", DEADLINE, || own.ok(&["exec", "two", "ping", "-c", "1", "-W", "1", "uno"]))?;
    own.is("172.31.9.7", &["inspect", "-f", "{{.NetworkSettings.Networks.own.IPAddress}}", "one"])?;
    own.ok(&["exec", "one", "touch", "/data/kept"])?;
    own.is("/data/kept", &["exec", "two", "ls", "/data/kept"])?;
    own.is("data", &["volume", "ls", "-q", "--filter", "name=data"])?;
    own.sleeper("same", &["--network", "container:one", "--pid", "container:one"])?;
    ensure!(own.ok(&["exec", "same", "ip", "-4", "-o", "addr"])?.contains("172.31.9.7"));
    own.sleeper("linked", &["--link", "web:shop"])?;
    own.is("hello", &["exec", "linked", "busybox", "wget", "-q", "-O", "-", "http://shop/"])?;
    own.ok(&["network", "connect", "own", "linked"])?;
    until("it is found after connect", DEADLINE, || own.ok(&["exec", "linked", "ping", "-c", "1", "-W", "1", "zwei"]))?;
    own.ok(&["network", "disconnect", "own", "linked"])?;

    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "200ms", "--health-retries", "2"];
    own.sleeper("sick", &check)?;
    until("it is found sick", DEADLINE, || {
        own.is("unhealthy", &["inspect", "-f", "{{.State.Health.Status}}", "sick"])
    })?;
    own.ok(&["exec", "sick", "touch", "/tmp/well"])?;
    until("and well", DEADLINE, || own.is("sick", &["ps", "--filter", "health=healthy", "--format", "{{.Names}}"]))?;
    own.on_host("rm -r /root/.cache/own-flags")?;
    Ok(())
}

/// E-23, E-24, E-25, E-27, E-28: what is shown: lists, logs, processes, usage, files.
#[test]
fn own_cli_e_23_what_is_shown() -> Result<()> {
    if !can_make_hosts("own_cli_e_23_what_is_shown") {
        return Ok(());
    }
    let own = Own::up("ownshown")?;
    own.sleeper("a1", &["-l", "color=red"])?;
    own.ok(&["create", "--name", "c3", IMAGE, "true"])?;
    own.no(4, "", &["run", "--name", "d4", IMAGE, "sh", "-c", "exit 4"])?;
    let table = own.ok(&["ps", "-a"])?;
    let head: Vec<&str> =
        table.lines().next().unwrap_or_default().split("  ").filter(|title| !title.is_empty()).map(str::trim).collect();
    ensure!(head == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"], "{table}");
    let line = table.lines().find(|line| line.ends_with("a1")).unwrap_or_default();
    ensure!(line.contains(IMAGE) && line.contains("\"sleep 10000\"") && line.contains("Up "), "{table}");
    ensure!(table.contains("Exited (4) ") && table.contains("Created"), "{table}");
    for (filter, wanted) in
        [("name=a", "a1"), ("label=color=red", "a1"), ("status=created", "c3"), ("exited=4", "d4"), ("before=c3", "a1")]
    {
        own.is(wanted, &["ps", "-a", "--filter", filter, "--format", "{{.Names}}"])?;
    }
    own.is("a1 red", &["ps", "--no-trunc=true", "--format", "{{.Names}} {{.Label \"color\"}}"])?;
    own.is("d4", &["ps", "-l", "--format", "{{.Names}}"])?;
    own.is("d4\nc3", &["ps", "-n", "2", "--format", "{{.Names}}"])?;
    own.no(1, "invalid filter", &["ps", "--filter", "color=red"])?;
    own.no(125, "KEY=VALUE", &["ps", "--filter", "color"])?;
    ensure!(own.ok(&["ps", "-s", "--format", "{{.Size}}"])?.contains("(virtual "));
    ensure!(own.ok(&["ps", "-q", "--no-trunc"])?.len() == 64 && own.ok(&["ps", "-q"])?.len() == 12);

    let script = "echo one; echo two >&2; sleep 0.2; echo three";
    let said = own.say(&["run", "--name", "talk", IMAGE, "sh", "-c", script])?;
    ensure!(said.stdout == "one\nthree" && said.stderr == "two\n", "{said:?}");
    let said = own.say(&["logs", "-f", "talk"])?;
    ensure!(said.code == 0 && said.stdout == "one\nthree" && said.stderr == "two\n", "{said:?}");
    ensure!(own.ok(&["logs", "-t", "--tail", "1", "talk"])?.ends_with("Z three"));
    own.is("", &["logs", "--since", "2033-05-18T03:33:20Z", "talk"])?;
    own.is("", &["logs", "--until", "10m", "talk"])?;
    own.no(1, "No such container: nobody", &["logs", "nobody"])?;

    let top = own.ok(&["top", "a1"])?;
    ensure!(top.starts_with("UID") && top.contains("sleep 10000"), "{top}");
    ensure!(own.ok(&["top", "a1", "-o", "pid,comm"])?.ends_with("sleep"));
    own.no(1, "Couldn't find PID field", &["top", "a1", "-o", "comm"])?;
    let stats = own.ok(&["stats", "--no-stream", "a1"])?;
    ensure!(stats.starts_with("CONTAINER ID   NAME      CPU %") && stats.contains("MEM USAGE / LIMIT"), "{stats}");
    own.is("a1 1", &["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "a1"])?;
    own.no(1, "No such container: nobody", &["stats", "--no-stream", "nobody"])?;
    let said = own.say(&["inspect", "a1", "nobody"])?;
    ensure!(said.code == 1 && said.stdout.contains("\"Name\": \"/a1\"") && said.stderr.contains("nobody"), "{said:?}");
    ensure!(own.ok(&["inspect", "--type", "image", IMAGE])?.contains("RepoTags"));
    own.is(
        "no health",
        &["inspect", "-f", "{{if .State.Health}}{{.State.Health.Status}}{{else}}no health{{end}}", "a1"],
    )?;
    ensure!(own.ok(&["inspect", "-f", "{{.ID}}", "a1"])?.len() == 64);
    let said = own.say_with(&["secret", "create", "key", "-"], "x", &[])?;
    ensure!(said.code == 0, "{said:?}");
    own.is("key", &["inspect", "-f", "{{.Spec.Name}}", "key"])?;
    own.is("key", &["inspect", "--type", "secret", "-f", "{{.Spec.Name}}", "key"])?;
    own.no(1, "no such container", &["inspect", "--type", "container", IMAGE])?;
    own.no(1, "not a valid value for --type", &["inspect", "--type", "thing", "a1"])?;

    own.ok(&[
        "exec",
        "a1",
        "sh",
        "-c",
        "mkdir -p /made/deep; echo content > /made/deep/file; ln -s /made/deep/file /link; rm /etc/group",
    ])?;
    let diff = own.ok(&["diff", "a1"])?;
    ensure!(
        ["A /made", "A /made/deep/file", "C /etc", "D /etc/group"].iter().all(|l| diff.lines().any(|d| &d == l)),
        "{diff}"
    );
    own.on_host("rm -rf /root/.cache/own-cp; mkdir -p /root/.cache/own-cp/here")?;
    let here = |name: &str| format!("/root/.cache/own-cp/{name}");
    let said = own.say(&["cp", "a1:/made", &here("here")])?;
    ensure!(said.code == 0 && said.stderr.starts_with("Successfully copied "), "{said:?}");
    own.is("", &["cp", "-q", "a1:/made/.", &here("new")])?;
    own.is("", &["cp", "-L", "a1:/link", &here("followed")])?;
    own.is("", &["cp", "a1:/link", &here("link")])?;
    let found = own.on_host("cd /root/.cache/own-cp; cat here/made/deep/file new/deep/file followed; readlink link")?;
    ensure!(found == "content\ncontent\ncontent\n/made/deep/file", "{found}");
    own.ok(&["cp", &here("here/made"), "a1:/tmp"])?;
    own.ok(&["cp", &here("here/made/."), "a1:/fresh"])?;
    own.ok(&["cp", &here("followed"), "a1:/tmp/renamed"])?;
    own.is(
        "content\ncontent\ncontent",
        &["exec", "a1", "cat", "/tmp/made/deep/file", "/fresh/deep/file", "/tmp/renamed"],
    )?;
    own.on_host("rswarm cp a1:/made - | tar t | grep -q made/deep/file && tar c -C /root/.cache/own-cp new | rswarm cp - a1:/tmp")?;
    own.is("content", &["exec", "a1", "cat", "/tmp/new/deep/file"])?;
    own.no(1, "Could not find the file /none in container", &["cp", "a1:/none", &here("x")])?;
    own.no(1, "/no/such", &["cp", "/no/such", "a1:/"])?;
    own.no(1, "destination directory must exist", &["cp", &here("followed"), "a1:/none/"])?;
    own.no(1, "between containers", &["cp", "a1:/a", "a1:/b"])?;
    own.no(1, "at least one container", &["cp", "/a", "/b"])?;
    own.no(1, "cannot copy directory", &["cp", &here("new"), "a1:/tmp/renamed"])?;

    own.ok(&["export", "-o", &here("tar"), "a1"])?;
    own.on_host("tar tf /root/.cache/own-cp/tar | grep -q made/deep/file")?;
    let id = own.ok(&["commit", "-m", "why", "-c", "CMD [\"cat\", \"/made/deep/file\"]", "a1", "made:1"])?;
    ensure!(id.starts_with("sha256:"), "{id}");
    own.is("content", &["run", "--rm", "made:1"])?;
    own.on_host("rm -r /root/.cache/own-cp")?;
    Ok(())
}

/// E-28: a person at a terminal: keys, size, and leaving.
#[test]
fn own_cli_e_28_terminals_and_signals() -> Result<()> {
    if !can_make_hosts("own_cli_e_28_terminals_and_signals") {
        return Ok(());
    }
    let own = Own::up("ownterm")?;
    // script(1) gives a terminal; what is typed is sent after a while
    let typed = |command: &str, keys: &str| -> Result<ExecOutput> {
        let line = format!("(sleep 2; printf '{keys}'; sleep 3) | script -qec '{command}' /dev/null");
        let options = ExecOptions { timeout: Some(PATIENCE), ..ExecOptions::default() };
        Ok(own.t.lab().exec("h1", &["sh", "-c", &line], &options)?)
    };
    let said = typed("stty rows 33 cols 77; rswarm run --rm -it app:1 sh", "tty; stty size; exit 5\\n")?;
    ensure!(said.code == 5, "{said:?}");
    ensure!(said.stdout.contains("/dev/pts/0") && said.stdout.contains("33 77"), "{said:?}");
    let said = typed("rswarm run --name left -it app:1 sh", "\\020\\021")?;
    ensure!(said.code == 0, "leaving is no failure: {said:?}");
    own.is("running", &["inspect", "-f", "{{.State.Status}}", "left"])?;
    let said = typed("rswarm attach left", "echo again; exit 6\\n")?;
    ensure!(said.code == 6 && said.stdout.contains("again"), "{said:?}");
    until("it has ended", DEADLINE, || own.is("6", &["inspect", "-f", "{{.State.ExitCode}}", "left"]))?;

    let trap = "trap \"exit 9\" TERM; echo ready; while :; do sleep 0.1; done";
    let script = format!("rswarm run --rm app:1 sh -c '{trap}' & sleep 2; kill -TERM $!; wait $!; echo code $?");
    let said = own.on_host(&script)?;
    ensure!(said.contains("ready") && said.ends_with("code 9"), "{said}");
    let script = format!(
        "rswarm run -d --name joined app:1 sh -c '{trap}'; rswarm attach joined & sleep 2; kill -TERM $!; wait $!; echo code $?"
    );
    let said = own.on_host(&script)?;
    ensure!(said.ends_with("code 9"), "{said}");
    own.no(1, "cannot attach to a stopped container", &["attach", "joined"])?;
    own.t.no_containers()
}

/// E-42, E-03: what a host keeps and tells; credentials.
#[test]
fn own_cli_e_42_system_and_login() -> Result<()> {
    if !can_make_hosts("own_cli_e_42_system_and_login") {
        return Ok(());
    }
    let own = Own::up("ownsystem")?;
    own.sleeper("web", &["-v", "data:/data"])?;
    own.ok(&["create", "--name", "idle", IMAGE])?;
    let df = own.ok(&["system", "df"])?;
    ensure!(df.starts_with("TYPE            TOTAL     ACTIVE    SIZE"), "{df}");
    own.is(
        "Images 1 1\nContainers 2 1\nLocal Volumes 1 1\nBuild Cache 0 0",
        &["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"],
    )?;
    ensure!(own.ok(&["system", "df", "-v"])?.contains("Local Volumes space usage:"));
    let events =
        own.ok(&["events", "--since", "10m", "--until", "0s", "--filter", "container=web", "--format", "{{.Action}}"])?;
    ensure!(events.lines().collect::<Vec<_>>()[..2] == ["create", "start"], "{events}");
    let line = own.ok(&[
        "system",
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "--filter",
        "event=create",
        "--filter",
        "container=web",
    ])?;
    ensure!(line.contains(" container create ") && line.contains("name=web"), "{line}");
    own.no(1, "invalid filter", &["events", "--until", "0s", "--filter", "nonsense=1"])?;
    let pruned = own.ok(&["system", "prune", "-f"])?;
    ensure!(pruned.contains("Deleted Containers:\n") && pruned.contains("Total reclaimed space: "), "{pruned}");
    own.is("web", &["ps", "-a", "--format", "{{.Names}}"])?;
    ensure!(own.ok(&["system", "info"])?.contains("Containers: 1"));
    let versions = own.ok(&["version", "--format", "{{.Client.APIVersion}} {{.Server.APIVersion}}"])?;
    ensure!(versions.split(' ').filter(|version| version.starts_with("1.")).count() == 2, "{versions}");
    let format = "{{.Type}} {{if .TimeNano}}timed{{end}}{{.Actor.Attributes.nothing}}";
    let of_web = ["events", "--since", "10m", "--until", "0s", "--filter", "container=web", "--format", format];
    let events = own.ok(&of_web)?;
    ensure!(events.lines().all(|line| line == "container timed") && events.contains("timed\n"), "{events}");

    let config = [("DOCKER_CONFIG", "/tmp/own-login")];
    let said = own.say_with(&["login", "-u", "me", "--password-stdin", "127.0.0.1:1"], "secret\n", &config)?;
    ensure!(said.code == 1 && !said.stderr.contains("secret") && said.stderr.contains("127.0.0.1:1"), "{said:?}");
    own.no(1, "non TTY device", &["login", "127.0.0.1:1"])?;
    own.no(1, "must provide --username", &["login", "--password-stdin"])?;
    let said = own.say_with(&["logout", "registry.example"], "", &config)?;
    ensure!(said.code == 0 && said.stdout == "Not logged in to registry.example", "{said:?}");
    Ok(())
}
