//! The options of a bridge network, as Docker names them. Pure.

use std::net::{IpAddr, Ipv4Addr};

use overlay::{BridgeGateway, BridgePlan, LocalBridge, LocalDriver, bridge_name_problem};
use types::{GATEWAY_MODES, GatewayMode, INHIBIT_IPV4, Labels, NetworkSpec};

use super::{
    definition::{ENABLED, MTU},
    interfaces::{PREFIX, prefix_of},
};

/// Options that a bridge network understands, as Docker names them.
pub(super) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const TALK: &str = "com.docker.network.bridge.enable_icc";
pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(super) const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// Under which address of the host's the network's containers are seen, as Docker names it by family.
pub(super) const HOST_ADDRESSES: [&str; 2] = ["com.docker.network.host_ipv4", "com.docker.network.host_ipv6"];

/// All that a bridge network understands.
pub(super) fn known() -> Vec<&'static str> {
    let single = [BRIDGE_NAME, BINDING, MASQUERADE, TALK, PREFIX, INHIBIT_IPV4];
    [&single[..], &HOST_ADDRESSES, &GATEWAY_MODES, &ENABLED, &MTU].concat()
}

/// What the host's own bridge is, in the same words.
pub(super) fn of_host(bridge: &BridgePlan) -> Labels {
    let options = [
        ("com.docker.network.bridge.default_bridge", true.to_string()),
        (TALK, (!bridge.apart).to_string()),
        (MASQUERADE, bridge.masquerade.to_string()),
        (BRIDGE_NAME, bridge.name.clone()),
        (MTU[0], bridge.mtu.to_string()),
    ];
    options.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What a bridge network's options say of its bridge; those of no meaning here say nothing.
pub(super) fn bridge(options: &Labels) -> Result<LocalDriver, String> {
    let (mut masquerade, mut bridge, mut talk) = (true, None, true);
    for (name, value) in options {
        match name.as_str() {
            MASQUERADE => masquerade = flag(name, value)?,
            TALK => talk = flag(name, value)?,
            BINDING => drop(binding_of(options)?),
            PREFIX => drop(prefix_of(options)?),
            BRIDGE_NAME if value.is_empty() => {}
            BRIDGE_NAME => match bridge_name_problem(value) {
                Some(problem) => return Err(format!("option {name}: {problem}")),
                None => bridge = Some(value.clone()),
            },
            _ => {}
        }
    }
    let (gateway4, gateway6) = (gateway(options, true)?, gateway(options, false)?);
    Ok(LocalDriver::Bridge(LocalBridge { masquerade, name: bridge, apart: !talk, gateway4, gateway6 }))
}

fn gateway(options: &Labels, is_ipv4: bool) -> Result<BridgeGateway, String> {
    let given = |name: &'static str| options.get(name).map(|value| (name, value));
    let inhibited = given(INHIBIT_IPV4).filter(|_| is_ipv4).map(|(name, value)| flag(name, value)).transpose()?;
    let source = given(HOST_ADDRESSES[usize::from(!is_ipv4)]).filter(|(_, value)| !value.is_empty());
    let source = source.map(|(name, value)| host_address(name, value, is_ipv4)).transpose()?;
    let mode = GatewayMode::of(options, is_ipv4)?;
    Ok(BridgeGateway { mode, inhibited: inhibited.unwrap_or_default(), source })
}

fn host_address(name: &str, text: &str, is_ipv4: bool) -> Result<IpAddr, String> {
    let family = if is_ipv4 { "IPv4" } else { "IPv6" };
    let address =
        text.parse().ok().filter(|address: &IpAddr| address.is_ipv4() == is_ipv4 && !address.is_unspecified());
    address.ok_or_else(|| {
        format!("option {name}: {text:?} is no {family} address; give one of this host, which what leaves shall bear")
    })
}

/// What is isolated has no gateway, and so no way out.
pub(super) fn check_isolated(spec: &NetworkSpec) -> Result<(), String> {
    for (option, is_ipv4) in GATEWAY_MODES.into_iter().zip([true, false]) {
        if GatewayMode::of(&spec.options, is_ipv4)? == GatewayMode::Isolated && !spec.internal {
            // The first half in Docker's own words
            return Err(format!(
                "gateway mode 'isolated' can only be used for an internal network: give --internal too, or leave out \
                 option {option}"
            ));
        }
    }
    Ok(())
}

/// The host's address that ports of the network's containers are bound to unless they say another.
pub(in crate::engine) fn binding_of(options: &Labels) -> Result<Option<IpAddr>, String> {
    let Some(text) = options.get(BINDING).filter(|text| !text.is_empty()) else { return Ok(None) };
    let address: Ipv4Addr = text.parse().map_err(|_| format!("option {BINDING}: {text:?} is no IPv4 address"))?;
    Ok(Some(address.into()))
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("option {name}: {value:?} is neither true nor false")),
    }
}
