//! The options of the drivers `gelf` and `fluentd`, whose lines go to a log server (moby `daemon/logger/gelf` and
//! `daemon/logger/fluentd`). Pure.

use std::collections::BTreeMap;

use runtime::{Fluentd, FluentdAddress, Gelf, GelfCompression, GelfTransport, LogQueue};
use types::{Labels, parse_duration};

use super::{About, LogDriverError, NON_BLOCKING, bad, host_and_port, shown_in_logs, size, tag};

pub(super) const GELF: &[&str] = &[
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];
pub(super) const FLUENTD: &[&str] = &[
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
];
const FLUENTD_PORT: u16 = 24_224;
const FLUENTD_DEFAULT: &str = "127.0.0.1:24224";
/// What waits for a log server: Docker's bounds of `max-buffer-size` and `fluentd-buffer-limit`. Here each holds always, so
/// that a server that is away costs no more than this of a host's memory for each container.
const BUFFER_BYTES: u64 = 1 << 20;
const BUFFER_LINES: u64 = 1 << 20;
/// Between the first attempts to reach a server that is away, in both drivers.
const FIRST_WAIT_MS: u64 = 1000;
/// zlib's best speed, as go-gelf has it, and what -1 stands for.
const FASTEST: u32 = 1;
const USUAL: u32 = 6;

type Read<T> = Result<T, LogDriverError>;

/// The whole of it.
pub(super) fn gelf(options: &Labels, about: &About<'_>) -> Read<Gelf> {
    let mut gelf = gelf_server(options)?;
    about.hostname.clone_into(&mut gelf.hostname);
    let own = [
        ("_container_id", about.id.to_owned()),
        ("_container_name", about.name.trim_start_matches('/').to_owned()),
        ("_image_name", about.image.to_owned()),
        ("_tag", tag(text(options, "tag"), about)?),
    ];
    gelf.fields = own.map(|(name, value)| (name.to_owned(), value)).into();
    for (name, value) in shown_in_logs(options, about.labels, about.env)? {
        let name = if name.starts_with('_') { name.to_owned() } else { format!("_{name}") };
        gelf.fields.insert(name, value.to_owned());
    }
    Ok(gelf)
}

