//! Where log lines go: standard error, one line each, for journald or a file.

use anyhow::{Context, Result};
use tracing_subscriber::{EnvFilter, fmt};

/// Changes what is logged, while the daemon runs.
pub struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<()> + Send + Sync>);

impl LogFilter {
    /// Takes another filter.
    ///
    /// # Errors
    /// Never, while the process logs at all.
    pub fn set(&self, filter: EnvFilter) -> Result<()> {
        (self.0)(filter)
    }
}

/// Reads a level or a `tracing` filter.
///
/// # Errors
/// If it is neither.
pub fn parse(filter: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(filter)
        .with_context(|| format!("the log level {filter:?} is neither a level nor a filter such as manager=debug"))
}

/// Sets up logging for the whole process, in lines of text or of JSON.
pub fn start(filter: EnvFilter, json: bool) -> LogFilter {
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if json {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        return LogFilter(Box::new(move |filter| handle.reload(filter).context("change what is logged")));
    }
    let builder = builder.with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    LogFilter(Box::new(move |filter| handle.reload(filter).context("change what is logged")))
}
