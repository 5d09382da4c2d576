//! Programs of which other platforms run on this host: those the processor runs too, and those with an interpreter that the
//! kernel keeps open, so that it is there in every container (P47).

use std::path::Path;

use types::{MAX_PLATFORMS, Platform};

/// From what the kernel says below `/proc/sys`.
pub(super) fn also_runs(machine: &str, sys: &Path) -> Vec<Platform> {
    // there where the kernel runs programs of 32 bits
    let of_32_bits = machine == "x86_64" && sys.join("abi/vsyscall32").exists();
    let native = of_32_bits.then(|| Platform::new("linux", "386", ""));
    let entries = std::fs::read_dir(sys.join("fs/binfmt_misc")).into_iter().flatten().flatten();
    let emulated = entries.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path()).ok()?;
        emulated(entry.file_name().to_str()?, &text)
    });
    let mut all: Vec<Platform> = native.into_iter().chain(emulated).collect();
    all.sort();
    all.dedup();
    all.truncate(MAX_PLATFORMS);
    all
}

/// The platform of one interpreter. Without the flag F the kernel looks for it in the container, where it is not.
fn emulated(name: &str, text: &str) -> Option<Platform> {
    let is_on = text.lines().next() == Some("enabled");
    let is_kept_open = text.lines().any(|line| line.strip_prefix("flags:").is_some_and(|flags| flags.contains('F')));
    let (architecture, variant) = match name.strip_prefix("qemu-")? {
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        "i386" => ("386", ""),
        "x86_64" => ("amd64", ""),
        "ppc64le" => ("ppc64le", ""),
        "s390x" => ("s390x", ""),
        "riscv64" => ("riscv64", ""),
        "mips64el" => ("mips64le", ""),
        "loongarch64" => ("loong64", ""),
        _ => return None,
    };
    (is_on && is_kept_open).then(|| Platform::new("linux", architecture, variant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p47_interpreters_that_containers_reach_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        };
        file("abi/vsyscall32", "1\n");
        file("fs/binfmt_misc/status", "enabled\n");
        file("fs/binfmt_misc/qemu-arm", "enabled\ninterpreter /usr/bin/qemu-arm\nflags: POCF\noffset 0\n");
        file("fs/binfmt_misc/qemu-s390x", "enabled\ninterpreter /usr/bin/qemu-s390x\nflags: OC\n");
        file("fs/binfmt_misc/qemu-riscv64", "disabled\ninterpreter /usr/bin/qemu-riscv64\nflags: F\n");
        let found = |machine: &str| {
            also_runs(machine, dir.path()).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("x86_64"), "linux/386 linux/arm/v7");
        assert_eq!(found("aarch64"), "linux/arm/v7");
        assert_eq!(also_runs("x86_64", &dir.path().join("nothing")), []);
    }
}
