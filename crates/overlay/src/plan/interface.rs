//! What is special about one interface of an endpoint: its name, and settings that the kernel has for each interface. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use types::NetworkId;

use super::{EndpointPlan, INSIDE_PREFIX, LINK_NAME_MAX};

/// Families of protocols that have settings for each interface, and the kinds of these.
const FAMILIES: [&str; 3] = ["ipv4", "ipv6", "mpls"];
const KINDS: [&str; 2] = ["conf", "neigh"];
/// Names that the kernel gives a meaning of their own among the settings, or that an endpoint has already.
const RESERVED: [&str; 5] = [".", "..", "all", "default", "lo"];

/// An interface that is not as all others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfacePlan {
    /// Empty: [`INSIDE_PREFIX`] and its number.
    pub name: String,
    /// Set in this order before it comes up.
    pub settings: Vec<InterfaceSetting>,
}

/// `net.FAMILY.KIND.IFNAME.KEY=VALUE` (kernel documentation, ip-sysctl).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSetting {
    /// `ipv4`, `ipv6` or `mpls`.
    pub family: String,
    /// `conf` or `neigh`.
    pub kind: String,
    pub key: String,
    pub value: String,
}

impl InterfacePlan {
    /// Whether its settings turn IPv6 on or off; the last word counts.
    pub(crate) fn ipv6(&self) -> Option<bool> {
        let is_switch = |setting: &&InterfaceSetting| {
            (setting.family.as_str(), setting.kind.as_str(), setting.key.as_str()) == ("ipv6", "conf", "disable_ipv6")
        };
        self.settings.iter().rev().find(is_switch).map(|setting| setting.value.trim() == "0")
    }

    fn problem(&self) -> Option<String> {
        let name = (!self.name.is_empty()).then(|| interface_name_problem(&self.name)).flatten();
        name.or_else(|| self.settings.iter().find_map(InterfaceSetting::problem))
    }
}

impl InterfaceSetting {
    /// `net.ipv4.conf.IFNAME.log_martians=1`; the name is a place holder, which clients write in lower case too.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once('=')?;
        let parts: Vec<&str> = name.split('.').collect();
        let [net, family, kind, place, key] = parts.as_slice() else { return None };
        let [family, kind, key] = [family, kind, key].map(|part| (*part).to_owned());
        let setting = Self { family, kind, key, value: value.to_owned() };
        let is_one = *net == "net" && matches!(*place, "IFNAME" | "ifname") && setting.problem().is_none();
        is_one.then_some(setting)
    }

    /// As `sysctl` names it.
    pub fn name(&self, interface: &str) -> String {
        let Self { family, kind, key, .. } = self;
        format!("net.{family}.{kind}.{interface}.{key}")
    }

    /// The file that it is.
    pub(crate) fn path(&self, interface: &str) -> String {
        let Self { family, kind, key, .. } = self;
        format!("/proc/sys/net/{family}/{kind}/{interface}/{key}")
    }

    /// Nothing of it may lead out of its directory.
    fn problem(&self) -> Option<String> {
        let Self { family, kind, key, value } = self;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_key = !key.is_empty() && key.bytes().all(is_word);
        let is_known = FAMILIES.contains(&family.as_str()) && KINDS.contains(&kind.as_str());
        let is_one = is_known && is_key && !value.is_empty() && !value.contains('\0');
        (!is_one).then(|| format!("net.{family}.{kind}.IFNAME.{key}={value} is no setting of an interface"))
    }
}

/// Why an interface in a container cannot have this name.
pub fn interface_name_problem(name: &str) -> Option<String> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%'));
    if name.is_empty() || name.len() > LINK_NAME_MAX || !is_plain {
        return Some(format!(
            "interface name {name:?}: it has 1 to {LINK_NAME_MAX} visible characters, none of them '/', ':' or '%'"
        ));
    }
    RESERVED.contains(&name).then(|| format!("interface name {name:?}: the kernel has it for something else"))
}

