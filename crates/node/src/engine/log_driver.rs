//! From the log driver a user names to what the runtime does with a container's output (parity E-27, S-62). Pure.
//!
//! Called for tasks and for single containers, before anything of them is made. Whatever the driver, the lines are kept in
//! a file as well, so that `logs` works with all of them but `none`.

mod remote;

use std::{collections::BTreeMap, path::PathBuf};

use regex_lite::Regex;
use runtime::{LogConfig, LogDriver, LogForward, Syslog, SyslogAddress, SyslogFormat};
use types::{Labels, Timestamp};

/// A log file's size and number when the spec says nothing: bounded, unlike Docker's, so that no
/// container can fill the disk (P27).
const DEFAULT_LOG_BYTES: u64 = 20 << 20;
const DEFAULT_LOG_FILES: u32 = 5;

/// What can be named, in the order of the API's answers.
pub const DRIVERS: [&str; 7] = ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];
/// Of every driver (moby `daemon/logger`). Lines wait for log servers alone, gelf's and fluentd's.
const COMMON: [&str; 2] = ["max-buffer-size", "mode"];
/// What of the container is shown beside its lines.
const SHOWN: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];
/// RFC 5424, section 6.2.1, by the names that moby takes; the number is the place.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const DAEMON: u8 = 3;
const NON_BLOCKING: &str = "non-blocking";
const SYSLOG_PORT: u16 = 514;

/// Why a log driver cannot be used as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogDriverError {
    #[error("log driver {0:?} is not there; known are {known}", known = DRIVERS.join(", "))]
    Unknown(String),
    #[error("unknown log opt {option:?} for the log driver {driver}; it has {known}", known = known.join(", "))]
    UnknownOption { driver: String, option: String, known: Vec<&'static str> },
    #[error("log opt {option}={value:?}: {why}")]
    Option { option: &'static str, value: String, why: String },
}

/// What is known of a container before it is made.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// 64 hexadecimal digits.
    pub id: &'a str,
    pub name: &'a str,
    pub image: &'a str,
    /// Of this host.
    pub hostname: &'a str,
    pub labels: &'a Labels,
    /// `NAME=value`
    pub env: &'a [String],
}

/// What becomes of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlan {
    pub driver: LogDriver,
    pub forward: Option<LogForward>,
}

/// What dockerd looks at before there is a container: which options there are, and what syslog's mean. The values of the others
/// come to light at its start.
///
/// # Errors
/// When the driver or one of its options is not known, or syslog is not told whom to send to.
pub fn check(wanted: Option<&types::LogDriver>) -> Result<(), LogDriverError> {
    let Some(wanted) = wanted else { return Ok(()) };
    check_options(wanted)?;
    match name(wanted) {
        "syslog" => destination(&wanted.options).map(drop),
        _ => Ok(()),
    }
}

/// The file that `logs` is read from.
///
/// # Errors
/// When the driver or one of its options is not known.
pub fn file_of(wanted: Option<&types::LogDriver>) -> Result<LogDriver, LogDriverError> {
    let default =
        LogDriver::JsonFile { max_size_bytes: DEFAULT_LOG_BYTES, max_files: DEFAULT_LOG_FILES, compress: false };
    let Some(wanted) = wanted else { return Ok(default) };
    check_options(wanted)?;
    match name(wanted) {
        "none" => return Ok(LogDriver::None),
        "json-file" | "local" => {}
        _ => return Ok(default),
    }
    let get = |key: &str| wanted.options.get(key);
    let (mut max_size_bytes, mut max_files) = (DEFAULT_LOG_BYTES, DEFAULT_LOG_FILES);
    if let Some(value) = get("max-size") {
        max_size_bytes = size(value).ok_or_else(|| bad("max-size", value, "write 10m, or -1 for no limit"))?;
    }
    if let Some(value) = get("max-file") {
        let number = value.parse().ok().filter(|number| *number > 0);
        max_files = number.ok_or_else(|| bad("max-file", value, "write a number of files, at least 1"))?;
    }
    let compress = match get("compress").map(String::as_str) {
        // as Docker has it: where there is something to compress
        None => name(wanted) == "local" && max_size_bytes > 0 && max_files > 1,
        Some("false" | "0") => false,
        Some("true" | "1") if max_size_bytes > 0 && max_files > 1 => true,
        Some(value @ ("true" | "1")) => {
            let why = "only files that were rotated are compressed: give a max-size, and a max-file of at least 2";
            return Err(bad("compress", value, why));
        }
        Some(value) => return Err(bad("compress", value, "write true or false")),
    };
    Ok(LogDriver::JsonFile { max_size_bytes, max_files, compress })
}

