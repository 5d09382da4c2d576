//! One more command in a container: it is a process of that container in every respect, and it ends when it must.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what failed by failing, and what it skips")]

mod bench;

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    time::Duration,
};

use bench::{Bench, can_run, cgroup_file, runc, until};
use nix::{sys::signal::kill, unistd::Pid};
use runtime::{Captured, Error, ExecConfig, ExecEnd, ExecStreams, NamespaceMode, OciRuntime, Seccomp};

const LIMIT: Duration = Duration::from_secs(30);

fn line(text: &str) -> ExecConfig {
    ExecConfig { args: ["sh", "-c", text].map(str::to_owned).to_vec(), ..ExecConfig::default() }
}

async fn run(bench: &Bench, id: &str, config: &ExecConfig) -> (ExecEnd, String) {
    let Captured { end, output, .. } = bench.runtime.exec_captured(id, config, LIMIT, 4096).await.unwrap();
    (end, String::from_utf8(output).unwrap())
}

/// What the kernel says of a process, as far as it is the same for all of one container.
const IDENTITY: &str = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; \
    grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status; cat /proc/self/oom_score_adj; pwd; umask; \
    ulimit -n; env | grep -vE '^(SHLVL|_)=' | sort";

/// S-58: user, capabilities, filter, namespaces, variables and directory are those of the container's own process.
async fn is_a_process_of_the_container(oci_runtime: OciRuntime) {
    let bench = Bench::new(oci_runtime);
    for (id, user, privileges) in [("root", "", false), ("web", "web", true)] {
        let mut config = bench.shell(id, &format!("{IDENTITY}; echo end; exec sleep 1000"));
        config.env = vec!["A=b c".to_owned()];
        config.cwd = "/tmp".to_owned();
        config.user = user.to_owned();
        config.no_new_privileges = privileges;
        config.oom_score_adj = 7;
        config.ulimits = vec![runtime::Ulimit { name: "nofile".to_owned(), soft: 100, hard: 200 }];
        config.capabilities_drop = vec!["CHOWN".to_owned()];
        bench.start(&config).await;
        bench.until_output(id, "end\n").await;
        let own = bench.output(id).await;
        let (end, other) = run(&bench, id, &line(&format!("{IDENTITY}; echo end"))).await;
        assert_eq!((end, other), (ExecEnd::Code(0), own), "{id}");
        let (_, seen) = run(&bench, id, &line("cat /proc/1/cmdline | tr '\\0' ' '; id -u")).await;
        assert_eq!(seen, if user.is_empty() { "sleep 1000 0\n" } else { "sleep 1000 1000\n" });
        bench.runtime.delete(id).await.unwrap();
    }
}

#[tokio::test]
async fn s_58_embedded() {
    if can_run() {
        is_a_process_of_the_container(OciRuntime::Embedded).await;
    }
}

#[tokio::test]
async fn s_58_with_runc() {
    if can_run()
        && let Some(runc) = runc()
    {
        is_a_process_of_the_container(runc).await;
    }
}

