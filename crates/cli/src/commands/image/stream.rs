//! The progress of pull, load and import: one JSON object per line.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::super::info::text;
use crate::output::{terminal, units::decimal_size};

/// Longer than any line the daemon sends.
const MAX_LINE_BYTES: usize = 1 << 20;
const BAR_WIDTH: u64 = 30;

/// Shows the stream; fails when it says that something went wrong.
pub(super) async fn show(answer: Incoming, quiet: bool) -> anyhow::Result<()> {
    let screen =
        Screen { quiet, is_terminal: terminal::stdout_is_terminal(), print: terminal::print, lines: Vec::new() };
    follow(answer, screen).await
}

/// The same where standard output is for something else; line by line.
pub(super) async fn show_on_stderr(answer: Incoming, quiet: bool) -> anyhow::Result<()> {
    follow(answer, Screen { quiet, is_terminal: false, print: terminal::print_error, lines: Vec::new() }).await
}

async fn follow(mut answer: Incoming, mut screen: Screen) -> anyhow::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = answer.frame().await {
        let Ok(data) = frame.context("the daemon broke off")?.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            screen.line(&buffer.split_to(end + 1))?;
        }
        anyhow::ensure!(buffer.len() <= MAX_LINE_BYTES, "the daemon's answer is not a progress stream");
    }
    screen.line(&buffer)
}

struct Screen {
    quiet: bool,
    is_terminal: bool,
    print: fn(&str) -> anyhow::Result<()>,
    /// Of lines with an id: the id and what was shown last.
    lines: Vec<(String, String)>,
}

impl Screen {
    fn line(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let message: Value = serde_json::from_slice(bytes).context("the daemon's progress is not JSON")?;
        if let Some(error) = message["error"].as_str().or_else(|| message["errorDetail"]["message"].as_str()) {
            bail!("{error}");
        }
        if self.quiet {
            return Ok(());
        }
        if let Some(stream) = message["stream"].as_str() {
            self.lines.clear();
            return (self.print)(stream);
        }
        let status = text(&message["status"]);
        match message["id"].as_str().filter(|id| !id.is_empty()) {
            None => {
                self.lines.clear();
                (self.print)(&format!("{status}\n"))
            }
            Some(id) => self.update(id, &status, &message["progressDetail"]),
        }
    }

    fn update(&mut self, id: &str, status: &str, detail: &Value) -> anyhow::Result<()> {
        let line = match self.is_terminal {
            true => format!("{id}: {status}{}", bar(detail)),
            false => format!("{id}: {status}"),
        };
        let Some(at) = self.lines.iter().position(|(known, _)| known == id) else {
            self.lines.push((id.to_owned(), line.clone()));
            return (self.print)(&format!("{line}\n"));
        };
        if self.lines[at].1 == line {
            return Ok(());
        }
        self.lines[at].1.clone_from(&line);
        if !self.is_terminal {
            return (self.print)(&format!("{line}\n"));
        }
        let up = self.lines.len() - at;
        let short: String = line.chars().take(terminal::columns() - 1).collect();
        (self.print)(&format!("\x1b[{up}A\r\x1b[2K{short}\x1b[{up}B\r"))
    }
}

fn bar(detail: &Value) -> String {
    let (Some(current), Some(total)) = (detail["current"].as_u64(), detail["total"].as_u64()) else {
        return String::new();
    };
    if total == 0 {
        return String::new();
    }
    let filled = (current.min(total) * BAR_WIDTH / total) as usize;
    let mut out = String::new();
    let _ = write!(out, "  [{}>{}]", "=".repeat(filled), " ".repeat(BAR_WIDTH as usize - filled));
    let _ = write!(out, "  {}/{}", decimal_size(current), decimal_size(total));
    out
}
