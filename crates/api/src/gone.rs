//! Whether a client that is only read to is still there.
//!
//! A client may end its half of a connection and wait for the answer. On unix sockets the kernel tells that from one who has
//! closed altogether (EPOLLHUP, epoll_ctl(2)). On TCP both send the same (EPOLLRDHUP): there who says no more is taken for
//! gone, as other servers of this API take him. That counts only for what is read to him without end ([`crate::server`]).

use std::{future::pending, io, os::fd::AsFd as _};

use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// One connection's other end.
#[derive(Default)]
pub(crate) enum Gone {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// Without a file descriptor to spare nobody is watched.
    #[default]
    Unseen,
}

impl Gone {
    pub(crate) fn of_unix(stream: &UnixStream) -> Self {
        let own = stream.as_fd().try_clone_to_owned();
        own.and_then(|fd| UnixStream::from_std(fd.into())).map_or(Self::Unseen, Self::Unix)
    }

    pub(crate) fn of_tcp(stream: &TcpStream) -> Self {
        let own = stream.as_fd().try_clone_to_owned();
        own.and_then(|fd| TcpStream::from_std(fd.into())).map_or(Self::Unseen, Self::Tcp)
    }

    /// Until the client is gone; for ever where that cannot be seen.
    pub(crate) async fn wait(&self) {
        loop {
            match self.changed().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => return pending().await,
            }
        }
    }

    /// Waits for news of the client, and tells whether it is gone.
    async fn changed(&self) -> io::Result<bool> {
        // A try that fails asks to be woken by the next change alone: as a rule one can write, and what was sent is not read.
        let again = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
        let (is_gone, _) = match self {
            Self::Unix(stream) => {
                let ready = stream.ready(Interest::WRITABLE).await?;
                (ready.is_write_closed(), stream.try_io(Interest::WRITABLE, again))
            }
            Self::Tcp(stream) => {
                let ready = stream.ready(Interest::READABLE).await?;
                (ready.is_read_closed(), stream.try_io(Interest::READABLE, again))
            }
            Self::Unseen => pending().await,
        };
        Ok(is_gone)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::Shutdown, time::Duration};

    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    /// P35
    #[tokio::test]
    async fn p35_only_who_has_closed_altogether_is_gone() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let gone = Gone::of_unix(&UnixStream::from_std(ours).expect("a stream"));
        let within = |time| timeout(Duration::from_millis(time), gone.wait());
        within(50).await.expect_err("it is there");
        theirs.shutdown(Shutdown::Write).expect("half closed");
        within(50).await.expect_err("it waits for the answer");
        drop(theirs);
        within(10_000).await.expect("it is gone");
    }

    /// P35: on TCP words that nobody has read yet say nothing, their end does.
    #[tokio::test]
    async fn p35_on_tcp_who_says_no_more_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let mut theirs = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (ours, _) = listener.accept().await.expect("accepted");
        let gone = Gone::of_tcp(&ours);
        let within = |time| timeout(Duration::from_millis(time), gone.wait());
        within(50).await.expect_err("it is there");
        theirs.write_all(b"more").expect("sent");
        within(50).await.expect_err("it is there and speaks");
        theirs.shutdown(Shutdown::Write).expect("half closed");
        within(10_000).await.expect("it says no more");
    }
}
