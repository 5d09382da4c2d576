//! Bytes between a client and the standard streams of a container, or of a command in one, until either has no more.
//! Called by the API with a connection of its own; knows nothing of HTTP.
//!
//! Each direction waits for its own receiver only. Nothing is read from the container while the client does not
//! take what was read before, so memory is bounded and a slow client slows the writer, as Docker's does.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::watch,
    time::sleep,
};

use super::{
    detach_keys::DetachKeys,
    frame::{FRAME_HEADER as HEADER, FrameKind, frame_header},
};

/// One read: as much as a pipe holds by default.
const CHUNK: usize = 64 * 1024;

/// A command has ended, but what it left behind holds its output open: so long a silence is taken for the end.
const SILENCE: Duration = Duration::from_secs(1);

/// Our ends of the standard streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub stdin: Option<Sender>,
    pub stdout: Option<Receiver>,
    pub stderr: Option<Receiver>,
}

impl Streams {
    /// From descriptors that do not block: pipes, or copies of a terminal's master.
    pub(super) fn new(stdin: Option<OwnedFd>, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> io::Result<Self> {
        Ok(Self {
            stdin: stdin.map(Sender::from_owned_fd_unchecked).transpose()?,
            stdout: stdout.map(Receiver::from_owned_fd_unchecked).transpose()?,
            stderr: stderr.map(Receiver::from_owned_fd_unchecked).transpose()?,
        })
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The streams ended.
    Ended,
    /// The client left, by its keys or without a word.
    Left,
}

/// What is said to the client in one piece.
pub(super) async fn say(
    to: &mut (impl AsyncWrite + Unpin),
    is_raw: bool,
    is_stderr: bool,
    bytes: &[u8],
) -> io::Result<()> {
    if !is_raw {
        to.write_all(&frame_header(FrameKind::of_output(is_stderr), bytes.len())).await?;
    }
    to.write_all(bytes).await
}

/// What flows from the container to the client.
pub(super) struct Outputs {
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    is_raw: bool,
    /// Says when the command has ended; `None` where the end of the streams says all.
    ended: Option<watch::Receiver<Option<i32>>>,
}

impl Outputs {
    fn are_none(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Until all streams have ended; where there were none, until the command has.
    ///
    /// # Errors
    /// The client takes nothing any more.
    async fn copy(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.are_none() {
            end_of(&mut self.ended).await;
            return Ok(());
        }
        let (mut out, mut err) = (vec![0; HEADER + CHUNK], vec![0; HEADER + CHUNK]);
        while self.stdout.is_some() || self.stderr.is_some() {
            tokio::select! {
                length = read(&mut self.stdout, &mut out[HEADER..]), if self.stdout.is_some() => match length {
                    0 => self.stdout = None,
                    length => self.frame(to, false, &mut out, length).await?,
                },
                length = read(&mut self.stderr, &mut err[HEADER..]), if self.stderr.is_some() => match length {
                    0 => self.stderr = None,
                    length => self.frame(to, true, &mut err, length).await?,
                },
                () = silence_after_end(&mut self.ended) => return Ok(()),
            }
        }
        Ok(())
    }

    async fn frame(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        is_stderr: bool,
        buffer: &mut [u8],
        length: usize,
    ) -> io::Result<()> {
        if self.is_raw {
            return to.write_all(&buffer[HEADER..HEADER + length]).await;
        }
        buffer[..HEADER].copy_from_slice(&frame_header(FrameKind::of_output(is_stderr), length));
        to.write_all(&buffer[..HEADER + length]).await
    }

    /// Takes what nobody wants any more, so that the command is not stopped by it.
    pub(super) async fn drain(mut self) {
        self.copy(&mut tokio::io::sink()).await.ok();
    }
}

/// 0 at the end; EIO is how a terminal says that its last user has gone.
async fn read(from: &mut Option<Receiver>, into: &mut [u8]) -> usize {
    match from {
        Some(from) => from.read(into).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn end_of(ended: &mut Option<watch::Receiver<Option<i32>>>) {
    match ended {
        Some(ended) => drop(ended.wait_for(Option::is_some).await),
        None => std::future::pending().await,
    }
}

async fn silence_after_end(ended: &mut Option<watch::Receiver<Option<i32>>>) {
    end_of(ended).await;
    sleep(SILENCE).await;
}

/// How the client's side came to its end.
enum InputEnd {
    /// It has no more to say.
    Closed,
    Detached,
    /// Nobody listens.
    Deaf,
}

async fn copy_input(from: &mut (impl AsyncRead + Unpin), to: &mut Sender, keys: &mut Option<DetachKeys>) -> InputEnd {
    let (mut chunk, mut out) = (vec![0; CHUNK], Vec::new());
    loop {
        let length = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return InputEnd::Closed,
            Ok(length) => length,
        };
        let (bytes, is_detached) = match keys {
            None => (&chunk[..length], false),
            Some(keys) => {
                out.clear();
                let is_detached = keys.filter(&chunk[..length], &mut out);
                (&out[..], is_detached)
            }
        };
        if to.write_all(bytes).await.is_err() {
            return InputEnd::Deaf;
        }
        if is_detached {
            return InputEnd::Detached;
        }
    }
}

/// One client's session on streams that are there.
pub(super) struct Session {
    pub streams: Streams,
    /// Bytes as they are, without frames.
    pub is_raw: bool,
    /// On a terminal only.
    pub keys: Option<DetachKeys>,
    pub ended: Option<watch::Receiver<Option<i32>>>,
}

impl Session {
    /// Until the streams end or the client leaves. `stdin_closed` is called when the client has no more input; what
    /// comes back with [`SessionEnd::Left`] are the outputs nobody reads any more.
    pub(super) async fn run(
        self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        stdin_closed: impl AsyncFnOnce(),
    ) -> (SessionEnd, Outputs) {
        let Self { streams, is_raw, mut keys, ended } = self;
        let mut outputs = Outputs { stdout: streams.stdout, stderr: streams.stderr, is_raw, ended };
        // Who gives input alone, and nobody says when the command ends, is here for as long as there is input.
        let is_input_alone = outputs.are_none() && outputs.ended.is_none();
        let end = {
            let input = async {
                let Some(mut stdin) = streams.stdin else { return InputEnd::Deaf };
                let end = copy_input(from, &mut stdin, &mut keys).await;
                drop(stdin);
                if matches!(end, InputEnd::Closed) {
                    stdin_closed().await;
                }
                end
            };
            let output = outputs.copy(to);
            tokio::pin!(input, output);
            tokio::select! {
                biased;
                copied = &mut output => copied,
                end = &mut input => match end {
                    InputEnd::Detached => Err(io::ErrorKind::ConnectionAborted.into()),
                    InputEnd::Closed | InputEnd::Deaf if is_input_alone => Ok(()),
                    InputEnd::Closed | InputEnd::Deaf => output.await,
                },
            }
        };
        (if end.is_ok() { SessionEnd::Ended } else { SessionEnd::Left }, outputs)
    }
}

/// A copy of a terminal's master, for each direction one.
pub(super) fn copy_of(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use nix::{fcntl::OFlag, unistd::pipe2};

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe")
    }

    #[tokio::test]
    async fn frames_carry_stream_and_length_and_input_ends_once() {
        let (stdin_read, stdin) = pipe();
        let (stdout, stdout_write) = pipe();
        let (stderr, stderr_write) = pipe();
        let streams = Streams::new(Some(stdin), Some(stdout), Some(stderr)).expect("streams");
        let session = Session { streams, is_raw: false, keys: None, ended: None };
        let container = tokio::spawn(async move {
            let mut input = String::new();
            Receiver::from_owned_fd(stdin_read).expect("pipe").read_to_string(&mut input).await.expect("input");
            Sender::from_owned_fd(stdout_write).expect("pipe").write_all(input.as_bytes()).await.expect("out");
            Sender::from_owned_fd(stderr_write).expect("pipe").write_all(b"!").await.expect("err");
        });
        let (mut said, closed) = (Vec::new(), std::cell::Cell::new(0));
        let (end, _) = session.run(&mut &b"hello"[..], &mut said, async || closed.set(closed.get() + 1)).await;
        container.await.expect("container");
        assert_eq!((end, closed.get()), (SessionEnd::Ended, 1));
        let mut frames = [b"\x01\0\0\0\0\0\0\x05hello".to_vec(), b"\x02\0\0\0\0\0\0\x01!".to_vec()];
        if said.first() == Some(&2) {
            frames.reverse();
        }
        assert_eq!(said, frames.concat());
    }

    #[tokio::test]
    async fn who_gives_input_alone_stays_for_as_long_as_there_is_some() {
        let (stdin_read, stdin) = pipe();
        let session = Session {
            streams: Streams::new(Some(stdin), None, None).expect("streams"),
            is_raw: true,
            keys: Some(DetachKeys::parse("ctrl-x").expect("keys")),
            ended: None,
        };
        let (end, _) = session.run(&mut &b"hello\x18more"[..], &mut tokio::io::sink(), async || {}).await;
        let mut input = String::new();
        Receiver::from_owned_fd(stdin_read).expect("pipe").read_to_string(&mut input).await.expect("input");
        assert_eq!((end, input.as_str()), (SessionEnd::Left, "hello"));
    }

    #[tokio::test]
    async fn a_command_that_left_something_behind_has_ended_all_the_same() {
        let (stdout, _held_open) = pipe();
        let streams = Streams::new(None, Some(stdout), None).expect("streams");
        let (_code, ended) = watch::channel(Some(0));
        let session = Session { streams, is_raw: true, keys: None, ended: Some(ended) };
        let mut said = Vec::new();
        let (end, _) = session.run(&mut &b""[..], &mut said, async || {}).await;
        assert_eq!((end, said.len()), (SessionEnd::Ended, 0));
    }
}
