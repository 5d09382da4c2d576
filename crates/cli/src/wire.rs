//! A connection to the daemon on which both sides send bytes as they like: the terminal's side of `exec` and `attach`.

use std::io;

use anyhow::Context as _;
use identity::ApiStream;
use rustix::termios::{self, OptionalActions, Termios};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
};

use crate::client::Client;

/// One read from either side.
const CHUNK: usize = 64 * 1024;
/// Before the bytes of a frame: which stream, and how many.
const HEADER: usize = 8;

/// A connection after the daemon's answer.
pub(crate) struct Wire {
    pub(crate) stream: ApiStream,
    /// Bytes as they are: a terminal's. Else frames.
    pub(crate) is_raw: bool,
}

/// Standard input as a terminal that hands over every key; as it was when this is dropped.
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    fn new() -> Self {
        let input = io::stdin();
        let before = termios::tcgetattr(&input).ok();
        if let Some(mut attributes) = before.clone() {
            attributes.make_raw();
            termios::tcsetattr(&input, OptionalActions::Now, &attributes).ok(); // then keys are cooked, and still arrive
        }
        Self(before)
    }
}

/// A line that nobody sees being typed, without its end.
pub(crate) fn read_line_unseen() -> anyhow::Result<String> {
    let before = termios::tcgetattr(io::stdin()).context("standard input is no terminal")?;
    let mut unseen = before.clone();
    unseen.local_modes.remove(termios::LocalModes::ECHO);
    termios::tcsetattr(io::stdin(), OptionalActions::Now, &unseen)?;
    let _back = RawTerminal(Some(before));
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            termios::tcsetattr(io::stdin(), OptionalActions::Now, before).ok();
        }
    }
}

/// Rows and columns of the terminal; `None` if there is none.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

pub(crate) fn stdin_is_terminal() -> bool {
    termios::isatty(io::stdin())
}

impl Wire {
    /// Carries input and output until the daemon closes. `resize` is posted the terminal's size at the beginning, and
    /// whenever it changes.
    pub(crate) async fn converse(self, client: &Client, input: bool, resize: Option<&str>) -> anyhow::Result<()> {
        let _raw = (self.is_raw && input).then(RawTerminal::new);
        let (reader, mut writer) = tokio::io::split(self.stream);
        let is_raw = self.is_raw;
        let sending = async {
            if !input {
                return std::future::pending().await;
            }
            // The daemon's end is seen on the other side.
            tokio::io::copy(&mut tokio::io::stdin(), &mut writer).await.ok();
            writer.shutdown().await.ok();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            received = receive(reader, is_raw) => received.context("read what the container writes"),
            () = sending => Ok(()),
            () = follow_size(client, resize.filter(|_| is_raw)) => Ok(()),
        }
    }
}

/// Standard input to the daemon and what it says to standard output, until it has said all: the far end of `ssh://`.
pub(crate) async fn dial_stdio(client: &Client) -> anyhow::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(client.connect().await?);
    let sending = async {
        // The daemon's end is seen on the other side.
        tokio::io::copy(&mut tokio::io::stdin(), &mut writer).await.ok();
        writer.shutdown().await.ok();
        std::future::pending::<()>().await;
    };
    let mut stdout = tokio::io::stdout();
    tokio::select! {
        received = receive_raw(&mut reader, &mut stdout) => received.context("read what the daemon writes"),
        () = sending => Ok(()),
    }
}

/// Each piece at once: somebody waits for it.
async fn receive_raw(from: &mut (impl AsyncRead + Unpin), into: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        into.write_all(&chunk[..length]).await?;
        into.flush().await?;
    }
}

/// Never returns.
async fn follow_size(client: &Client, path: Option<&str>) {
    let (Some(path), Ok(mut changes)) = (path, signal(SignalKind::window_change())) else {
        return std::future::pending().await;
    };
    loop {
        if let Some((rows, columns)) = terminal_size() {
            // A command that has just ended has no size.
            client.post(&format!("{path}?h={rows}&w={columns}"), None).await.ok();
        }
        changes.recv().await;
    }
}

async fn receive(mut from: impl AsyncRead + Unpin, is_raw: bool) -> io::Result<()> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut chunk = vec![0; CHUNK];
    loop {
        let (is_stderr, mut left) = if is_raw {
            (false, u64::MAX)
        } else {
            let mut header = [0; HEADER];
            match from.read_exact(&mut header).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            (header[0] == 2, u64::from(u32::from_be_bytes([header[4], header[5], header[6], header[7]])))
        };
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let length = from.read(&mut chunk[..most]).await?;
            if length == 0 {
                return Ok(());
            }
            match is_stderr {
                false => {
                    stdout.write_all(&chunk[..length]).await?;
                    stdout.flush().await?;
                }
                true => {
                    stderr.write_all(&chunk[..length]).await?;
                    stderr.flush().await?;
                }
            }
            left -= length as u64;
        }
    }
}

/// The head of an answer: its status, and whether frames follow.
pub(crate) fn read_head(head: &str) -> anyhow::Result<(u16, bool)> {
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("the daemon's answer begins with {:?}", head.lines().next()))?;
    Ok((status, !head.to_ascii_lowercase().contains("vnd.docker.multiplexed-stream")))
}

/// The reason in a refusal's body.
pub(crate) fn reason(body: &[u8]) -> String {
    let value = serde_json::from_slice::<Value>(body).ok();
    let message = value.and_then(|value| value["message"].as_str().map(str::to_owned));
    message.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())
}

/// What the daemon says of a path in a container, in a header.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct PathStat {
    mode: u32,
    #[serde(rename = "linkTarget", default)]
    pub(crate) link_target: String,
}

impl PathStat {
    /// Go's bits of a directory and of a symbolic link.
    const DIRECTORY: u32 = 1 << 31;
    const LINK: u32 = 1 << 27;

    pub(crate) fn of(headers: &hyper::HeaderMap) -> anyhow::Result<Self> {
        use base64::Engine as _;
        let header =
            headers.get("x-docker-container-path-stat").context("the daemon's answer does not say what it is of")?;
        let json = base64::engine::general_purpose::STANDARD
            .decode(header)
            .context("read what the daemon says of the path")?;
        serde_json::from_slice(&json).context("read what the daemon says of the path")
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.mode & Self::DIRECTORY != 0
    }

    pub(crate) fn is_link(&self) -> bool {
        self.mode & Self::LINK != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_what_follows() {
        let head = |kind: &str| format!("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.{kind}\r\n\r\n");
        assert_eq!(read_head(&head("multiplexed-stream")).ok(), Some((101, false)));
        assert_eq!(read_head(&head("raw-stream")).ok(), Some((101, true)));
        assert!(read_head("nonsense").is_err());
        assert_eq!(reason(br#"{"message":"no"}"#), "no");
        assert_eq!(reason(b"plain\n"), "plain");
    }
}
