//! The library's side of a shim's socket. One connection per request, so that a long wait holds
//! nothing else up.

use std::{fs::File, io, os::fd::AsRawFd, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::protocol::{self, Request, Response};

/// Asks the shim of the container whose directory this is. `NotFound`, `ConnectionRefused` and
/// `UnexpectedEof` mean that there is no shim, or none any more.
pub(crate) async fn call(dir: &Path, request: &Request) -> io::Result<Response> {
    // A socket's path may not be long: reach it through a descriptor of its directory.
    let dir = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), protocol::SOCKET);
    let mut stream = UnixStream::connect(path).await?;
    drop(dir);
    stream.write_all(&protocol::frame(request)).await?;
    read_message(&mut stream).await
}

/// Reads one message, as the shim answers and as it reports the creation.
pub(crate) async fn read_message<T, R>(from: &mut R) -> io::Result<T>
where
    T: for<'a> serde::Deserialize<'a>,
    R: tokio::io::AsyncRead + Unpin,
{
    let mut received = Vec::new();
    loop {
        match protocol::unframe(&received) {
            Ok(Some((message, _))) => return Ok(message),
            Ok(None) => {}
            Err(problem) => return Err(io::Error::new(io::ErrorKind::InvalidData, problem)),
        }
        if from.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Whether an error of [`call`] says that nobody is there.
pub(crate) fn is_gone(err: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(err.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof)
}
