//! A line as an entry of systemd's journal, in its native protocol (systemd, `JOURNAL_NATIVE_PROTOCOL`). Pure.

use super::Line;
use crate::{log::Stream, time::Rfc3339};

pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// `fields` are those that are the same for every line.
pub(super) fn write(out: &mut Vec<u8>, fields: &[(String, String)], line: Line<'_>) {
    for (name, value) in fields {
        field(out, name, value.as_bytes());
    }
    // syslog's numbers: error and informational
    field(out, "PRIORITY", if line.stream == Stream::Stderr { b"3" } else { b"6" });
    field(out, "SYSLOG_TIMESTAMP", Rfc3339::new().format(line.at_ns));
    if !line.is_whole {
        field(out, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    field(out, "MESSAGE", line.text);
}

/// A value with a newline comes after its length.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_line() {
        let mut out = Vec::new();
        let fields = [("CONTAINER_NAME".to_owned(), "web".to_owned()), ("LABEL".to_owned(), "a\nb".to_owned())];
        let line = Line { stream: Stream::Stderr, text: b"hello", is_whole: false, at_ns: 0 };
        write(&mut out, &fields, line);
        let length = "\u{3}\0\0\0\0\0\0\0";
        let wanted = format!(
            "CONTAINER_NAME=web\nLABEL\n{length}a\nb\nPRIORITY=3\nSYSLOG_TIMESTAMP=1970-01-01T00:00:00.000000000Z\n\
             CONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=hello\n"
        );
        assert_eq!(String::from_utf8(out).expect("text"), wanted);
    }
}