/// What is known before the container is.
pub(super) fn gelf_server(options: &Labels) -> Read<Gelf> {
    let given = text(options, "gelf-address");
    let refused = |why: &str| bad("gelf-address", given, why);
    if given.is_empty() {
        return Err(refused("it is required: write udp://host:12201 or tcp://host:12201"));
    }
    let (scheme, rest) = given.split_once("://").ok_or_else(|| refused("write udp://host:12201 or tcp://…"))?;
    let address = host_and_port(rest, None).map_err(refused)?;
    let transport = match scheme {
        "udp" => GelfTransport::Udp { compression: compression(options)?, level: level(options)? },
        "tcp" => GelfTransport::Tcp,
        _ => return Err(refused("the scheme is none of udp and tcp")),
    };
    let (foreign, why): (&[&'static str], _) = match transport {
        GelfTransport::Udp { .. } => (&["gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"], "it is of tcp:// alone"),
        GelfTransport::Tcp => (&["gelf-compression-level", "gelf-compression-type"], "it is of udp:// alone"),
    };
    if let Some(&option) = foreign.iter().find(|option| options.contains_key(**option)) {
        return Err(bad(option, text(options, option), why));
    }
    let delay = number(options, "gelf-tcp-reconnect-delay", "write a number of seconds")?;
    let first_wait_ms = delay.map_or(FIRST_WAIT_MS, |seconds| seconds.saturating_mul(1000));
    let attempts = number(options, "gelf-tcp-max-reconnect", "write a number of attempts")?;
    let queue = queue(options, first_wait_ms, attempts)?;
    let (hostname, fields) = (String::new(), BTreeMap::new());
    Ok(Gelf { address, transport, hostname, fields, created_at_ns: 0, queue })
}

fn compression(options: &Labels) -> Read<GelfCompression> {
    match text(options, "gelf-compression-type") {
        "" | "gzip" => Ok(GelfCompression::Gzip),
        "zlib" => Ok(GelfCompression::Zlib),
        "none" => Ok(GelfCompression::None),
        other => Err(bad("gelf-compression-type", other, "write gzip, zlib or none")),
    }
}

fn level(options: &Labels) -> Read<u32> {
    match text(options, "gelf-compression-level") {
        "" => Ok(FASTEST),
        "-1" => Ok(USUAL),
        given => {
            let level = given.parse().ok().filter(|level| *level <= 9);
            level.ok_or_else(|| bad("gelf-compression-level", given, "write a number from -1 to 9"))
        }
    }
}

/// The whole of it.
pub(super) fn fluentd(options: &Labels, about: &About<'_>) -> Read<Fluentd> {
    let mut fluentd = fluentd_server(options)?;
    fluentd.tag = tag(text(options, "tag"), about)?;
    let name = format!("/{}", about.name.trim_start_matches('/'));
    let own = [("container_id", about.id.to_owned()), ("container_name", name)];
    fluentd.fields = own.map(|(name, value)| (name.to_owned(), value)).into();
    let shown = shown_in_logs(options, about.labels, about.env)?;
    fluentd.fields.extend(shown.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(fluentd)
}

/// What is known before the container is.
pub(super) fn fluentd_server(options: &Labels) -> Read<Fluentd> {
    let to = fluentd_address(text(options, "fluentd-address"))?;
    let is_async = flag(options, "fluentd-async")?;
    let lines = text(options, "fluentd-buffer-limit");
    let max_lines = match lines {
        "" => BUFFER_LINES,
        given => size(given)
            .filter(|lines| *lines > 0)
            .ok_or_else(|| bad("fluentd-buffer-limit", given, "write a number of lines, such as 8192"))?,
    };
    let first_wait_ms = ms(options, "fluentd-retry-wait")?.unwrap_or(FIRST_WAIT_MS);
    let attempts = number(options, "fluentd-max-retries", "write a number of attempts")?;
    let queue = queue(options, first_wait_ms, attempts)?;
    let reconnect_every_ms = ms(options, "fluentd-async-reconnect-interval")?;
    if reconnect_every_ms.is_some_and(|ms| !(100..=10_000).contains(&ms)) {
        let option = "fluentd-async-reconnect-interval";
        return Err(bad(option, text(options, option), "write a duration from 100ms to 10s"));
    }
    Ok(Fluentd {
        to,
        tag: String::new(),
        fields: BTreeMap::new(),
        sub_second_precision: flag(options, "fluentd-sub-second-precision")?,
        request_ack: flag(options, "fluentd-request-ack")?,
        is_async,
        reconnect_every_ms: reconnect_every_ms.filter(|_| is_async),
        write_timeout_ms: ms(options, "fluentd-write-timeout")?,
        queue: LogQueue { max_lines, is_blocking: queue.is_blocking && !is_async, ..queue },
    })
}

fn fluentd_address(given: &str) -> Read<FluentdAddress> {
    let refused = |why: &str| bad("fluentd-address", given, why);
    let tcp = |rest: &str| host_and_port(rest, Some(FLUENTD_PORT)).map(FluentdAddress::Tcp).map_err(refused);
    match given.split_once("://") {
        None if given.is_empty() => Ok(FluentdAddress::Tcp(FLUENTD_DEFAULT.to_owned())),
        None => tcp(given),
        Some(("tcp", rest)) => tcp(rest),
        Some(("unix", path)) if path.starts_with('/') => Ok(FluentdAddress::Unix(path.into())),
        Some(("unix", _)) => Err(refused("write an absolute path: unix:///run/fluentd.sock")),
        Some(("tls", _)) => Err(refused("TLS is not spoken here: send to a forwarder on this host, which does")),
        Some(_) => Err(refused("the scheme is none of tcp and unix")),
    }
}

/// Where the mode is not said, a container rather waits than loses lines, as in Docker.
fn queue(options: &Labels, first_wait_ms: u64, attempts: Option<u64>) -> Read<LogQueue> {
    let max_bytes = match text(options, "max-buffer-size") {
        "" => BUFFER_BYTES,
        given => {
            let bytes = size(given).filter(|bytes| *bytes > 0);
            bytes.ok_or_else(|| bad("max-buffer-size", given, "write a size, such as 4m"))?
        }
    };
    // none is no bound, as in fluent-logger
    let attempts =
        attempts.filter(|attempts| *attempts > 0).map(|attempts| u32::try_from(attempts).unwrap_or(u32::MAX));
    let is_blocking = text(options, "mode") != NON_BLOCKING;
    Ok(LogQueue { max_bytes, max_lines: BUFFER_LINES, is_blocking, first_wait_ms, attempts })
}

fn text<'a>(options: &'a Labels, option: &str) -> &'a str {
    options.get(option).map_or("", String::as_str)
}

