//! What a container is given and what it is denied, seen from inside it and from the kernel.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what failed by failing, and what it skips")]

mod bench;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use bench::{Bench, can_run, cgroup_file};
use runtime::{
    ContainerConfig, Error, FileMount, LogDriver, Mount, MountKind, NamespaceMode, Propagation, Seccomp, Ulimit,
};

/// Runs a line of shell in a container as changed; its output, which must come with exit code 0.
async fn shell(line: &str, change: impl FnOnce(&mut ContainerConfig, &Bench)) -> String {
    let bench = Bench::embedded();
    let mut config = bench.shell("c", line);
    change(&mut config, &bench);
    let (exit, output) = bench.run(&config).await;
    assert_eq!(exit.code, 0, "{output}");
    output
}

fn mount(kind: MountKind, target: &str, readonly: bool) -> Mount {
    Mount { kind, target: target.to_owned(), readonly, propagation: Propagation::RPrivate }
}

#[tokio::test]
async fn environment_user_directory_hostname() {
    if !can_run() {
        return;
    }
    let output = shell("env | sort; pwd; hostname; id; echo x > /dev/stderr; umask", |config, _| {
        config.env = vec!["A=b c".to_owned(), "PATH=/bin".to_owned()];
        config.cwd = "/srv/made".to_owned();
        config.user = "web".to_owned();
        config.additional_groups = vec!["77".to_owned()];
        config.hostname = "name".to_owned();
    })
    .await;
    let (errors, lines): (Vec<&str>, Vec<&str>) = output.lines().partition(|line| line.starts_with("! "));
    assert_eq!(errors, ["! x"]);
    let expected = [
        "A=b c",
        "HOME=/home/web",
        "HOSTNAME=name",
        "PATH=/bin",
        "PWD=/srv/made",
        "SHLVL=1",
        "/srv/made",
        "name",
        "uid=1000(web) gid=1000(web) groups=4(log),77,1000(web)",
        "0022",
    ];
    let lines: Vec<&str> =
        lines.into_iter().map(|line| if line.starts_with("uid=") { expected[8] } else { line }).collect();
    assert_eq!(lines, expected);
    assert!(output.contains("uid=1000(web) gid=1000(web)") && output.contains("77"), "{output}");
}

#[tokio::test]
async fn a_name_that_is_not_in_the_image_is_refused_before_anything_is_made() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.command("c", &["true"]);
    config.user = "nobody".to_owned();
    let text = bench.runtime.create(&config).await.unwrap_err().to_string();
    assert!(text.ends_with("unable to find user nobody: no matching entries in the image's /etc/passwd"), "{text}");
}

#[tokio::test]
async fn mounts() {
    if !can_run() {
        return;
    }
    let line = "cat /a/file /etc/resolv.conf; echo new > /a/rw/made; touch /a/x 2>&1; df -k /t | tail -1 | awk '{print $2}'; \
                stat -c %a /t; touch /y 2>&1; echo z > /t/z && cat /t/z; df -k /dev/shm | tail -1 | awk '{print $2}'";
    let output = shell(line, |config, bench| {
        for dir in ["src", "volume"] {
            fs::create_dir(bench.path(dir)).unwrap();
        }
        fs::write(bench.path("src/file"), "bound\n").unwrap();
        fs::write(bench.path("resolv"), "nameserver 127.0.0.11\n").unwrap();
        config.mounts = vec![
            mount(MountKind::Volume { source: bench.path("volume"), subpath: String::new() }, "/a/rw", false),
            mount(MountKind::Bind { source: bench.path("src"), recursive: true, readonly_below: true }, "/a", true),
            mount(MountKind::Tmpfs { size_bytes: 1 << 20, mode: 0o700, options: Vec::new() }, "/t", false),
        ];
        fs::create_dir(bench.path("src/rw")).unwrap();
        config.files = vec![FileMount { source: bench.path("resolv"), target: "/etc/resolv.conf".to_owned() }];
        config.readonly_rootfs = true;
        config.shm_size_bytes = 2 << 20;
    })
    .await;
    assert_eq!(
        output,
        "bound\nnameserver 127.0.0.11\ntouch: /a/x: Read-only file system\n1024\n700\n\
         touch: /y: Read-only file system\nz\n2048\n"
    );
}

#[tokio::test]
async fn a_mount_source_that_is_missing_is_named() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.command("c", &["true"]);
    let source = PathBuf::from("/nowhere/at/all");
    config.mounts = vec![mount(MountKind::Bind { source, recursive: true, readonly_below: true }, "/data", false)];
    let err = bench.runtime.create(&config).await.unwrap_err();
    assert!(matches!(err, Error::MountSourceMissing { .. }));
    assert!(err.to_string().contains("/nowhere/at/all does not exist"), "{err}");
    config.mounts.clear();
    config.rootfs = "/nowhere".into();
    assert!(matches!(bench.runtime.create(&config).await, Err(Error::RootfsMissing { .. })));
}

