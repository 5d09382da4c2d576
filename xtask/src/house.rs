//! The plan of the house as data: which crate lies on which layer, who may see whom, and which
//! outside crate belongs to which of ours.

/// What each of our crates may depend on (dev-dependencies are free: tests may look further).
pub const MAY_SEE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &["types"]),
    ("identity", &["types"]),
    ("control", &["types"]),
    ("overlay", &["types"]),
    ("image", &["types"]),
    ("runtime", &["types"]),
    ("manager", &["control", "identity", "proto", "types"]),
    ("node", &["overlay", "image", "runtime", "identity", "proto", "types"]),
    ("api", &["identity", "node", "proto", "types"]),
    ("lab", &["types"]),
    ("cli", &["identity", "lab", "types"]),
    ("daemon", &["api", "cli", "lab", "manager", "node", "overlay", "identity", "proto", "types"]),
];

/// An outside crate that only some of ours may name.
pub const OWNED: &[(&str, &[&str])] = &[
    ("openraft", &["manager"]),
    ("rocksdb", &["manager"]),
    ("rtnetlink", &["overlay"]),
    ("nftables", &["overlay"]),
    ("boringtun", &["overlay"]),
    ("hickory-proto", &["overlay"]),
    ("hickory-server", &["overlay"]),
    ("libcontainer", &["runtime"]),
    ("tar", &["cli", "image"]),
    ("axum", &["api"]),
    ("bollard", &["it"]),
    ("bollard-stubs", &["api"]),
    ("croner", &["control"]),
    ("clap", &["cli", "daemon", "lab"]),
    ("prometheus-client", &["manager", "node"]),
    ("rcgen", &["identity", "it"]),
    ("saphyr-parser", &["cli"]),
    ("serde-saphyr", &["runtime"]),
    ("x509-parser", &["identity"]),
];

/// Longest file, and longest file with its tests.
pub const MAX_FILE_LINES: usize = 600;
/// Longest function.
pub const MAX_FUNCTION_LINES: usize = 70;
