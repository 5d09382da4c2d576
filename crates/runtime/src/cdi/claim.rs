//! Which devices a request means.

use std::collections::BTreeSet;

use types::DeviceClaim;

use super::{CdiError, Registry, document::is_name};

/// The class of the devices that `--gpus` means.
const GPU: &str = "gpu";
/// Of the vendors of such devices, the one that is meant where the request says none.
const USUAL_VENDOR: &str = "nvidia.com";
/// Drivers as Docker's clients name them, and the vendors whose files have their devices.
const DRIVERS: [(&str, &str); 3] = [("nvidia", USUAL_VENDOR), ("amd", "amd.com"), ("intel", "intel.com")];

impl Registry {
    /// The names of what is claimed, each once, in the order of the claims.
    pub(super) fn resolve(&self, claims: &[DeviceClaim]) -> Result<Vec<String>, CdiError> {
        let mut names: Vec<String> = Vec::new();
        for claim in claims {
            let more = if claim.driver == "cdi" { named(claim)? } else { self.of_class(claim)? };
            names.extend(more.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        }
        let unknown: Vec<String> = names.iter().filter(|name| !self.devices.contains_key(*name)).cloned().collect();
        match unknown.is_empty() {
            true => Ok(names),
            false => Err(CdiError::Unresolvable { names: unknown, about: self.about() }),
        }
    }

    /// What there is instead, for a refusal.
    fn about(&self) -> String {
        let directories: Vec<String> = self.directories.iter().map(|path| path.display().to_string()).collect();
        let directories = directories.join(" and ");
        let names: Vec<&str> = self.names().take(10).collect();
        let known = match names.is_empty() {
            true => format!("{directories} describe no device"),
            false => format!("{directories} describe {}", names.join(", ")),
        };
        match self.problems.first() {
            None => known,
            Some(problem) => format!("{known}; {problem}"),
        }
    }

    fn of_class(&self, claim: &DeviceClaim) -> Result<Vec<String>, CdiError> {
        let kind = self.kind(claim)?;
        let refuse = |why: String| CdiError::Request { request: shown(claim), why };
        if claim.count != 0 && !claim.ids.is_empty() {
            return Err(refuse("has both a count and ids of devices: say one".to_owned()));
        }
        if !claim.ids.is_empty() {
            return Ok(claim.ids.iter().map(|id| qualified(&kind, id)).collect());
        }
        let there = self.of_kind(&kind);
        let wanted = match claim.count {
            -1 => there.len(),
            count => usize::try_from(count).unwrap_or(0),
        };
        if wanted == 0 {
            return Err(refuse("names no device and no count: say all, a number or ids".to_owned()));
        }
        if wanted > there.len() {
            return Err(refuse(format!("wants {wanted} of {kind}, this host has {}", there.len())));
        }
        Ok(there.into_iter().take(wanted).collect())
    }

    /// Each device of the kind once: one that has a number has other names too, which do not count, nor does `all`.
    fn of_kind(&self, kind: &str) -> Vec<String> {
        let names = self.names().filter_map(|name| name.strip_prefix(kind)?.strip_prefix('='));
        let names: Vec<&str> = names.filter(|name| *name != "all").collect();
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        match numbers.is_empty() {
            true => names.iter().map(|name| qualified(kind, name)).collect(),
            false => numbers.iter().map(|number| qualified(kind, &number.to_string())).collect(),
        }
    }

    fn kind(&self, claim: &DeviceClaim) -> Result<String, CdiError> {
        let refuse = |why: String| CdiError::NoDriver {
            driver: claim.driver.clone(),
            capabilities: shown_capabilities(claim),
            why,
        };
        if !claim.capabilities.iter().any(|all| all.iter().any(|one| one == GPU)) {
            return Err(refuse(format!("known are driver cdi, and devices with the capability {GPU}")));
        }
        let kinds = self.names().filter_map(|name| name.split_once('=').map(|(kind, _)| kind));
        let kinds: BTreeSet<&str> = kinds.filter(|kind| kind.ends_with("/gpu")).collect();
        let vendor = match claim.driver.as_str() {
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
            None => Err(refuse(format!("{}; the vendor's toolkit writes the file", self.about()))),
        }
    }
}

fn named(claim: &DeviceClaim) -> Result<Vec<String>, CdiError> {
    let refuse = |why: String| CdiError::Request { request: shown(claim), why };
    if claim.count != 0 {
        return Err(refuse("has a count; driver cdi takes names only".to_owned()));
    }
    if claim.ids.is_empty() {
        return Err(refuse("names no device".to_owned()));
    }
    match claim.ids.iter().find(|id| !is_qualified(id)) {
        Some(id) => Err(refuse(format!("has {id:?}, which is not VENDOR/CLASS=NAME"))),
        None => Ok(claim.ids.clone()),
    }
}

/// Whether a text is the whole name of a device: `nvidia.com/gpu=0`.
pub(super) fn is_qualified(text: &str) -> bool {
    let parts = text.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
    parts
        .is_some_and(|((vendor, class), name)| is_name(vendor, "_-.") && is_name(class, "_-.") && is_name(name, "_-.:"))
}

fn qualified(kind: &str, name: &str) -> String {
    if is_qualified(name) { name.to_owned() } else { format!("{kind}={name}") }
}

fn shown(claim: &DeviceClaim) -> String {
    let DeviceClaim { driver, count, ids, .. } = claim;
    format!("(driver {driver:?}, count {count}, ids {ids:?}, capabilities {})", shown_capabilities(claim))
}

/// As Go prints them.
fn shown_capabilities(claim: &DeviceClaim) -> String {
    let all: Vec<String> = claim.capabilities.iter().map(|all| format!("[{}]", all.join(" "))).collect();
    format!("[{}]", all.join(" "))
}
