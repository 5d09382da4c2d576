//! The lab's command line as a program of its own: for this crate's tests, and for work on it while
//! the rest of the workspace does not build. Users have the same as `rswarm lab`.

#![expect(clippy::print_stderr, reason = "this is a command line")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "rswarm-lab", version)]
struct Cli {
    /// The rswarm program the hosts run; this one by default, then only bare labs work
    #[arg(long, env = "RSWARM_PROGRAM")]
    rswarm: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hosts on this machine
    Lab(lab::cli::LabArgs),
    /// Pid 1 of a host
    #[command(hide = true)]
    LabHost { plan: PathBuf },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let program = cli.rswarm.map_or_else(std::env::current_exe, Ok);
    let result = match (&cli.command, program) {
        (Command::LabHost { plan }, _) => lab::host_init::run(plan).map(|()| 0),
        (Command::Lab(args), Ok(program)) => lab::cli::run(args, &program),
        (Command::Lab(_), Err(e)) => {
            eprintln!("rswarm-lab: cannot find this program's own file: {e}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("rswarm-lab: {}", e.sentence());
            ExitCode::FAILURE
        }
    }
}
