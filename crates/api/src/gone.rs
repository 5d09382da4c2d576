//! Whether a client on the unix socket is still there.
//!
//! A client may end its half of a connection and wait for the answer, so the end of what it sends says nothing. Only
//! the kernel tells the two apart, and on unix sockets alone (EPOLLHUP, epoll_ctl(2)); on TCP it shows at the next write.

use std::{future::pending, io, os::fd::AsFd as _};

use tokio::{io::Interest, net::UnixStream};

/// One connection's other end.
#[derive(Default)]
pub(crate) struct Gone(Option<UnixStream>);

impl Gone {
    /// Without a file descriptor to spare nobody is watched.
    pub(crate) fn of(stream: &UnixStream) -> Self {
        let own = stream.as_fd().try_clone_to_owned();
        Self(own.and_then(|fd| UnixStream::from_std(fd.into())).ok())
    }

    /// Until the client has closed its end altogether; for ever where that cannot be seen.
    pub(crate) async fn wait(&self) {
        let Some(stream) = &self.0 else { return pending().await };
        loop {
            match stream.ready(Interest::WRITABLE).await {
                Ok(ready) if ready.is_write_closed() => return,
                // Asks to be woken by the next change alone: as a rule one can write.
                Ok(_) => drop(stream.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()))),
                Err(_) => return pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Shutdown, time::Duration};

    use super::*;

    /// P35
    #[tokio::test]
    async fn p35_only_who_has_closed_altogether_is_gone() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let gone = Gone::of(&UnixStream::from_std(ours).expect("a stream"));
        let within = |time| tokio::time::timeout(Duration::from_millis(time), gone.wait());
        within(50).await.expect_err("it is there");
        theirs.shutdown(Shutdown::Write).expect("half closed");
        within(50).await.expect_err("it waits for the answer");
        drop(theirs);
        within(10_000).await.expect("it is gone");
    }
}
