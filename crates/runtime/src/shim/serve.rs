//! The shim's life after the container exists: one poll loop over its output, its end, and the
//! daemon's requests. Whatever a container or a daemon does, no branch of it waits for long.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
    unistd::{Pid, read},
};

use super::{
    Failure,
    audience::Audience,
    embedded, external, fds,
    reap::{ChildSignal, End, reap_all_but, wait_for},
    stdio::Ours,
};
use crate::{
    cgroup::CgroupLayout,
    config::OciRuntime,
    log::{LogWriter, Splitter, Stream},
    process::Process,
    protocol::{self, Request, Response},
    record::{ContainerDir, ExitReason, ExitStatus, InitFile, Record},
    time,
};

/// One read from the container's output. A pipe holds four of these.
const CHUNK: usize = 16 * 1024;

/// Reads per output and turn, so that a container that never stops talking cannot keep the daemon out.
const READS_PER_TURN: usize = 16;

/// The daemon holds one connection per waiter and opens one per request; more are refused.
const CLIENTS_MAX: usize = 64;

/// After the end of the container, how long its output may stay open: some process outside its pid
/// namespace may have inherited it.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How long after its start a container's first process may take to say what it does with a signal.
const SETTLED_WITHIN: Duration = Duration::from_millis(50);

struct Output {
    stream: Stream,
    fd: OwnedFd,
    splitter: Splitter,
}

struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    /// Came with its request, for its answer.
    fds: Vec<OwnedFd>,
    waiting: bool,
}

pub(super) struct Shim {
    dir: ContainerDir,
    record: Record,
    init: Process,
    started_at_ns: u64,
    began: Option<Beginning>,
    listener: UnixListener,
    children: ChildSignal,
    outputs: Vec<Output>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    log: LogWriter,
    clients: Vec<Client>,
    audience: Audience,
}

/// When the first process was let go.
struct Beginning {
    at: Instant,
    /// What it executed before: the container's program comes in its place.
    runtime: Option<PathBuf>,
}

/// What a request is answered with.
enum Answer {
    Now(Response),
    /// With a descriptor for the client.
    With(Response, OwnedFd),
    /// When the container has ended.
    AtTheEnd,
}

impl Shim {
    pub(super) fn new(
        dir: ContainerDir,
        record: Record,
        init: Process,
        listener: UnixListener,
        children: ChildSignal,
        ours: Ours,
        log: LogWriter,
    ) -> Self {
        let output = |(stream, fd)| Output { stream, fd, splitter: Splitter::default() };
        Self {
            dir,
            record,
            init,
            started_at_ns: 0,
            began: None,
            listener,
            children,
            outputs: ours.outputs.into_iter().map(output).collect(),
            stdin: ours.stdin,
            terminal: ours.terminal,
            log,
            clients: Vec::new(),
            audience: Audience::default(),
        }
    }

    pub(super) fn init_pid(&self) -> i32 {
        self.init.pid
    }

