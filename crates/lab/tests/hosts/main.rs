//! Labs made for real: asked of the kernel, from inside the hosts and from the machine.

#![allow(clippy::unwrap_used)]

mod cluster;
mod faults;
mod isolation;
mod leftovers;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Guard, Lab};

/// The program whose `lab-host` is pid 1 of the hosts.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_rswarm-lab"))
}

pub fn lab(test: &str, hosts: usize) -> Guard {
    Guard::up(test, hosts, program()).unwrap_or_else(|e| panic!("{}", e.sentence()))
}

/// Standard output of a command that must succeed.
pub fn out(lab: &Lab, host: &str, script: &str) -> String {
    lab.run(host, &["sh", "-ec", script]).unwrap_or_else(|e| panic!("{}", e.sentence())).trim().to_owned()
}

/// Whether one ping is answered.
pub fn reaches(lab: &Lab, from: &str, to: &str) -> bool {
    lab.exec(from, &["ping", "-c1", "-W1", to], &lab::ExecOptions::default()).unwrap().success()
}

/// Waits for a state of the world.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "still not so after 15 s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
