//! Settings under `/proc/sys/net`. The file shows the namespace of the thread that opens it.

use std::{fs, io};

use super::KernelError;

/// Forwarding of IPv4 packets between interfaces (kernel documentation, ip-sysctl).
pub const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether the setting is `1`. A kernel without it (IPv6 compiled out) gives `missing`.
pub fn is_on(path: &str, missing: bool) -> Result<bool, KernelError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim() == "1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(missing),
        Err(source) => Err(KernelError::Sysctl { doing: "read", path: path.to_owned(), source }),
    }
}

/// Sets it to `1`; a kernel without the setting has nothing to turn on.
pub fn turn_on(path: &str) -> Result<(), KernelError> {
    match fs::write(path, "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KernelError::Sysctl { doing: "set", path: path.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}

/// The setting that turns IPv6 off on one interface.
pub fn disable_ipv6_path(link: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6")
}
