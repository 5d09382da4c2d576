//! Published ports in tables and pretty prints: `*:8080->80/tcp`, runs of them as ranges.

use serde_json::Value;

/// As one text; `modes` also says which are published by hosts alone, and which announce the client.
pub(crate) fn join<'a>(ports: impl IntoIterator<Item = &'a Value>, separator: &str, modes: bool) -> String {
    let mut ports: Vec<Port> = ports.into_iter().map(Port::of).collect();
    ports.sort();
    let mut runs: Vec<(Port, u64)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((first, length)) if port.continues(first, *length) => *length += 1,
            _ => runs.push((port, 1)),
        }
    }
    runs.iter().map(|(first, length)| first.text(*length, modes)).collect::<Vec<_>>().join(separator)
}

/// In the order in which runs lie together.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    mode: String,
    place: String,
    protocol: String,
    proxy: bool,
    published: u64,
    target: u64,
}

impl Port {
    fn of(port: &Value) -> Self {
        let word = |field: &str| port[field].as_str().unwrap_or_default().to_owned();
        let (address, interface) = (word("HostIP"), word("Interface"));
        let place = match (address.contains(':'), address.is_empty(), interface.is_empty()) {
            (true, ..) => format!("[{address}]"),
            (_, false, _) => address,
            (_, _, false) => interface,
            _ => "*".to_owned(),
        };
        Self {
            mode: word("PublishMode"),
            place,
            protocol: word("Protocol"),
            proxy: port["ProxyProtocol"] == Value::Bool(true),
            published: port["PublishedPort"].as_u64().unwrap_or(0),
            target: port["TargetPort"].as_u64().unwrap_or(0),
        }
    }

    /// Whether this is the next port of a run; those without a number make none.
    fn continues(&self, first: &Self, length: u64) -> bool {
        let alike = |port: &Self| (port.mode.clone(), port.place.clone(), port.protocol.clone(), port.proxy);
        first.published != 0
            && self.published == first.published + length
            && self.target == first.target + length
            && alike(self) == alike(first)
    }

    fn text(&self, length: u64, modes: bool) -> String {
        let range = |first: u64| match length {
            1 => first.to_string(),
            _ => format!("{first}-{}", first + length - 1),
        };
        let mut text = match self.published {
            // each node takes a number of its own
            0 => format!("{}/{}", self.target, self.protocol),
            first => format!("{}:{}->{}/{}", self.place, range(first), range(self.target), self.protocol),
        };
        let remarks = [(self.mode == "host", "host"), (self.proxy, "PROXY protocol")];
        let remarks: Vec<&str> = remarks.iter().filter(|(holds, _)| modes && *holds).map(|(_, word)| *word).collect();
        if !remarks.is_empty() {
            text.push_str(&format!(" ({})", remarks.join(", ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// P53: ten thousand ports are one range.
    #[test]
    fn p_53_runs_of_ports_are_ranges() {
        let port = |published: u64, target: u64, protocol: &str| json!({ "PublishedPort": published, "TargetPort": target, "Protocol": protocol, "PublishMode": "ingress" });
        let many: Vec<Value> = (0..10_000).map(|n| port(10_000 + n, 20_000 + n, "udp")).rev().collect();
        assert_eq!(join(&many, ", ", false), "*:10000-19999->20000-29999/udp");
        let some = [port(80, 80, "tcp"), port(81, 81, "tcp"), port(82, 8082, "tcp"), port(80, 80, "udp")];
        assert_eq!(join(&some, ", ", false), "*:80-81->80-81/tcp, *:82->8082/tcp, *:80->80/udp");
        let at = |field: &str, value: Value| {
            let mut port = port(8080, 80, "tcp");
            port[field] = value;
            join([&port], ",", true)
        };
        assert_eq!(at("HostIP", json!("127.0.0.1")), "127.0.0.1:8080->80/tcp");
        assert_eq!(at("HostIP", json!("::1")), "[::1]:8080->80/tcp");
        assert_eq!(at("Interface", json!("eth0")), "eth0:8080->80/tcp");
        assert_eq!(at("ProxyProtocol", json!(true)), "*:8080->80/tcp (PROXY protocol)");
        assert_eq!(at("PublishMode", json!("host")), "*:8080->80/tcp (host)");
        assert_eq!(at("PublishedPort", json!(null)), "80/tcp");
    }
}
