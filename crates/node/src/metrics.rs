//! What an engine tells a monitoring system of its host, as Prometheus reads it (parity C-38).
//!
//! Counters are counted where things happen, in the one struct that the engine passes on; how many there are of what is
//! looked at when somebody asks. Names are those of Docker's engine where it has one. All labels have values of a fixed
//! set.

use std::sync::Arc;

use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{HostInfo, engine::ContainerCounts};

/// Seconds of what it takes to bring the host's network to its plan.
const APPLY_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

type Labels<const N: usize> = [(&'static str, String); N];

/// Copies share the numbers.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Of single containers, by their restart policies; a task is never started again.
    pub(crate) restarts: Counter,
    pub(crate) health_checks: Counter,
    pub(crate) health_checks_failed: Counter,
    /// From a plan to a network that is as it says.
    pub(crate) network_applied: Histogram,
    pub(crate) network_failures: Counter,
    /// Removed to make room.
    pub(crate) images_collected: Counter,
    pub(crate) image_bytes_collected: Counter,
    containers: Family<Labels<1>, Gauge>,
    images: Gauge,
    volumes: Gauge,
    registry: Arc<Registry>,
}

impl Metrics {
    pub(crate) fn of(host: &HostInfo) -> Self {
        Self::new(&what_it_is(host), host.cpus, host.memory_bytes)
    }

    fn new(host: &Labels<6>, cpus: u32, memory_bytes: u64) -> Self {
        let mut registry = Registry::default();
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let restarts =
            counter("rswarm_engine_container_restarts", "Starts of single containers by their restart policies");
        let health_checks = counter("engine_daemon_health_checks", "Health checks that were made");
        let health_checks_failed = counter("engine_daemon_health_checks_failed", "Those that failed");
        let network_failures =
            counter("rswarm_engine_network_apply_failures", "Plans that the network was not brought to");
        let images_collected =
            counter("rswarm_engine_images_collected", "Images that were removed because the disk got full");
        let image_bytes_collected = counter("rswarm_engine_image_bytes_collected", "Bytes that this gave free");
        let network_applied = Histogram::new(APPLY_BUCKETS);
        let help = "Time to bring the host's network to its plan";
        registry.register("rswarm_engine_network_apply_seconds", help, network_applied.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge: Gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let images = gauge("rswarm_engine_images", "Images of this host");
        let volumes = gauge("rswarm_engine_volumes", "Volumes of this host");
        gauge("engine_daemon_engine_cpus_cpus", "Processors of this host").set(cpus.into());
        let memory = i64::try_from(memory_bytes).unwrap_or(i64::MAX);
        gauge("engine_daemon_engine_memory_bytes", "Memory of this host").set(memory);
        let containers = Family::default();
        let help = "Containers by what they do, those of tasks included";
        registry.register("engine_daemon_container_states_containers", help, containers.clone());
        let about = Family::<Labels<6>, Gauge>::default();
        about.get_or_create(host).set(1);
        registry.register("engine_daemon_engine_info", "What engine and host are", about);
        let registry = Arc::new(registry);
        Self {
            restarts,
            health_checks,
            health_checks_failed,
            network_applied,
            network_failures,
            images_collected,
            image_bytes_collected,
            containers,
            images,
            volumes,
            registry,
        }
    }

    /// All of them, with how many there are of what now.
    pub(crate) fn text(&self, containers: ContainerCounts, images: usize, volumes: usize) -> String {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let states = [("running", containers.running), ("paused", containers.paused), ("stopped", containers.stopped)];
        for (state, count) in states {
            self.containers.get_or_create(&[("state", state.to_owned())]).set(number(count));
        }
        self.images.set(number(images));
        self.volumes.set(number(volumes));
        let mut text = String::new();
        // a text has room for all there is
        prometheus_text::encode(&mut text, &self.registry).unwrap_or_default();
        text
    }
}

/// Docker's labels, without those that nothing here has.
fn what_it_is(host: &HostInfo) -> Labels<6> {
    [
        ("version", host.engine_version.clone()),
        ("architecture", host.machine.clone()),
        ("graphdriver", host.storage_driver.clone()),
        ("kernel", host.kernel_version.clone()),
        ("os", host.operating_system.clone()),
        ("os_type", host.os_type.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn c_38_counters_and_counts_as_prometheus_reads_them() {
        let host =
            ["version", "architecture", "graphdriver", "kernel", "os", "os_type"].map(|key| (key, "x".to_owned()));
        let metrics = Metrics::new(&host, 2, 1 << 30);
        metrics.clone().restarts.inc();
        metrics.network_applied.observe(0.02);
        metrics.image_bytes_collected.inc_by(7);
        let text = metrics.text(ContainerCounts { running: 3, paused: 0, stopped: 1 }, 2, 5);
        for line in [
            "# TYPE engine_daemon_container_states_containers gauge",
            "engine_daemon_container_states_containers{state=\"running\"} 3",
            "engine_daemon_engine_cpus_cpus 2",
            "rswarm_engine_images 2",
            "rswarm_engine_volumes 5",
            "rswarm_engine_container_restarts_total 1",
            "rswarm_engine_images_collected_total 0",
            "rswarm_engine_image_bytes_collected_total 7",
            "rswarm_engine_network_apply_seconds_bucket{le=\"0.025\"} 1",
            "rswarm_engine_network_apply_seconds_bucket{le=\"0.01\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("engine_daemon_engine_info{version="), "{text}");
    }
}
