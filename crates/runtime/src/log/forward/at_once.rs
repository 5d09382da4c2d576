//! Lines for the host's syslog or journal, each sent when it comes. A service that is slow or away holds nothing up:
//! nothing here waits longer than [`PATIENCE`], what cannot be sent is left out and counted, and the file has it all
//! the same.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{BETWEEN_COMPLAINTS, Line, cannot_reach, complain, journald, socket::Socket, syslog};
use crate::config::Syslog;

/// For a stream that takes no more, once; then it is given up and tried again later.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// Between two attempts to reach a service that is away.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// Where to.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Syslog(Syslog),
    /// The fields that every entry has.
    Journald(Vec<(String, String)>),
}

pub(in crate::log) struct AtOnce {
    way: Way,
    /// `None` while the service is away.
    socket: Option<Socket>,
    attempt_at: Instant,
    /// Lines left out since somebody was told.
    lost: u64,
    /// When it was last said that the service is away, and whether it was said this time.
    told_at: Option<Instant>,
    is_told: bool,
    message: Vec<u8>,
}

impl AtOnce {
    /// Reaches the service.
    ///
    /// # Errors
    /// When nobody answers there: better now than after a day of lost lines.
    pub(super) fn open(way: Way) -> io::Result<Self> {
        let socket = Some(connect(&way)?);
        Ok(Self {
            way,
            socket,
            attempt_at: Instant::now(),
            lost: 0,
            told_at: None,
            is_told: false,
            message: Vec::new(),
        })
    }

    pub(super) fn send(&mut self, line: Line<'_>) {
        if self.socket.is_none() && Instant::now() >= self.attempt_at {
            self.attempt_at = Instant::now() + BETWEEN_ATTEMPTS;
            self.socket = connect(&self.way).ok();
            if self.socket.is_some() && self.is_told {
                complain(&format!("reached it again; {} lines were left out", self.lost));
                (self.lost, self.is_told) = (0, false);
            }
        }
        let Some(socket) = &mut self.socket else {
            self.lost += 1;
            return;
        };
        self.message.clear();
        match &self.way {
            Way::Syslog(syslog) => syslog::write(&mut self.message, syslog, line, socket.is_stream()),
            Way::Journald(fields) => journald::write(&mut self.message, fields, line),
        }
        match socket.send(&self.message) {
            Ok(()) => {}
            // It is there and busy: this line is left out, the next may pass.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !socket.is_stream() => self.lost += 1,
            Err(error) => {
                let now = Instant::now();
                if self.told_at.is_none_or(|at| now >= at + BETWEEN_COMPLAINTS) {
                    complain(&format!("cannot send: {error}; lines are left out until it is back"));
                    (self.told_at, self.is_told) = (Some(now), true);
                }
                self.lost += 1;
                self.socket = None;
                self.attempt_at = now + BETWEEN_ATTEMPTS;
            }
        }
    }
}

