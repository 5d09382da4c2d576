//! Starting the data plane process, or adopting the one that runs. The daemon calls it at its own start.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{NetdConfig, NetdError, lock, protocol::Hello};
use crate::Client;

/// Starting takes milliseconds; a machine under load may need this long. One that ends is noticed at once.
const COMES_UP: Duration = Duration::from_secs(60);
/// Ending takes milliseconds too. After this it is killed: the network stays, as its state is in the kernel.
const GOES_DOWN: Duration = Duration::from_secs(3);
/// One that runs says hello at once; one that does not within this hangs, and is replaced.
const SAYS_HELLO: Duration = Duration::from_secs(2);
/// A log longer than this is set aside, over the one before it.
const LOG_BYTES: u64 = 1024 * 1024;
const POLL: Duration = Duration::from_millis(10);

/// How to start the process.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary whose `args` lead to [`super::run`] with the same `config`.
    pub exe: PathBuf,
    pub args: Vec<OsString>,
    pub config: NetdConfig,
}

/// The process that runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Running {
    Adopted(Hello),
    Started(Hello),
    /// One of another version ran, or one that hung; it was stopped and this one started.
    Replaced(Hello),
}

impl Running {
    pub fn hello(&self) -> &Hello {
        match self {
            Self::Adopted(hello) | Self::Started(hello) | Self::Replaced(hello) => hello,
        }
    }
}

/// Makes sure that a data plane process of `launch.config.version` runs. It outlives the caller.
///
/// # Errors
/// When it cannot be started or does not come up; the error names its log file.
pub async fn ensure_running(launch: &Launch) -> Result<Running, NetdError> {
    let config = &launch.config;
    let mut is_replaced = false;
    if let Some(pid) = lock::holder(&config.state_dir, lock::PID_FILE)? {
        match wait_hello(config, SAYS_HELLO, None).await {
            Ok(hello) if hello.version == config.version => return Ok(Running::Adopted(hello)),
            Ok(hello) => {
                tracing::info!(old = hello.version, new = config.version, "replacing the data plane process");
                // It may end before it has answered.
                let _ = Client::new(&config.socket).shutdown().await;
            }
            Err(error) => tracing::warn!(pid, %error, "the data plane process hangs; replacing it"),
        }
        wait_end(&config.state_dir, pid).await?;
        is_replaced = true;
    }
    let mut child = start(launch)?;
    let hello = wait_hello(config, COMES_UP, Some(&mut child)).await?;
    // Reaps it when it ends while this process still lives; a later parent does it otherwise.
    let reaper = std::thread::Builder::new().name("netd-reaper".to_owned()).spawn(move || child.wait());
    reaper.map_err(NetdError::Runtime)?;
    Ok(if is_replaced { Running::Replaced(hello) } else { Running::Started(hello) })
}

fn log_path(config: &NetdConfig) -> PathBuf {
    config.state_dir.join("netd.log")
}

fn start(launch: &Launch) -> Result<Child, NetdError> {
    let log = log_path(&launch.config);
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| NetdError::File { doing, path, source }
    };
    fs::create_dir_all(&launch.config.state_dir).map_err(failed("make the directory", &launch.config.state_dir))?;
    if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > LOG_BYTES) {
        fs::rename(&log, log.with_extension("log.1")).map_err(failed("set aside the log", &log))?;
    }
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&log);
    let output = opened.map_err(failed("open the log", &log))?;
    let error_output = output.try_clone().map_err(failed("open the log", &log))?;
    let mut command = Command::new(&launch.exe);
    command.args(&launch.args).current_dir("/").stdin(Stdio::null()).stdout(output).stderr(error_output);
    command.spawn().map_err(|source| NetdError::Start { exe: launch.exe.clone(), source })
}

/// Asks until it answers; a child that has ended will not.
async fn wait_hello(config: &NetdConfig, limit: Duration, mut child: Option<&mut Child>) -> Result<Hello, NetdError> {
    let client = Client::new(&config.socket);
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(Ok(hello)) = tokio::time::timeout(left.max(POLL), client.hello()).await {
            return Ok(hello);
        }
        let ended = child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        if let Some(status) = ended {
            return Err(NetdError::EndedAtOnce { status: status.to_string(), log: log_path(config) });
        }
        if Instant::now() >= deadline {
            return Err(NetdError::NotUp { seconds: limit.as_secs(), log: log_path(config) });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for the lock to be free, then kills its holder: the kernel says who that is, so it is never another process.
async fn wait_end(state_dir: &Path, pid: i32) -> Result<(), NetdError> {
    let start = Instant::now();
    let mut is_killed = false;
    while let Some(holder) = lock::holder(state_dir, lock::PID_FILE)? {
        if start.elapsed() > 2 * GOES_DOWN {
            return Err(NetdError::DoesNotEnd { pid });
        }
        // A holder in another pid namespace has no number here; 0 and less would mean whole groups of processes.
        if start.elapsed() > GOES_DOWN && !is_killed && holder > 0 {
            // Gone in this very moment is what is wanted.
            let _ = kill(Pid::from_raw(holder), Signal::SIGKILL);
            is_killed = true;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
