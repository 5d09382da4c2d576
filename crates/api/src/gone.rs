//! Whether a client on the unix socket is still there.
//!
//! A client may end its half of a connection and wait for the answer, so the end of what it sends says nothing. Only
//! the kernel tells the two apart, and on unix sockets alone (EPOLLHUP, epoll_ctl(2)); on TCP it shows at the next write.

use std::{
    future::pending,
    os::fd::{AsFd as _, OwnedFd},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixStream,
};

/// One connection's other end.
#[derive(Default)]
pub(crate) struct Gone(Option<AsyncFd<OwnedFd>>);

impl Gone {
    /// Without a file descriptor to spare nobody is watched.
    pub(crate) fn of(stream: &UnixStream) -> Self {
        let own = stream.as_fd().try_clone_to_owned();
        Self(own.and_then(|fd| AsyncFd::with_interest(fd, Interest::WRITABLE)).ok())
    }

    /// Until the client has closed its end altogether; for ever where that cannot be seen.
    pub(crate) async fn wait(&self) {
        let Some(fd) = &self.0 else { return pending().await };
        loop {
            match fd.writable().await {
                Ok(guard) if guard.ready().is_write_closed() => return,
                Ok(mut guard) => guard.clear_ready(),
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
