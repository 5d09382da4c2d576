//! A line as a message of GELF 1.1, with moby's fields (its `daemon/logger/gelf`): compressed and in chunks over UDP, ended
//! by a zero over TCP. Pure.

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};

use super::backlog::{Kept, Names};
use crate::{
    config::{Gelf, GelfCompression, GelfTransport},
    log::{Stream, entry::escape_text},
    time::{self, Rfc3339},
};

/// The largest datagram, with the header of a chunk if it is one; as go-gelf has it, so that none is cut again on its way.
pub(super) const DATAGRAM: usize = 1420;
const HEADER: usize = 12;
const MAGIC: [u8; 2] = [0x1e, 0x0f];
/// Of one message; servers take no more.
const CHUNKS_MAX: usize = 128;
const INFALLIBLE: &str = "writing to memory cannot fail";

pub(super) struct Form {
    transport: GelfTransport,
    /// A message up to its text.
    head: Vec<u8>,
    /// What it says of the container, to its end.
    tail: Vec<u8>,
    names: Names,
}

impl Form {
    pub(super) fn new(gelf: &Gelf) -> Self {
        let mut head = Vec::new();
        head.extend_from_slice(b"{\"version\":\"1.1\",\"host\":\"");
        escape_text(&mut head, gelf.hostname.as_bytes());
        head.extend_from_slice(b"\",\"short_message\":\"");
        let mut fields = gelf.fields.clone();
        let created_at_ns = if gelf.created_at_ns == 0 { time::now_ns() } else { gelf.created_at_ns };
        let created = String::from_utf8_lossy(Rfc3339::new().format(created_at_ns)).into_owned();
        fields.entry("_created".to_owned()).or_insert(created);
        let mut tail = Vec::new();
        for (name, value) in &fields {
            tail.extend_from_slice(b",\"");
            escape_text(&mut tail, name.as_bytes());
            tail.extend_from_slice(b"\":\"");
            escape_text(&mut tail, value.as_bytes());
            tail.push(b'"');
        }
        tail.push(b'}');
        Self { transport: gelf.transport, head, tail, names: Names::default() }
    }

    /// A message must have a text.
    pub(super) fn says(text: &[u8]) -> bool {
        !text.is_empty()
    }

    /// Datagrams one after the other, all but the last of them [`DATAGRAM`] long; or what goes into a stream. False if
    /// it is longer than any server takes.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, line: &Kept) -> bool {
        match self.transport {
            GelfTransport::Tcp => {
                self.json(out, line);
                out.push(0);
                true
            }
            GelfTransport::Udp { compression, level } => {
                let mut json = Vec::new();
                self.json(&mut json, line);
                let message = compress(json, compression, level).expect(INFALLIBLE);
                self.cut(out, &message)
            }
        }
    }

    fn json(&self, out: &mut Vec<u8>, line: &Kept) {
        // syslog's numbers: error and informational
        let level = if line.stream == Stream::Stderr { 3 } else { 6 };
        let (seconds, ms) = (line.at_ns / 1_000_000_000, line.at_ns / 1_000_000 % 1000);
        out.extend_from_slice(&self.head);
        escape_text(out, &line.text);
        write!(out, "\",\"timestamp\":{seconds}.{ms:03},\"level\":{level}").expect(INFALLIBLE);
        out.extend_from_slice(&self.tail);
    }

    fn cut(&mut self, out: &mut Vec<u8>, message: &[u8]) -> bool {
        if message.len() <= DATAGRAM {
            out.extend_from_slice(message);
            return true;
        }
        let id = self.names.number().to_be_bytes();
        let chunks = message.chunks(DATAGRAM - HEADER);
        let Some(number) = u8::try_from(chunks.len()).ok().filter(|number| usize::from(*number) <= CHUNKS_MAX) else {
            return false;
        };
        for (index, chunk) in (0..number).zip(chunks) {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&id);
            out.extend_from_slice(&[index, number]);
            out.extend_from_slice(chunk);
        }
        true
    }
}