/// The name of that file in the container's directory. Docker's is for json-file alone: collectors read all that have it, and
/// would have lines twice, or their own again, of those that another driver shall keep from them.
pub(super) fn file_name(id: &str, wanted: Option<&types::LogDriver>) -> String {
    let [of_json_file, of_others] = file_names(id);
    if wanted.map_or("json-file", name) == "json-file" { of_json_file } else { of_others }
}

/// Whichever driver it was.
pub(super) fn file_names(id: &str) -> [String; 2] {
    [format!("{id}-json.log"), "kept-lines.json".to_owned()]
}

/// All of it.
///
/// # Errors
/// When the driver, one of its options or the value of one is not known.
pub fn plan(wanted: Option<&types::LogDriver>, about: &About<'_>) -> Result<LogPlan, LogDriverError> {
    let driver = file_of(wanted)?;
    let forward = match wanted.map(|wanted| (name(wanted), wanted)) {
        Some(("syslog", wanted)) => Some(LogForward::Syslog(syslog(&wanted.options, about)?)),
        Some(("gelf", wanted)) => Some(LogForward::Gelf(remote::gelf(&wanted.options, about)?)),
        Some(("fluentd", wanted)) => Some(LogForward::Fluentd(remote::fluentd(&wanted.options, about)?)),
        Some(("journald", wanted)) => Some(LogForward::Journald { fields: journal_fields(&wanted.options, about)? }),
        _ => None,
    };
    Ok(LogPlan { driver, forward })
}

/// What of a container is known when it is made, and not when it is planned.
pub(super) fn complete(log: &mut LogConfig, image_id: &str, args: &[String], created_at: Timestamp) {
    if let Some(LogForward::Gelf(gelf)) = &mut log.forward {
        gelf.created_at_ns = created_at.as_unix_ns();
        for (name, value) in [("_image_id", image_id.to_owned()), ("_command", args.join(" "))] {
            gelf.fields.entry(name.to_owned()).or_insert(value);
        }
    }
}

pub(super) fn name(wanted: &types::LogDriver) -> &str {
    if wanted.name.is_empty() { "json-file" } else { &wanted.name }
}

fn bad(option: &'static str, value: &str, why: impl Into<String>) -> LogDriverError {
    LogDriverError::Option { option, value: value.to_owned(), why: why.into() }
}

fn check_options(wanted: &types::LogDriver) -> Result<(), LogDriverError> {
    let own: &[&str] = match name(wanted) {
        "json-file" => &["compress", "max-file", "max-size"],
        "local" => &["compress", "max-file", "max-size"],
        "syslog" => &["syslog-address", "syslog-facility", "syslog-format"],
        "gelf" => remote::GELF,
        "fluentd" => remote::FLUENTD,
        "journald" | "none" => &[],
        other => return Err(LogDriverError::Unknown(other.to_owned())),
    };
    let mut known = [own, &COMMON].concat();
    if !matches!(name(wanted), "local" | "none") {
        known.extend(SHOWN);
    }
    known.sort_unstable();
    for option in ["env-regex", "labels-regex"] {
        pattern(&wanted.options, option)?;
    }
    if let Some(option) = wanted.options.keys().find(|option| !known.contains(&option.as_str())) {
        let (driver, option) = (name(wanted).to_owned(), option.clone());
        return Err(LogDriverError::UnknownOption { driver, option, known });
    }
    let mode = wanted.options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | NON_BLOCKING) {
        return Err(bad("mode", mode, "write blocking or non-blocking"));
    }
    match name(wanted) {
        "gelf" => remote::gelf_server(&wanted.options).map(drop),
        "fluentd" => remote::fluentd_server(&wanted.options).map(drop),
        _ => Ok(()),
    }
}

