//! What tasks use, as Prometheus reads it (P38): made anew for each scrape from what the nodes just answered.

use std::{collections::BTreeSet, fmt};

use control::Tables;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use types::{ClusterUsage, TaskUsage};

/// All series of one scrape.
#[derive(Debug)]
struct Told {
    tasks: Vec<(Labels<4>, TaskUsage)>,
    /// Whether it answered.
    nodes: Vec<(Labels<2>, bool)>,
}

type Labels<const N: usize> = [(&'static str, String); N];

/// Beside the metrics that are counted.
pub(super) fn text(tables: &Tables, usage: ClusterUsage) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Told::of(tables, usage)));
    super::text(&registry)
}

impl Told {
    fn of(tables: &Tables, usage: ClusterUsage) -> Self {
        let answered: BTreeSet<_> = usage.nodes.iter().map(|one| one.node).collect();
        let nodes = tables.nodes().map(|node| {
            let labels = [("node", node.shown_name().to_owned()), ("node_id", node.id.to_string())];
            (labels, answered.contains(&node.id))
        });
        let measured =
            usage.nodes.into_iter().flat_map(|node| node.tasks.into_iter().map(move |task| (node.node, task)));
        // a task that the value knows no more is none: its container goes
        let tasks = measured.filter_map(|(node, measured)| {
            let task = tables.task(measured.task)?;
            let service = &tables.service(task.service)?.spec.name;
            let labels = [
                ("service", service.to_string()),
                ("slot", task.slot.to_string()),
                ("task", format!("{service}.{}.{}", task.slot, task.id)),
                ("node", tables.node(node)?.shown_name().to_owned()),
            ];
            Some((labels, measured))
        });
        Self { tasks: tasks.collect(), nodes: nodes.collect() }
    }

    fn each<M: EncodeMetric>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, kind): (&str, &str, MetricType),
        value: impl Fn(&TaskUsage) -> Option<M>,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, usage) in &self.tasks {
            if let Some(value) = value(usage) {
                value.encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

fn bytes(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use MetricType::{Counter, Gauge};
        let encoder = &mut encoder;
        let about = ("rswarm_task_cpu_seconds", "Processor time of a running task's container", Counter);
        self.each(encoder, about, |of| Some(ConstCounter::new(of.cpu_ns as f64 / 1e9)))?;
        let help = "Memory of a running task's container, without the page cache that would be given back first";
        self.each(encoder, ("rswarm_task_memory_bytes", help, Gauge), |of| Some(bytes(of.memory_bytes)))?;
        let about = ("rswarm_task_memory_rss_bytes", "Of that what is no page cache", Gauge);
        self.each(encoder, about, |of| Some(bytes(of.rss_bytes)))?;
        let about = ("rswarm_task_memory_limit_bytes", "Limit of a task that has one", Gauge);
        self.each(encoder, about, |of| of.memory_limit_bytes.map(bytes))?;
        let about = ("rswarm_task_processes", "Processes and threads of a running task's container", Gauge);
        self.each(encoder, about, |of| Some(bytes(of.processes)))?;
        let help = "Bytes that came to a running task over its networks";
        let about = ("rswarm_task_network_receive_bytes", help, Counter);
        self.each(encoder, about, |of| of.network.map(|all| ConstCounter::new(all.received_bytes)))?;
        let help = "Bytes that a running task sent over its networks";
        let about = ("rswarm_task_network_transmit_bytes", help, Counter);
        self.each(encoder, about, |of| of.network.map(|all| ConstCounter::new(all.sent_bytes)))?;
        let help = "1 if the node told for this scrape what its tasks use; of others the series of tasks are missing";
        let mut metric = encoder.encode_descriptor("rswarm_node_usage_answered", help, None, Gauge)?;
        for (labels, has_answered) in &self.nodes {
            ConstGauge::new(i64::from(*has_answered)).encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}
