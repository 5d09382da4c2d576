//! The `rswarm` command line: docker's flags and output, spoken over the daemon's unix socket, TCP
//! with certificates, or ssh.
//!
//! Called by the `rswarm` binary for everything that is not the daemon. It knows the daemon only by
//! its HTTP API: it must never read the state directory or reach into another crate's insides.

mod arguments;
mod client;
mod commands;
mod compose;
mod host;
mod keyring;
mod output;
mod spec;
mod wire;

use std::{ffi::OsString, process::ExitCode};

use clap::error::ErrorKind;

use arguments::Root;
use commands::NotConverged;

const FLAG_ERROR: u8 = 125;

/// Ends the program with this code, without a word: all has been said.
#[derive(Debug, thiserror::Error)]
#[error("exit with code {0}")]
pub(crate) struct Quit(pub(crate) u8);

/// Says why, and ends the program with this code.
pub(crate) fn fail<T>(code: u8, error: &anyhow::Error) -> anyhow::Result<T> {
    output::terminal::print_error(&format!("rswarm: {error:#}\n"))?;
    Err(Quit(code).into())
}

/// Docker's codes for a command line that cannot be understood.
fn usage_code(kind: ErrorKind) -> ExitCode {
    match kind {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::InvalidSubcommand
        | ErrorKind::MissingSubcommand
        | ErrorKind::MissingRequiredArgument => ExitCode::FAILURE,
        _ => ExitCode::from(FLAG_ERROR),
    }
}

/// What the program itself finds out about its host, for `rswarm doctor`.
pub type HostChecks = fn() -> Vec<types::Check>;

/// Runs one command line (program name first). 0: done; 1: not done, the reason is on stderr; 2 to 4: done, but what was
/// waited for does not come (`service/verdict`); 125: a flag or its value is wrong, as docker says it.
pub fn main(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>, host_checks: HostChecks) -> ExitCode {
    let words: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let root = match Root::read(&words) {
        Ok(root) => root,
        Err(error) => {
            // Help and version are no failures; a broken pipe while printing them is none either.
            let _ = error.print();
            return usage_code(error.kind());
        }
    };
    match commands::run(root, host_checks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Quit>() {
            Some(Quit(code)) => ExitCode::from(*code),
            None => {
                let _ = output::terminal::print_error(&format!("rswarm: {error:#}\n"));
                error.downcast_ref::<NotConverged>().map_or(ExitCode::FAILURE, |end| ExitCode::from(end.code))
            }
        },
    }
}
