//! The keys of the API and the metrics: where they listen, and who may come. Pure.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{ConfigFile, take};
use crate::config::Config;

/// What is said of it, in the words of the flags.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listen {
    socket: Option<PathBuf>,
    hosts: Vec<String>,
    metrics: Option<String>,
    /// By the keys.
    files: [(&'static str, Option<PathBuf>); 3],
    tls: Option<bool>,
    verify: Option<bool>,
}

impl ConfigFile {
    /// Addresses by their kinds.
    pub(super) fn listen(&self) -> Result<Listen> {
        let mut listen = Listen {
            metrics: self.metrics_addr.clone().filter(|address| !address.is_empty()),
            files: [
                ("tlscacert", self.tlscacert.clone()),
                ("tlscert", self.tlscert.clone()),
                ("tlskey", self.tlskey.clone()),
            ],
            tls: self.tls,
            verify: self.tlsverify,
            ..Listen::default()
        };
        for host in self.hosts.iter().flatten() {
            match host.split_once("://") {
                Some(("tcp", _)) => listen.hosts.push(host.clone()),
                Some(("unix", "")) => {}
                Some(("unix", path)) if path.starts_with('/') => {
                    if listen.socket.replace(path.into()).is_some() {
                        bail!(
                            "\"hosts\": {host}: the API has one unix socket; name one, and link to it from other places"
                        );
                    }
                }
                Some(("fd", _)) => bail!(
                    "\"hosts\": {host}: rswarm makes its socket itself and takes none from systemd; leave it out, or name \
                     unix:///run/rswarm/rswarm.sock"
                ),
                _ => bail!("\"hosts\": {host:?} is no such address; write unix:///PATH or tcp://ADDRESS[:PORT]"),
            }
        }
        Ok(listen)
    }
}

impl Listen {
    /// Puts it beside the flags.
    pub(super) fn take_into(self, config: &mut Config) -> Result<()> {
        let Self { socket, hosts, metrics, files, tls, verify } = self;
        let given = config.given.clone();
        take(&mut config.socket, socket.map(Some), &given, "socket", "hosts")?;
        take(&mut config.host, (!hosts.is_empty()).then_some(hosts), &given, "host", "hosts")?;
        take(&mut config.metrics_addr, metrics.map(Some), &given, "metrics_addr", "metrics-addr")?;
        let is_on_tcp = !config.host.is_empty() || config.metrics_addr.is_some();
        let slots = [&mut config.tlscacert, &mut config.tlscert, &mut config.tlskey];
        for ((key, file), slot) in files.into_iter().zip(slots) {
            if file.is_some() && !is_on_tcp {
                bail!(
                    "{key:?} is for \"hosts\" with tcp:// and for \"metrics-addr\", and none of them is set; leave it out"
                );
            }
            take(slot, file.map(Some), &given, key, key)?;
        }
        for (key, said) in [("tls", tls), ("tlsverify", verify)] {
            if said == Some(false) && is_on_tcp {
                bail!(
                    "{key:?}: what listens on TCP has TLS, and asks its clients for a certificate of \"tlscacert\"; leave it out, \
                     or say true"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;

    /// E-50, E-43, C-38: as with the flags.
    #[test]
    fn e_50_where_the_api_listens() {
        let text = r#"{"hosts": ["unix:///run/x.sock", "tcp://0.0.0.0:2376"], "tlsverify": true, "tlscacert": "/a",
            "tlscert": "/b", "tlskey": "/c", "metrics-addr": "127.0.0.1:9323", "group": "docker"}"#;
        let config = read(&[], text).expect("a good file");
        assert_eq!(config.socket_path().to_str(), Some("/run/x.sock"));
        assert_eq!((config.host.len(), config.metrics_addr.as_deref()), (1, Some("127.0.0.1:9323")));
        assert_eq!((config.tlskey, config.of_file.group.as_deref()), (Some("/c".into()), Some("docker")));
        let usual = r#"{"hosts": ["unix://"], "tls": false, "tlsverify": false, "metrics-addr": "", "group": ""}"#;
        let config = read(&[], usual).expect("what is so anyway");
        assert_eq!((config.socket, config.host.len(), config.of_file.group), (None, 0, None));
    }

    /// E-50
    #[test]
    fn e_50_where_it_does_not() {
        let refused = |arguments: &[&str], text: &str| read(arguments, text).expect_err(text);
        assert!(refused(&[], r#"{"hosts": ["fd://"]}"#).contains("takes none from systemd"));
        assert!(refused(&[], r#"{"hosts": ["unix:///a", "unix:///b"]}"#).contains("has one unix socket"));
        assert!(refused(&[], r#"{"hosts": ["0.0.0.0:2375"]}"#).contains("write unix:///PATH"));
        assert!(refused(&["--socket", "/a"], r#"{"hosts": ["unix:///b"]}"#).contains("set here and by --socket"));
        assert!(refused(&[], r#"{"tlscert": "/b"}"#).starts_with("\"tlscert\" is for \"hosts\" with tcp://"));
        let open = r#"{"hosts": ["tcp://0.0.0.0:2375"], "tls": false}"#;
        assert!(refused(&[], open).contains("\"tls\": what listens on TCP has TLS"));
        let bare = read(&[], r#"{"hosts": ["tcp://0.0.0.0:2375"]}"#).expect("a file");
        let why = bare.tcp().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(why.contains("give --tlscacert, --tlscert, --tlskey too"), "{why}");
    }
}
