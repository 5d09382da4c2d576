//! What a step of the tunnel would mend, said as a difference. Pure.

use super::Difference;
use crate::{
    Observed, TunnelDevice, TunnelNamespace, TunnelStep,
    tunnel::{DEVICE, WantedPeer},
};

const PLACE: &str = "tunnel namespace";

pub fn difference(step: &TunnelStep, observed: &Observed) -> Difference {
    let device = match &observed.tunnel {
        Some(TunnelNamespace::Alive(inside)) => inside.device.as_ref(),
        _ => None,
    };
    let differs = |what: &str, expected: String, found: String| Difference::new(what, PLACE, expected, found);
    let found = || device.map(describe).unwrap_or_default();
    match step {
        TunnelStep::RemoveNamespace => differs("namespace", String::new(), "one that is not wanted".to_owned()),
        TunnelStep::CreateNamespace => differs("namespace", "one".to_owned(), String::new()),
        TunnelStep::LoadRules { .. } => {
            differs("nft table", "the rules of the plan".to_owned(), "other rules, or none".to_owned())
        }
        TunnelStep::RemoveDevice => differs(DEVICE, String::new(), found()),
        TunnelStep::CreateDevice => differs(DEVICE, "a WireGuard interface".to_owned(), found()),
        TunnelStep::SetKey { port, .. } => {
            let found = device.map(|device| format!("UDP port {}, perhaps another key", device.port));
            differs(DEVICE, format!("this host's key, UDP port {port}"), found.unwrap_or_default())
        }
        TunnelStep::SetPeers { remove, set } => {
            let known: Vec<_> = device.iter().flat_map(|device| &device.peers).collect();
            let is_known = |key: &[u8; 32]| known.iter().any(|peer| peer.public_key == *key);
            let hosts = set.iter().map(|(key, WantedPeer { endpoint, .. })| {
                format!("{endpoint}{}", if is_known(key) { " (known otherwise)" } else { " (not known)" })
            });
            let hosts = hosts.collect::<Vec<_>>().join(", ");
            let gone = known.iter().filter(|peer| remove.contains(&peer.public_key));
            let gone = gone.map(|peer| peer.endpoint.map(|e| e.to_string()).unwrap_or_default()).collect::<Vec<_>>();
            differs("WireGuard peers", hosts, gone.join(", "))
        }
        TunnelStep::AddAddress(address) => differs(DEVICE, address.to_string(), found()),
        TunnelStep::RemoveAddress(address) => differs(DEVICE, String::new(), address.to_string()),
        TunnelStep::DeviceUp { mtu, .. } => differs(DEVICE, format!("up, MTU {mtu}"), found()),
    }
}

fn describe(device: &TunnelDevice) -> String {
    let TunnelDevice { kind, up, mtu, addresses, .. } = device;
    let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    format!("{kind} {}, MTU {mtu}, {addresses}", if *up { "up" } else { "down" })
}
