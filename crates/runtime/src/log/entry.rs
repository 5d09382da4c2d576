//! One entry of a log: to JSON and back. Pure.

use std::borrow::Cow;

use serde::Deserialize;

use crate::time;

/// Which output of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line of output, or a piece of one that is very long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Nanoseconds since 1970.
    pub ts_ns: u64,
    pub stream: Stream,
    /// With its newline; without one, the line continues in the next entry of the stream.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// Appends one line of JSON. `time` is RFC 3339. Bytes that are not UTF-8 become U+FFFD, as in Docker.
pub(super) fn encode(into: &mut Vec<u8>, stream: Stream, text: &[u8], newline: bool, time: &[u8]) {
    into.extend_from_slice(b"{\"log\":\"");
    escape_text(into, text);
    if newline {
        into.extend_from_slice(b"\\n");
    }
    into.extend_from_slice(b"\",\"stream\":\"");
    into.extend_from_slice(stream.name().as_bytes());
    into.extend_from_slice(b"\",\"time\":\"");
    into.extend_from_slice(time);
    into.extend_from_slice(b"\"}\n");
}

/// What stands between the quotes of a JSON string. Bytes that are not UTF-8 become U+FFFD.
pub(super) fn escape_text(into: &mut Vec<u8>, text: &[u8]) {
    if std::str::from_utf8(text).is_ok() {
        escape(into, text); // nearly always, and much faster than in pieces
        return;
    }
    for chunk in text.utf8_chunks() {
        escape(into, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            into.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn escape(into: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = find_special(rest) {
        into.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => into.extend_from_slice(b"\\\""),
            b'\\' => into.extend_from_slice(b"\\\\"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\t' => into.extend_from_slice(b"\\t"),
            b'\n' => into.extend_from_slice(b"\\n"),
            control => into.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    into.extend_from_slice(rest);
}

/// The first byte that JSON wants written differently. Eight at a time, since there is seldom one.
fn find_special(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // A byte's high bit in the result is set if the byte is below `than`, or one before it is: the first is exact.
    let below = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word & HIGH;
    let equal = |word: u64, to: u8| below(word ^ (ONES * u64::from(to)), 1);
    let mut at = 0;
    while let Some(eight) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("it is eight bytes"));
        let found = below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    text[at..].iter().position(special).map(|found| at + found)
}

/// One line of a log file; `None` if it is damaged, as after a full disk.
pub(super) fn decode(line: &[u8]) -> Option<LogEntry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    Some(LogEntry { ts_ns: time::parse(&line.time)?, stream, bytes: line.log.into_owned().into_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_bytes_are_found_wherever_they_are() {
        for length in 0..40 {
            for byte in 0..=255_u8 {
                for at in 0..length {
                    let mut text = vec![b'\x80'; length];
                    text[at] = byte;
                    let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                    assert_eq!(find_special(&text), special.then_some(at), "{byte} at {at} of {length}");
                    text.iter_mut().skip(at + 1).for_each(|later| *later = b'"');
                    let first = if special { Some(at) } else { Some(at + 1).filter(|next| *next < length) };
                    assert_eq!(find_special(&text), first, "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        for text in
            ["", "plain", "quote \" back \\ tab \t cr \r bell \u{7} esc \u{1b}[0m", "größe 漢字 \u{2028}", "{\"a\":1}"]
        {
            let mut line = Vec::new();
            encode(&mut line, Stream::Stderr, text.as_bytes(), true, b"2026-01-02T03:04:05.000000006Z");
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let entry = decode(&line).unwrap();
            assert_eq!(entry.bytes, format!("{text}\n").into_bytes());
            assert_eq!((entry.stream, entry.ts_ns % 10), (Stream::Stderr, 6));
        }
        let mut line = Vec::new();
        encode(&mut line, Stream::Stdout, b"a\xffb\xf0\x9f", false, b"2026-01-02T03:04:05Z");
        assert_eq!(decode(&line).unwrap().bytes, "a\u{fffd}b\u{fffd}".as_bytes());
        assert_eq!(decode(b"{\"log\":\"a"), None);
    }
}
