//! Devices that hosts know by the names that vendors gave them, and which of them a request means. Pure: the scheduler asks it of
//! what nodes say they have, the engine of what its host has (Container Device Interface, `runtime::cdi`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The class of the devices that `--gpus` means.
const GPU: &str = "gpu";
/// Of the vendors of such devices, the one that is meant where the request says none.
const USUAL_VENDOR: &str = "nvidia.com";
/// Drivers as Docker's clients name them, and the vendors whose files have their devices.
const DRIVERS: [(&str, &str); 3] = [("nvidia", USUAL_VENDOR), ("amd", "amd.com"), ("intel", "intel.com")];

/// Devices by name, or so many of a kind: Docker's `DeviceRequest`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceClaim {
    /// `cdi`: the ids are whole names, such as `nvidia.com/gpu=0`. Else a vendor's driver, or empty.
    pub driver: String,
    /// -1 is all.
    pub count: i64,
    pub ids: Vec<String>,
    /// Alternatives, each a list of what must be there.
    pub capabilities: Vec<Vec<String>>,
}

/// Why a host cannot give what is claimed. Its own devices are for whoever shows it to add.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Docker's words; clients look for them.
    #[error("CDI device injection failed: unresolvable CDI devices {}", .0.join(", "))]
    Unresolvable(Vec<String>),
    /// Docker's words.
    #[error("could not select device driver {driver:?} with capabilities: {capabilities}: {why}")]
    NoDriver { driver: String, capabilities: String, why: String },
    #[error("the device request {request} {why}")]
    Request { request: String, why: String },
}

