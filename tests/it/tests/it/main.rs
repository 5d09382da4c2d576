//! Cluster tests: real daemons, real containers, hosts as namespaces. Each test names the parity or
//! pain row it shows. They need root; without it each says so and counts as skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod anywhere;
mod attachable;
mod bad_input;
mod churn;
mod clients;
mod containers;
mod corners;
mod cycles;
mod daemon_settings;
mod devices;
mod disks;
mod docker_cli;
mod docker_paths;
mod doctor;
mod drivers;
mod entry;
mod events;
mod failures;
mod firewalls;
mod gateway_modes;
mod health;
mod host_ports;
mod hostile;
mod hosts;
mod image_gc;
mod images;
mod inject;
mod ipv6;
mod jobs;
mod load;
mod locks;
mod managers;
mod mesh;
mod metrics;
mod migrate;
mod mtu;
mod networks;
mod own_cli;
mod paths;
mod places;
mod publish;
mod registries;
mod remote;
mod resources;
mod restore;
mod revisions;
mod roots;
mod secrets;
mod services;
mod shown;
mod stacks;
mod steering;
mod storage;
mod streams;
mod survive;
mod swarm_cli;
mod ties;
mod user_networks;
mod waits;
mod written;

/// Whether this machine lets us make hosts; says so when it does not.
fn can_make_hosts(test: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        eprintln!("SKIPPED {test}: needs root to make network namespaces");
    }
    root
}
