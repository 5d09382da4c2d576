//! Brings a container's lines to a log server behind a network. Nothing here waits, but for the start of the container and
//! its end: what the server does not take now stays in the backlog, and the shim comes back when there is room
//! ([`Courier::poll_fd`]) or something is due ([`Courier::deadline`]).
//!
//! A server that is away is tried again, less and less often. Meanwhile the backlog fills; then, where the driver's mode
//! is `blocking`, the container waits with its output, and after [`PATIENCE`] goes on all the same. Docker lets it stand
//! still until the server is back, which makes of a lost log server an outage of everything.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    BETWEEN_COMPLAINTS, Line,
    backlog::{Backlog, Names},
    cannot_reach, complain, fluentd, gelf,
    wire::{Target, Wire},
};
use crate::config::{Fluentd, FluentdAddress, Gelf, GelfTransport, LogQueue};

/// How long a container whose lines have no room waits for a server that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection on which nothing has moved for so long is as good as none.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Between two attempts, at most; as fluent-logger has it.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// After the end of the container: altogether, as Docker waits for its drivers, and while nothing is taken.
const FAREWELL_MAX: Duration = Duration::from_secs(10);
const FAREWELL_STALL: Duration = Duration::from_secs(2);
/// Of what a server says, so that one that never stops talking keeps nobody out.
const READS_PER_TURN: usize = 16;

enum Form {
    Gelf(gelf::Form),
    Fluentd { form: fluentd::Form, request_ack: bool },
}

pub(in crate::log) struct Courier {
    target: Target,
    form: Form,
    pub(super) backlog: Backlog,
    /// `None` while there is nothing to send, or nobody to send to.
    wire: Option<Wire>,
    /// The message of the first line that is not sent, empty if it has not been begun, and how much of it is sent.
    message: Vec<u8>,
    written: usize,
    /// What lines were called that are sent and not acknowledged, the first of the backlog; and of the message.
    awaited: VecDeque<String>,
    chunk: String,
    /// Said by the server, and not whole.
    heard: Vec<u8>,
    names: Names,
    first_wait: Duration,
    attempts: Option<u32>,
    reconnect_every: Option<Duration>,
    stalled_after: Duration,
    failures: u32,
    attempt_at: Instant,
    connected_at: Instant,
    /// When a line was last taken, or since when the first one waits.
    taken_at: Instant,
    /// Since the connection is there.
    has_taken: bool,
    /// It was said that the server is away.
    is_away: bool,
    /// The last attempt failed after a wait for a name server, which the end of the container shall not wait for again.
    looks_up_slowly: bool,
    complained_at: Option<Instant>,
}

impl Courier {
    /// # Errors
    /// When the server's name is not known, or nobody answers by TCP.
    pub(super) fn of_gelf(gelf: &Gelf) -> io::Result<Self> {
        let target = match gelf.transport {
            GelfTransport::Udp { .. } => Target::Udp(gelf.address.clone(), gelf::DATAGRAM),
            GelfTransport::Tcp => Target::Tcp(gelf.address.clone()),
        };
        let mut new = Self::new(target, Form::Gelf(gelf::Form::new(gelf)), &gelf.queue);
        new.wire = Some(new.target.reach().map_err(|error| cannot_reach("gelf", &error))?);
        Ok(new)
    }

    /// # Errors
    /// When nobody answers, and the container shall not start without.
    pub(super) fn of_fluentd(fluentd: &Fluentd) -> io::Result<Self> {
        let target = match &fluentd.to {
            FluentdAddress::Tcp(address) => Target::Tcp(address.clone()),
            FluentdAddress::Unix(path) => Target::Unix(path.clone()),
        };
        let form = Form::Fluentd { form: fluentd::Form::new(fluentd), request_ack: fluentd.request_ack };
        let mut new = Self::new(target, form, &fluentd.queue);
        new.reconnect_every = fluentd.reconnect_every_ms.map(bounded);
        new.stalled_after = fluentd.write_timeout_ms.map_or(STALLED_AFTER, bounded);
        if !fluentd.is_async {
            new.wire = Some(new.target.reach().map_err(|error| cannot_reach("fluentd", &error))?);
        }
        Ok(new)
    }

