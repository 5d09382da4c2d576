//! Running programs on a host: to their end ([`Lab::exec`], [`Lab::run`]) or in the background ([`Lab::spawn`]).
//!
//! A program joins the host's control groups first, then its namespaces, so that its limits, its
//! kill and its `/proc/self/cgroup` are the host's.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::cgroup::Cgroups;
use crate::state::Paths;
use crate::{Error, Lab, ProcessId, boot, tool};

/// Where a program's input comes from and its output goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stdio {
    /// Output is returned.
    #[default]
    Capture,
    /// Input and output are the caller's own: for people at a terminal.
    Inherit,
}

/// How a program is run on a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOptions {
    /// Added to `PATH`, `HOME`, `TERM` and the caller's `RUST_LOG`, `RUST_BACKTRACE` and `RSWARM_*`.
    pub env: Vec<(String, String)>,
    /// Written to its standard input when captured.
    pub stdin: Vec<u8>,
    pub stdio: Stdio,
    /// It is killed after this time; `None` waits for ever.
    pub timeout: Option<Duration>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code; 128 + the signal's number if one ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl ExecOutput {
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

/// A program running in the background of a host.
#[derive(Debug, Clone)]
pub struct Spawned {
    /// The program itself, as the machine sees it; not alive if it ended at once.
    pub process: ProcessId,
    /// File on the machine with its output.
    pub log: PathBuf,
    code: Arc<OnceLock<i32>>,
}

impl Spawned {
    /// Its exit code, once it has ended: as in [`ExecOutput::code`].
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.code.get().copied()
    }

    /// Waits for its end, `None` if that takes longer than `timeout`.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<i32> {
        let end = Instant::now() + timeout;
        while self.exit_code().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.exit_code()
    }
}

impl Lab {
    /// Runs a program on a host and waits for its end, whatever its exit code.
    ///
    /// # Errors
    /// Unknown or stopped host, a program that outlives its timeout.
    pub fn exec<S: AsRef<str>>(&self, host: &str, argv: &[S], options: &ExecOptions) -> Result<ExecOutput, Error> {
        let mut command = self.entering(host, argv, &options.env)?;
        match options.stdio {
            Stdio::Inherit => {
                let child = start(&mut command)?;
                let status = finish(child, options.timeout, &title(host, argv), false)?;
                Ok(ExecOutput { code: code(status), stdout: String::new(), stderr: String::new() })
            }
            Stdio::Capture => capture(&mut command, options, &title(host, argv)),
        }
    }

    /// Runs a program on a host and returns its standard output; any other exit code than 0 is an error.
    ///
    /// # Errors
    /// As [`Lab::exec`], and [`Error::Exec`] with what the program wrote.
    pub fn run<S: AsRef<str>>(&self, host: &str, argv: &[S]) -> Result<String, Error> {
        /// Longer than anything a test runs in the foreground; it keeps a hanging one from hanging all.
        const LONGEST: Duration = Duration::from_secs(120);
        let options = ExecOptions { timeout: Some(LONGEST), ..ExecOptions::default() };
        let output = self.exec(host, argv, &options)?;
        if output.success() {
            return Ok(output.stdout);
        }
        let said = [output.stderr.trim(), output.stdout.trim()].join("\n");
        let argv: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
        Err(Error::Exec {
            host: host.to_owned(),
            doing: format!("`{}`", argv.join(" ")),
            code: output.code,
            output: said.trim().to_owned(),
        })
    }

    /// Starts a program in the background; its output goes to a log of that name.
    ///
    /// # Errors
    /// Unknown or stopped host, a program that cannot be started.
    pub fn spawn<S: AsRef<str>>(
        &self,
        host: &str,
        log_name: &str,
        argv: &[S],
        env: &[(String, String)],
    ) -> Result<Spawned, Error> {
        let log = self.next_log(host, log_name)?;
        let file = File::create(&log).map_err(Error::io("make", &log))?;
        let file_too = file.try_clone().map_err(Error::io("open", &log))?;
        let mut command = self.entering(host, argv, env)?;
        command.stdin(process::Stdio::null()).stdout(file).stderr(file_too);
        let mut child = start(&mut command)?;
        let found = await_program(&mut child, host, &log);
        let code_of = Arc::new(OnceLock::new());
        let slot = Arc::clone(&code_of);
        // Ends with the program; it only keeps the ended program from staying a zombie.
        thread::spawn(move || {
            if let Ok(status) = child.wait() {
                let _ = slot.set(code(status));
            }
        });
        Ok(Spawned { process: found?, log, code: code_of })
    }

