//! What is at a path of a container, as Docker puts it into a header: JSON in base64, with Go's bits for the mode.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use node::image::PathStat;
use serde_json::json;

/// The value of `X-Docker-Container-Path-Stat`.
pub(crate) fn write(stat: &PathStat) -> String {
    let time = jiff::Timestamp::new(stat.mtime_seconds, stat.mtime_nanos.try_into().unwrap_or(0));
    let value = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string(),
        "linkTarget": stat.link_target,
    });
    STANDARD.encode(value.to_string())
}

/// Go's `os.FileMode`: permissions as they are, everything else as bits of its own.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,           // directory
        0o120_000 => 1 << 27,           // symbolic link
        0o060_000 => 1 << 26,           // device
        0o010_000 => 1 << 25,           // named pipe
        0o140_000 => 1 << 24,           // socket
        0o020_000 => 1 << 26 | 1 << 21, // character device
        _ => 0,
    };
    let bit = |unix: u32, go: u32| if mode & unix == 0 { 0 } else { 1 << go };
    kind | bit(0o4000, 23) | bit(0o2000, 22) | bit(0o1000, 20) | (mode & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_01ed),
            (0o120_777, 0x0800_01ff),
            (0o041_777, 0x8010_01ff),
            (0o104_755, 0x0080_01ed),
            (0o020_666, 0x0420_01b6),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}");
        }
    }

    #[test]
    fn the_header_is_json_in_base64() {
        let stat = PathStat {
            name: "hosts".into(),
            size: 3,
            mode: 0o100_600,
            mtime_seconds: 1,
            mtime_nanos: 500_000_000,
            link_target: String::new(),
        };
        let text = String::from_utf8(STANDARD.decode(write(&stat)).expect("base64")).expect("text");
        let wanted = r#"{"name":"hosts","size":3,"mode":384,"mtime":"1970-01-01T00:00:01.5Z","linkTarget":""}"#;
        assert_eq!(text, wanted);
    }
}
