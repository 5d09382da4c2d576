//! What a container uses, as `GET /containers/{id}/stats` shows it (parity E-25).

use node::engine::containers::{NetworkUse, UsageView};
use serde_json::{Map, Value, json};

use crate::convert::{time::rfc3339, writer::Fields};

/// One reading beside the one before it.
pub(crate) fn write(id: &str, name: &str, before: Option<&UsageView>, now: &UsageView) -> Value {
    let networks: Map<String, Value> = now.networks.iter().map(|one| (one.interface.clone(), network(one))).collect();
    let read = |view: &UsageView| rfc3339(view.read_at);
    json!({
        "id": id,
        "name": format!("/{name}"),
        "read": read(now),
        "preread": before.map_or_else(|| rfc3339(types::Timestamp::EPOCH), read),
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": processes(now),
        "blkio_stats": block_devices(now),
        "cpu_stats": cpu(Some(now)),
        "precpu_stats": cpu(before),
        "memory_stats": memory(now),
        "networks": networks,
    })
}

/// A container without a bound has none with cgroup v1, and with v2 the largest number there is, as Docker shows it.
fn processes(view: &UsageView) -> Value {
    if !view.is_running {
        return json!({});
    }
    let stats = &view.usage.stats;
    let limit = stats.pids_limit.or((view.cgroup_version == 2).then_some(u64::MAX));
    Fields::new().set("current", stats.pids).some("limit", limit).done()
}

/// What Docker does not read is an empty list with cgroup v1 and nothing with v2, of which it reads less.
fn block_devices(view: &UsageView) -> Value {
    let (bytes, operations) = (by_device(&view.usage.io), by_device(&view.usage.io_operations));
    let none = if view.is_running && view.cgroup_version == 1 { json!([]) } else { Value::Null };
    let operations = if operations.is_empty() { none.clone() } else { operations.into() };
    json!({
        "io_service_bytes_recursive": view.is_running.then_some(bytes),
        "io_serviced_recursive": operations,
        "io_queue_recursive": none, "io_service_time_recursive": none, "io_wait_time_recursive": none,
        "io_merged_recursive": none, "io_time_recursive": none, "sectors_recursive": none,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(cgroup_version: u8, pids_limit: Option<u64>, is_running: bool) -> Value {
        let mut view = UsageView { cgroup_version, is_running, ..UsageView::default() };
        (view.usage.stats.pids, view.usage.stats.pids_limit) = (3, pids_limit);
        write("0123", "web", None, &view)
    }

    /// E-25: what does not run was not read, at no time that there is.
    #[test]
    fn e_25_what_does_not_run_was_not_read() {
        let shown = shown(0, None, false);
        assert_eq!([&shown["read"], &shown["preread"]], ["0001-01-01T00:00:00Z"; 2]);
    }

    /// E-25: what is bounded by nothing and what nobody counts, by the kernel's control groups.
    #[test]
    fn e_25_what_there_is_not() {
        assert_eq!(shown(1, None, true)["pids_stats"], json!({ "current": 3 }));
        assert_eq!(shown(2, None, true)["pids_stats"], json!({ "current": 3, "limit": u64::MAX }));
        assert_eq!(shown(1, Some(7), true)["pids_stats"], json!({ "current": 3, "limit": 7 }));
        assert_eq!(shown(0, None, false)["pids_stats"], json!({}));
        let lists = |version, is_running| {
            let shown = shown(version, None, is_running);
            shown["blkio_stats"].as_object().expect("an object").values().filter(|list| list.is_array()).count()
        };
        assert_eq!([lists(1, true), lists(2, true), lists(0, false)], [8, 1, 0]);
    }
}
