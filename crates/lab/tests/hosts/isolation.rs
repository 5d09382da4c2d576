//! A host is a host: its own names, processes, network, limits and disks.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lab::{CgroupMode, ExecOptions, Guard, LabSpec};

use crate::{lab, out, program, reaches};

#[test]
fn hosts_reach_each_other_by_both_families_and_by_name() {
    let lab = lab("reach", 3);
    for (from, to) in [("h1", "h2"), ("h2", "h3"), ("h3", "h1")] {
        assert!(reaches(&lab, from, to), "{from} does not reach {to}");
    }
    let state = lab.state().unwrap();
    assert!(reaches(&lab, "h1", &lab::addr::ipv6(state.number, 3).to_string()));
    assert_eq!(out(&lab, "h2", "cat /sys/class/net/eth0/mtu"), "1500");
}

#[test]
fn names_processes_and_files_are_the_hosts_own() {
    let machine_hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let lab = lab("private", 2);
    assert_eq!(out(&lab, "h1", "hostname"), "h1");
    assert_eq!(out(&lab, "h2", "hostname"), "h2");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), machine_hostname);

    // Pid 1 is ours, and nothing of the machine or the other host is seen.
    assert!(out(&lab, "h1", "tr '\\0' ' ' < /proc/1/cmdline").contains("lab-host"));
    let pids: usize = out(&lab, "h1", "ls -d /proc/[0-9]* | wc -l").parse().unwrap();
    assert!(pids < 8, "{pids} processes on a fresh host");

    out(&lab, "h1", "touch /etc/mark /run/mark /tmp/mark /var/lib/mark");
    for path in ["/etc/mark", "/run/mark", "/tmp/mark", "/var/lib/mark"] {
        assert!(!std::path::Path::new(path).exists(), "{path} is on the machine");
        assert_eq!(out(&lab, "h2", &format!("test -e {path} && echo seen || echo unseen")), "unseen");
    }
    assert_ne!(out(&lab, "h1", "cat /etc/machine-id"), out(&lab, "h2", "cat /etc/machine-id"));
    for ns in ["net", "mnt", "pid", "uts", "ipc", "cgroup"] {
        let own = fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
        let host = out(&lab, "h1", &format!("readlink /proc/self/ns/{ns}"));
        assert_ne!(own.to_str().unwrap(), host, "namespace {ns} is the machine's");
    }
}

#[test]
fn control_groups_can_be_made_and_bind() {
    let lab = lab("cgroups", 1);
    let own = out(&lab, "h1", "cat /proc/self/cgroup");
    assert!(own.lines().all(|l| l.ends_with(":/") || l.ends_with(":/exec")), "{own}");
    let v2 = out(&lab, "h1", "test -e /sys/fs/cgroup/cgroup.controllers && echo yes || echo no") == "yes";
    if v2 {
        out(&lab, "h1", "cd /sys/fs/cgroup; echo +pids > cgroup.subtree_control; mkdir t; echo 4 > t/pids.max");
    } else {
        out(&lab, "h1", "cd /sys/fs/cgroup; for c in */; do mkdir $c/t; done; echo 4 > pids/t/pids.max");
    }
    let group = if v2 { "/sys/fs/cgroup/t" } else { "/sys/fs/cgroup/pids/t" };
    let forks = format!("echo 0 > {group}/cgroup.procs; for i in 1 2 3 4 5 6; do sleep 5 & done; echo all");
    let output = lab.exec("h1", &["sh", "-ec", &forks], &ExecOptions::default()).unwrap();
    assert!(!output.success() && !output.stdout.contains("all"), "the limit of 4 processes did not bind: {output:?}");
}

#[test]
fn a_pure_v2_host_has_one_tree() {
    let mut spec = LabSpec::new(Guard::name("v2").unwrap(), 1, program());
    spec.cgroup = CgroupMode::V2;
    let lab = Guard::up_with(&spec).unwrap();
    assert_eq!(out(&lab, "h1", "stat -f -c %T /sys/fs/cgroup"), "cgroup2fs");
    out(
        &lab,
        "h1",
        "cd /sys/fs/cgroup; for c in $(cat cgroup.controllers); do echo +$c > cgroup.subtree_control; done; mkdir t; rmdir t",
    );
}