#[tokio::test]
async fn s_58_codes_output_and_failures() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.command("c", &["sleep", "1000"]);
    let created = bench.runtime.create(&config).await.unwrap();
    let early = bench.runtime.exec_captured("c", &line("true"), LIMIT, 10).await.unwrap_err();
    assert!(early.to_string().ends_with("it has not been started"), "{early}");
    bench.runtime.start("c").await.unwrap();
    assert_eq!(
        run(&bench, "c", &line("echo out; echo err >&2; exit 3")).await,
        (ExecEnd::Code(3), "out\nerr\n".into())
    );
    assert_eq!(run(&bench, "c", &line("kill -9 $$")).await.0, ExecEnd::Code(137));
    let cut = bench.runtime.exec_captured("c", &line("yes | head -c 100000"), LIMIT, 10).await.unwrap();
    assert_eq!((cut.output.as_slice(), cut.is_cut, cut.end), (&b"y\ny\ny\ny\ny\n"[..], true, ExecEnd::Code(0)));
    let other =
        ExecConfig { user: "web".into(), cwd: "/etc".into(), env: vec!["B=1".into()], ..line("id -un; pwd; echo $B") };
    assert_eq!(run(&bench, "c", &other).await, (ExecEnd::Code(0), "web\n/etc\n1\n".into()));
    let fails = async |config: ExecConfig| bench.runtime.exec_captured("c", &config, LIMIT, 10).await.unwrap_err();
    let command = |name: &str| ExecConfig { args: vec![name.to_owned()], ..ExecConfig::default() };
    assert!(matches!(fails(command("nothing")).await, Error::CommandNotFound { .. }));
    assert!(matches!(fails(command("/etc/data")).await, Error::CommandNotExecutable { .. }));
    for (directory, why) in [
        ("/nowhere", "no such file or directory; make it in the container, or choose another with --workdir"),
        ("/etc/data", "not a directory; choose another with --workdir"),
    ] {
        let lost = fails(ExecConfig { cwd: directory.into(), ..line("true") }).await;
        assert!(lost.to_string().ends_with(&format!("cannot enter the directory {directory}: {why}")), "{lost}");
        assert_eq!(lost.exit_code(), 127, "{lost}");
    }
    // Found, and the kernel does not execute it: it counts as begun.
    run(&bench, "c", &line("printf '#!/nowhere\n' > /tmp/lost; chmod +x /tmp/lost")).await;
    let said = "exec /tmp/lost: no such file or directory\n";
    assert_eq!(run(&bench, "c", &command("/tmp/lost")).await, (ExecEnd::Code(255), said.to_owned()));
    let (exit, output) = bench.run(&bench.command("lost", &["/tmp/lost"])).await;
    assert_eq!((exit.code, output), (255, format!("! {said}")));
    let long = fails(line(&"x".repeat(100_000))).await;
    assert!(matches!(long, Error::Io { .. }), "{long}");
    let stranger = fails(ExecConfig { user: "nobody".into(), ..line("true") }).await.to_string();
    assert!(stranger.contains("unable to find user nobody"), "{stranger}");
    assert!(matches!(bench.runtime.check_user("c", "nobody"), Err(Error::Invalid { .. })));
    assert!(bench.runtime.check_user("c", "web:1000").is_ok() && bench.runtime.check_user("c", "").is_ok());
    bench.runtime.pause("c").await.unwrap();
    assert!(fails(line("true")).await.to_string().ends_with("it is paused"));
    bench.runtime.unpause("c").await.unwrap();
    kill(Pid::from_raw(created.pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    bench.runtime.wait("c").await.unwrap();
    assert!(fails(line("true")).await.to_string().ends_with("it has ended"));
    bench.runtime.delete("c").await.unwrap();
    config.id = "none".to_owned();
    assert!(matches!(bench.runtime.exec_captured("none", &line("true"), LIMIT, 10).await, Err(Error::NotFound { .. })));
}

/// S-58: whoever waits for the end may be broken off at any moment, as by output that comes, and wait again.
#[tokio::test]
async fn s_58_a_wait_that_is_broken_off_loses_nothing() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let config = bench.command("c", &["sleep", "1000"]);
    bench.start(&config).await;
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    for round in 0..20 {
        let streams = ExecStreams { stdin: null(), stdout: null(), stderr: null() };
        let mut exec = bench.runtime.exec("c", &line("exit 3"), streams).await.unwrap();
        let code = loop {
            tokio::select! {
                biased;
                code = exec.wait() => break code,
                () = tokio::task::yield_now() => {}
            }
        };
        assert_eq!(code.unwrap(), 3, "round {round}");
    }
    bench.runtime.delete("c").await.unwrap();
}