    /// `<name>.001.log`, `<name>.002.log`, …: a restarted program does not overwrite what it said before.
    fn next_log(&self, host: &str, name: &str) -> Result<PathBuf, Error> {
        /// More restarts than any run makes; then the last log is written anew.
        const MOST: u32 = 999;
        self.running(host)?;
        let dir = Paths::of(&self.name).logs(host);
        let path = |i: u32| dir.join(format!("{name}.{i:03}.log"));
        Ok(path((1..MOST).find(|i| !path(*i).exists()).unwrap_or(MOST)))
    }

    /// The command that becomes the program on the host.
    fn entering<S: AsRef<str>>(&self, host: &str, argv: &[S], env: &[(String, String)]) -> Result<Command, Error> {
        if argv.is_empty() {
            return Err(Error::BadSpec(format!("no program was named to run on host {host}")));
        }
        let (_, init) = self.running(host)?;
        let join = Cgroups::of_machine()?.exec_files(&self.name, host);
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", boot::JOIN, "rswarm-lab", &join.len().to_string()])
            .args(&join)
            .args(["nsenter", "-t", &init.pid.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"])
            .args(argv.iter().map(AsRef::as_ref))
            .env_clear()
            .env("PATH", tool::PATH)
            .env("HOME", "/root")
            .envs(std::env::vars_os().filter(|(k, _)| k.to_str().is_some_and(passes)))
            .envs(env.iter().map(|(k, v)| (k, v)))
            .current_dir("/");
        Ok(command)
    }
}

/// What of our own environment a program on a host sees. `RSWARM_LAB_*` is about the machine's side.
fn passes(key: &str) -> bool {
    matches!(key, "TERM" | "LANG" | "RUST_LOG" | "RUST_BACKTRACE")
        || key.starts_with("RSWARM_") && !key.starts_with("RSWARM_LAB")
}

fn title<S: AsRef<str>>(host: &str, argv: &[S]) -> String {
    let argv: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    format!("`{}` on host {host}", argv.join(" "))
}

fn start(command: &mut Command) -> Result<Child, Error> {
    command.spawn().map_err(Error::io("run", Path::new("/bin/sh")))
}

fn capture(command: &mut Command, options: &ExecOptions, title: &str) -> Result<ExecOutput, Error> {
    command.stdin(process::Stdio::piped()).stdout(process::Stdio::piped()).stderr(process::Stdio::piped());
    // Its own group, so that a timeout ends the program behind nsenter too.
    command.process_group(0);
    let mut child = start(command)?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let (pipe, bytes) = (child.stdin.take(), options.stdin.clone());
    let feeder = thread::spawn(move || {
        if let Some(mut pipe) = pipe {
            // A program need not read its input.
            let _ = pipe.write_all(&bytes);
        }
    });
    let status = finish(child, options.timeout, title, true);
    // A program left behind in the background may hold the pipes; it is not waited for.
    let status = status?;
    let _ = feeder.join();
    let text = |reader: JoinHandle<Vec<u8>>| String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned();
    Ok(ExecOutput { code: code(status), stdout: text(stdout), stderr: text(stderr) })
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn finish(mut child: Child, timeout: Option<Duration>, title: &str, own_group: bool) -> Result<ExitStatus, Error> {
    let wait = |child: &mut Child| child.wait().map_err(Error::io("wait for", Path::new("/bin/sh")));
    let Some(timeout) = timeout else { return wait(&mut child) };
    let end = Instant::now() + timeout;
    let mut pause = Duration::from_micros(500);
    loop {
        let ended = child.try_wait().map_err(Error::io("wait for", Path::new("/bin/sh")))?;
        if let Some(status) = ended {
            return Ok(status);
        }
        if Instant::now() >= end {
            break;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    if let Some(nsenter) = ProcessId::of(pid) {
        for program in nsenter.children() {
            let _ = program.signal(Signal::SIGKILL);
        }
    }
    if own_group {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.kill();
    wait(&mut child)?;
    Err(Error::Timeout { doing: title.to_owned(), after: timeout })
}

/// The child of `nsenter`: the program, or what becomes it.
fn await_program(child: &mut Child, host: &str, log: &Path) -> Result<ProcessId, Error> {
    const DEADLINE: Duration = Duration::from_secs(10);
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        let is_nsenter = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "nsenter");
        let program = ProcessId::of(pid).filter(|_| is_nsenter).and_then(|p| p.children().into_iter().next());
        if let Some(program) = program {
            return Ok(program);
        }
        let before = ProcessId { pid, start_ticks: u64::MAX };
        let ended = child.try_wait().map_err(Error::io("wait for", Path::new("/bin/sh")))?;
        match ended.map(code) {
            // It did its work before anybody could look: an identity that is no running process.
            Some(code) if !matches!(code, 125..=127) => return Ok(before),
            Some(code) => {
                let (host, output) = (host.to_owned(), boot::tail(log));
                return Err(Error::Exec { host, doing: "starting a program".to_owned(), code, output });
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    }
    Err(Error::Timeout { doing: format!("starting a program on host {host}"), after: DEADLINE })
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
