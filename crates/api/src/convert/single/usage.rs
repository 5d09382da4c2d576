//! What a container uses, as `GET /containers/{id}/stats` shows it (parity E-25).

use node::engine::containers::{NetworkUse, UsageView};
use serde_json::{Map, Value, json};

use crate::convert::{time::rfc3339, writer::Fields};

/// One reading beside the one before it.
pub(crate) fn write(id: &str, name: &str, before: Option<&UsageView>, now: &UsageView) -> Value {
    let usage = &now.usage;
    let (bytes, operations) = (by_device(&usage.io), by_device(&usage.io_operations));
    let networks: Map<String, Value> = now.networks.iter().map(|one| (one.interface.clone(), network(one))).collect();
    let read = |view: &UsageView| rfc3339(view.read_at);
    json!({
        "id": id,
        "name": format!("/{name}"),
        "read": read(now),
        "preread": before.map_or_else(|| rfc3339(types::Timestamp::EPOCH), read),
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": match now.is_running {
            true => json!({ "current": usage.stats.pids, "limit": usage.stats.pids_limit.unwrap_or(u64::MAX) }),
            false => json!({}),
        },
        "blkio_stats": {
            "io_service_bytes_recursive": now.is_running.then_some(bytes),
            "io_serviced_recursive": Some(operations).filter(|counted| !counted.is_empty()),
            "io_queue_recursive": null, "io_service_time_recursive": null,
            "io_wait_time_recursive": null, "io_merged_recursive": null, "io_time_recursive": null,
            "sectors_recursive": null,
        },
        "cpu_stats": cpu(Some(now)),
        "precpu_stats": cpu(before),
        "memory_stats": memory(now),
        "networks": networks,
    })
}

/// What was read and written, each as an entry of its own.
fn by_device(counted: &[(u64, u64, u64, u64)]) -> Vec<Value> {
    let entries = counted.iter().flat_map(|(major, minor, read, written)| {
        [("read", read), ("write", written)]
            .map(|(op, value)| json!({ "major": major, "minor": minor, "op": op, "value": value }))
    });
    entries.collect()
}

fn cpu(view: Option<&UsageView>) -> Value {
    let Some(view) = view.filter(|view| view.is_running) else {
        return json!({
            "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        });
    };
    let usage = &view.usage;
    let (periods, held, held_ns) = usage.throttled;
    let used = Fields::new()
        .set("total_usage", usage.stats.cpu_ns)
        .unless_empty("percpu_usage", &usage.cpu_each_ns)
        .set("usage_in_kernelmode", usage.cpu_system_ns)
        .set("usage_in_usermode", usage.cpu_user_ns);
    json!({
        "cpu_usage": used.done(),
        "system_cpu_usage": view.system_cpu_ns,
        "online_cpus": view.processors,
        "throttling_data": { "periods": periods, "throttled_periods": held, "throttled_time": held_ns },
    })
}

/// With the page cache that would be given back first, which clients take off again.
fn memory(view: &UsageView) -> Value {
    if !view.is_running {
        return json!({});
    }
    let stats = &view.usage.stats;
    let limit = stats.memory_limit_bytes.unwrap_or(view.host_memory_bytes).min(view.host_memory_bytes);
    let peak = view.usage.memory_peak;
    Fields::new()
        .set("usage", stats.memory_bytes + view.usage.inactive_file_bytes)
        .some("max_usage", peak.map(|(most, _)| most))
        .set("stats", &view.usage.memory)
        .some("failcnt", peak.map(|(_, failures)| failures).filter(|failures| *failures > 0))
        .set("limit", limit)
        .done()
}

fn network(used: &NetworkUse) -> Value {
    let [rx_bytes, rx_packets, rx_errors, rx_dropped] = used.received;
    let [tx_bytes, tx_packets, tx_errors, tx_dropped] = used.sent;
    json!({
        "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
        "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
    })
}