fn number(options: &Labels, option: &'static str, why: &str) -> Read<Option<u64>> {
    match text(options, option) {
        "" => Ok(None),
        given => given.parse().map(Some).map_err(|_| bad(option, given, why)),
    }
}

/// As Go reads them.
fn flag(options: &Labels, option: &'static str) -> Read<bool> {
    match text(options, option) {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(bad(option, other, "write true or false")),
    }
}

/// Milliseconds; 0 is as nothing said.
fn ms(options: &Labels, option: &'static str) -> Read<Option<u64>> {
    match text(options, option) {
        "" => Ok(None),
        given => {
            let duration = parse_duration(given).map_err(|why| bad(option, given, why))?;
            Ok(u64::try_from(duration.as_millis()).ok().filter(|ms| *ms > 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use runtime::{LogConfig, LogDriver, LogForward};
    use types::Timestamp;

    use super::{super::complete, *};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn with_about<T>(work: impl FnOnce(&About<'_>) -> T) -> T {
        let (labels, env) = (labels(&[("tier", "web"), ("_own", "x")]), ["A=1".to_owned()]);
        work(&About {
            id: "0123456789abcdef",
            name: "web.1",
            image: "nginx:1",
            hostname: "h1",
            labels: &labels,
            env: &env,
        })
    }

    /// E-27: gelf's options, and the fields of its messages.
    #[test]
    fn e27_options_of_gelf() {
        let of = |options: &[(&str, &str)]| with_about(|about| gelf(&labels(options), about)).expect("good");
        let plain = of(&[("gelf-address", "udp://log:12201"), ("labels-regex", "."), ("env", "A")]);
        expect![[r#"
            {"_A": "1", "_container_id": "0123456789abcdef", "_container_name": "web.1", "_image_name": "nginx:1", "_own": "x", "_tag": "0123456789ab", "_tier": "web"}
            log:12201 Udp { compression: Gzip, level: 1 } h1 LogQueue { max_bytes: 1048576, max_lines: 1048576, is_blocking: true, first_wait_ms: 1000, attempts: None }"#]]
        .assert_eq(&format!("{:?}\n{} {:?} {} {:?}", plain.fields, plain.address, plain.transport, plain.hostname, plain.queue));
        let udp = of(&[
            ("gelf-address", "udp://[::1]:1"),
            ("gelf-compression-type", "zlib"),
            ("gelf-compression-level", "-1"),
            ("mode", "non-blocking"),
            ("max-buffer-size", "4m"),
        ]);
        assert_eq!(udp.transport, GelfTransport::Udp { compression: GelfCompression::Zlib, level: 6 });
        assert_eq!((udp.queue.is_blocking, udp.queue.max_bytes), (false, 4 << 20));
        let (delay, most) = (("gelf-tcp-reconnect-delay", "5"), ("gelf-tcp-max-reconnect", "7"));
        let tcp = of(&[("gelf-address", "tcp://log:1"), delay, most, ("tag", "{{.Name}}")]);
        assert_eq!((tcp.transport, tcp.queue.first_wait_ms, tcp.queue.attempts), (GelfTransport::Tcp, 5000, Some(7)));
        assert_eq!(tcp.fields["_tag"], "web.1");

        let (path, driver) = ("/log".into(), LogDriver::None);
        let mut log = LogConfig { path, driver, forward: Some(LogForward::Gelf(tcp)) };
        complete(&mut log, "sha256:1", &["sh".to_owned(), "-c".to_owned()], Timestamp::from_unix_ns(5));
        let Some(LogForward::Gelf(made)) = log.forward else { panic!("no gelf") };
        assert_eq!((made.fields["_image_id"].as_str(), made.fields["_command"].as_str()), ("sha256:1", "sh -c"));
        assert_eq!(made.created_at_ns, 5);
    }

    /// E-27: fluentd's options, and what its records have.
    #[test]
    fn e27_options_of_fluentd() {
        let of = |options: &[(&str, &str)]| with_about(|about| fluentd(&labels(options), about)).expect("good");
        let plain = of(&[("labels", "tier"), ("tag", "docker.{{.Name}}")]);
        assert_eq!((plain.tag.as_str(), &plain.to), ("docker.web.1", &FluentdAddress::Tcp(FLUENTD_DEFAULT.into())));
        let wanted = [("container_id", "0123456789abcdef"), ("container_name", "/web.1"), ("tier", "web")];
        assert_eq!(plain.fields, labels(&wanted));
        assert!(plain.queue.is_blocking && !plain.is_async && !plain.request_ack);
        let full = of(&[
            ("fluentd-address", "unix:///run/fluentd.sock"),
            ("fluentd-async", "true"),
            ("fluentd-async-reconnect-interval", "5s"),
            ("fluentd-buffer-limit", "8k"),
            ("fluentd-max-retries", "3"),
            ("fluentd-request-ack", "1"),
            ("fluentd-retry-wait", "1.5s"),
            ("fluentd-sub-second-precision", "True"),
            ("fluentd-write-timeout", "250ms"),
        ]);
        assert_eq!(full.to, FluentdAddress::Unix("/run/fluentd.sock".into()));
        assert!(full.is_async && full.request_ack && full.sub_second_precision && !full.queue.is_blocking);
        assert_eq!((full.reconnect_every_ms, full.write_timeout_ms), (Some(5000), Some(250)));
        assert_eq!((full.queue.max_lines, full.queue.first_wait_ms, full.queue.attempts), (8192, 1500, Some(3)));
        for (given, wanted) in [("log", "log:24224"), ("tcp://log:1", "log:1"), ("tcp://[::1]", "[::1]:24224")] {
            assert_eq!(of(&[("fluentd-address", given)]).to, FluentdAddress::Tcp(wanted.into()));
        }
    }

    /// E-27: wrong values are refused before the container is made.
    #[test]
    fn e27_what_log_servers_refuse() {
        let gelf = |option: &str, value: &str| {
            let address = if option.contains("tcp") { "udp://h:1" } else { "tcp://h:1" };
            gelf_server(&labels(&[("gelf-address", address), (option, value)])).expect_err("refused").to_string()
        };
        let udp = |option: &str, value: &str| {
            gelf_server(&labels(&[("gelf-address", "udp://h:1"), (option, value)])).expect_err("refused").to_string()
        };
        let fluentd =
            |option: &str, value: &str| fluentd_server(&labels(&[(option, value)])).expect_err("refused").to_string();
        let all = [
            gelf_server(&Labels::new()).expect_err("refused").to_string(),
            udp("gelf-address", "h:1"),
            udp("gelf-address", "udp://h"),
            udp("gelf-address", "https://h:1"),
            udp("gelf-compression-type", "lz4"),
            udp("gelf-compression-level", "10"),
            gelf("gelf-compression-type", "gzip"),
            gelf("gelf-tcp-max-reconnect", "3"),
            udp("max-buffer-size", "much"),
            fluentd("fluentd-address", "udp://h:1"),
            fluentd("fluentd-address", "tls://h:1"),
            fluentd("fluentd-address", "unix://x"),
            fluentd("fluentd-address", "tcp://h:1/path"),
            fluentd("fluentd-async", "yes"),
            fluentd("fluentd-buffer-limit", "0"),
            fluentd("fluentd-max-retries", "-1"),
            fluentd("fluentd-retry-wait", "5"),
            fluentd("fluentd-async-reconnect-interval", "1m"),
        ];
        expect![[r#"
            log opt gelf-address="": it is required: write udp://host:12201 or tcp://host:12201
            log opt gelf-address="h:1": write udp://host:12201 or tcp://…
            log opt gelf-address="udp://h": it names no port: write host:port
            log opt gelf-address="https://h:1": the scheme is none of udp and tcp
            log opt gelf-compression-type="lz4": write gzip, zlib or none
            log opt gelf-compression-level="10": write a number from -1 to 9
            log opt gelf-compression-type="gzip": it is of udp:// alone
            log opt gelf-tcp-max-reconnect="3": it is of tcp:// alone
            log opt max-buffer-size="much": write a size, such as 4m
            log opt fluentd-address="udp://h:1": the scheme is none of tcp and unix
            log opt fluentd-address="tls://h:1": TLS is not spoken here: send to a forwarder on this host, which does
            log opt fluentd-address="unix://x": write an absolute path: unix:///run/fluentd.sock
            log opt fluentd-address="tcp://h:1/path": write [address]:port or host:port
            log opt fluentd-async="yes": write true or false
            log opt fluentd-buffer-limit="0": write a number of lines, such as 8192
            log opt fluentd-max-retries="-1": write a number of attempts
            log opt fluentd-retry-wait="5": "5" is not a duration; write for example 300ms, 10s or 1h30m
            log opt fluentd-async-reconnect-interval="1m": write a duration from 100ms to 10s"#]]
        .assert_eq(&all.join("\n"));
    }
}
