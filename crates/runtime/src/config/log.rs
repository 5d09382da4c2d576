//! What becomes of a container's output: the files it is kept in, and the service that its lines go to beside. Plain
//! data; it is in `container.json`, for the shim.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What becomes of the container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogDriver {
    /// Docker's json-file. A file is full at `max_size_bytes` (0: never); `max_files` are kept, the newest included, and
    /// with `compress` all but that one are compressed.
    JsonFile {
        max_size_bytes: u64,
        max_files: u32,
        #[serde(default)]
        compress: bool,
    },
    None,
}

/// Where the log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The newest file; older ones have `.1`, `.2` … appended.
    pub path: PathBuf,
    pub driver: LogDriver,
    /// Where each line goes beside.
    #[serde(default)]
    pub forward: Option<LogForward>,
}

/// A service that keeps logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogForward {
    Syslog(Syslog),
    /// systemd's journal; the fields that every entry of the container has.
    Journald {
        fields: Vec<(String, String)>,
    },
    Gelf(Gelf),
    Fluentd(Fluentd),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syslog {
    pub to: SyslogAddress,
    /// RFC 5424, section 6.2.1: 0 to 23.
    pub facility: u8,
    pub format: SyslogFormat,
    pub tag: String,
    /// Of this host.
    pub hostname: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogAddress {
    /// Wherever the host's own listens.
    Local,
    Unix(PathBuf),
    Unixgram(PathBuf),
    /// `host:port`
    Udp(String),
    /// `host:port`
    Tcp(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogFormat {
    /// As syslog(3) writes it, for a server on the same host.
    Unix,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

/// What waits for a log server, and how it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQueue {
    pub max_bytes: u64,
    pub max_lines: u64,
    /// Where it is full the container waits for a while, instead of losing lines at once.
    pub is_blocking: bool,
    /// After the first attempt in vain; later ones are further apart.
    pub first_wait_ms: u64,
    /// After so many in vain, one after the other, what waits is given up. `None`: it waits as long as there is room.
    pub attempts: Option<u32>,
}

/// A server that takes GELF 1.1, such as Graylog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gelf {
    /// `host:port`
    pub address: String,
    pub transport: GelfTransport,
    /// Of this host.
    pub hostname: String,
    /// What is in every message, by the field's name with its `_`.
    pub fields: BTreeMap<String, String>,
    /// When the container was made; 0 is now.
    pub created_at_ns: u64,
    pub queue: LogQueue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GelfTransport {
    /// `level`: zlib's, 0 to 9.
    Udp {
        compression: GelfCompression,
        level: u32,
    },
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GelfCompression {
    Gzip,
    Zlib,
    None,
}

/// A server that speaks Fluentd's forward protocol, such as Fluentd and Fluent Bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fluentd {
    pub to: FluentdAddress,
    pub tag: String,
    /// What is in every record.
    pub fields: BTreeMap<String, String>,
    /// Times have nanoseconds.
    pub sub_second_precision: bool,
    /// A line waits until the server has said that it has it.
    pub request_ack: bool,
    /// The container starts without it.
    pub is_async: bool,
    /// A connection is used no longer than this, so that another server of the same name gets its share.
    pub reconnect_every_ms: Option<u64>,
    /// A connection that takes nothing for so long is given up.
    pub write_timeout_ms: Option<u64>,
    pub queue: LogQueue,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FluentdAddress {
    /// `host:port`
    Tcp(String),
    Unix(PathBuf),
}
