//! The one `rswarm` binary: the command line, the daemon, and the hidden helpers.
//!
//! Only looks at the first word and hands over. Helpers are chosen before any command line is
//! parsed, because they start often and must stay small.

mod addresses;
mod checks;
mod config;
mod config_file;
mod docker_paths;
mod goodbye;
mod helpers;
mod host;
mod logging;
mod member;
mod member_file;
mod supervisor;
mod survival;

use std::{env, ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some("daemon") => match config::Config::from_words(&arguments[1..]) {
            Ok(flags) => host::main(&flags),
            Err(error) => error.exit(),
        },
        Some(helpers::NETD) => helpers::netd(&arguments[2..]),
        Some(helpers::PORT_PROXY) => helpers::port_proxy(&arguments[2..]),
        Some(helpers::LAB_HOST) => helpers::lab_host(&arguments[2..]),
        _ => cli::main(arguments, checks::of_host),
    }
}