#[tokio::test]
async fn memory_limit_kills_and_is_reported() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.shell("oom", "x=a; while :; do x=$x$x; done");
    config.resources.memory_bytes = 16 << 20;
    let (exit, _) = bench.run(&config).await;
    assert!(exit.oom_killed, "{exit:?}");
    assert_eq!(exit.code, 137);
    let (exit, _) = bench.run(&bench.command("fine", &["true"])).await;
    assert!(!exit.oom_killed);
}

#[tokio::test]
async fn limits_reach_the_kernel() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config =
        bench.shell("limits", "ulimit -n; for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo forked; wait");
    config.resources.nano_cpus = 500_000_000;
    config.resources.memory_bytes = 64 << 20;
    config.resources.pids_limit = 5;
    config.resources.cpuset_cpus = "0".to_owned();
    config.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft: 64, hard: 128 }];
    bench.start(&config).await;
    bench::until("a fork fails", async || bench.output("limits").await.contains("can't fork")).await;
    assert!(bench.output("limits").await.lines().any(|line| line == "64"));
    let quota = cgroup_file(&bench, "limits", "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert_eq!(quota.split(' ').next(), Some("50000"));
    assert_eq!(cgroup_file(&bench, "limits", "memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(cgroup_file(&bench, "limits", "pids", "pids.max", "pids.max"), "5");
    assert_eq!(cgroup_file(&bench, "limits", "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    let stats = bench.runtime.stats("limits").unwrap();
    assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (Some(64 << 20), Some(5)));
    assert!(stats.cpu_ns > 0 && stats.memory_bytes > 0 && stats.pids <= 5);
    bench.runtime.delete("limits").await.unwrap();
}

const PRIVILEGES: &str = "grep -E 'CapEff|CapBnd|Seccomp:|NoNewPrivs' /proc/self/status | tr -d '\\t'";

#[tokio::test]
async fn s_54_privileges() {
    if !can_run() {
        return;
    }
    let output = shell(PRIVILEGES, |_, _| {}).await;
    assert_eq!(output, "CapEff:00000000a80425fb\nCapBnd:00000000a80425fb\nNoNewPrivs:0\nSeccomp:2\n");

    let output = shell(PRIVILEGES, |config, _| {
        config.user = "1000".to_owned();
        config.capabilities_drop = vec!["ALL".to_owned()];
        config.capabilities_add = vec!["NET_BIND_SERVICE".to_owned()];
        config.no_new_privileges = true;
    })
    .await;
    assert_eq!(output, "CapEff:0000000000000000\nCapBnd:0000000000000400\nNoNewPrivs:1\nSeccomp:2\n");

    let output = shell(PRIVILEGES, |config, _| config.seccomp = Seccomp::Unconfined).await;
    assert!(output.ends_with("Seccomp:0\n"), "{output}");

    let output = shell("unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1; true", |_, _| {}).await;
    assert_eq!(
        output.matches("Operation not permitted").count() + output.matches("permission denied").count(),
        2,
        "{output}"
    );

    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#;
    let output =
        shell("mkdir /tmp/d 2>&1; true", |config, _| config.seccomp = Seccomp::Profile(profile.to_owned())).await;
    assert!(output.contains("Permission denied"), "{output}");
}

#[tokio::test]
async fn a_privileged_container_has_what_the_daemon_has() {
    if !can_run() {
        return;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find(|line| line.starts_with("CapEff")).unwrap().replace('\t', "");
    let output =
        shell(&format!("{PRIVILEGES}; mount -t tmpfs x /tmp && echo mounted"), |config, _| config.privileged = true)
            .await;
    assert!(output.starts_with(&own), "{output}");
    assert!(output.ends_with("Seccomp:0\nmounted\n"), "{output}");
}

#[tokio::test]
async fn masked_and_readonly_paths() {
    if !can_run() {
        return;
    }
    let line =
        "wc -c < /proc/interrupts; wc -c < /proc/keys; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/panic; true";
    let output = shell(line, |_, _| {}).await;
    // Two streams are two pipes: their lines may come in either order.
    assert_eq!(output.lines().filter(|line| *line == "0").count(), 3, "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 1, "{output}");
    let output = shell("ls /dev; ps -o pid | wc -l; head -c 4 /dev/zero | wc -c", |_, _| {}).await;
    for device in
        ["full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    {
        assert!(output.lines().any(|line| line == device), "{device} in {output}");
    }
}

#[tokio::test]
async fn namespaces_of_the_host_when_asked_for() {
    if !can_run() {
        return;
    }
    let link = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_string_lossy().into_owned();
    let kinds = ["pid", "ipc", "uts", "net", "cgroup"];
    let line = kinds.map(|kind| format!("readlink /proc/self/ns/{kind}")).join(";");
    let output = shell(&line, |_, _| {}).await;
    let own: Vec<bool> = output.lines().zip(kinds).map(|(seen, kind)| seen != link(kind)).collect();
    assert_eq!(own, [true, true, true, false, true]);
    let output = shell(&line, |config, _| {
        config.pid = NamespaceMode::Host;
        config.ipc = NamespaceMode::Host;
        config.uts = NamespaceMode::Host;
        config.cgroupns = NamespaceMode::Host;
    })
    .await;
    assert_eq!(output.lines().collect::<Vec<_>>(), kinds.map(link));
}

#[tokio::test]
async fn what_shares_the_hosts_pids_ends_with_its_container() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.shell("c", "sleep 1234567 & echo started");
    config.pid = NamespaceMode::Host;
    let (exit, output) = bench.run(&config).await;
    assert_eq!((exit.code, output.as_str()), (0, "started\n"));
}

#[tokio::test]
async fn a_million_lines_are_all_there_in_order() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let config = bench.shell("many", "seq 1 1000000");
    bench.start(&config).await;
    assert_eq!(bench.runtime.wait("many").await.unwrap().code, 0);
    let text = fs::read_to_string(&config.log.path).unwrap();
    let mut count = 0_u32;
    for line in text.lines() {
        count += 1;
        assert!(line.starts_with(&format!("{{\"log\":\"{count}\\n\",\"stream\":\"stdout\",\"time\":\"2")), "{line}");
    }
    assert_eq!(count, 1_000_000);
    bench.runtime.delete("many").await.unwrap();
    assert!(config.log.path.exists(), "the log is the caller's");
}

#[tokio::test]
async fn logs_rotate_and_long_lines_come_in_pieces() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.shell("rotate", "seq 1 5000");
    config.log.driver = LogDriver::JsonFile { max_size_bytes: 20_000, max_files: 3, compress: false };
    bench.start(&config).await;
    bench.runtime.wait("rotate").await.unwrap();
    let files: Vec<_> = fs::read_dir(bench.path("logs")).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| file.metadata().unwrap().len() < 21_000));
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert!(bench.output("rotate").await.ends_with("\n4999\n5000\n"));
    bench.runtime.delete("rotate").await.unwrap();

    let config = bench.shell("long", "head -c 40000 /dev/zero | tr '\\0' x; echo; printf end");
    bench.start(&config).await;
    bench.runtime.wait("long").await.unwrap();
    let sizes: Vec<usize> = bench.entries("long").await.iter().map(|entry| entry.bytes.len()).collect();
    assert_eq!(sizes, [16_384, 16_384, 40_001 - 2 * 16_384, 3]);
    bench.runtime.delete("long").await.unwrap();

    let mut config = bench.shell("none", "echo x");
    config.log.driver = LogDriver::None;
    bench.start(&config).await;
    bench.runtime.wait("none").await.unwrap();
    assert!(!config.log.path.exists());
    bench.runtime.delete("none").await.unwrap();
}

