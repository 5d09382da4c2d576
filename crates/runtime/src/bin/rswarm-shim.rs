//! The process that stands beside one container. All of it is in `runtime::shim`; this file is
//! only its door, so that the binary stays small and the parts stay testable.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::shim::main()
}
