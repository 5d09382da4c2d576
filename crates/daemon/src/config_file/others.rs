//! Keys of Docker's that there is no setting for here: what rswarm does instead, and which value says just that. Pure.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

use self::Taken::{Any, No, Off, On};

/// What of a key is taken, beside nothing (null, 0 and what is empty), which is as good as leaving it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    No,
    Off,
    On,
    /// Both are what rswarm does.
    Any,
}

/// By kinds. Of a key the sentence says what rswarm does.
const KEYS: &[(&str, Taken, &str)] = &[
    // the default bridge and its rules
    ("bip6", No, "the default bridge has IPv4 alone; make a network with IPv6: network create --ipv6"),
    ("ipv6", Off, "the default bridge has IPv4 alone; make a network with IPv6: network create --ipv6"),
    (
        "fixed-cidr-v6",
        No,
        "the default bridge has IPv4 alone; make a network with IPv6: network create --ipv6 --subnet",
    ),
    ("default-gateway", No, "the default bridge is itself the way out of its containers; set its address with \"bip\""),
    ("default-gateway-v6", No, "the default bridge has IPv4 alone; make a network with IPv6: network create --ipv6"),
    (
        "iptables",
        On,
        "rswarm's networks are made of its own nftables rules and cannot be without (it touches no others)",
    ),
    (
        "ip6tables",
        On,
        "rswarm's networks are made of its own nftables rules and cannot be without (it touches no others)",
    ),
    ("ip-forward", On, "containers reach the world by forwarding, so rswarm turns it on where a network needs it"),
    (
        "ip-forward-no-drop",
        On,
        "rswarm leaves the policy of the host's forwarding as it is; its own rules keep strangers from containers",
    ),
    (
        "allow-direct-routing",
        Off,
        "what nobody published is closed to the outside; publish the ports, or give a network the gateway mode nat-unprotected",
    ),
    ("userland-proxy-path", No, "rswarm's port-proxy is a part of the program; \"userland-proxy\": false does without"),
    ("network-control-plane-mtu", No, "managers and nodes speak over TCP, which finds the size of its packets itself"),
    ("network-diagnostic-port", No, "ask `rswarm network doctor`, which compares what is there with what should be"),
    ("firewall-backend", No, "rswarm always makes nftables rules, in tables of its own"),
    // the cluster
    ("swarm-raft-heartbeat-tick", No, "the managers' clocks are rswarm's own and the same on all"),
    ("swarm-raft-election-tick", No, "the managers' clocks are rswarm's own and the same on all"),
    ("cluster-store", No, "a cluster needs no store beside its managers; make one with `rswarm init`"),
    ("cluster-store-opts", No, "a cluster needs no store beside its managers; make one with `rswarm init`"),
    (
        "cluster-advertise",
        No,
        "say it when the cluster is made: `rswarm init --advertise-addr`, or \"swarm-default-advertise-addr\"",
    ),
    // containers
    ("live-restore", On, "containers always go on while the daemon does not run"),
    (
        "shutdown-timeout",
        No,
        "containers go on while the daemon does not run, so it stops none (of one: run --stop-timeout)",
    ),
    ("userns-remap", No, "containers are in the host's user namespace; let their processes be no root: run --user"),
    ("selinux-enabled", Off, "rswarm labels nothing for SELinux"),
    ("default-init", No, "the init of \"init\" and run --init is rswarm's own"),
    ("init-path", No, "the init of \"init\" and run --init is rswarm's own"),
    ("cpu-rt-period", No, "rswarm gives no real-time share to control groups"),
    ("cpu-rt-runtime", No, "rswarm gives no real-time share to control groups"),
    (
        "resolv-conf",
        No,
        "containers follow the host's /etc/resolv.conf; name others with \"dns\", \"dns-search\" and \"dns-opts\"",
    ),
    ("rootless", Off, "the daemon runs as root"),
    // images
    (
        "storage-opts",
        No,
        "storage drivers have no options, and root filesystems no size of their own; use a disk with quotas",
    ),
    ("graph", No, "it is called \"data-root\""),
    ("allow-nondistributable-artifacts", No, "there is no such list: what an image has is pushed"),
    ("builder", No, "rswarm builds no images; build with buildx in a container or with buildah, and push"),
    ("containerd", No, "there is no containerd: rswarm keeps images and runs containers itself"),
    ("containerd-namespace", No, "there is no containerd: rswarm keeps images and runs containers itself"),
    ("containerd-plugin-namespace", No, "there is no containerd: rswarm keeps images and runs containers itself"),
    ("cri-containerd", Off, "there is no containerd: rswarm keeps images and runs containers itself"),
    ("http-proxy", No, PROXIES),
    ("https-proxy", No, PROXIES),
    ("no-proxy", No, PROXIES),
    ("proxies", No, PROXIES),
    // the daemon
    ("experimental", Off, "all that there is, is there for all"),
    (
        "pidfile",
        No,
        "a second daemon is kept off by a lock in \"data-root\"; systemd knows the process, or pgrep -f 'rswarm daemon'",
    ),
    ("raw-logs", Any, "lines of the log have whole times and no colours"),
    (
        "authorization-plugins",
        No,
        "there are no plugins: give the socket to a \"group\", and certificates to who may come by TCP",
    ),
    ("api-cors-header", No, "the API answers no browsers; put a reverse proxy before it"),
    ("deprecated-key-path", No, "a host's key is rswarm's own"),
    ("disable-legacy-registry", On, "registries of version 1 are not spoken to"),
];

