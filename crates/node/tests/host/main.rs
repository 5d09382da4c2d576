//! An agent and its engine on a host of its own: a mount and a network namespace that end with this
//! process. The manager is a fake one over real TLS; containers, mounts and network are real.
//!
//! The binary is also the shim and the data plane process of that host.

mod health;
mod images;
mod leftovers;
mod manager;
mod networks;
mod scene;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == "netd" {
        let config = overlay::netd::NetdConfig::in_dir(PathBuf::from(arguments.next().unwrap_or_default()), "test");
        return if overlay::netd::run(&config).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if PathBuf::from(&first).is_absolute() {
        return runtime::shim::main();
    }
    if first == "--list" {
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() || !PathBuf::from("/bin/busybox").exists() {
        #[expect(clippy::print_stdout, reason = "the test's report")]
        {
            println!("skipped: 1 (needs root and busybox-static)");
        }
        return ExitCode::SUCCESS;
    }
    match in_own_host() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stdout, reason = "the test's report")]
            {
                println!("FAILED: {error:?}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Enters the namespaces while there is one thread, so that all later ones are inside.
fn in_own_host() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let filter = std::env::var("RSWARM_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        scene::up_loopback().await?;
        tokio::time::timeout(Duration::from_secs(240), scene::all()).await?
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    if result.is_err() {
        leftovers::end();
    }
    result
}