/// moby `daemon/logger/syslog`.
fn syslog(options: &Labels, about: &About<'_>) -> Result<Syslog, LogDriverError> {
    let (to, facility, format) = destination(options)?;
    let template = options.get("tag").map_or("", String::as_str);
    Ok(Syslog { to, facility, format, tag: tag(template, about)?, hostname: about.hostname.to_owned() })
}

/// Where the lines go, as what and how.
fn destination(options: &Labels) -> Result<(SyslogAddress, u8, SyslogFormat), LogDriverError> {
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    let to = address(get("syslog-address"))?;
    let facility = get("syslog-facility");
    let number = FACILITIES.iter().position(|known| *known == facility && !known.is_empty());
    let number = number.and_then(|number| u8::try_from(number).ok());
    let number = number.or_else(|| facility.parse().ok().filter(|number: &u8| usize::from(*number) < FACILITIES.len()));
    let facility = match number {
        Some(number) => number,
        None if facility.is_empty() => DAEMON,
        None => return Err(bad("syslog-facility", facility, "write daemon, user, local0 … or a number from 0 to 23")),
    };
    let format = match get("syslog-format") {
        "" => SyslogFormat::Unix,
        "rfc3164" => SyslogFormat::Rfc3164,
        "rfc5424" => SyslogFormat::Rfc5424,
        "rfc5424micro" => SyslogFormat::Rfc5424Micro,
        other => return Err(bad("syslog-format", other, "write rfc3164, rfc5424 or rfc5424micro")),
    };
    Ok((to, facility, format))
}

fn address(text: &str) -> Result<SyslogAddress, LogDriverError> {
    let bad = |why: &str| bad("syslog-address", text, why);
    if text.is_empty() {
        return Ok(SyslogAddress::Local);
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("write udp://host:514, tcp://… or unixgram:///…"))?;
    let path = || match rest.starts_with('/') {
        true => Ok(PathBuf::from(rest)),
        false => Err(bad("write an absolute path: unixgram:///dev/log")),
    };
    let with_port = || host_and_port(rest, Some(SYSLOG_PORT)).map_err(bad);
    match scheme {
        "unix" => Ok(SyslogAddress::Unix(path()?)),
        "unixgram" => Ok(SyslogAddress::Unixgram(path()?)),
        "udp" => Ok(SyslogAddress::Udp(with_port()?)),
        "tcp" => Ok(SyslogAddress::Tcp(with_port()?)),
        "tcp+tls" => Err(bad("TLS is not spoken here: send to a relay on this host, which does")),
        _ => Err(bad("the scheme is none of udp, tcp, unix and unixgram")),
    }
}

/// `host:port` of what may have a path's slash after it, and no port where there is a default.
fn host_and_port(text: &str, default: Option<u16>) -> Result<String, &'static str> {
    let authority = text.trim_end_matches('/');
    let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok() && (!host.contains(':') || host.starts_with('['))
    });
    match authority {
        "" => Err("it names no host"),
        _ if has_port => Ok(authority.to_owned()),
        _ if authority.contains(':') && !authority.starts_with('[') => Err("write [address]:port or host:port"),
        host => default.map(|port| format!("{host}:{port}")).ok_or("it names no port: write host:port"),
    }
}