/// The names of what is claimed, each once, in the order of the claims. `devices` are `vendor/class=name`.
///
/// # Errors
/// A device that is not there, too few of a kind, a request that names nothing.
pub fn resolve_claims(claims: &[DeviceClaim], devices: &BTreeSet<String>) -> Result<Vec<String>, ClaimError> {
    let mut names: Vec<String> = Vec::new();
    for claim in claims {
        let more = if claim.driver == "cdi" { claim.named()? } else { claim.of_class(devices)? };
        for name in more {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let unknown: Vec<String> = names.iter().filter(|name| !devices.contains(*name)).cloned().collect();
    if unknown.is_empty() { Ok(names) } else { Err(ClaimError::Unresolvable(unknown)) }
}

impl DeviceClaim {
    /// In few words: `acme.com/gpu=0`, `2 GPUs`, `all GPUs`.
    pub fn words(&self) -> String {
        let driver =
            if matches!(self.driver.as_str(), "" | "cdi") { String::new() } else { format!(" of {}", self.driver) };
        match (self.count, self.ids.is_empty()) {
            (_, false) if self.driver == "cdi" => self.ids.join(", "),
            (_, false) => format!("GPU {}{driver}", self.ids.join(", ")),
            (-1, true) => format!("all GPUs{driver}"),
            (1, true) => format!("1 GPU{driver}"),
            (count, true) => format!("{count} GPUs{driver}"),
        }
    }

    fn named(&self) -> Result<Vec<String>, ClaimError> {
        if self.count != 0 {
            return Err(self.refused("has a count; driver cdi takes names only"));
        }
        if self.ids.is_empty() {
            return Err(self.refused("names no device"));
        }
        match self.ids.iter().find(|id| !is_device_name(id)) {
            Some(id) => Err(self.refused(&format!("has {id:?}, which is not VENDOR/CLASS=NAME"))),
            None => Ok(self.ids.clone()),
        }
    }

    fn of_class(&self, devices: &BTreeSet<String>) -> Result<Vec<String>, ClaimError> {
        let kind = self.kind(devices)?;
        if self.count != 0 && !self.ids.is_empty() {
            return Err(self.refused("has both a count and ids of devices: say one"));
        }
        if !self.ids.is_empty() {
            return Ok(self.ids.iter().map(|id| qualified(&kind, id)).collect());
        }
        let there = of_kind(&kind, devices);
        let wanted = match self.count {
            -1 => there.len(),
            count => usize::try_from(count).unwrap_or(0),
        };
        if wanted == 0 {
            return Err(self.refused("names no device and no count: say all, a number or ids"));
        }
        if wanted > there.len() {
            return Err(self.refused(&format!("wants {wanted} of {kind}, this host has {}", there.len())));
        }
        Ok(there.into_iter().take(wanted).collect())
    }

    fn kind(&self, devices: &BTreeSet<String>) -> Result<String, ClaimError> {
        let refuse = |why: String| ClaimError::NoDriver {
            driver: self.driver.clone(),
            capabilities: self.shown_capabilities(),
            why,
        };
        if !self.capabilities.iter().any(|all| all.iter().any(|one| one == GPU)) {
            return Err(refuse(format!("known are driver cdi, and devices with the capability {GPU}")));
        }
        let kinds = devices.iter().filter_map(|name| name.split_once('=').map(|(kind, _)| kind));
        let kinds: BTreeSet<&str> = kinds.filter(|kind| kind.ends_with("/gpu")).collect();
        let vendor = match self.driver.as_str() {
            "" => None,
            driver => match DRIVERS.iter().find(|(name, _)| *name == driver) {
                Some((_, vendor)) => Some(*vendor),
                None => return Err(refuse(format!("known drivers are {}", DRIVERS.map(|(name, _)| name).join(", ")))),
            },
        };
        let of_vendor = |vendor: &str| kinds.iter().find(|kind| **kind == format!("{vendor}/{GPU}"));
        let found = match vendor {
            Some(vendor) => of_vendor(vendor),
            None => of_vendor(USUAL_VENDOR).or_else(|| kinds.iter().next().filter(|_| kinds.len() == 1)),
        };
        match found {
            Some(kind) => Ok((*kind).to_owned()),
            None if vendor.is_none() && kinds.len() > 1 => {
                let kinds: Vec<&str> = kinds.into_iter().collect();
                Err(refuse(format!("{} are there: say the driver", kinds.join(" and "))))
            }
            None => Err(refuse("no such device is described; the vendor's toolkit writes the description".to_owned())),
        }
    }

    fn refused(&self, why: &str) -> ClaimError {
        let Self { driver, count, ids, .. } = self;
        let capabilities = self.shown_capabilities();
        let request = format!("(driver {driver:?}, count {count}, ids {ids:?}, capabilities {capabilities})");
        ClaimError::Request { request, why: why.to_owned() }
    }

    /// As Go prints them.
    fn shown_capabilities(&self) -> String {
        let all: Vec<String> = self.capabilities.iter().map(|all| format!("[{}]", all.join(" "))).collect();
        format!("[{}]", all.join(" "))
    }
}

/// Each device of the kind once: one that has a number has other names too, which do not count, nor does `all`.
fn of_kind(kind: &str, devices: &BTreeSet<String>) -> Vec<String> {
    let names = devices.iter().filter_map(|name| name.strip_prefix(kind)?.strip_prefix('='));
    let names: Vec<&str> = names.filter(|name| *name != "all").collect();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    match numbers.is_empty() {
        true => names.iter().map(|name| qualified(kind, name)).collect(),
        false => numbers.iter().map(|number| qualified(kind, &number.to_string())).collect(),
    }
}

/// Whether a text is the whole name of a device: `nvidia.com/gpu=0`.
pub fn is_device_name(text: &str) -> bool {
    let parts = text.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
    parts
        .is_some_and(|((vendor, class), name)| is_name(vendor, "_-.") && is_name(class, "_-.") && is_name(name, "_-.:"))
}

/// Letters and digits, with `others` between them.
fn is_name(text: &str, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || others.contains(c))
}

fn qualified(kind: &str, name: &str) -> String {
    if is_device_name(name) { name.to_owned() } else { format!("{kind}={name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> BTreeSet<String> {
        ["nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=GPU-4f3a", "nvidia.com/gpu=all", "acme.com/dev=a"]
            .map(str::to_owned)
            .into()
    }

    fn gpus(count: i64, ids: &[&str]) -> DeviceClaim {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        DeviceClaim { count, ids, capabilities: vec![vec!["gpu".into()]], ..DeviceClaim::default() }
    }

    #[test]
    fn so_many_of_a_kind_are_the_first_by_number() {
        for (claim, wanted, words) in [
            (gpus(1, &[]), vec!["nvidia.com/gpu=0"], "1 GPU"),
            (gpus(-1, &[]), vec!["nvidia.com/gpu=0", "nvidia.com/gpu=1"], "all GPUs"),
            (gpus(0, &["1"]), vec!["nvidia.com/gpu=1"], "GPU 1"),
            (gpus(0, &["GPU-4f3a"]), vec!["nvidia.com/gpu=GPU-4f3a"], "GPU GPU-4f3a"),
            (
                DeviceClaim { driver: "nvidia".into(), ..gpus(2, &[]) },
                vec!["nvidia.com/gpu=0", "nvidia.com/gpu=1"],
                "2 GPUs of nvidia",
            ),
        ] {
            assert_eq!(resolve_claims(std::slice::from_ref(&claim), &devices()).expect("there"), wanted, "{claim:?}");
            assert_eq!(claim.words(), words);
        }
    }

    #[test]
    fn names_of_vendors_are_no_paths() {
        for (text, is_name) in [
            ("nvidia.com/gpu=0", true),
            ("vendor.com/class=all", true),
            ("/dev/a=b", false),
            ("/dev/null", false),
            ("vendor.com/class", false),
            ("a/b/c=d", false),
        ] {
            assert_eq!(is_device_name(text), is_name, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let named = |name: &str| DeviceClaim { driver: "cdi".into(), ids: vec![name.into()], ..DeviceClaim::default() };
        for (claim, wanted) in [
            (named("nvidia.com/gpu=7"), "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7"),
            (named("gpu0"), "is not VENDOR/CLASS=NAME"),
            (gpus(3, &[]), "wants 3 of nvidia.com/gpu, this host has 2"),
            (gpus(0, &[]), "names no device and no count: say all, a number or ids"),
            (gpus(1, &["0"]), "has both a count and ids of devices: say one"),
            (
                DeviceClaim { driver: "amd".into(), ..gpus(1, &[]) },
                "could not select device driver \"amd\" with capabilities: [[gpu]]: no such device is described",
            ),
            (
                DeviceClaim { driver: "acme".into(), ..gpus(1, &[]) },
                "could not select device driver \"acme\" with capabilities: [[gpu]]: known drivers are nvidia, amd, intel",
            ),
            (DeviceClaim { count: 1, ..DeviceClaim::default() }, "known are driver cdi"),
        ] {
            let error = resolve_claims(&[claim], &devices()).expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error}\nis not\n{wanted}");
        }
    }
}
