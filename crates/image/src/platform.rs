//! Platforms (`linux/arm/v7`) and the choice of an image for this machine.
//! Pure: called by pull and by the scheduler's view of an image; never looks at the machine except
//! in [`Platform::host`] and [`Platform::machine`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What the parts of a platform's name may be, as containerd says it.
const OS_PATTERN: &str = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?$";
const PART_PATTERN: &str = r"^[A-Za-z0-9_.-]+$";
/// The names that stand for a platform alone are those that Go knows.
const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

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

/// As containerd reads them, whose words clients know: `linux/arm/v7`, `linux/amd64`, and `linux` or `arm64` alone. A version
/// of the operating system in brackets means nothing to an image for Linux.
impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: String| Err(Error::BadPlatform(why));
        if text.contains('*') {
            return bad(format!("{text:?}: wildcards not yet supported"));
        }
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let Some(os) = operating_system(parts[0]) else {
            return bad(format!(
                "{:?} is an invalid OS component of {text:?}: OSAndVersion specifier component must match {OS_PATTERN:?}",
                parts[0]
            ));
        };
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_word_or_dot);
        if let Some(part) = parts[1..].iter().find(|part| !is_part(part)) {
            return bad(format!(
                "{part:?} is an invalid component of {text:?}: platform specifier component must match {PART_PATTERN:?}"
            ));
        }
        match parts.as_slice() {
            [_] if SYSTEMS.contains(&os.as_str()) => Ok(Self { os, ..Self::host() }),
            [alone] => {
                let platform = Self::new("linux", &alone.to_ascii_lowercase(), None);
                if ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Ok(platform);
                }
                bad(format!("{text:?}: unknown operating system or architecture"))
            }
            [_, architecture] => Ok(Self::new(&os, &architecture.to_ascii_lowercase(), None)),
            [_, architecture, variant] => {
                Ok(Self::new(&os, &architecture.to_ascii_lowercase(), Some(&variant.to_ascii_lowercase())))
            }
            _ => bad(format!("{text:?}: cannot parse platform specifier")),
        }
    }
}

/// `windows` of `Windows(10.0.17763)`.
fn operating_system(part: &str) -> Option<String> {
    let (name, version) = match part.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')?),
        None => (part, ""),
    };
    let is_name = !name.is_empty() && name.bytes().all(|b| is_word_or_dot(b) && b != b'.');
    let is_one = is_name && version.bytes().all(is_word_or_dot);
    let name = name.to_ascii_lowercase();
    is_one.then(|| if name == "macos" { "darwin".to_owned() } else { name })
}

fn is_word_or_dot(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
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

    /// E-03: a platform that nobody knows is refused with the words of Docker.
    #[test]
    fn e_03_bad_platforms_are_refused() {
        for (bad, part) in [
            ("", r#""" is an invalid OS component of """#),
            ("/", r#""" is an invalid OS component of "/""#),
            ("linux/", r#""" is an invalid component of "linux/""#),
            ("a/b/c/d", r#""a/b/c/d": cannot parse platform specifier"#),
            ("linux/am d64", r#""am d64" is an invalid component of"#),
            ("linux/*", "wildcards not yet supported"),
            ("foobar", r#""foobar": unknown operating system or architecture: invalid argument"#),
            ("linux(1", "is an invalid OS component"),
        ] {
            let error = bad.parse::<Platform>().expect_err(bad).to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
        for (good, shown) in [
            ("ARM64", "linux/arm64"),
            ("armhf", "linux/arm/v7"),
            ("Linux/X86_64", "linux/amd64"),
            ("windows(10.0.17763)/amd64", "windows/amd64"),
            ("macos/arm64", "darwin/arm64"),
            ("linux/foobar", "linux/foobar"),
        ] {
            assert_eq!(good.parse::<Platform>().expect(good).to_string(), shown);
        }
        assert_eq!("linux".parse::<Platform>().expect("the host's"), Platform::host());
    }
}
