//! What of /proc and /sys is hidden from containers because it tells about the host. Called by `launch`, and by whoever shows it.

use std::{fs, sync::LazyLock};

/// The same, and in the same order, as Docker has it.
const EVERYWHERE: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// How often each processor was too hot is a side channel (moby, GHSA-6fw5-f8r9-fgfm); only some hosts count it.
static MASKED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let processors = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let counters = processors.map(|processor| processor.path().join("thermal_throttle"));
    let mut counters: Vec<_> = counters.filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
    counters.sort();
    EVERYWHERE.into_iter().map(str::to_owned).chain(counters).collect()
});

/// Absolute paths in the container.
pub fn masked_paths() -> &'static [String] {
    &MASKED
}
