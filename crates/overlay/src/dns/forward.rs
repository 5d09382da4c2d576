//! Asks nameservers, from the host's namespace, what the endpoint's networks do not know.
//!
//! Called by `serve` with a permit for each question. Every question gets a socket, a port and an id of
//! its own, so an answer cannot be guessed from another one; nothing is kept for the next.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    message::{Request, Transport, with_id},
    metrics::{Metrics, count},
};

/// For each server (N-17).
const SERVER_TIMEOUT: Duration = Duration::from_secs(4);
/// The largest message there is: what a server sends by UDP, however large, is not cut on the way in.
const LARGEST: usize = u16::MAX as usize;
/// Messages that do not fit the question, after which this server is given up: somebody is guessing.
const MAX_FORGED: usize = 64;
/// SERVFAIL and REFUSED: this server cannot say, another may.
const CANNOT_SAY: [u8; 2] = [2, 5];

/// The first usable answer, ready to be sent to the asker; None when no server gave any.
pub async fn forward(
    bytes: &[u8],
    request: &Request,
    transport: Transport,
    servers: &[SocketAddr],
    metrics: &Metrics,
) -> Option<Vec<u8>> {
    let mut second_best = None;
    for server in servers {
        let asked = timeout(SERVER_TIMEOUT, ask(bytes, request, transport, *server, metrics)).await;
        match asked {
            Ok(Ok((answer, code))) if !CANNOT_SAY.contains(&code) => return original_id(bytes, &answer),
            Ok(Ok((answer, _))) => second_best = second_best.or(Some(answer)),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a nameserver cannot be asked"),
            Err(_) => tracing::debug!(%server, "a nameserver does not answer"),
        }
    }
    original_id(bytes, &second_best?)
}

fn original_id(question: &[u8], answer: &[u8]) -> Option<Vec<u8>> {
    with_id(answer, u16::from_be_bytes([*question.first()?, *question.get(1)?]))
}

/// By UDP first, like everybody; by TCP when that was cut short and the asker can take the whole.
async fn ask(
    bytes: &[u8],
    request: &Request,
    transport: Transport,
    server: SocketAddr,
    metrics: &Metrics,
) -> io::Result<(Vec<u8>, u8)> {
    let id = random_id();
    let question = with_id(bytes, id).ok_or(io::ErrorKind::InvalidInput)?;
    let (answer, foreign) = by_udp(&question, request, id, server, metrics).await?;
    if !foreign.truncated || transport == Transport::Udp {
        return Ok((answer, foreign.code));
    }
    let answer = by_tcp(&question, server).await?;
    match request.judge(&answer, id) {
        Some(foreign) => Ok((answer, foreign.code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn by_udp(
    question: &[u8],
    request: &Request,
    id: u16,
    server: SocketAddr,
    metrics: &Metrics,
) -> io::Result<(Vec<u8>, super::message::Foreign)> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    // Connected: the kernel passes on only what this server sends, and tells when nobody listens there.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; LARGEST];
    for _ in 0..MAX_FORGED {
        let length = socket.recv(&mut buffer).await?;
        if let Some(foreign) = request.judge(&buffer[..length], id) {
            buffer.truncate(length);
            return Ok((buffer, foreign));
        }
        count(&metrics.forged);
    }
    Err(io::ErrorKind::InvalidData.into())
}

async fn by_tcp(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, question).await?;
    read_message(&mut stream).await
}

/// A message after its length, as DNS travels in a stream.
pub async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Length and message in one segment: some readers expect that.
pub async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

fn random_id() -> u16 {
    u16::from_be_bytes(random())
}

/// Unguessable bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel's random numbers are always there once it has booted");
    bytes
}