fn compress(json: Vec<u8>, compression: GelfCompression, level: u32) -> io::Result<Vec<u8>> {
    let level = Compression::new(level);
    match compression {
        GelfCompression::None => Ok(json),
        GelfCompression::Gzip => {
            let mut gzip = GzEncoder::new(Vec::new(), level);
            gzip.write_all(&json)?;
            gzip.finish()
        }
        GelfCompression::Zlib => {
            let mut zlib = ZlibEncoder::new(Vec::new(), level);
            zlib.write_all(&json)?;
            zlib.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read};

    use expect_test::expect;
    use flate2::read::{GzDecoder, ZlibDecoder};

    use super::*;
    use crate::config::LogQueue;

    fn form(transport: GelfTransport) -> Form {
        let fields = [("_container_name", "web"), ("_tag", "a\"b")];
        let fields: BTreeMap<_, _> = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let queue = LogQueue { max_bytes: 1, max_lines: 1, is_blocking: false, first_wait_ms: 1, attempts: None };
        let (address, hostname) = ("h:1".to_owned(), "host1".to_owned());
        Form::new(&Gelf { address, transport, hostname, fields, created_at_ns: 1_700_000_000_000_000_001, queue })
    }

    fn udp(compression: GelfCompression) -> Form {
        form(GelfTransport::Udp { compression, level: 1 })
    }

    fn kept(text: &[u8]) -> Kept {
        Kept { stream: Stream::Stderr, text: text.into(), at_ns: 1_700_000_000_023_456_789, part: None }
    }

    fn written(mut form: Form, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(form.write(&mut out, &kept(text)));
        out
    }

    /// E-27: the fields of a message, and how it is packed.
    #[test]
    fn e27_messages_of_gelf() {
        let tcp = written(form(GelfTransport::Tcp), b"oops \xff \"\t");
        let (end, json) = tcp.split_last().expect("a message");
        assert_eq!(*end, 0);
        expect![[r#"{"version":"1.1","host":"host1","short_message":"oops � \"\t","timestamp":1700000000.023,"level":3,"_container_name":"web","_created":"2023-11-14T22:13:20.000000001Z","_tag":"a\"b"}"#]]
        .assert_eq(std::str::from_utf8(json).expect("text"));
        serde_json::from_slice::<serde_json::Value>(json).expect("JSON");

        let plain = written(udp(GelfCompression::None), b"hello");
        let mut text = Vec::new();
        GzDecoder::new(&written(udp(GelfCompression::Gzip), b"hello")[..]).read_to_end(&mut text).expect("gzip");
        assert_eq!(text, plain);
        text.clear();
        ZlibDecoder::new(&written(udp(GelfCompression::Zlib), b"hello")[..]).read_to_end(&mut text).expect("zlib");
        assert_eq!(text, plain);
    }

    /// E-27: long messages in chunks; those that are longer than 128 of them are refused.
    #[test]
    fn e27_chunks_of_gelf() {
        let long = vec![b'x'; 3000];
        let out = written(udp(GelfCompression::None), &long);
        let datagrams: Vec<&[u8]> = out.chunks(DATAGRAM).collect();
        assert_eq!(datagrams.len(), 3);
        let mut json = Vec::new();
        for (index, datagram) in datagrams.iter().enumerate() {
            assert_eq!((datagram[0], datagram[1], usize::from(datagram[10]), datagram[11]), (0x1e, 0x0f, index, 3));
            assert_eq!(datagram[2..10], datagrams[0][2..10], "one id");
            json.extend_from_slice(&datagram[12..]);
        }
        let message: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(message["short_message"].as_str().map(str::len), Some(3000));
        let mut form = udp(GelfCompression::None);
        assert!(!form.write(&mut Vec::new(), &kept(&vec![b'x'; 128 * 1408])));
    }
}
