//! A line as an event of Fluentd's forward protocol, in its message mode, with moby's keys (its `daemon/logger/fluentd`):
//! `[tag, time, record, option]` as MessagePack. Pure.

use rmp::{decode, encode};

use super::backlog::Kept;
use crate::config::Fluentd;

/// The extension type of a time with nanoseconds.
const EVENT_TIME: i8 = 0;
/// An acknowledgement is much shorter; what is longer is none.
pub(super) const ACK_MAX: usize = 1024;
const INFALLIBLE: &str = "writing to memory cannot fail";

pub(super) struct Form {
    tag: String,
    fields: Vec<(String, String)>,
    /// Of the line's own keys those that no field stands over.
    has_source: bool,
    has_log: bool,
    sub_second_precision: bool,
}

impl Form {
    pub(super) fn new(fluentd: &Fluentd) -> Self {
        Self {
            tag: fluentd.tag.clone(),
            fields: fluentd.fields.clone().into_iter().collect(),
            has_source: !fluentd.fields.contains_key("source"),
            has_log: !fluentd.fields.contains_key("log"),
            sub_second_precision: fluentd.sub_second_precision,
        }
    }

    /// `chunk`: a name for it, which the server shall give back.
    pub(super) fn write(&self, out: &mut Vec<u8>, line: &Kept, chunk: Option<&str>) {
        encode::write_array_len(out, 4).expect(INFALLIBLE);
        text(out, self.tag.as_bytes());
        self.time(out, line.at_ns);
        let own = u32::from(self.has_source) + u32::from(self.has_log) + if line.part.is_some() { 4 } else { 0 };
        encode::write_map_len(out, length(self.fields.len()) + own).expect(INFALLIBLE);
        for (name, value) in &self.fields {
            pair(out, name, value.as_bytes());
        }
        if self.has_source {
            pair(out, "source", line.stream.name().as_bytes());
        }
        if self.has_log {
            pair(out, "log", &line.text);
        }
        if let Some(part) = &line.part {
            pair(out, "partial_message", b"true");
            pair(out, "partial_id", part.id.as_bytes());
            pair(out, "partial_ordinal", part.ordinal.to_string().as_bytes());
            pair(out, "partial_last", part.is_last.to_string().as_bytes());
        }
        encode::write_map_len(out, u32::from(chunk.is_some())).expect(INFALLIBLE);
        if let Some(chunk) = chunk {
            pair(out, "chunk", chunk.as_bytes());
        }
    }

    fn time(&self, out: &mut Vec<u8>, at_ns: u64) {
        let (seconds, ns) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
        if !self.sub_second_precision {
            encode::write_uint(out, seconds).expect(INFALLIBLE);
            return;
        }
        encode::write_ext_meta(out, 8, EVENT_TIME).expect(INFALLIBLE);
        out.extend_from_slice(&u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&u32::try_from(ns).expect("less than a second").to_be_bytes());
    }
}

fn pair(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    text(out, name.as_bytes());
    text(out, value);
}

/// Also of bytes that are not UTF-8: servers take them as they are, as from Docker.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    encode::write_str_len(out, length(bytes.len())).expect(INFALLIBLE);
    out.extend_from_slice(bytes);
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("a line and its fields are far shorter")
}

/// The name in an acknowledgement, `{"ack": name}`, and its length; `None` if it is not whole, or none.
pub(super) fn acknowledged(bytes: &[u8]) -> Option<(&str, usize)> {
    let mut rest = bytes;
    let pairs = decode::read_map_len(&mut rest).ok()?;
    let mut ack = "";
    for _ in 0..pairs {
        let (name, value) = (read_text(&mut rest)?, read_text(&mut rest)?);
        if name == "ack" {
            ack = value;
        }
    }
    Some((ack, bytes.len() - rest.len()))
}

fn read_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(decode::read_str_len(rest).ok()?).ok()?;
    let bytes: &'a [u8] = rest;
    let (text, after) = bytes.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        config::{FluentdAddress, LogQueue},
        log::{Stream, forward::backlog::Part},
    };

    fn form(fields: &[(&str, &str)], sub_second_precision: bool) -> Form {
        let queue = LogQueue { max_bytes: 1, max_lines: 1, is_blocking: false, first_wait_ms: 1, attempts: None };
        Form::new(&Fluentd {
            to: FluentdAddress::Tcp("h:1".into()),
            tag: "web".into(),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            sub_second_precision,
            request_ack: false,
            is_async: false,
            reconnect_every_ms: None,
            write_timeout_ms: None,
            queue,
        })
    }

    /// One event from the front, as text; `None` if it is not whole. Bytes that are not UTF-8 are shown as `\xff`.
    pub(in super::super) fn read_event(rest: &mut &[u8]) -> Option<String> {
        fn string(rest: &mut &[u8]) -> Option<String> {
            let length = decode::read_str_len(rest).ok()? as usize;
            let (text, after) = rest.split_at_checked(length)?;
            let text = text.escape_ascii().to_string();
            *rest = after;
            Some(text)
        }
        fn map(rest: &mut &[u8]) -> Option<String> {
            let length = decode::read_map_len(rest).ok()?;
            let pairs: Option<Vec<String>> =
                (0..length).map(|_| Some(format!("{}={}", string(rest)?, string(rest)?))).collect();
            Some(pairs?.join(" "))
        }
        let mut at = *rest;
        assert_eq!(decode::read_array_len(&mut at).ok()?, 4);
        let tag = string(&mut at)?;
        let time = if at.first()? == &0xd7 {
            let (kind, time) = decode::read_fixext8(&mut at).ok()?;
            let half = |from: usize| u32::from_be_bytes(time[from..from + 4].try_into().expect("four bytes"));
            format!("{kind}:{}.{:09}", half(0), half(4))
        } else {
            decode::read_int::<u64, _>(&mut at).ok()?.to_string()
        };
        let event = format!("{tag} {time} {{{}}} {{{}}}", map(&mut at)?, map(&mut at)?);
        *rest = at;
        Some(event)
    }

    /// E-27: tag, time, record and option.
    #[test]
    fn e27_events_of_fluentd() {
        let shown = |form: Form, part, chunk| {
            let at_ns = 1_700_000_000_000_000_005;
            let mut out = Vec::new();
            form.write(&mut out, &Kept { stream: Stream::Stdout, text: (*b"a\xff").into(), at_ns, part }, chunk);
            let mut rest = &out[..];
            let event = read_event(&mut rest).expect("whole");
            assert!(rest.is_empty());
            event
        };
        let part = Part { id: "77".into(), ordinal: 2, is_last: true };
        assert_eq!(
            shown(form(&[("container_name", "/web")], false), None, None),
            r"web 1700000000 {container_name=/web source=stdout log=a\xff} {}"
        );
        assert_eq!(
            shown(form(&[("log", "mine")], true), Some(part), Some("c1")),
            "web 0:1700000000.000000005 {log=mine source=stdout partial_message=true partial_id=77 partial_ordinal=2 \
             partial_last=true} {chunk=c1}"
        );
    }

    #[test]
    fn e27_acknowledgements() {
        let ack = b"\x81\xa3ack\xa2c1";
        assert_eq!(acknowledged(ack), Some(("c1", ack.len())));
        assert_eq!(acknowledged(&[&ack[..], &ack[..3]].concat()), Some(("c1", ack.len())));
        (0..ack.len()).for_each(|length| assert_eq!(acknowledged(&ack[..length]), None));
    }
}