/// E-15: a bind over /dev is what is there, also where it may only be read; what is mounted below stays, and so does the
/// container's own shared memory.
#[tokio::test]
async fn e_15_a_bind_over_dev() {
    if !can_run() {
        return;
    }
    let bind = |source: PathBuf, target: &str, readonly| {
        let kind = MountKind::Bind { source, recursive: true, readonly_below: true };
        mount(kind, target, readonly)
    };
    for readonly in [true, false] {
        let line = "cat /dev/mark; echo x > /dev/null; touch /dev/inner/made /dev/shm/own; touch /dev/new && echo new; ls /dev/ptmx";
        let bench = Bench::embedded();
        let (dev, inner) = (bench.path("dev"), bench.path("inner"));
        for directory in [&dev, &inner, &dev.join("shm")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(dev.join("mark"), "marked\n").unwrap();
        // the library masks paths with it, and looks that it is what it is called
        let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::from_bits_truncate(0o666));
        nix::sys::stat::mknod(&dev.join("null"), kind, mode, nix::sys::stat::makedev(1, 3)).unwrap();
        let mut config = bench.shell("c", line);
        config.mounts = vec![bind(inner.clone(), "/dev/inner", false), bind(dev.clone(), "/dev", readonly)];
        let (_, output) = bench.run(&config).await;
        assert!(output.contains("marked"), "{output}");
        assert!(inner.join("made").exists(), "{output}");
        assert_eq!((output.contains("new\n"), dev.join("new").exists()), (!readonly, !readonly), "{output}");
        assert!(!dev.join("shm/own").exists(), "its shared memory is its own");
        assert!(!dev.join("ptmx").exists() && !dev.join("fd").exists(), "nothing is made in what is mounted");
    }
}
