//! The last step inside the container: finding and executing its command, alone or below an init of
//! ours. Called by the runtime library in the container's first process, after the root has been changed and the
//! privileges are gone.

use std::{
    ffi::{CStr, CString},
    io::{self, Write},
    path::Path,
};

use libcontainer::{
    oci_spec::runtime::{Process, Spec},
    workload::{Executor, ExecutorError, ExecutorValidationError},
};
use nix::{
    errno::Errno,
    unistd::{AccessFlags, access, execv},
};

use super::init;

/// How the container's command is executed.
#[derive(Clone)]
pub(super) struct Command {
    /// As a child of an init of ours, whose arguments are there.
    pub(super) init: Option<init::Arguments>,
}

impl Executor for Command {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        process(spec).and_then(find).map(|_| ()).map_err(ExecutorValidationError::ArgValidationError)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        if let Some(arguments) = self.init {
            init::become_init_and_fork(arguments, process(spec).map(words).unwrap_or_default());
        }
        let found = process(spec).and_then(|process| Ok((c_string(&find(process)?)?, arguments(process)?)));
        let (path, args) = found.unwrap_or_else(|problem| say_and_exit(&problem, 127));
        let Err(errno) = execv(&path, &args);
        let code = match errno {
            _ if self.init.is_none() => NOT_EXECUTED,
            // an init says of its child what shells say
            Errno::ENOENT => 127,
            _ => 126,
        };
        say_and_exit(&not_executed(&path, errno), code)
    }
}

/// Exit code, as with runc, of a command that was found and that the kernel does not execute: a script without its
/// interpreter, a program of another architecture. It counts as begun by then.
pub(super) const NOT_EXECUTED: i32 = 255;

/// What is said of such a command, in runc's words.
pub(super) fn not_executed(path: &CStr, errno: Errno) -> String {
    format!("exec {}: {}", path.to_string_lossy(), errno.desc().to_lowercase())
}

pub(super) fn say(problem: &str) {
    io::stderr().write_all(format!("{problem}\n").as_bytes()).ok();
}

pub(super) fn say_and_exit(problem: &str, code: i32) -> ! {
    say(problem);
    std::process::exit(code)
}

fn process(spec: &Spec) -> Result<&Process, String> {
    spec.process().as_ref().ok_or_else(|| "no command given".to_owned())
}

fn words(process: &Process) -> &[String] {
    process.args().as_deref().unwrap_or_default()
}

pub(super) fn arguments(process: &Process) -> Result<Vec<CString>, String> {
    words(process).iter().map(|word| c_string(word)).collect()
}

pub(super) fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{text:?} contains a zero byte"))
}

/// The file to execute, in the words that Docker uses when there is none.
pub(super) fn find(process: &Process) -> Result<String, String> {
    let command = words(process).first().ok_or("no command given")?;
    let denied = || format!("exec: \"{command}\": permission denied");
    if command.contains('/') {
        return match check(command) {
            Found::Yes => Ok(command.clone()),
            Found::NotExecutable => Err(denied()),
            Found::No => Err(format!("exec: \"{command}\": stat {command}: no such file or directory")),
        };
    }
    let env = process.env().as_deref().unwrap_or_default();
    // The last one counts, as it does for the program itself.
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let mut refused = false;
    for dir in path.split(':') {
        let candidate = format!("{}/{command}", if dir.is_empty() { "." } else { dir });
        match check(&candidate) {
            Found::Yes => return Ok(candidate),
            Found::NotExecutable => refused = true,
            Found::No => {}
        }
    }
    Err(if refused { denied() } else { format!("exec: \"{command}\": executable file not found in $PATH") })
}

enum Found {
    Yes,
    NotExecutable,
    No,
}

fn check(path: &str) -> Found {
    match Path::new(path).metadata() {
        Ok(metadata) if metadata.is_file() && access(path, AccessFlags::X_OK).is_ok() => Found::Yes,
        Ok(_) => Found::NotExecutable,
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Found::NotExecutable,
        Err(_) => Found::No,
    }
}