/// moby `daemon/logger/journald`.
fn journal_fields(options: &Labels, about: &About<'_>) -> Result<Vec<(String, String)>, LogDriverError> {
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    let tag = tag(get("tag"), about)?;
    let own = [
        ("CONTAINER_ID", short(about.id)),
        ("CONTAINER_ID_FULL", about.id),
        ("CONTAINER_NAME", about.name),
        ("CONTAINER_TAG", tag.as_str()),
        ("IMAGE_NAME", about.image),
        ("SYSLOG_IDENTIFIER", tag.as_str()),
    ];
    let mut fields: Vec<(String, String)> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let shown = shown_in_logs(options, about.labels, about.env)?;
    fields.extend(shown.into_iter().map(|(name, value)| (field_name(name), value.to_owned())));
    Ok(fields)
}

/// What `logs --details` shows of the container: what its driver was asked to. A tag where it is a file's, as in Docker, and
/// somebody gave one.
pub(super) fn details(wanted: &types::LogDriver, about: &About<'_>) -> BTreeMap<String, String> {
    // what is no regular expression was refused when the container was made
    let shown = shown_in_logs(&wanted.options, about.labels, about.env).unwrap_or_default();
    let mut details: BTreeMap<String, String> =
        shown.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let template = wanted.options.get("tag").filter(|template| !template.is_empty() && name(wanted) == "json-file");
    details.extend(template.and_then(|template| tag(template, about).ok()).map(|tag| ("tag".to_owned(), tag)));
    details
}

