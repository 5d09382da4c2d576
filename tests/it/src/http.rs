//! A small blocking HTTP/1.1 client over a unix socket: one request, one connection.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// No answer takes longer, image loads included.
const PATIENCE: Duration = Duration::from_secs(60);

/// The API of one host.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
}

/// Status code and body.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `Null` if it is empty.
    pub fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Api {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The JSON at `path`; any status but 2xx is an error with the API's message.
    pub fn get(&self, path: &str) -> Result<Value> {
        good(path, &self.request("GET", path, "application/json", b"")?)?.json()
    }

    /// Posts JSON (or nothing, for `Null`).
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        good(path, &self.request("POST", path, "application/json", &bytes)?)?.json()
    }

    /// Posts a tar.
    pub fn post_tar(&self, path: &str, tar: &[u8]) -> Result<String> {
        Ok(good(path, &self.request("POST", path, "application/x-tar", tar)?)?.text())
    }

    pub fn delete(&self, path: &str) -> Result<()> {
        good(path, &self.request("DELETE", path, "application/json", b"")?).map(drop)
    }

    /// One request, whatever the answer's status.
    pub fn request(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Answer> {
        let mut stream =
            UnixStream::connect(&self.socket).with_context(|| format!("connect to {}", self.socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: rswarm\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        // a server may answer and close before it has read all of a body it refuses
        let sent = stream.write_all(body);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            sent.and(read.map(drop)).with_context(|| format!("{method} {path}"))?;
        }
        parse(answer).with_context(|| format!("{method} {path}"))
    }
}

fn good<'a>(path: &str, answer: &'a Answer) -> Result<&'a Answer> {
    if !(200..300).contains(&answer.status) {
        bail!("{path}: {} {}", answer.status, answer.text().trim());
    }
    Ok(answer)
}

/// The body stays where it is: lists are long, and benchmarks measure how long they take.
fn parse(mut answer: Vec<u8>) -> Result<Answer> {
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n").context("the answer has no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..split]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("the answer has no status")?;
    if head.lines().any(|l| l.starts_with("transfer-encoding:") && l.contains("chunked")) {
        unchunk(&mut answer, split + 4)?;
    } else {
        answer.drain(..split + 4);
    }
    Ok(Answer { status, body: answer })
}

/// Leaves what the chunks from `at` on hold.
fn unchunk(bytes: &mut Vec<u8>, mut at: usize) -> Result<()> {
    let mut length = 0;
    loop {
        let rest = &bytes[at..];
        let line = rest.windows(2).position(|w| w == b"\r\n").context("a chunk has no size")?;
        let size = std::str::from_utf8(&rest[..line])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size is no number")?;
        if size == 0 {
            bytes.truncate(length);
            return Ok(());
        }
        let chunk = at + line + 2..at + line + 2 + size;
        at = (chunk.end + 2).min(bytes.len());
        if chunk.end > bytes.len() {
            bail!("a chunk is cut off");
        }
        bytes.copy_within(chunk, length);
        length += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole() {
        let plain = parse(b"HTTP/1.1 404 Not Found\r\nContent-Type: x\r\n\r\n{}".to_vec()).expect("plain");
        assert_eq!((plain.status, plain.text().as_str()), (404, "{}"));
        let chunked =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n".to_vec());
        assert_eq!(chunked.expect("chunked").text(), "abcd");
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab".to_vec()).is_err());
    }
}
