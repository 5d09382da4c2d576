//! One connection: the client's, the one to a backend, the header, and then bytes both ways.

use std::{io, net::SocketAddr, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{Onward, header::header};
use crate::{kernel::begun, mesh::relay_mark};

/// Bytes under way, each direction. Who reads slowly holds up who writes: nothing else is kept.
const BUFFER: usize = 16 << 10;
/// For a backend to accept. One on a host that died is taken out of the rules within a second; then the kernel's next attempt
/// goes elsewhere, and fits in here.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);
/// The rules choose anew each time.
const ATTEMPTS: usize = 3;
/// A peer that is gone without a word is noticed after two minutes, by these (seconds, and how often).
const KEEPALIVE: (u32, u32, u32) = (60, 10, 6);

/// Carries the connection to its end. An error of one side is the other's too: both get a reset.
pub async fn serve(mut client: TcpStream, onward: Onward) -> io::Result<()> {
    let carried = carry(&mut client, onward).await;
    if carried.is_err() {
        reset_at_end(&client);
    }
    carried
}

async fn carry(client: &mut TcpStream, onward: Onward) -> io::Result<()> {
    let [from, to] = begun(libc::IPPROTO_TCP, client.peer_addr()?, client.local_addr()?)?;
    prepare(client)?;
    let (mark, first) = match onward {
        Onward::WithHeader => (Some(relay_mark(from.ip())), header(from, to)),
        Onward::OverIpv4 | Onward::PastLoopback => (None, Vec::new()),
    };
    let mut backend = connect(mark, onward.again(to)?).await?;
    let carried = match backend.write_all(&first).await {
        Ok(()) => copy_bidirectional_with_sizes(client, &mut backend, BUFFER, BUFFER).await.map(drop),
        Err(error) => Err(error),
    };
    if carried.is_err() {
        reset_at_end(&backend);
    }
    carried
}

/// By the published port itself, as any program of this host would: the rules know backends, weights and who drains.
/// The mark tells them that the header is there, and whose connection it is.
async fn connect(mark: Option<u32>, to: SocketAddr) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..ATTEMPTS {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(mark) = mark {
            setsockopt(&socket, sockopt::Mark, &mark)?;
        }
        match timeout(CONNECTS_WITHIN, socket.connect(to)).await {
            Ok(Ok(stream)) => return prepare(&stream).map(|()| stream),
            Ok(Err(error)) => failed = error,
            Err(_) => {}
        }
    }
    Err(failed)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    let (idle, between, count) = KEEPALIVE;
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &between)?;
    Ok(setsockopt(stream, sockopt::TcpKeepCount, &count)?)
}

/// When it is closed, its peer hears a reset. A socket that does not take the wish is closed politely.
fn reset_at_end(stream: &TcpStream) {
    let _ = setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}