fn connect(way: &Way) -> io::Result<Socket> {
    let (name, socket) = match way {
        Way::Syslog(syslog) => ("syslog", Socket::of_syslog(&syslog.to)),
        Way::Journald(_) => ("journald", Socket::datagram(journald::SOCKET.as_ref())),
    };
    socket.map_err(|error| cannot_reach(name, &error))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, UdpSocket},
        os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    };

    use nix::sys::socket::{Backlog, listen};

    use super::*;
    use crate::{
        config::{SyslogAddress, SyslogFormat},
        log::Stream,
    };

    fn syslog(to: SyslogAddress) -> Way {
        let (tag, hostname) = ("web".to_owned(), "host1".to_owned());
        Way::Syslog(Syslog { to, facility: 3, format: SyslogFormat::Rfc5424, tag, hostname })
    }

    fn line(text: &str) -> Line<'_> {
        Line { stream: Stream::Stdout, text: text.as_bytes(), is_whole: true, at_ns: 1_700_000_000_123_456_789 }
    }

    /// Without the process id, which is the shim's.
    fn without_pid(text: &str) -> String {
        text.replace(&std::process::id().to_string(), "PID")
    }

    #[test]
    fn lines_arrive_by_each_kind_of_socket() {
        let wanted = "<30>1 2023-11-14T22:13:20Z host1 web PID web - hello";
        let mut buffer = [0; 1024];

        let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let to = SyslogAddress::Udp(udp.local_addr().expect("address").to_string());
        AtOnce::open(syslog(to)).expect("open").send(line("hello"));
        let length = udp.recv(&mut buffer).expect("a datagram");
        assert_eq!(without_pid(std::str::from_utf8(&buffer[..length]).expect("text")), wanted);

        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("log");
        let local = UnixDatagram::bind(&path).expect("bind");
        AtOnce::open(syslog(SyslogAddress::Unixgram(path))).expect("open").send(line("hello"));
        let length = local.recv(&mut buffer).expect("a datagram");
        assert_eq!(without_pid(std::str::from_utf8(&buffer[..length]).expect("text")), wanted);

        let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
        let to = SyslogAddress::Tcp(tcp.local_addr().expect("address").to_string());
        let mut forwarder = AtOnce::open(syslog(to)).expect("open");
        (0..2).for_each(|_| forwarder.send(line("hello")));
        drop(forwarder);
        let mut text = String::new();
        tcp.accept().expect("accept").0.read_to_string(&mut text).expect("read");
        assert_eq!(without_pid(&text), format!("{wanted}\n{wanted}\n"));
    }

    /// P27: a service that is away or stuck holds nothing up, and is used again once it is back.
    #[test]
    fn p27_a_service_that_goes_and_comes_back() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("log");
        assert!(AtOnce::open(syslog(SyslogAddress::Unixgram(path.clone()))).is_err(), "nobody is there yet");
        let first = UnixDatagram::bind(&path).expect("bind");
        let mut forwarder = AtOnce::open(syslog(SyslogAddress::Unixgram(path.clone()))).expect("open");
        // More than its queue holds: the rest is left out.
        let begun = Instant::now();
        (0..1000).for_each(|_| forwarder.send(line("hello")));
        assert!(forwarder.lost > 0 && begun.elapsed() < Duration::from_secs(5));
        drop(first);
        std::fs::remove_file(&path).expect("remove");
        (0..1000).for_each(|_| forwarder.send(line("hello")));
        assert!(forwarder.socket.is_none());
        let second = UnixDatagram::bind(&path).expect("bind");
        forwarder.attempt_at = Instant::now();
        forwarder.send(line("again"));
        let mut buffer = [0; 1024];
        let length = second.recv(&mut buffer).expect("a datagram");
        assert!(buffer[..length].ends_with(b"again"));
        assert_eq!(forwarder.lost, 0);
    }

    /// P27: of one that comes and goes all the time it is said once in a while: what is said lies in memory.
    #[test]
    fn p27_what_is_said_is_bounded() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("log");
        let begin = || UnixDatagram::bind(&path).expect("bind");
        let mut service = begin();
        let mut forwarder = AtOnce::open(syslog(SyslogAddress::Unixgram(path.clone()))).expect("open");
        let mut told = Vec::new();
        for _ in 0..3 {
            drop(service);
            std::fs::remove_file(&path).expect("remove");
            forwarder.send(line("hello"));
            told.push((forwarder.is_told, forwarder.lost));
            service = begin();
            forwarder.attempt_at = Instant::now();
            forwarder.send(line("hello"));
        }
        assert_eq!(told, [(true, 1), (false, 1), (false, 2)]);
        assert!(forwarder.socket.is_some());
        drop(service);
    }

    /// P27: a stream that nobody accepts holds nothing up either.
    #[test]
    fn p27_a_service_that_accepts_nobody() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("log");
        let listener = UnixListener::bind(&path).expect("bind");
        listen(&listener, Backlog::new(0).expect("a number")).expect("room for one");
        let first = UnixStream::connect(&path).expect("it waits");
        let begun = Instant::now();
        assert!(AtOnce::open(syslog(SyslogAddress::Unix(path))).is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
        drop(first);
    }
}
