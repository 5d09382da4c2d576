//! Where the daemon is and the way there: a unix socket, TCP with a certificate on both sides, or ssh to a host that
//! has `rswarm` too.

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use identity::{ApiConnector, ApiStream, PemFiles};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// Where the daemon listens unless said otherwise.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/rswarm/rswarm.sock";
/// Docker's port for its API with TLS.
const TLS_PORT: u16 = 2376;

/// Certificates for a daemon that is reached over TCP.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsArgs {
    /// As docker has it; a server reached over TCP shows its certificate in any case
    #[arg(long, hide = true)]
    tls: bool,
    /// The same
    #[arg(long, hide = true)]
    tlsverify: bool,
    /// Trust servers with a certificate of this authority [default: ca.pem in $DOCKER_CERT_PATH or ~/.docker]
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// Certificate that the daemon sees [default: cert.pem there]
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Its key [default: key.pem there]
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
}

#[derive(Clone)]
pub(crate) enum Host {
    Unix(PathBuf),
    Tls { host: String, port: u16, connector: ApiConnector },
    Ssh { destination: String, port: Option<u16> },
}

impl Host {
    /// From `unix:///path` (or a bare path), `tcp://host[:port]` or `ssh://[user@]host[:port]`.
    pub(crate) fn parse(text: &str, tls: &TlsArgs) -> anyhow::Result<Self> {
        match text.split_once("://") {
            Some(("unix", path)) => Self::unix(text, path),
            None if text.starts_with('/') => Self::unix(text, text),
            Some(("tcp", place)) => {
                let (host, port) = split_port(place).with_context(|| unusable(text))?;
                let files = tls.files();
                let connector = ApiConnector::from_files(&files).with_context(|| {
                    format!(
                        "{text} is only spoken to with certificates on both sides, for whoever reaches it is root there; give \
                         --tlscacert, --tlscert and --tlskey, or set DOCKER_CERT_PATH to a directory with ca.pem, cert.pem and \
                         key.pem; ssh://HOST needs none of them"
                    )
                })?;
                Ok(Self::Tls { host: host.to_owned(), port: port.unwrap_or(TLS_PORT), connector })
            }
            Some(("ssh", place)) => {
                let (destination, port) = split_port(place).with_context(|| unusable(text))?;
                ensure!(!destination.starts_with('-'), unusable(text));
                Ok(Self::Ssh { destination: destination.to_owned(), port })
            }
            _ => bail!(unusable(text)),
        }
    }

    fn unix(text: &str, path: &str) -> anyhow::Result<Self> {
        ensure!(path.starts_with('/'), "the socket in {text:?} must be an absolute path, as in {DEFAULT_HOST}");
        Ok(Self::Unix(PathBuf::from(path)))
    }

    pub(crate) async fn connect(&self) -> io::Result<ApiStream> {
        match self {
            Self::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Self::Tls { host, port, connector } => Ok(Box::new(connector.connect(host, *port).await?)),
            Self::Ssh { destination, port } => Ok(Box::new(Piped::ssh(destination, *port)?)),
        }
    }

    /// What may be wrong when it cannot be reached.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Unix(_) => "Is it running? Start it with `rswarm daemon` or `systemctl start rswarm`",
            Self::Tls { .. } => {
                "Does it run with `--host tcp://…`, and are the certificates of both sides the right ones?"
            }
            Self::Ssh { .. } => "Is there an ssh client on this host?",
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tls { host, port, .. } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tls { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Self::Ssh { destination, port: None } => write!(f, "ssh://{destination}"),
            Self::Ssh { destination, port: Some(port) } => write!(f, "ssh://{destination}:{port}"),
        }
    }
}

impl TlsArgs {
    fn files(&self) -> PemFiles {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || variable("HOME").unwrap_or_default().join(".docker");
        let directory = variable("DOCKER_CERT_PATH").or_else(|| variable("DOCKER_CONFIG")).unwrap_or_else(home);
        let or = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| directory.join(name));
        PemFiles {
            ca: or(&self.tlscacert, "ca.pem"),
            certificate: or(&self.tlscert, "cert.pem"),
            key: or(&self.tlskey, "key.pem"),
        }
    }
}

fn unusable(text: &str) -> String {
    format!("cannot use the host {text:?}: write {DEFAULT_HOST}, tcp://HOST[:PORT] or ssh://[USER@]HOST[:PORT]")
}

/// `host`, `host:port`, `[::1]` and `[::1]:port`; an address of IPv6 without its brackets.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let place = place.trim_end_matches('/');
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or(())).transpose().ok()?;
    (!host.is_empty()).then_some((host, port))
}

/// A program that carries both directions; ended with this.
struct Piped {
    _child: Child,
    stdout: ChildStdout,
    /// Gone once this direction has ended: there is no other way to say so to a program.
    stdin: Option<ChildStdin>,
}

impl Piped {
    /// What ssh has to say appears on standard error.
    fn ssh(destination: &str, port: Option<u16>) -> io::Result<Self> {
        let mut command = Command::new("ssh");
        command.args(["-T", "-o", "ConnectTimeout=30"]);
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["--", destination, "rswarm", "system", "dial-stdio"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        let stdin = child.stdin.take();
        Ok(Self { _child: child, stdout, stdin })
    }

    fn stdin(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.stdin.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Piped {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(context, into)
    }
}

impl AsyncWrite for Piped {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stdin()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_43_hosts_are_read_or_refused_with_the_forms_there_are() {
        let read =
            |text: &str| Host::parse(text, &TlsArgs::default()).map_or_else(|e| format!("{e:#}"), |h| h.to_string());
        assert_eq!(read("/run/x.sock"), "unix:///run/x.sock");
        assert_eq!(read("ssh://root@h1:2222"), "ssh://root@h1:2222");
        assert_eq!(read("ssh://h1"), "ssh://h1");
        for bad in ["ftp://x", "tcp://", "tcp://h1:0", "tcp://h1:many", "ssh://-oProxyCommand=x", "ssh://", "h1"] {
            assert!(read(bad).starts_with(&format!("cannot use the host {bad:?}")), "{}", read(bad));
        }
        assert!(read("unix://x").contains("absolute path"));
        let nowhere = TlsArgs { tlscacert: Some("/nowhere/ca.pem".into()), ..TlsArgs::default() };
        let error = Host::parse("tcp://h1", &nowhere).map_or_else(|e| format!("{e:#}"), |h| h.to_string());
        assert!(error.contains("only spoken to with certificates") && error.contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn places_have_a_port_or_not() {
        assert_eq!(split_port("[::1]:80"), Some(("::1", Some(80))));
        assert_eq!(split_port("[::1]"), Some(("::1", None)));
        assert_eq!(split_port("h1/"), Some(("h1", None)));
        assert_eq!(split_port("[::1]80"), None);
    }
}