const PROXIES: &str =
    "registries are spoken to directly; set up a mirror that reaches them and name it in \"registry-mirrors\"";

/// Judges what no field of the file is for.
pub(super) fn check(others: &BTreeMap<String, Value>) -> Result<()> {
    for (key, value) in others {
        let Some((_, taken, instead)) = KEYS.iter().find(|(known, ..)| known == key) else {
            bail!(
                "unknown field `{key}`: neither Docker nor rswarm has such a key; the runbook lists all that there are"
            );
        };
        if is_nothing(value) || (*taken == Any && value.is_boolean()) {
            continue;
        }
        match (taken, value) {
            (On, Value::Bool(true)) | (Off, Value::Bool(false)) => {}
            (On, _) => bail!("{key:?}: {instead}; leave it out, or say true"),
            (Off, _) => bail!("{key:?}: {instead}; leave it out, or say false"),
            (No | Any, _) => bail!("{key:?}: {instead}; leave it out"),
        }
    }
    Ok(())
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) => false,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.values().all(is_nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::read, *};

    /// E-50: each key is refused by its name and with what to do, and taken where it says nothing else.
    #[test]
    fn e_50_keys_of_dockers_that_rswarm_has_not() {
        for (key, taken, instead) in KEYS {
            let with = |value: &str| read(&[], &format!("{{{key:?}: {value}}}")).map(drop);
            let refused = format!("{key:?}: {instead}; leave it out");
            assert!(with(r#""some""#).expect_err(key).starts_with(&refused), "{key}");
            assert_eq!(with("null"), Ok(()), "{key}");
            let switched = |on: &str| with(on).is_ok();
            assert_eq!(switched("true"), matches!(taken, On | Any), "{key}");
            assert_eq!(switched("false"), matches!(taken, Off | Any), "{key}");
        }
        let said = |text: &str| read(&[], text).map(drop);
        assert_eq!(
            said(r#"{"iptables": true, "ipv6": false, "proxies": {"http-proxy": ""}, "storage-opts": []}"#),
            Ok(())
        );
        let off = said(r#"{"iptables": false}"#).expect_err("refused");
        assert!(off.ends_with("(it touches no others); leave it out, or say true"), "{off}");
        assert!(
            said(r#"{"proxies": {"http-proxy": "http://proxy:3128"}}"#)
                .expect_err("refused")
                .contains("registry-mirrors")
        );
        assert!(said(r#"{"bip7": "x"}"#).expect_err("refused").starts_with("unknown field `bip7`: neither Docker"));
    }

    /// E-50: the keys of Docker 28, so that none is told to be nobody's.
    #[test]
    fn e_50_all_of_dockers_keys_are_known() {
        let docker = "allow-direct-routing api-cors-header authorization-plugins bip bip6 bridge builder cdi-spec-dirs cgroup-parent \
            containerd containerd-namespace containerd-plugin-namespace cpu-rt-period cpu-rt-runtime cri-containerd data-root debug \
            default-address-pools default-cgroupns-mode default-gateway default-gateway-v6 default-init default-ipc-mode \
            default-network-opts default-runtime default-shm-size default-ulimits deprecated-key-path dns dns-opts dns-search \
            exec-opts exec-root experimental features fixed-cidr fixed-cidr-v6 group host-gateway-ip host-gateway-ips hosts \
            http-proxy https-proxy icc init init-path insecure-registries ip ip-forward ip-forward-no-drop ip-masq ip6tables \
            iptables ipv6 labels live-restore log-driver log-format log-level log-opts max-concurrent-downloads \
            max-concurrent-uploads max-download-attempts metrics-addr mtu network-control-plane-mtu network-diagnostic-port \
            no-new-privileges no-proxy node-generic-resources pidfile proxies raw-logs registry-mirrors resolv-conf rootless \
            runtimes seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opts swarm-default-advertise-addr \
            swarm-raft-election-tick swarm-raft-heartbeat-tick tls tlscacert tlscert tlskey tlsverify userland-proxy \
            userland-proxy-path userns-remap allow-nondistributable-artifacts cluster-store cluster-advertise";
        for key in docker.split_whitespace() {
            assert_eq!(read(&[], &format!("{{{key:?}: null}}")).map(drop), Ok(()), "{key}");
        }
    }
}