#[test]
fn overlay_file_systems_can_be_mounted_on_var_lib() {
    let lab = lab("overlayfs", 1);
    out(
        &lab,
        "h1",
        "cd /var/lib; mkdir l u w m; echo below > l/f; mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m; \
         rm m/f; test -c u/f; umount m",
    );
}

#[test]
fn a_small_disk_is_full_for_its_host_alone() {
    let mut spec = LabSpec::new(Guard::name("disk").unwrap(), 2, program());
    spec.hosts[0].disk_bytes = Some(1 << 20);
    let lab = Guard::up_with(&spec).unwrap();
    let fill = ["sh", "-c", "head -c 2000000 /dev/zero > /var/lib/f"];
    let output = lab.exec("h1", &fill, &ExecOptions::default()).unwrap();
    assert!(output.stderr.contains("No space left"), "{output:?}");
    assert!(lab.exec("h2", &fill, &ExecOptions::default()).unwrap().success());
}

#[test]
fn the_socket_of_a_host_is_reached_from_the_machine() {
    let lab = lab("socket", 1);
    let server = "printf 'hello from %s' $(hostname) | socat -u - UNIX-LISTEN:/run/rswarm/rswarm.sock";
    let running = lab.spawn("h1", "server", &["sh", "-c", server], &[]).unwrap();
    let socket = lab.socket("h1").unwrap();
    crate::until("the socket is there", || {
        UnixStream::connect(&socket).is_ok_and(|mut stream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello from h1");
            true
        })
    });
    assert_eq!(running.wait(Duration::from_secs(5)), Some(0));
}

#[test]
fn programs_get_input_environment_and_a_time_limit() {
    let lab = lab("exec", 1);
    let options = ExecOptions {
        env: vec![("COLOUR".to_owned(), "red".to_owned())],
        stdin: b"from outside".to_vec(),
        ..ExecOptions::default()
    };
    let output = lab.exec("h1", &["sh", "-c", "cat; echo \" $COLOUR\"; echo bad >&2; exit 7"], &options).unwrap();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "from outside red\n", "bad\n"));

    let short = ExecOptions { timeout: Some(Duration::from_millis(300)), ..ExecOptions::default() };
    let error = lab.exec("h1", &["sleep", "1000"], &short).unwrap_err();
    assert!(error.to_string().contains("`sleep 1000` on host h1"), "{error}");
    crate::until("the late program is gone", || out(&lab, "h1", "cat /proc/[0-9]*/comm").lines().all(|c| c != "sleep"));

    let error = lab.run("h1", &["sh", "-c", "echo no such thing >&2; exit 3"]).unwrap_err().to_string();
    assert!(error.contains("exit code 3") && error.contains("no such thing"), "{error}");
}

#[test]
fn shared_folders_and_the_program_are_seen_inside() {
    let dir = std::env::temp_dir().join(format!("rswarm-lab-share-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let mut spec = LabSpec::new(Guard::name("share").unwrap(), 1, program());
    spec.share.push(dir.clone());
    let lab = Guard::up_with(&spec).unwrap();
    out(&lab, "h1", &format!("echo from inside > {}/note", dir.display()));
    let mut note = fs::File::open(dir.join("note")).unwrap();
    let mut text = String::new();
    note.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from inside\n");
    assert!(out(&lab, "h1", "rswarm-lab --version").starts_with("rswarm-lab "));
    drop(lab);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let lab = lab("unknown", 2);
    let error = lab.run("h9", &["true"]).unwrap_err().to_string();
    assert!(error.contains("has no host h9; it has h1, h2"), "{error}");
    let again = lab::Lab::up(&lab.state().unwrap().spec).unwrap_err().to_string();
    assert!(again.contains("exists already"), "{again}");
    std::io::stdout().flush().unwrap();
    let none = lab::Lab::open("no-such-lab").unwrap_err().to_string();
    assert!(none.contains(lab.name()), "{none}");
}
