//! A line as a syslog message: RFC 3164, RFC 5424, and the form that syslog(3) of the C library writes. Pure but for
//! the time zone.

use std::io::Write;

use super::Line;
use crate::{
    config::{Syslog, SyslogFormat},
    log::Stream,
    time::Rfc3339,
};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// RFC 5424, section 6.2.1.
const INFORMATIONAL: u8 = 6;
const ERROR: u8 = 3;
const INFALLIBLE: &str = "writing to memory cannot fail";

/// `is_stream`: messages follow each other, so each ends with a newline (RFC 6587, section 3.4.2).
pub(super) fn write(out: &mut Vec<u8>, syslog: &Syslog, line: Line<'_>, is_stream: bool) {
    let Syslog { facility, format, tag, hostname, .. } = syslog;
    let severity = if line.stream == Stream::Stderr { ERROR } else { INFORMATIONAL };
    let (priority, pid) = (facility * 8 + severity, std::process::id());
    let mut rfc3339 = Rfc3339::new();
    let precise = String::from_utf8_lossy(rfc3339.format(line.at_ns));
    match format {
        SyslogFormat::Unix => write!(out, "<{priority}>{} {tag}[{pid}]: ", stamp(line.at_ns)),
        SyslogFormat::Rfc3164 => write!(out, "<{priority}>{} {hostname} {tag}[{pid}]: ", stamp(line.at_ns)),
        SyslogFormat::Rfc5424 => write!(out, "<{priority}>1 {}Z {hostname} {tag} {pid} {tag} - ", &precise[..19]),
        SyslogFormat::Rfc5424Micro => write!(out, "<{priority}>1 {}Z {hostname} {tag} {pid} {tag} - ", &precise[..26]),
    }
    .expect(INFALLIBLE);
    out.extend_from_slice(line.text);
    if is_stream {
        out.push(b'\n');
    }
}

/// `Nov 14 22:13:20`, by the host's own clock (RFC 3164, section 4.1.2).
#[allow(unsafe_code)]
fn stamp(ns: u64) -> String {
    let seconds = libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(libc::time_t::MAX);
    // SAFETY: an all-zero `tm` is a valid one, and both pointers are to memory of this frame that outlives the call.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const seconds, &raw mut tm);
        tm
    };
    let month = usize::try_from(tm.tm_mon).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&MONTHS[0]);
    format!("{month} {:>2} {:02}:{:02}:{:02}", tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::config::SyslogAddress;

    #[test]
    fn each_format_as_text() {
        let text = |format, stream| {
            let (tag, hostname) = ("db/1".to_owned(), "host1".to_owned());
            let syslog = Syslog { to: SyslogAddress::Local, facility: 16, format, tag, hostname };
            let mut out = Vec::new();
            let line = Line { stream, text: b"hello world", is_whole: true, at_ns: 1_700_000_000_123_456_789 };
            write(&mut out, &syslog, line, false);
            let text = String::from_utf8(out).expect("text").replace(&std::process::id().to_string(), "PID");
            // the hour depends on the host's zone
            text.replace(&stamp(1_700_000_000_123_456_789), "STAMP")
        };
        let formats = [SyslogFormat::Unix, SyslogFormat::Rfc3164, SyslogFormat::Rfc5424, SyslogFormat::Rfc5424Micro];
        let all: Vec<String> = formats.into_iter().map(|format| text(format, Stream::Stdout)).collect();
        expect![[r#"
            <134>STAMP db/1[PID]: hello world
            <134>STAMP host1 db/1[PID]: hello world
            <134>1 2023-11-14T22:13:20Z host1 db/1 PID db/1 - hello world
            <134>1 2023-11-14T22:13:20.123456Z host1 db/1 PID db/1 - hello world"#]]
        .assert_eq(&all.join("\n"));
        assert!(text(SyslogFormat::Unix, Stream::Stderr).starts_with("<131>"));
        let stamp = stamp(1_700_000_000_000_000_000);
        assert!(stamp.starts_with("Nov 1") && stamp.len() == "Nov 14 22:13:20".len(), "{stamp}");
    }
}
