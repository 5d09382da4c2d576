//! Platforms (`linux/arm/v7`) and the choice of an image for this machine.
//! Pure: called by pull and by the scheduler's view of an image; never looks at the machine except
//! in [`Platform::host`] and [`Platform::machine`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Operating system, architecture and variant in the names of the OCI image specification.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Builds a platform from any of the usual spellings (`x86_64`, `aarch64`, `armhf`).
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, implied) = match architecture {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            "i386" | "i686" | "x86" => ("386", None),
            "powerpc64le" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        // Defaults that images spell out or leave out at will.
        let variant = match (architecture, variant.filter(|v| !v.is_empty()).or(implied)) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            ("arm", None) => Some("v7".to_owned()),
            ("arm", Some(v)) if !v.starts_with('v') => Some(format!("v{v}")),
            (_, variant) => variant.map(str::to_owned),
        };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// What this process is built for: images that are made here run on every machine of the architecture.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// What this machine runs, with the newest variant that its processor has.
    pub fn machine() -> Self {
        Self { variant: processor_level().map(|level| format!("v{level}")), ..Self::host() }
    }

    /// How well an image for `self` runs on `host`: 0 is exact, larger is worse, `None` is not at all.
    /// An arm machine runs every older arm variant, arm64 runs arm, amd64 runs 386 and the lower levels.
    pub fn rank_on(&self, host: &Self) -> Option<u32> {
        if self.os != host.os {
            return None;
        }
        if self.architecture == host.architecture {
            return match (level(self), level(host)) {
                (Some(image), Some(machine)) if image <= machine => Some(machine - image),
                _ if self.variant == host.variant => Some(0),
                _ => None,
            };
        }
        match (host.architecture.as_str(), self.architecture.as_str()) {
            ("arm64", "arm") => level(self).map(|v| 100 - v.min(99)),
            ("amd64", "386") => Some(100),
            _ => None,
        }
    }
}

/// The variant as a number where variants are ordered.
fn level(platform: &Platform) -> Option<u32> {
    let number = |v: &str| v.strip_prefix('v').unwrap_or(v).split('.').next().and_then(|n| n.parse().ok());
    match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("amd64", None) => Some(1),
        ("arm64", None) => Some(8),
        ("arm" | "arm64" | "amd64", Some(variant)) => number(variant),
        _ => None,
    }
}

/// The level of the x86-64 psABI whose features the processor has and the kernel lets programs use; `None` for the first,
/// which all have.
#[cfg(target_arch = "x86_64")]
fn processor_level() -> Option<u32> {
    use std::arch::is_x86_feature_detected as has;
    // LAHF in 64 bits, also of the second level, cannot be asked for here; no processor with the others lacks it
    let second =
        has!("cmpxchg16b") && has!("popcnt") && has!("sse3") && has!("ssse3") && has!("sse4.1") && has!("sse4.2");
    let third = has!("avx2") && has!("bmi1") && has!("bmi2") && has!("f16c") && has!("fma");
    let third = third && has!("lzcnt") && has!("movbe");
    let fourth = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    let reached = [second, third, fourth].into_iter().take_while(|level| *level).count();
    u32::try_from(reached).ok().filter(|reached| *reached > 0).map(|reached| reached + 1)
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_level() -> Option<u32> {
    None
}

/// The index of the best of `offered` on `host`; the first of equals.
pub(crate) fn choose(offered: &[Platform], host: &Platform) -> Option<usize> {
    let ranked = offered.iter().enumerate().filter_map(|(i, p)| p.rank_on(host).map(|rank| (rank, i)));
    ranked.min().map(|(_, index)| index)
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let good =
            parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
        match parts.as_slice() {
            [architecture] if good && matches!(*architecture, "linux") => {
                Ok(Self { os: "linux".into(), ..Self::host() })
            }
            [architecture] if good => Ok(Self::new("linux", architecture, None)),
            [os, architecture] if good => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] if good => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(Error::BadPlatform(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(offered: &str, host: &str, expected: Option<&str>) {
        let parse = |t: &str| t.parse::<Platform>().expect(t);
        let list: Vec<Platform> = offered.split(' ').map(parse).collect();
        let chosen = choose(&list, &parse(host)).map(|i| list[i].to_string());
        assert_eq!(chosen.as_deref(), expected, "{offered} on {host}");
    }

    #[test]
    fn the_nearest_platform_is_chosen() {
        check("linux/arm64 linux/amd64", "linux/x86_64", Some("linux/amd64"));
        check("linux/386 linux/amd64", "linux/amd64", Some("linux/amd64"));
        check("linux/amd64/v3 linux/amd64/v2", "linux/amd64", None);
        check("linux/amd64/v3 linux/amd64/v2 linux/amd64", "linux/amd64/v2", Some("linux/amd64/v2"));
        check("linux/amd64 linux/amd64/v2 linux/amd64/v3 linux/amd64/v4", "linux/amd64/v3", Some("linux/amd64/v3"));
        check("linux/386 linux/amd64/v1 linux/amd64/v4", "linux/amd64/v3", Some("linux/amd64"));
        check("linux/386 linux/arm64", "linux/amd64/v3", Some("linux/386"));
        check("linux/arm/v5 linux/arm/v6 linux/arm/v7", "linux/arm/v6", Some("linux/arm/v6"));
        check("linux/arm/v5 linux/arm/v7", "linux/arm/v6", Some("linux/arm/v5"));
        check("linux/arm/v7", "linux/arm/v6", None);
        check("linux/arm/v6 linux/arm/v7", "linux/aarch64", Some("linux/arm/v7"));
        check("linux/arm/v7 linux/arm64/v8", "linux/arm64", Some("linux/arm64"));
        check("windows/amd64", "linux/amd64", None);
        check("linux/s390x linux/riscv64", "linux/riscv64", Some("linux/riscv64"));
    }

    #[test]
    fn bad_platforms_are_refused() {
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
