//! Where log lines go: standard error, one line each, for journald or a file.

use anyhow::{Context, Result};
use tracing_subscriber::{EnvFilter, fmt};

/// Sets up logging for the whole process. `filter` is a level or a `tracing` filter.
pub fn start(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log-level {filter:?} is neither a level nor a filter such as manager=debug"))?;
    fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}