/// The container's processes, by command, as the kernel lists them in its control group.
fn processes(bench: &Bench, id: &str) -> Vec<String> {
    let path = bench.runtime.stats(id).map(|stats| stats.pids).unwrap_or(0);
    let mut names = vec![path.to_string()];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.lines().any(|line| line.contains(&format!("{}/{id}", bench.config.cgroup_parent))) {
            let state = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            if state.contains(") Z ") {
                continue;
            }
            names.push(fs::read_to_string(entry.path().join("comm")).unwrap_or_default().trim().to_owned());
        }
    }
    names[1..].sort();
    names
}

#[tokio::test]
async fn s_58_what_takes_too_long_is_killed_with_its_children() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    bench.start(&bench.command("c", &["sleep", "1000"])).await;
    // A child in a session of its own, which its parent does not wait for, and one that ignores what it can.
    let slow = line("setsid sleep 500 & trap '' TERM; echo begun; sleep 500");
    let captured = bench.runtime.exec_captured("c", &slow, Duration::from_millis(500), 4096).await.unwrap();
    assert_eq!((captured.end, captured.output.as_slice()), (ExecEnd::TimedOut, &b"begun\n"[..]));
    until("only the container's own process is left", async || processes(&bench, "c")[1..] == ["sleep"]).await;
    assert_eq!(cgroup_groups(&bench, "c"), 0, "its control group is gone");

    // Nobody waits any more: as when the daemon dies.
    let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let streams = ExecStreams { stdin: null(), stdout: null(), stderr: null() };
    let exec = bench.runtime.exec("c", &line("sleep 400 & sleep 401"), streams).await.unwrap();
    // its shell may have become the second one
    let sleeping = || processes(&bench, "c").iter().filter(|name| *name == "sleep").count();
    until("both run", async || sleeping() == 3).await;
    assert!(kill(Pid::from_raw(exec.pid()), None).is_ok());
    drop(exec);
    until("what was abandoned is gone", async || processes(&bench, "c")[1..] == ["sleep"]).await;
    until("and its control group", async || cgroup_groups(&bench, "c") == 0).await;

    // What a command that ended leaves behind is the container's.
    assert_eq!(run(&bench, "c", &line("sleep 300 & echo left")).await, (ExecEnd::Code(0), "left\n".into()));
    assert_eq!(processes(&bench, "c")[1..], ["sleep", "sleep"]);
    assert_eq!(cgroup_groups(&bench, "c"), 0);
    bench.runtime.delete("c").await.unwrap();
}

/// Control groups of commands below a container's, on all hierarchies.
fn cgroup_groups(bench: &Bench, id: &str) -> usize {
    let relative = format!("{}/{id}", bench.config.cgroup_parent.trim_start_matches('/'));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let points = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let points = points.filter(|words| words[2].starts_with("cgroup")).map(|words| words[1].to_owned());
    let below = |point: String| fs::read_dir(format!("{point}/{relative}")).into_iter().flatten().flatten();
    points.flat_map(below).filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-")).count()
}

#[tokio::test]
async fn s_58_limits_filter_and_host_namespaces_hold_for_it_too() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.command("c", &["sleep", "1000"]);
    config.resources.memory_bytes = 32 << 20;
    config.resources.pids_limit = 20;
    config.pid = NamespaceMode::Host;
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#;
    config.seccomp = Seccomp::Profile(profile.to_owned());
    bench.start(&config).await;
    assert_eq!(cgroup_file(&bench, "c", "pids", "pids.current", "pids.current"), "1");
    let (end, output) = run(&bench, "c", &line("mkdir /tmp/d 2>&1; x=a; while :; do x=$x$x; done")).await;
    assert_eq!(end, ExecEnd::Code(137), "the container's memory is its limit");
    assert!(output.contains("Permission denied"), "{output}");
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let (_, seen) = run(&bench, "c", &line("readlink /proc/self/ns/pid")).await;
    assert_eq!(seen.trim(), own.to_str().unwrap());
    bench.runtime.delete("c").await.unwrap();
}