impl EndpointPlan {
    /// What is special about its interface in this network; None: on the bridge.
    pub(crate) fn special(&self, network: Option<NetworkId>) -> Option<&InterfacePlan> {
        match network {
            Some(network) => self.special.get(&network),
            None => Some(&self.bridge_special),
        }
    }

    /// The name of its interface in this network, which is the one at `position`; None: on the bridge.
    pub fn interface_name(&self, network: Option<NetworkId>, position: usize) -> String {
        if let Some(special) = self.special(network).filter(|special| !special.name.is_empty()) {
            return special.name.clone();
        }
        // by its number in the plan, else by its position
        let number = match network {
            Some(network) => self.interfaces.get(&network).map_or(position, |number| *number as usize),
            None => self.bridge_interface as usize,
        };
        format!("{INSIDE_PREFIX}{number}")
    }

    /// What of its interfaces' names and settings cannot be.
    pub(super) fn interface_problem(&self) -> Option<String> {
        let networks = self.overlays.iter().map(|port| port.network).chain(self.locals.iter().map(|port| port.network));
        let on_bridge = self.bridge.is_some().then_some(None);
        let mut seen = BTreeSet::new();
        on_bridge.into_iter().chain(networks.map(Some)).enumerate().find_map(|(position, network)| {
            let problem = self.special(network).and_then(InterfacePlan::problem);
            problem.or_else(|| {
                let name = self.interface_name(network, position);
                let text = format!("two of its interfaces have the name {name}");
                (!seen.insert(name)).then_some(text)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-17: only settings of an interface, and nothing that leads elsewhere.
    #[test]
    fn e_17_settings_of_an_interface() {
        let good = InterfaceSetting::parse("net.ipv4.conf.IFNAME.log_martians=1").expect("good");
        assert_eq!(good.path("eth0"), "/proc/sys/net/ipv4/conf/eth0/log_martians");
        assert_eq!(good.name("eth0"), "net.ipv4.conf.eth0.log_martians");
        assert!(InterfaceSetting::parse("net.ipv6.neigh.ifname.gc_stale_time=30").is_some());
        assert!(InterfaceSetting::parse("net.mpls.conf.IFNAME.input=1").is_some());
        for bad in [
            "",
            "net.ipv4.conf.IFNAME.log_martians",
            "net.ipv4.conf.eth0.log_martians=1",
            "net.ipv4.ip_forward=1",
            "net.core.conf.IFNAME.x=1",
            "net.ipv4.route.IFNAME.x=1",
            "kernel.ipv4.conf.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.a.b=1",
            "net.ipv4.conf.IFNAME./../x=1",
            "net.ipv4.conf.IFNAME.=1",
            "net.ipv4.conf.IFNAME.forwarding=",
        ] {
            assert_eq!(InterfaceSetting::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn e_17_the_last_word_about_ipv6_counts() {
        let settings = |values: &[&str]| {
            let text = |value: &&str| format!("net.ipv6.conf.IFNAME.disable_ipv6={value}");
            let settings = values.iter().map(|v| InterfaceSetting::parse(&text(v)).expect("good")).collect();
            InterfacePlan { settings, ..InterfacePlan::default() }.ipv6()
        };
        assert_eq!([settings(&[]), settings(&["0"]), settings(&["0", "1"])], [None, Some(true), Some(false)]);
    }

    #[test]
    fn e_17_names_of_interfaces() {
        for good in ["lan", "eth7", "a.b", "wan-0_x", "fifteen-letters"] {
            assert_eq!(interface_name_problem(good), None, "{good}");
        }
        for bad in ["", "lo", "all", "..", "a/b", "a b", "a:b", "eth%d", "sixteen-letters-", "é"] {
            assert!(interface_name_problem(bad).is_some(), "{bad:?}");
        }
    }
}
