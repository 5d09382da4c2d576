//! Connections that stop being HTTP: a client for `attach` and `exec`, which sends and reads raw bytes.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::Api;

/// No stream of a test is silent for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection after its answer's head.
#[derive(Debug)]
pub struct Wire {
    pub head: String,
    pub stream: UnixStream,
}

/// What a command wrote, apart, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub code: Option<i64>,
}

impl Api {
    /// Posts JSON and keeps the connection. Without `upgrade` as old clients do it.
    pub fn take_over(&self, path: &str, body: &Value, upgrade: bool) -> Result<Wire> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let upgrade = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
        let length = body.len();
        let kind = "Content-Type: application/json\r\n";
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{upgrade}{kind}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes())?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(stream.read(&mut byte)? == 1, "{path}: the answer ends in its head");
            head.push(byte[0]);
        }
        Ok(Wire { head: String::from_utf8(head)?, stream })
    }

    /// Runs a command in a container to its end, with `input`.
    pub fn exec(&self, container: &str, command: &[&str], more: &Value, input: &[u8]) -> Result<Said> {
        let mut body = json!({ "Cmd": command, "AttachStdout": true, "AttachStderr": true });
        body["AttachStdin"] = json!(!input.is_empty());
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let id = self.post(&format!("/containers/{container}/exec"), &body)?;
        let id = id["Id"].as_str().context("an id")?;
        let wire = self.take_over(
            &format!("/exec/{id}/start"),
            &json!({ "Detach": false, "Tty": body["Tty"] == json!(true) }),
            true,
        )?;
        ensure!(wire.head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{}", wire.head);
        let said = wire.converse(input)?;
        let (stdout, stderr) = if body["Tty"] == json!(true) { (said, Vec::new()) } else { apart(&said)? };
        Ok(Said { stdout, stderr, code: self.get(&format!("/exec/{id}/json"))?["ExitCode"].as_i64() })
    }
}

impl Wire {
    /// Sends all of `input`, closes that direction, and reads to the end.
    pub fn converse(mut self, input: &[u8]) -> Result<Vec<u8>> {
        let mut writer = self.stream.try_clone()?;
        let input = input.to_vec();
        let writing = thread::spawn(move || {
            writer.write_all(&input).ok(); // the other side may have heard enough
            writer.shutdown(Shutdown::Write).ok();
        });
        let mut said = Vec::new();
        self.stream.read_to_end(&mut said)?;
        writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        Ok(said)
    }
}

/// The two outputs of a stream of frames.
pub fn apart(mut frames: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some((head, rest)) = frames.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let bytes = rest.get(..length).context("a frame is cut off")?;
        match head[0] {
            1 => stdout.extend_from_slice(bytes),
            2 => stderr.extend_from_slice(bytes),
            other => bail!("a frame of stream {other}"),
        }
        frames = &rest[length..];
    }
    ensure!(frames.is_empty(), "a frame's head is cut off");
    Ok((stdout, stderr))
}
