//! Bounds on what a container uses: at `create`, and at `update`.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{set_list, set_text, ulimits};
use crate::{
    commands::container::limits::{LimitFlags, SharedLimits},
    output::units::parse_bytes,
    spec::edit::set_some,
};

pub(super) fn put(body: &mut Value, flags: &LimitFlags) -> anyhow::Result<()> {
    shared(body, "HostConfig.", &flags.shared);
    set_some(body, "HostConfig.MemorySwappiness", flags.memory_swappiness);
    set_some(body, "HostConfig.OomKillDisable", flags.oom_kill_disable);
    set_some(body, "HostConfig.OomScoreAdj", flags.oom_score_adj);
    set_some(body, "HostConfig.ShmSize", flags.shm_size);
    set_list(body, "HostConfig.Ulimits", ulimits(&flags.ulimit)?);
    set_text(body, "HostConfig.CgroupParent", &flags.cgroup_parent);
    let weights = flags.blkio_weight_device.iter().map(|text| weight(text)).collect::<anyhow::Result<Vec<_>>>()?;
    set_list(body, "HostConfig.BlkioWeightDevice", weights);
    for (field, texts, in_bytes) in [
        ("BlkioDeviceReadBps", &flags.device_read_bps, true),
        ("BlkioDeviceWriteBps", &flags.device_write_bps, true),
        ("BlkioDeviceReadIOps", &flags.device_read_iops, false),
        ("BlkioDeviceWriteIOps", &flags.device_write_iops, false),
    ] {
        let rates = texts.iter().map(|text| throttle(text, in_bytes)).collect::<anyhow::Result<Vec<_>>>()?;
        set_list(body, &format!("HostConfig.{field}"), rates);
    }
    Ok(())
}

fn weight(text: &str) -> anyhow::Result<Value> {
    let (path, weight) = text.rsplit_once(':').with_context(|| format!("bad format: {text}; write PATH:WEIGHT"))?;
    let weight = weight.parse::<u16>().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight));
    let weight = weight.with_context(|| format!("invalid weight for device: {text}; it is from 10 to 1000"))?;
    Ok(json!({ "Path": path, "Weight": weight }))
}

fn throttle(text: &str, in_bytes: bool) -> anyhow::Result<Value> {
    let (path, rate) = text.rsplit_once(':').with_context(|| format!("bad format: {text}; write PATH:RATE"))?;
    let rate = match in_bytes {
        true => parse_bytes(rate).map_err(anyhow::Error::msg)?,
        false => rate.parse().with_context(|| format!("invalid rate for device: {text}; give a whole number"))?,
    };
    Ok(json!({ "Path": path, "Rate": rate }))
}

/// The body of `update`.
pub(crate) fn update(flags: &SharedLimits, restart: Option<&str>) -> anyhow::Result<Value> {
    let mut body = json!({});
    shared(&mut body, "", flags);
    set_some(&mut body, "RestartPolicy", restart.map(super::restart_policy).transpose()?);
    Ok(body)
}

fn shared(body: &mut Value, at: &str, flags: &SharedLimits) {
    let mut number = |field: &str, value: Option<Value>| set_some(body, &format!("{at}{field}"), value);
    number("Memory", flags.memory.map(Value::from));
    number("MemoryReservation", flags.memory_reservation.map(Value::from));
    number("MemorySwap", flags.memory_swap.map(Value::from));
    number("NanoCpus", flags.cpus.map(Value::from));
    number("CpuShares", flags.cpu_shares.map(Value::from));
    number("CpuQuota", flags.cpu_quota.map(Value::from));
    number("CpuPeriod", flags.cpu_period.map(Value::from));
    number("CpuRealtimeRuntime", flags.cpu_rt_runtime.map(Value::from));
    number("CpuRealtimePeriod", flags.cpu_rt_period.map(Value::from));
    number("PidsLimit", flags.pids_limit.map(Value::from));
    number("BlkioWeight", flags.blkio_weight.map(Value::from));
    set_text(body, &format!("{at}CpusetCpus"), &flags.cpuset_cpus);
    set_text(body, &format!("{at}CpusetMems"), &flags.cpuset_mems);
}
