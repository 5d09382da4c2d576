//! After `down` the machine is as before, however the lab came to its end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use lab::{Lab, LabSpec, Name, ProcessId};

use crate::{lab, out, program, reaches};

/// Everything on the machine that carries the lab's name.
fn traces(lab: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let name = format!("rswarm-lab-{lab}");
    let dir = format!("/run/rswarm-lab/{lab}");
    for line in
        fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|l| l.contains(&dir) || l.contains(&name))
    {
        found.insert(format!("mount {line}"));
    }
    for path in [dir.clone(), format!("/run/netns/{name}")] {
        if Path::new(&path).exists() {
            found.insert(format!("file {path}"));
        }
    }
    for dir in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        if dir.path().join(&name).exists() || dir.file_name() == *name {
            found.insert(format!("cgroup {}", dir.path().display()));
        }
    }
    for process in fs::read_dir("/proc").unwrap().flatten() {
        // A zombie is only a line in its parent's book.
        let pid = process.file_name().to_str().and_then(|p| p.parse().ok());
        if !pid.and_then(ProcessId::of).is_some_and(ProcessId::alive) {
            continue;
        }
        let read = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let groups = String::from_utf8_lossy(&read("cgroup")).into_owned();
        if command.contains(&dir) || groups.contains(&name) {
            found.insert(format!("process {} {command}", process.path().display()));
        }
    }
    found
}

/// Ending processes may be seen a moment longer than their control group.
fn assert_gone(lab: &str) {
    let left = traces(lab);
    assert!(left.iter().all(|trace| trace.starts_with("process")), "{left:?}");
    crate::until(&format!("lab {lab} is gone, now {left:?}"), || traces(lab).is_empty());
}

fn machine_links() -> String {
    let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn down_leaves_nothing_and_the_machines_network_is_never_touched() {
    let links = machine_links();
    let lab = lab("nothing", 2);
    let name = lab.name().to_owned();
    lab.spawn("h1", "stray", &["sh", "-c", "setsid sleep 1000 & setsid sleep 1000"], &[]).unwrap();
    lab.cut_between("h1", "h2").unwrap();
    out(
        &lab,
        "h2",
        "mkdir /sys/fs/cgroup/*/deep || mkdir /sys/fs/cgroup/deep; mount -t tmpfs tmpfs /mnt; ip netns add inner",
    );
    assert_eq!(machine_links(), links);
    assert!(!traces(&name).is_empty());
    drop(lab);
    assert_gone(&name);
    assert_eq!(machine_links(), links);
}

#[test]
fn a_killed_host_and_a_full_disk_do_not_keep_a_lab_from_going() {
    let mut spec = LabSpec::new(lab::Guard::name("going").unwrap(), 2, program());
    spec.hosts[1].disk_bytes = Some(1 << 20);
    let lab = lab::Guard::up_with(&spec).unwrap();
    let name = lab.name().to_owned();
    lab.kill("h1").unwrap();
    drop(lab);
    assert_gone(&name);
}

#[test]
fn two_labs_live_side_by_side_unseen_by_each_other() {
    let (a, b) = (lab("side-a", 2), lab("side-b", 2));
    assert_ne!(a.state().unwrap().number, b.state().unwrap().number);
    assert!(reaches(&a, "h1", "h2") && reaches(&b, "h1", "h2"));
    assert!(!reaches(&a, "h1", &b.address("h1").unwrap().to_string()));
    let (gone, name) = (a.name().to_owned(), b.name().to_owned());
    assert!(Lab::list().iter().any(|l| l.name == gone && l.state.is_some()));
    drop(a);
    assert_gone(&gone);
    assert!(reaches(&b, "h1", "h2"));
    drop(b);
    assert_gone(&name);
}

#[test]
fn a_lab_whose_creator_is_killed_midway_is_removed_by_its_name() {
    let name = format!("t-half-{}", std::process::id());
    // Killed after different times: each leaves another part of the lab.
    for after_ms in [5, 40, 80, 120, 200, 400] {
        let mut creator = Command::new(program())
            .args(["lab", "up", "--bare", "--managers", "3", "--name", &name])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Not a wait for a state: the point is to strike at an arbitrary moment.
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        let process = ProcessId::of(i32::try_from(creator.id()).unwrap()).unwrap();
        let _ = process.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
        creator.wait().unwrap();
        let down = Command::new(program()).args(["lab", "down", "--name", &name]).output().unwrap();
        let said = String::from_utf8_lossy(&down.stderr).into_owned();
        assert!(down.status.success() || said.contains("there is no lab"), "after {after_ms} ms: {said}");
        assert_gone(&name);
    }
}

#[test]
fn a_lab_that_cannot_be_made_leaves_nothing() {
    let name = format!("t-bad-{}", std::process::id());
    // A program that is no lab-host: pid 1 of the host ends at once.
    let spec = LabSpec::new(name.parse::<Name>().unwrap(), 2, "/bin/false");
    let error = Lab::up(&spec).unwrap_err().to_string();
    assert!(error.contains("host h1 did not start"), "{error}");
    assert_gone(&name);
    let missing = LabSpec::new(name.parse().unwrap(), 1, "/no/such/rswarm");
    assert!(Lab::up(&missing).unwrap_err().to_string().contains("is not an executable file"));
    assert_gone(&name);
}

#[test]
fn a_failing_test_takes_its_lab_along() {
    let name = std::sync::Mutex::new(String::new());
    let failed = std::panic::catch_unwind(|| {
        let lab = lab("panics", 1);
        lab.name().clone_into(&mut name.lock().unwrap());
        let _guard_outlives_this = &lab;
        std::panic::panic_any("the test fails");
    });
    assert!(failed.is_err());
    let name = name.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(name.starts_with("t-panics-"));
    assert_gone(&name);
}

#[test]
fn what_a_killed_test_left_is_swept_by_the_next() {
    let name = format!("t-swept-{}", std::process::id());
    let up =
        Command::new(program()).args(["lab", "up", "--bare", "--managers", "1", "--name", &name]).status().unwrap();
    assert!(up.success());
    // Its creator has ended; tests beside this one may sweep too.
    lab::Guard::sweep();
    crate::until("the left lab is swept", || traces(&name).is_empty());
}
