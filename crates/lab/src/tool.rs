//! Running util-linux, iproute2 and nftables as child processes. Used by the modules that touch the kernel.
//!
//! Programs rather than system calls, because a namespace belongs to a thread: a child that enters
//! it and ends leaves nothing to restore here, and no unsafe code is needed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;

/// Where programs are looked for, here and inside the hosts.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a lab cannot do without, and the Debian package it comes in.
const NEEDED: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
];

/// Fails with the name of the first missing program, or if we are not root.
pub fn check_machine() -> Result<(), Error> {
    let uid = nix::unistd::geteuid();
    if !uid.is_root() {
        return Err(Error::NotRoot { uid: uid.as_raw() });
    }
    for (tool, package) in NEEDED {
        if !PATH.split(':').any(|dir| Path::new(dir).join(tool).is_file()) {
            return Err(Error::MissingTool { tool, package });
        }
    }
    Ok(())
}

/// Runs a program to its end, `input` on its standard input; its standard output is returned.
pub fn run(argv: &[&str], input: &str) -> Result<String, Error> {
    let failed = |status: String, stderr: String| Error::Tool { command: argv.join(" "), status, stderr };
    let Some((program, arguments)) = argv.split_first() else {
        return Ok(String::new());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed("not started".to_owned(), e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything tells its reason by status and stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed("not awaited".to_owned(), e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(output.status.to_string(), stderr))
}
