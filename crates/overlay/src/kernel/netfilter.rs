//! The few words of raw netlink that no library here speaks: netfilter's and the sockets'.
//!
//! Every call opens its socket in the namespace the calling thread is in, asks one thing and waits for
//! the answer, which the kernel gives before the call returns.

use std::{io, net::IpAddr};

use rtnetlink::sys::Socket;

/// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
const HEADER: usize = 16;
/// An attribute's type without the marks "nested" and "network byte order".
const TYPE_MASK: u16 = 0x3fff;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN` (linux/netfilter/nfnetlink.h, nf_tables.h).
const GET_GENERATION: u16 = 10 << 8 | 16;
const NFTA_GEN_ID: u16 = 1;
/// Around the messages of one transaction of nftables (linux/netfilter/nfnetlink.h).
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;

/// Sends one request and collects the bodies of the answers.
pub fn ask(protocol: isize, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.send(&message(kind, flags, body)?, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while let Some((kind, body, after)) = split_message(rest) {
            match kind {
                NLMSG_DONE => return Ok(answers),
                NLMSG_ERROR => return error_of(body).map(|()| answers),
                _ => answers.push(body.to_vec()),
            }
            rest = after;
        }
        if flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
            return Ok(answers);
        }
    }
}

/// One transaction of nftables, each change with its type, flags and body: all of them, or none.
pub fn batch(changes: &[(u16, u16, Vec<u8>)]) -> io::Result<()> {
    let mut socket = Socket::new(libc::NETLINK_NETFILTER as isize)?;
    socket.bind_auto()?;
    // `struct nfgenmsg`, whose resource is the subsystem.
    let edge = [&[0, 0][..], &NFTABLES.to_be_bytes()].concat();
    let mut sent = message(BATCH_BEGIN, 0, &edge)?;
    for (kind, flags, body) in changes {
        sent.extend(message(*kind, NLM_F_ACK | flags, body)?);
    }
    sent.extend(message(BATCH_END, 0, &edge)?);
    socket.send(&sent, 0)?;
    let mut answered = 0;
    while answered < changes.len() {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while let Some((kind, body, after)) = split_message(rest) {
            if kind == NLMSG_ERROR {
                error_of(body)?;
                answered += 1;
            }
            rest = after;
        }
    }
    Ok(())
}

fn message(kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = HEADER + body.len();
    let mut message = u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence and port: a conversation on a socket of its own needs neither.
    message.extend([0; 8]);
    message.extend(body);
    message.resize(length.next_multiple_of(4), 0);
    Ok(message)
}

fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn error_of(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk::<4>().map_or(-libc::EBADMSG, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

/// Attributes: type and content, one after the other; ends at the first that is not whole.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let content = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// The content of the attribute of this type.
pub fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, content)| content)
}

/// A nested attribute with this content.
pub fn nested(kind: u16, content: &[u8]) -> io::Result<Vec<u8>> {
    const NESTED: u16 = 0x8000;
    plain(kind | NESTED, content)
}

/// An attribute with this content.
pub fn plain(kind: u16, content: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(4 + content.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

/// `struct nfgenmsg`: what each body begins with.
pub fn generic_header(family: i32) -> [u8; 4] {
    [u8::try_from(family).unwrap_or(0), 0, 0, 0]
}

/// The number of the ruleset of the namespace the calling thread is in; each change raises it by one.
pub fn ruleset_generation() -> io::Result<u32> {
    let body = generic_header(libc::AF_UNSPEC);
    let answers = ask(libc::NETLINK_NETFILTER as isize, GET_GENERATION, 0, &body)?;
    let found = answers.first().and_then(|answer| answer.get(4..)).and_then(|rest| attribute(rest, NFTA_GEN_ID));
    let bytes = found.and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// An address as it stands in attributes.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
