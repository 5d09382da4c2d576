//! The container's standard streams, live. Called by `node`'s engine for `attach`; the shim writes into pipes made
//! here, so that the bytes themselves pass through no protocol. How slow readers are dealt with is said in
//! `shim::audience`.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::{fcntl::OFlag, unistd::pipe2};
use tokio::task::spawn_blocking;

use crate::{
    client,
    error::{Error, Result},
    fds,
    protocol::{self, Request, Response},
    record::ContainerDir,
    runtime::Runtime,
};

const OPERATION: &str = "attach to it";

/// A shim answers at once; much more means that it is stopped.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Which streams are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachConfig {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Begin with what of a begun line is not in the log: for who has read the log up to [`Attached::at_ns`].
    pub replay: bool,
}

/// Our ends of the container's streams. All are non-blocking.
#[derive(Debug)]
pub struct Attached {
    /// To write to: a pipe, or the terminal. `None` if it was not asked for or is not open.
    pub stdin: Option<OwnedFd>,
    /// To read from; ends with the container. For a terminal the only output.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Nanoseconds since 1970: log entries up to then came before the first byte of these streams.
    pub at_ns: u64,
}

impl Runtime {
    /// Joins the container's streams, before or after its start.
    ///
    /// # Errors
    /// If it has ended or does not exist, or has too many clients.
    pub async fn attach(&self, id: &str, config: &AttachConfig) -> Result<Attached> {
        let dir = self.dir(id)?;
        let ended = || Error::Failed { id: id.to_owned(), operation: OPERATION, reason: "it has ended".to_owned() };
        if dir.exit().map_err(Error::io(id, "read its exit status"))?.is_some() {
            return Err(ended());
        }
        let config = *config;
        let asked = spawn_blocking(move || ask(&dir, config)).await.map_err(io::Error::other);
        match asked.and_then(|answered| answered) {
            Ok((Response::Attached { at_ns }, streams)) => Ok(Attached { at_ns, ..streams }),
            Ok((Response::Failed(reason), _)) => Err(Error::Failed { id: id.to_owned(), operation: OPERATION, reason }),
            Ok((other, _)) => {
                let reason = format!("the shim gave an answer to another question: {other:?}");
                Err(Error::Failed { id: id.to_owned(), operation: OPERATION, reason })
            }
            // A shim ends only after its container; one of an older version closes on words it does not know.
            Err(err) if client::is_gone(&err) && self.dir(id)?.exit().ok().flatten().is_some() => Err(ended()),
            Err(source) => Err(Error::Io { id: id.to_owned(), operation: OPERATION, source }),
        }
    }
}

fn ask(dir: &ContainerDir, config: AttachConfig) -> io::Result<(Response, Attached)> {
    // A socket's path may not be long: reach it through a descriptor of its directory.
    let dir = File::open(dir.path())?;
    let socket = UnixStream::connect(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), protocol::SOCKET))?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.set_write_timeout(Some(ANSWER_MAX))?;
    let pipe = |is_wanted: bool| if is_wanted { pipe().map(Some) } else { Ok(None) };
    let (stdout, stdout_theirs) = pipe(config.stdout)?.unzip();
    let (stderr, stderr_theirs) = pipe(config.stderr)?.unzip();
    let AttachConfig { stdin, replay, .. } = config;
    let request = Request::Attach { stdin, stdout: config.stdout, stderr: config.stderr, replay };
    let theirs: Vec<_> = stdout_theirs.iter().chain(&stderr_theirs).map(AsFd::as_fd).collect();
    fds::send(socket.as_fd(), &protocol::frame(&request), &theirs)?;
    let (mut received, mut given, mut chunk) = (Vec::new(), Vec::new(), [0; 4096]);
    let response = loop {
        match protocol::unframe(&received).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))? {
            Some((response, _)) => break response,
            None => match fds::receive(socket.as_fd(), &mut chunk, &mut given)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => received.extend_from_slice(&chunk[..length]),
            },
        }
    };
    Ok((response, Attached { stdin: given.pop(), stdout, stderr, at_ns: 0 }))
}

/// A pipe whose reading end does not block; the shim sees to its own.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?)
}
