//! What can happen to a host happens, is seen by the others, and can be taken back.

use std::fs;

use lab::{Error, StateDir};
use nix::sys::signal::Signal;

use crate::{lab, out, reaches, until};

#[test]
fn a_pulled_cable_is_seen_on_both_sides() {
    let lab = lab("cut", 2);
    lab.cut("h2").unwrap();
    until("h2 has lost its carrier", || out(&lab, "h2", "cat /sys/class/net/eth0/carrier") == "0");
    assert!(!reaches(&lab, "h1", "h2"));
    lab.heal("h2").unwrap();
    until("h1 reaches h2 again", || reaches(&lab, "h1", "h2"));
}

#[test]
fn a_wall_between_two_hosts_leaves_the_third_alone() {
    let lab = lab("wall", 3);
    lab.cut_between("h1", "h2").unwrap();
    assert!(!reaches(&lab, "h1", "h2") && !reaches(&lab, "h2", "h1"));
    assert!(reaches(&lab, "h1", "h3") && reaches(&lab, "h3", "h2"));
    lab.cut_between("h3", "h1").unwrap();
    lab.heal_between("h2", "h1").unwrap();
    assert!(!reaches(&lab, "h1", "h3"));
    until("h1 reaches h2 again", || reaches(&lab, "h1", "h2"));
}

#[test]
fn a_killed_host_is_gone_at_once_and_comes_back_with_its_state() {
    let lab = lab("kill", 2);
    out(&lab, "h2", "echo kept > /var/lib/file; touch /etc/changed /run/rswarm/old.sock");
    let sleeper = lab.spawn("h2", "sleeper", &["setsid", "sleep", "1000"], &[]).unwrap();
    assert!(reaches(&lab, "h1", &lab.address("h2").unwrap().to_string()));
    assert!(sleeper.process.alive());
    lab.kill("h2").unwrap();
    assert!(!sleeper.process.alive());
    assert!(!reaches(&lab, "h1", "h2"));
    assert!(matches!(lab.run("h2", &["true"]), Err(Error::HostDown { .. })));
    lab.kill("h2").unwrap();

    lab.start("h2", StateDir::Keep).unwrap();
    let address = lab.address("h2").unwrap().to_string();
    assert!(reaches(&lab, "h1", &address), "the neighbours had to learn a new card");
    assert_eq!(out(&lab, "h2", "cat /var/lib/file; ls /run/rswarm"), "kept");
    assert!(matches!(lab.start("h2", StateDir::Keep), Err(Error::HostRunning { .. })));

    lab.kill("h2").unwrap();
    lab.start("h2", StateDir::Fresh).unwrap();
    assert_eq!(out(&lab, "h2", "ls /var/lib"), "");
}

#[test]
fn a_host_cut_off_stays_so_over_its_restart() {
    let lab = lab("stay-cut", 2);
    lab.cut("h2").unwrap();
    lab.kill("h2").unwrap();
    lab.start("h2", StateDir::Keep).unwrap();
    assert!(!reaches(&lab, "h1", "h2"));
    lab.heal("h2").unwrap();
    until("h1 reaches h2 again", || reaches(&lab, "h1", "h2"));
}

#[test]
fn a_process_is_paused_and_resumed_but_never_one_of_the_machine() {
    let lab = lab("pause", 2);
    let sleeper = lab.spawn("h1", "sleeper", &["sleep", "1000"], &[]).unwrap();
    let state = || {
        let text = fs::read_to_string(format!("/proc/{}/stat", sleeper.process.pid)).unwrap();
        text.rsplit_once(')').unwrap().1.trim().chars().next().unwrap()
    };
    lab.pause("h1", sleeper.process).unwrap();
    until("the process is stopped", || state() == 'T');
    lab.resume("h1", sleeper.process).unwrap();
    until("the process goes on", || state() == 'S');
    let foreign = lab::ProcessId::own().unwrap();
    assert!(matches!(lab.signal("h1", foreign, Signal::SIGTERM), Err(Error::ForeignProcess { .. })));
    assert!(matches!(lab.pause("h2", sleeper.process), Err(Error::ForeignProcess { .. })));
}

#[test]
fn a_line_can_be_made_slow() {
    let lab = lab("limit", 2);
    lab.limit("h2", Some(1_000_000)).unwrap();
    let qdisc = std::process::Command::new("tc")
        .args(["-n", &format!("rswarm-lab-{}", lab.name()), "qdisc", "show", "dev", "v2"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&qdisc.stdout).contains("tbf"), "{qdisc:?}");
    assert!(reaches(&lab, "h1", "h2"));
    lab.limit("h2", None).unwrap();
    lab.limit("h2", None).unwrap();
}

#[test]
fn logs_tell_what_was_spawned_and_restarts_keep_the_old_one() {
    let lab = lab("logs", 1);
    for word in ["first", "second"] {
        let done = lab.spawn("h1", "speaker", &["echo", word], &[]).unwrap();
        assert_eq!(done.wait(std::time::Duration::from_secs(5)), Some(0));
    }
    let texts: Vec<String> = lab.logs("h1").unwrap().into_iter().map(|(_, text)| text).collect();
    assert!(texts.contains(&"first\n".to_owned()) && texts.contains(&"second\n".to_owned()), "{texts:?}");
}
