//! An [`OverlayService`] as it travels: ports that follow one another are one element, so a range of ten thousand costs no
//! more than a single port each time its service changes (P53).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{EndpointMode, MeshSpec, Name, OverlayService, PortConfig};

#[derive(Serialize, Deserialize)]
pub(crate) struct Shown {
    name: Name,
    mode: EndpointMode,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    /// The first of each run.
    #[serde(default)]
    ports: Vec<PortConfig>,
    /// For each of them, how many follow; nothing where none does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    followers: Vec<u16>,
    #[serde(default)]
    mesh: MeshSpec,
}

impl From<OverlayService> for Shown {
    fn from(service: OverlayService) -> Self {
        let OverlayService { name, mode, addresses, ports: all, mesh } = service;
        let (mut ports, mut followers): (Vec<PortConfig>, Vec<u16>) = (Vec::new(), Vec::new());
        for port in all {
            match (ports.last(), followers.last_mut()) {
                (Some(first), Some(count))
                    if count.checked_add(1).and_then(|n| after(first, n)).as_ref() == Some(&port) =>
                {
                    *count += 1;
                }
                _ => {
                    ports.push(port);
                    followers.push(0);
                }
            }
        }
        if followers.iter().all(|count| *count == 0) {
            followers.clear();
        }
        Self { name, mode, addresses, ports, followers, mesh }
    }
}

impl From<Shown> for OverlayService {
    fn from(shown: Shown) -> Self {
        let Shown { name, mode, addresses, ports: firsts, followers, mesh } = shown;
        let counts = followers.into_iter().chain(std::iter::repeat(0));
        // A run ends with the last number there is, whatever was said.
        let run = |(first, count): (PortConfig, u16)| {
            let rest: Vec<PortConfig> = (1..=count).map_while(|n| after(&first, n)).collect();
            std::iter::once(first).chain(rest)
        };
        Self { name, mode, addresses, ports: firsts.into_iter().zip(counts).flat_map(run).collect(), mesh }
    }
}

/// The port that many after the first; None beyond the last number.
fn after(first: &PortConfig, count: u16) -> Option<PortConfig> {
    let (target, published) = (first.target.checked_add(count)?, first.published?.checked_add(count)?);
    Some(PortConfig { target, published: Some(published), ..first.clone() })
}

#[cfg(test)]
mod tests {
    use crate::{PortBind, PortProtocol, PublishMode};

    use super::*;

    fn service(ports: Vec<PortConfig>) -> OverlayService {
        let name = "sip".parse().expect("name");
        OverlayService { name, mode: EndpointMode::Vip, addresses: Vec::new(), ports, mesh: MeshSpec::default() }
    }

    fn port(published: u16, target: u16) -> PortConfig {
        let port = PortConfig::new(PortProtocol::Udp, target, Some(published), PublishMode::Ingress);
        PortConfig { bind: PortBind::Address([192, 0, 2, 1].into()), ..port }
    }

    fn travelled(service: &OverlayService) -> (usize, OverlayService) {
        let bytes = rmp_serde::to_vec_named(service).expect("written");
        (bytes.len(), rmp_serde::from_slice(&bytes).expect("read"))
    }

    #[test]
    fn p53_ten_thousand_ports_travel_as_one() {
        let range = service((0..10_000).map(|n| port(10_000 + n, 20_000 + n)).collect());
        let (bytes, back) = travelled(&range);
        assert!(back == range && bytes < 400, "{bytes} bytes");
        let mixed =
            service(vec![port(80, 80), port(81, 81), port(82, 90), port(65_535, 65_535), port(1, 1), port(1, 2)]);
        assert_eq!(travelled(&mixed).1, mixed);
        let single = service(vec![port(80, 80)]);
        assert!(!serde_json::to_string(&single).expect("written").contains("followers"), "as before");
        assert_eq!(travelled(&single).1, single);
    }

    #[test]
    fn a_run_too_long_ends_at_the_last_number() {
        let text = serde_json::to_value(service(vec![port(65_530, 1)])).expect("written");
        let mut text = text.as_object().expect("an object").clone();
        text.insert("followers".to_owned(), serde_json::json!([60_000]));
        let read: OverlayService = serde_json::from_value(text.into()).expect("read");
        assert_eq!(read.ports.len(), 6);
    }
}