    /// Until the container has ended and everybody who asked has been told.
    pub(super) fn run(mut self) -> io::Result<()> {
        // It may have ended before its signal could be seen.
        let mut end = reap_all_but(self.pid());
        while end.is_none() {
            self.turn()?;
            end = reap_all_but(self.pid());
        }
        let finished_at_ns = time::now_ns();
        self.finish(end.expect("the loop ends when there is an end"), finished_at_ns)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.init.pid)
    }

    fn turn(&mut self) -> io::Result<()> {
        let ready = self.wait_for_events()?;
        if ready.children {
            self.children.clear();
        }
        self.audience.catch_up(&ready.listeners, Instant::now());
        self.pump(&ready.outputs, true);
        self.log.flush();
        for index in ready.clients.iter().rev() {
            self.serve(*index);
        }
        if ready.listener {
            self.accept();
        }
        Ok(())
    }

    fn wait_for_events(&self) -> io::Result<Ready> {
        let deadline = [self.audience.deadline(), self.log.deadline()].into_iter().flatten().min();
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, so that the deadline has passed when the time is over.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let entry = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> = vec![entry(self.children.fd()), entry(self.listener.as_fd())];
        // An output that somebody has to catch up with waits in its pipe.
        let is_open = |index: &usize| !self.log.is_behind() && !self.audience.is_behind(self.outputs[*index].stream);
        let open: Vec<usize> = (0..self.outputs.len()).filter(is_open).collect();
        fds.extend(open.iter().map(|index| entry(self.outputs[*index].fd.as_fd())));
        fds.extend(self.clients.iter().map(|client| entry(client.stream.as_fd())));
        let before_listeners = fds.len();
        fds.extend(self.audience.poll_fds());
        let before_log = fds.len();
        // whatever it says, each turn goes on with it
        fds.extend(self.log.poll_fd());
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let (outputs, clients) = ready[2..before_listeners].split_at(open.len());
        let listeners = &ready[before_listeners..before_log];
        let indices = |flags: &[bool]| (0..flags.len()).filter(|index| flags[*index]).collect::<Vec<usize>>();
        Ok(Ready {
            children: ready[0],
            listener: ready[1],
            outputs: indices(outputs).into_iter().map(|index| open[index]).collect(),
            clients: indices(clients),
            listeners: listeners.to_vec(),
        })
    }

    /// Reads what the given outputs have to say; forgets those that have ended.
    fn pump(&mut self, ready: &[usize], is_patient: bool) {
        let mut ended = Vec::new();
        for index in ready {
            let output = &mut self.outputs[*index];
            if read_output(output, &mut self.log, &mut self.audience, is_patient).is_break() {
                ended.push(*index);
            }
        }
        for index in ended.into_iter().rev() {
            let mut output = self.outputs.remove(index);
            output.splitter.finish(|text, newline| self.log.entry(output.stream, text, newline));
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() < CLIENTS_MAX && stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client { stream, received: Vec::new(), fds: Vec::new(), waiting: false });
            }
        }
    }

    /// Answers what a client has asked. A client that is gone or talks nonsense is forgotten.
    fn serve(&mut self, index: usize) {
        let keep = receive(&mut self.clients[index]);
        loop {
            match protocol::unframe::<Request>(&self.clients[index].received) {
                Ok(Some((request, taken))) => {
                    self.clients[index].received.drain(..taken);
                    if !self.answer(index, &request) {
                        self.clients.swap_remove(index);
                        return;
                    }
                }
                Ok(None) if keep => return,
                Ok(None) | Err(_) => {
                    self.clients.swap_remove(index);
                    return;
                }
            }
        }
    }

    fn answer(&mut self, index: usize, request: &Request) -> bool {
        let given = std::mem::take(&mut self.clients[index].fds);
        let answer = self.perform(request, given).unwrap_or_else(|failure| Answer::Now(Response::Failed(failure)));
        let client = &mut self.clients[index];
        match answer {
            Answer::Now(response) => send(&client.stream, &response),
            Answer::With(response, fd) => {
                fds::send(client.stream.as_fd(), &protocol::frame(&response), &[fd.as_fd()]).is_ok()
            }
            Answer::AtTheEnd => {
                client.waiting = true;
                true
            }
        }
    }

    fn perform(&mut self, request: &Request, given: Vec<OwnedFd>) -> Result<Answer, Failure> {
        match *request {
            Request::Wait => return Ok(Answer::AtTheEnd),
            Request::Start => self.start()?,
            Request::Signal { number, all } => self.signal(number, all)?,
            Request::Pause => self.freeze(true)?,
            Request::Unpause => self.freeze(false)?,
            Request::Resize { rows, columns } => {
                let terminal = self.terminal.as_ref().ok_or("the container has no terminal")?;
                crate::terminal::resize(terminal.as_fd(), rows, columns)
                    .map_err(|err| format!("cannot resize the terminal: {err}"))?;
            }
            Request::Attach { stdin, stdout, stderr, replay } => {
                return self.attach(stdin, stdout, stderr, replay, given);
            }
            Request::CloseStdin => self.stdin = None,
            Request::Shutdown => self.layout()?.cgroup(&self.record.cgroup_path).signal_all(Signal::SIGKILL),
        }
        Ok(Answer::Now(Response::Done))
    }

    /// Lets a client listen on the descriptors it gave, and gives it the container's standard input.
    fn attach(
        &mut self,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        replay: bool,
        given: Vec<OwnedFd>,
    ) -> Result<Answer, Failure> {
        let wanted = [(stdout, Stream::Stdout), (stderr, Stream::Stderr)];
        let streams: Vec<Stream> = wanted.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, s)| s).collect();
        if streams.len() != given.len() {
            return Err(format!("{} descriptors came for {} streams", given.len(), streams.len()));
        }
        // All before this moment is in the log, but for begun lines; all after it goes to the listener.
        self.log.flush();
        let at_ns = time::now_ns();
        for (stream, fd) in streams.into_iter().zip(given) {
            // A terminal has one output; who asks for the other hears its end at once.
            let Some(output) = self.outputs.iter().find(|output| output.stream == stream) else { continue };
            self.audience.add(stream, fd, if replay { output.splitter.begun() } else { &[] })?;
        }
        let ours = self.terminal.as_ref().or(self.stdin.as_ref()).filter(|_| stdin && self.record.open_stdin);
        let response = Response::Attached { at_ns };
        match ours.map(OwnedFd::try_clone).transpose() {
            Ok(Some(fd)) => Ok(Answer::With(response, fd)),
            Ok(None) => Ok(Answer::Now(response)),
            Err(err) => Err(format!("cannot share the container's standard input: {err}")),
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        if self.started_at_ns != 0 {
            return Err("it has already been started".to_owned());
        }
        // an init of ours goes on as what it is
        let runtime = if self.record.init { None } else { self.init.program() };
        let started_at_ns = time::now_ns();
        match &self.record.oci_runtime {
            OciRuntime::Embedded => embedded::start(&self.dir, &self.record)?,
            OciRuntime::External(program) => external::start(program, &self.dir, &self.record)?,
        }
        self.began = Some(Beginning { at: Instant::now(), runtime });
        self.started_at_ns = started_at_ns;
        let init = InitFile { process: self.init, started_at_ns };
        self.dir.write_init(init).map_err(|err| format!("cannot record the start: {err}"))
    }

    /// The first process cannot be mistaken for another: it stays ours until the exit is recorded.
    fn signal(&self, number: i32, all: bool) -> Result<(), Failure> {
        if all {
            let signal = Signal::try_from(number).map_err(|_| format!("signal {number} goes to no whole container"))?;
            self.layout()?.cgroup(&self.record.cgroup_path).signal_all(signal);
            return Ok(());
        }
        self.let_settle(number);
        // SAFETY: two numbers go in and one comes back; real-time signals are none that `nix` could send.
        let sent = unsafe { libc::kill(self.pid().as_raw(), number) };
        Errno::result(sent).map(drop).map_err(|errno| format!("cannot send signal {number}: {}", errno.desc()))
    }

    /// The kernel drops a signal for the first process of a pid namespace that has not said what to do with
    /// it (pid_namespaces(7)), and the program that has only just begun says so within its first
    /// milliseconds: `docker run -d` and at once `docker stop` would last as long as the stop may.
    fn let_settle(&self, number: i32) {
        let Some(Beginning { at, runtime }) = &self.began else { return };
        let is_runtime = || runtime.is_some() && self.init.program() == *runtime;
        while at.elapsed() < SETTLED_WITHIN && self.init.may_drop(number) && (is_runtime() || self.init.drops(number)) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn freeze(&self, frozen: bool) -> Result<(), Failure> {
        self.layout()?.cgroup(&self.record.cgroup_path).freeze(frozen).map_err(|err| err.to_string())
    }

    /// Read from the kernel each time it is needed, which is rarely, instead of kept in memory.
    fn layout(&self) -> Result<CgroupLayout, Failure> {
        CgroupLayout::detect().map_err(|err| err.to_string())
    }

    /// The container has ended. Its log is completed first, then its exit is recorded, and only then does
    /// anybody hear of it.
    fn finish(mut self, end: End, finished_at_ns: u64) -> io::Result<()> {
        let oom_killed = match CgroupLayout::detect() {
            Ok(layout) => {
                let cgroup = layout.cgroup(&self.record.cgroup_path);
                let oom_killed = cgroup.oom_kills() > 0;
                if !cgroup.pids().iter().all(|pid| *pid == self.init.pid) {
                    cgroup.signal_all(Signal::SIGKILL); // what is left where the container shares its pid namespace
                }
                oom_killed
            }
            Err(_) => false,
        };
        self.drain()?;
        self.audience.hand_over();
        let (code, signal) = match end {
            End::Code(code) => (code, None),
            End::Signal(number) => (128 + number, Some(number)),
        };
        let exit = ExitStatus {
            code,
            signal,
            oom_killed,
            started_at_ns: self.started_at_ns,
            finished_at_ns,
            reason: ExitReason::Observed,
        };
        self.dir.write_exit(&exit)?;
        wait_for(self.pid()).ok();
        // Whoever connects from now on is refused and looks into the directory.
        fs::remove_file(self.dir.path().join(protocol::SOCKET)).ok();
        self.accept();
        for client in &self.clients {
            let asked = protocol::unframe::<Request>(&client.received).ok().flatten().is_some();
            if client.waiting || asked || matches!(peek(client), Some(Request::Wait)) {
                send(&client.stream, &Response::Exited(exit.clone()));
            }
        }
        self.audience.farewell();
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + DRAIN_MAX;
        while !self.outputs.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let fds: Vec<BorrowedFd<'_>> = self.outputs.iter().map(|output| output.fd.as_fd()).collect();
            let mut fds: Vec<PollFd<'_>> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if let Err(errno) = poll(&mut fds, timeout)
                && errno != Errno::EINTR
            {
                return Err(errno.into());
            }
            let flags: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            let ready: Vec<usize> = flags.iter().enumerate().filter(|(_, on)| **on).map(|(index, _)| index).collect();
            self.pump(&ready, false);
        }
        for output in &mut self.outputs {
            output.splitter.finish(|text, newline| self.log.entry(output.stream, text, newline));
        }
        self.log.finish();
        Ok(())
    }
}

