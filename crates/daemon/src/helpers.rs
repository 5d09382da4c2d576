//! The hidden helpers: processes of their own that the daemon or a lab starts from this binary.
#![allow(clippy::print_stderr)]

use overlay::netd::NetdConfig;
use std::{ffi::OsString, path::Path, process::ExitCode};
use tracing_subscriber::EnvFilter;
use types::with_causes;

/// The network data plane of a host: `rswarm netd RUN_DIR`.
pub const NETD: &str = "netd";
/// What writes PROXY protocol headers: `rswarm port-proxy RUN_DIR`.
pub const PORT_PROXY: &str = "port-proxy";
/// Process 1 of a lab's host: `rswarm lab-host PLAN`.
pub const LAB_HOST: &str = "lab-host";

/// This rswarm's version, which tells a daemon whether the netd that runs is of its own kind.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn netd(arguments: &[OsString]) -> ExitCode {
    let [run_dir] = arguments else {
        return usage("rswarm netd RUN_DIR", "the daemon starts it; there is no need to start it by hand");
    };
    crate::logging::start(EnvFilter::new("info"), false);
    // By its name in /proc: an upgrade may have put another file in this one's place.
    let port_proxy = vec!["/proc/self/exe".into(), PORT_PROXY.into(), run_dir.clone()];
    match overlay::netd::run(&NetdConfig { port_proxy, ..NetdConfig::in_dir(run_dir, VERSION) }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(NETD, &with_causes(&error)),
    }
}

pub fn port_proxy(arguments: &[OsString]) -> ExitCode {
    let [run_dir] = arguments else {
        return usage("rswarm port-proxy RUN_DIR", "the data plane starts it when a published port needs it");
    };
    crate::logging::start(EnvFilter::new("info"), false);
    match overlay::proxy::run(Path::new(run_dir), VERSION) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(PORT_PROXY, &with_causes(&error)),
    }
}

pub fn lab_host(arguments: &[OsString]) -> ExitCode {
    let [plan] = arguments else {
        return usage("rswarm lab-host PLAN", "make a host with `rswarm lab up`");
    };
    match lab::host_init::run(Path::new(plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(LAB_HOST, &with_causes(&error)),
    }
}

fn usage(line: &str, next: &str) -> ExitCode {
    eprintln!("usage: {line} ({next})");
    ExitCode::FAILURE
}

fn failed(what: &str, why: &str) -> ExitCode {
    eprintln!("rswarm {what}: {why}");
    ExitCode::FAILURE
}