    fn new(target: Target, form: Form, queue: &LogQueue) -> Self {
        let now = Instant::now();
        Self {
            target,
            form,
            backlog: Backlog::new(queue),
            wire: None,
            message: Vec::new(),
            written: 0,
            awaited: VecDeque::new(),
            chunk: String::new(),
            heard: Vec::new(),
            names: Names::default(),
            first_wait: bounded(queue.first_wait_ms),
            attempts: queue.attempts,
            reconnect_every: None,
            stalled_after: STALLED_AFTER,
            failures: 0,
            attempt_at: now,
            connected_at: now,
            taken_at: now,
            has_taken: false,
            is_away: false,
            looks_up_slowly: false,
            complained_at: None,
        }
    }

    pub(super) fn add(&mut self, line: Line<'_>) {
        if matches!(self.form, Form::Gelf(_)) && !gelf::Form::says(line.text) {
            return;
        }
        if self.backlog.is_empty() {
            self.taken_at = Instant::now();
        }
        self.backlog.add(line);
    }

    /// Whether the container has to wait.
    pub(super) fn is_behind(&self) -> bool {
        self.backlog.holds_up()
    }

    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let wire = self.wire.as_ref()?;
        let mut events = PollFlags::empty();
        // a stream also says that it has ended
        events.set(PollFlags::POLLIN, !wire.is_datagram());
        events.set(PollFlags::POLLOUT, self.backlog.len() > self.awaited.len());
        (!events.is_empty()).then(|| PollFd::new(wire.as_fd(), events))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.backlog.is_empty() {
            return None;
        }
        let due = if self.wire.is_some() { self.stalls_at() } else { self.attempt_at };
        Some(if self.is_behind() { due.min(self.taken_at + PATIENCE) } else { due })
    }

    fn stalls_at(&self) -> Instant {
        self.taken_at.max(self.connected_at) + self.stalled_after
    }

    /// Sends what the server takes now.
    pub(super) fn go_on(&mut self, now: Instant) {
        let is_old =
            |every: Duration| now >= self.connected_at + every && self.message.is_empty() && self.awaited.is_empty();
        if self.reconnect_every.is_some_and(is_old) {
            self.wire = None;
        }
        while self.wire.is_some() || self.connect(now) {
            match self.exchange(now) {
                Ok(()) => break,
                Err(error) => self.lose(&error, now),
            }
        }
        if self.is_behind() && now >= self.taken_at + PATIENCE {
            self.backlog.leaves_out = true;
            if self.may_complain(now) {
                let text = format!("{} takes no lines and no more of them can wait; they are left out", self.target);
                self.complain(now, &text);
            }
        }
    }

    /// Begins a connection when there is something to send and it is time.
    fn connect(&mut self, now: Instant) -> bool {
        if self.backlog.is_empty() || now < self.attempt_at {
            return false;
        }
        match self.target.begin(self.failures) {
            Ok(wire) => {
                (self.wire, self.connected_at, self.has_taken) = (Some(wire), now, false);
                true
            }
            Err(error) => {
                self.fail(&error, now);
                false
            }
        }
    }

    /// The connection has broken: what was sent on it and not acknowledged is sent again.
    fn lose(&mut self, error: &io::Error, now: Instant) {
        self.wire = None;
        self.message.clear();
        self.awaited.clear();
        self.heard.clear();
        let was_good = self.has_taken && now >= self.connected_at + self.first_wait;
        if was_good || self.backlog.is_empty() {
            // the next may be as good
            (self.failures, self.attempt_at) = (0, now);
        } else {
            self.fail(error, now);
        }
    }

    /// `now`: when the attempt began.
    fn fail(&mut self, error: &io::Error, now: Instant) {
        let wait = self.first_wait.mul_f64(1.5_f64.powi(i32::try_from(self.failures.min(20)).unwrap_or(20)));
        // a name server that does not answer must not take more than a tenth of our time, which is the container's
        let looked_up_for = now.elapsed();
        self.looks_up_slowly = looked_up_for >= FAREWELL_STALL;
        self.attempt_at = now + looked_up_for + wait.min(WAIT_MAX.max(self.first_wait)).max(looked_up_for * 10);
        self.failures += 1;
        if !self.is_away && self.may_complain(now) {
            self.is_away = true;
            self.complain(now, &format!("{} cannot be reached: {error}; lines wait for it", self.target));
        }
        if self.attempts.is_some_and(|most| self.failures >= most.max(1)) {
            self.failures = 0;
            self.backlog.give_up();
        }
    }

    fn exchange(&mut self, now: Instant) -> io::Result<()> {
        self.hear(now)?;
        while self.begin_message() {
            let wire = self.wire.as_mut().expect("only called with a connection");
            match wire.write(&self.message[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => self.wrote(length, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.backlog.is_empty() {
            self.message = Vec::new();
        } else if now >= self.stalls_at() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing has moved for too long"));
        }
        Ok(())
    }

    /// False if nothing is left to send.
    fn begin_message(&mut self) -> bool {
        while self.message.is_empty() {
            let Some(line) = self.backlog.get(self.awaited.len()) else { return false };
            self.written = 0;
            let fits = match &mut self.form {
                Form::Gelf(form) => form.write(&mut self.message, line),
                Form::Fluentd { form, request_ack } => {
                    self.chunk = if *request_ack { self.names.long() } else { String::new() };
                    form.write(&mut self.message, line, request_ack.then_some(self.chunk.as_str()));
                    true
                }
            };
            if !fits {
                self.message.clear();
                self.backlog.leave_out(self.awaited.len());
            }
        }
        true
    }

    fn wrote(&mut self, length: usize, now: Instant) {
        self.written += length;
        if self.awaited.is_empty() {
            self.taken_at = now;
        }
        if self.written < self.message.len() {
            return;
        }
        self.message.clear();
        if self.chunk.is_empty() {
            self.arrived(0, now);
        } else {
            self.awaited.push_back(std::mem::take(&mut self.chunk));
        }
    }

    fn arrived(&mut self, index: usize, now: Instant) {
        self.backlog.remove(index);
        (self.taken_at, self.has_taken) = (now, true);
        let has_lost = self.backlog.lost > 0 && !self.backlog.leaves_out;
        if self.is_away || (has_lost && self.may_complain(now)) {
            let lost = std::mem::take(&mut self.backlog.lost);
            self.complain(now, &format!("{} takes lines; {lost} were left out before", self.target));
            self.is_away = false;
        }
    }

    /// What the server says: what it has, or that it goes.
    fn hear(&mut self, now: Instant) -> io::Result<()> {
        let mut chunk = [0_u8; 512];
        for _ in 0..READS_PER_TURN {
            let wire = self.wire.as_mut().expect("only called with a connection");
            match wire.read(&mut chunk) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has closed the connection")),
                // nobody asked
                Ok(_) if self.awaited.is_empty() => {}
                Ok(length) => {
                    self.heard.extend_from_slice(&chunk[..length]);
                    self.take_acknowledgements(now)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_acknowledgements(&mut self, now: Instant) -> io::Result<()> {
        while let Some((name, length)) = fluentd::acknowledged(&self.heard) {
            let index = self.awaited.iter().position(|awaited| awaited == name);
            self.heard.drain(..length);
            if let Some(index) = index {
                self.awaited.remove(index);
                self.arrived(index, now);
            }
        }
        if self.heard.len() > fluentd::ACK_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what it says is no acknowledgement"));
        }
        Ok(())
    }

    /// The container has ended: stays for what waits, as long as it is taken.
    pub(super) fn finish(&mut self) {
        let ended_at = Instant::now();
        if !self.looks_up_slowly {
            self.attempt_at = ended_at; // once more, whenever the next attempt would have been
        }
        loop {
            let now = Instant::now();
            self.go_on(now);
            let until = (ended_at + FAREWELL_MAX).min(self.taken_at.max(ended_at) + FAREWELL_STALL);
            let left = until.saturating_duration_since(now);
            if self.backlog.is_empty() || left.is_zero() {
                break;
            }
            match self.poll_fd() {
                Some(fd) => {
                    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                    poll(&mut [fd], timeout).ok();
                }
                None => std::thread::sleep(left.min(self.attempt_at.saturating_duration_since(now))),
            }
        }
        self.backlog.give_up();
        let lost = std::mem::take(&mut self.backlog.lost);
        if lost > 0 {
            complain(&format!("the container has ended; {lost} of its lines have not reached {}", self.target));
        }
    }

    /// What may not be said now is counted, and told with the next.
    fn may_complain(&self, now: Instant) -> bool {
        self.complained_at.is_none_or(|at| now >= at + BETWEEN_COMPLAINTS)
    }

    fn complain(&mut self, now: Instant, what: &str) {
        self.complained_at = Some(now);
        complain(what);
    }
}

/// Of what a user gave: neither so short that it keeps us busy, nor beyond what a clock can count.
fn bounded(ms: u64) -> Duration {
    Duration::from_millis(ms.clamp(100, 3_600_000))
}