struct Ready {
    children: bool,
    listener: bool,
    outputs: Vec<usize>,
    clients: Vec<usize>,
    /// One for each listener.
    listeners: Vec<bool>,
}

/// Breaks when the output has ended. A patient reader leaves off where a listener must catch up.
fn read_output(
    output: &mut Output,
    log: &mut LogWriter,
    audience: &mut Audience,
    is_patient: bool,
) -> std::ops::ControlFlow<()> {
    let mut chunk = [0_u8; CHUNK];
    for _ in 0..READS_PER_TURN {
        if is_patient && (audience.is_behind(output.stream) || log.is_behind()) {
            break;
        }
        match read(&output.fd, &mut chunk) {
            Ok(0) => return std::ops::ControlFlow::Break(()),
            Ok(length) => {
                let stream = output.stream;
                audience.tell(stream, &chunk[..length]);
                log.tick();
                output.splitter.feed(&chunk[..length], |text, newline| log.entry(stream, text, newline));
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            // EIO is how a terminal says that its last user has gone.
            Err(_) => return std::ops::ControlFlow::Break(()),
        }
    }
    std::ops::ControlFlow::Continue(())
}

/// Takes what has arrived; false if the client has closed or sends too much.
fn receive(client: &mut Client) -> bool {
    let mut chunk = [0_u8; CHUNK];
    loop {
        match fds::receive(client.stream.as_fd(), &mut chunk, &mut client.fds) {
            Ok(0) => return false,
            Ok(length) => client.received.extend_from_slice(&chunk[..length]),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return true,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
        if client.received.len() > protocol::MAX_MESSAGE + 4 {
            return true; // whole messages are in it; the rest waits in the socket
        }
    }
}

/// A request that arrived while the container was ending.
fn peek(client: &Client) -> Option<Request> {
    let mut bytes = client.received.clone();
    (&client.stream).take(protocol::MAX_MESSAGE as u64).read_to_end(&mut bytes).ok();
    protocol::unframe(&bytes).ok().flatten().map(|(request, _)| request)
}

/// Answers are far smaller than a socket's buffer; a client whose buffer is full is not reading.
fn send(mut stream: &UnixStream, response: &Response) -> bool {
    stream.write_all(&protocol::frame(response)).is_ok()
}