/// The labels and variables that the options `labels`, `labels-regex`, `env` and `env-regex` choose.
///
/// # Errors
/// When one is no regular expression.
pub(super) fn shown_in_logs<'a>(
    options: &Labels,
    labels: &'a Labels,
    env: &'a [String],
) -> Result<BTreeMap<&'a str, &'a str>, LogDriverError> {
    let listed = |option: &str| {
        let names = options.get(option).map_or("", String::as_str);
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    let mut shown = BTreeMap::new();
    let (of_labels, of_env) = (listed("labels"), listed("env"));
    let (labels_like, env_like) = (pattern(options, "labels-regex")?, pattern(options, "env-regex")?);
    let matches = |pattern: &Option<Regex>, name: &str| pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    shown.extend(labels.filter(|(name, _)| of_labels.contains(name) || matches(&labels_like, name)));
    let variables = env.iter().filter_map(|variable| variable.split_once('='));
    shown.extend(variables.filter(|(name, _)| of_env.contains(name) || matches(&env_like, name)));
    Ok(shown)
}

/// What names a label or a variable, anywhere in it as in Docker.
fn pattern(options: &Labels, option: &'static str) -> Result<Option<Regex>, LogDriverError> {
    let Some(text) = options.get(option).filter(|text| !text.is_empty()) else { return Ok(None) };
    Regex::new(text).map(Some).map_err(|error| bad(option, text, format!("not a regular expression: {error}")))
}

/// Upper case, digits and `_`, not beginning with that: all that the journal takes (systemd.journal-fields(7)).
fn field_name(name: &str) -> String {
    let of = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(of).collect::<String>().trim_start_matches('_').to_owned()
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Docker's template of a tag (moby `daemon/logger/loginfo.go`): its placeholders, and text between them.
fn tag(template: &str, about: &About<'_>) -> Result<String, LogDriverError> {
    let mut out = String::new();
    let mut rest = if template.is_empty() { "{{.ID}}" } else { template };
    while let Some((before, after)) = rest.split_once("{{") {
        let open = || bad("tag", template, "a placeholder does not end: write {{.Name}}");
        let (placeholder, remainder) = after.split_once("}}").ok_or_else(open)?;
        out.push_str(before);
        out.push_str(match placeholder.trim() {
            ".ID" => short(about.id),
            ".FullID" => about.id,
            ".Name" => about.name.trim_start_matches('/'),
            ".ImageName" => about.image,
            ".DaemonName" => "rswarm",
            other => {
                let known = "known are .ID, .FullID, .Name, .ImageName and .DaemonName";
                return Err(bad("tag", template, format!("unknown placeholder {other:?}; {known}")));
            }
        });
        rest = remainder;
    }
    out.push_str(rest);
    Ok(out)
}

/// `10m`; -1 is no limit, as 0 bytes.
fn size(text: &str) -> Option<u64> {
    if text == "-1" {
        return Some(0);
    }
    text.parse::<types::Bytes>().ok().map(|bytes| bytes.0)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn wanted(name: &str, options: &[(&str, &str)]) -> types::LogDriver {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        types::LogDriver { name: name.to_owned(), options }
    }

    fn planned(name: &str, options: &[(&str, &str)]) -> Result<LogPlan, String> {
        let labels = Labels::from([("com.example.tier".to_owned(), "web".to_owned())]);
        let id = "0123456789abcdef".repeat(4);
        let env = ["A=1".to_owned(), "B".to_owned()];
        let (name_of, image, hostname) = ("web.1", "nginx:1", "host1");
        let about = About { id: &id, name: name_of, image, hostname, labels: &labels, env: &env };
        plan(Some(&wanted(name, options)), &about).map_err(|error| error.to_string())
    }

    /// E-27: collectors of Docker's logs find the lines of json-file by its name, and those of no other driver.
    #[test]
    fn e27_only_the_file_of_json_file_has_dockers_name() {
        let file = |name: &str| file_name("abc", Some(&wanted(name, &[])));
        assert_eq!([file(""), file("json-file"), file_name("abc", None)], ["abc-json.log"; 3]);
        assert!(["local", "journald", "syslog"].iter().all(|name| !file(name).ends_with(".log")));
    }

    /// E-27: the drivers and their options.
    #[test]
    fn e27_what_each_driver_does() {
        let file = |bytes, files| LogDriver::JsonFile { max_size_bytes: bytes, max_files: files, compress: false };
        let packed = |bytes, files| LogDriver::JsonFile { max_size_bytes: bytes, max_files: files, compress: true };
        let only = |driver| Ok(LogPlan { driver, forward: None });
        assert_eq!(planned("", &[]), only(file(20 << 20, 5)));
        assert_eq!(planned("json-file", &[("max-size", "10m"), ("max-file", "3")]), only(file(10 << 20, 3)));
        assert_eq!(planned("local", &[("max-size", "-1"), ("compress", "false")]), only(file(0, 5)));
        assert_eq!(planned("local", &[]), only(packed(20 << 20, 5)));
        assert_eq!(planned("local", &[("max-file", "1")]), only(file(20 << 20, 1)));
        assert_eq!(planned("json-file", &[("compress", "true"), ("max-size", "1m")]), only(packed(1 << 20, 5)));
        assert_eq!(planned("none", &[]), only(LogDriver::None));
        let syslog = |options: &[(&str, &str)]| match planned("syslog", options).expect("good").forward {
            Some(LogForward::Syslog(Syslog { to, facility, format, tag, .. })) => {
                format!("{to:?} {facility} {format:?} {tag}")
            }
            other => panic!("{other:?}"),
        };
        let all = [
            syslog(&[]),
            syslog(&[("syslog-address", "udp://10.0.0.9"), ("syslog-facility", "local7"), ("tag", "{{.Name}}/x")]),
            syslog(&[("syslog-address", "tcp://[fd00::1]:601"), ("syslog-format", "rfc5424micro")]),
            syslog(&[("syslog-address", "unixgram:///run/log"), ("syslog-facility", "16"), ("mode", "non-blocking")]),
        ];
        expect![[r#"
            Local 3 Unix 0123456789ab
            Udp("10.0.0.9:514") 23 Unix web.1/x
            Tcp("[fd00::1]:601") 3 Rfc5424Micro 0123456789ab
            Unixgram("/run/log") 16 Unix 0123456789ab"#]]
        .assert_eq(&all.join("\n"));
        let options = [("tag", "t"), ("labels-regex", "tier$"), ("env", "A,B"), ("env-regex", "^C")];
        let Some(LogForward::Journald { fields }) = planned("journald", &options).expect("good").forward else {
            panic!("no journal")
        };
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", &value[..value.len().min(12)])).collect();
        expect![[r#"
            CONTAINER_ID=0123456789ab
            CONTAINER_ID_FULL=0123456789ab
            CONTAINER_NAME=web.1
            CONTAINER_TAG=t
            IMAGE_NAME=nginx:1
            SYSLOG_IDENTIFIER=t
            A=1
            COM_EXAMPLE_TIER=web"#]]
        .assert_eq(&fields.join("\n"));
    }

    #[test]
    fn e27_what_is_refused_says_why() {
        let cases = [
            ("splunk", "", ""),
            ("json-file", "syslog-address", "udp://h"),
            ("local", "tag", "x"),
            ("json-file", "max-size", "ten"),
            ("json-file", "max-file", "0"),
            ("json-file", "compress", "gzip"),
            ("json-file", "mode", "fast"),
            ("syslog", "syslog-address", "10.0.0.1"),
            ("syslog", "syslog-address", "tcp+tls://h:6514"),
            ("syslog", "syslog-address", "udp://"),
            ("syslog", "syslog-address", "udp://fd00::1"),
            ("syslog", "syslog-address", "unix://log"),
            ("syslog", "syslog-facility", "loud"),
            ("syslog", "syslog-format", "json"),
            ("syslog", "tag", "{{.Colour}}"),
            ("journald", "tag", "{{.Name"),
            ("json-file", "labels-regex", "("),
        ];
        let refused = |(driver, option, value): (&str, &str, &str)| {
            let options = [(option, value)];
            planned(driver, if option.is_empty() { &[] } else { &options }).expect_err("refused")
        };
        expect![[r#"
            log driver "splunk" is not there; known are fluentd, gelf, journald, json-file, local, none, syslog
            unknown log opt "syslog-address" for the log driver json-file; it has compress, env, env-regex, labels, labels-regex, max-buffer-size, max-file, max-size, mode, tag
            unknown log opt "tag" for the log driver local; it has compress, max-buffer-size, max-file, max-size, mode
            log opt max-size="ten": write 10m, or -1 for no limit
            log opt max-file="0": write a number of files, at least 1
            log opt compress="gzip": write true or false
            log opt mode="fast": write blocking or non-blocking
            log opt syslog-address="10.0.0.1": write udp://host:514, tcp://… or unixgram:///…
            log opt syslog-address="tcp+tls://h:6514": TLS is not spoken here: send to a relay on this host, which does
            log opt syslog-address="udp://": it names no host
            log opt syslog-address="udp://fd00::1": write [address]:port or host:port
            log opt syslog-address="unix://log": write an absolute path: unixgram:///dev/log
            log opt syslog-facility="loud": write daemon, user, local0 … or a number from 0 to 23
            log opt syslog-format="json": write rfc3164, rfc5424 or rfc5424micro
            log opt tag="{{.Colour}}": unknown placeholder ".Colour"; known are .ID, .FullID, .Name, .ImageName and .DaemonName
            log opt tag="{{.Name": a placeholder does not end: write {{.Name}}
            log opt labels-regex="(": not a regular expression: found open group without closing ')'"#]]
        .assert_eq(&cases.map(refused).join("\n"));
    }

    /// E-27: what is wrong with syslog's options is told when a container is made; a bad value of a file's only at its start.
    #[test]
    fn e_27_what_is_looked_at_before_there_is_a_container() {
        let told = |name: &str, option: &str, value: &str| {
            let wanted = wanted(name, &[(option, value)]);
            (check(Some(&wanted)).is_err(), file_of(Some(&wanted)).is_err())
        };
        assert_eq!(told("json-file", "max-size", "bad"), (false, true));
        assert_eq!(told("json-file", "colour", "red"), (true, true));
        assert!(told("syslog", "syslog-address", "bad://x").0 && told("syslog", "syslog-facility", "x").0);
        assert!(!told("syslog", "syslog-address", "udp://h:5").0);
    }
}
