//! A tiny HTTP server for tests that need a registry to misbehave, with TLS and without, and a client to push with.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the log has in place of a path where somebody came to the other kind of server.
pub const CAME_WITH_TLS: &str = "(with TLS)";
pub const CAME_WITHOUT_TLS: &str = "(without TLS)";
/// The first byte of a connection with TLS.
const HANDSHAKE: u8 = 0x16;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut_after: Option<usize>,
}

impl Reply {
    pub fn ok(body: &[u8]) -> Self {
        Self { status: 200, body: body.to_vec(), ..Self::default() }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, handler)
    }

    pub fn start_tls(tls: Arc<ServerConfig>, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Some(tls), handler)
    }

    fn listen(tls: Option<Arc<ServerConfig>>, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped, handler) = (Arc::clone(&requests), Arc::clone(&stop), Arc::new(handler));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (log, handler, tls) = (Arc::clone(&log), Arc::clone(&handler), tls.clone());
                std::thread::spawn(move || serve(stream, tls, &log, &*handler));
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    pub fn count(&self, part: &str) -> usize {
        self.requests.lock().expect("no panic").iter().filter(|r| r.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request of a connection.
fn serve(mut stream: TcpStream, tls: Option<Arc<ServerConfig>>, log: &Mutex<Vec<Request>>, handler: &Handler) {
    let mut first = [0];
    if !matches!(stream.peek(&mut first), Ok(1)) {
        return;
    }
    let note = |path: &str| {
        let (method, path) = (String::new(), path.to_owned());
        log.lock().expect("no panic").push(Request { method, path, headers: HashMap::new(), body: Vec::new() });
    };
    match (tls, first[0] == HANDSHAKE) {
        (None, true) => return note(CAME_WITH_TLS),
        (None, false) => answer(&mut stream, log, handler),
        (Some(_), false) => {
            note(CAME_WITHOUT_TLS);
            // the words of Go's servers, which most registries are
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
        }
        (Some(tls), true) => {
            let mut secured = StreamOwned::new(ServerConnection::new(tls).expect("a good configuration"), stream);
            answer(&mut secured, log, handler);
            secured.conn.send_close_notify();
            let _ = secured.flush();
            stream = secured.sock;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0; 64]);
}

fn answer<S: Read + Write>(stream: &mut S, log: &Mutex<Vec<Request>>, handler: &Handler) {
    let Some(request) = read_request(&mut BufReader::new(&mut *stream)) else { return };
    log.lock().expect("no panic").push(request.clone());
    let reply = handler(&request);
    let mut head =
        format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let end = reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len());
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&reply.body[..end]));
}

fn read_request(from: &mut impl BufRead) -> Option<Request> {
    let mut lines = from.by_ref().lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let pair = |l: String| l.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
    let headers: HashMap<String, String> =
        lines.map_while(Result::ok).take_while(|l| !l.is_empty()).filter_map(pair).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

/// One request with a body; gives status and `Location`.
pub fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body)).expect("sends");
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_to_string(&mut answer);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let location = answer.lines().find_map(|l| l.strip_prefix("Location: ")).unwrap_or_default();
    (status, location.trim().to_owned())
}
