//! The host's part of `rswarm doctor`: what the program finds without any daemon.

use clap::Parser;
use node::checkup::{self, Places};
use types::Check;

use crate::{config::Config, docker_paths, helpers::VERSION};

/// Looks at this host, where the daemon would look with the same environment.
pub fn of_host() -> Vec<Check> {
    // No argument: only what the environment and the usual file say, and the defaults.
    let config = Config::parse_from(["rswarm daemon"]);
    let paths = docker_paths::check(&config.with_file().unwrap_or_else(|_| config.clone()));
    let places = Places { state_dir: config.state_dir, run_dir: config.run_dir, version: VERSION.to_owned() };
    let mut checks = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(checkup::host(&places)),
        Err(error) => vec![Check::fail("host", format!("cannot be looked at: {error}"))],
    };
    checks.push(paths);
    checks
}
