//! Old images make room for new ones, on each node by itself (P27).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, Docker, IMAGE};
use nix::sys::statvfs::statvfs;

use crate::can_make_hosts;

/// Room for four or five of the images, each of which is there packed and unpacked.
const DISK_BYTES: u64 = 70 << 20;
const COUNT: usize = 8;
/// The daemon's own, if nobody says otherwise.
const HIGH: u64 = 85;

/// P27: a service is updated through more images than its node has room for: the disk stays below the threshold, the present and
/// the previous image are there, a rollback brings nothing, and what was loaded on the node by hand stays.
#[test]
fn p27_old_images_make_room_for_new_ones() -> Result<()> {
    if !can_make_hosts("p27_old_images_make_room_for_new_ones") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_small_disk("imagegc", 1, 1, DISK_BYTES)?;
    let (manager, node) = (Docker::new(&t, "h1"), Docker::new(&t, "h2"));
    let tar = image::busybox_archive(IMAGE)?;
    for host in ["h1", "h2"] {
        t.api(host)?.post_tar("/images/load", &tar)?;
    }
    for n in 1..=COUNT {
        manager.ok(&format!("run --name maker --network none {IMAGE} dd if=/dev/urandom of=/noise bs=1M count=6"))?;
        manager.ok(&format!("commit maker web:{n}"))?;
        manager.ok("rm maker")?;
    }

    let service =
        "service create -d --no-resolve-image --name web --constraint node.hostname==h2 --stop-grace-period 1s";
    manager.ok(&format!("{service} web:1 sleep 100000"))?;
    for n in 1..=COUNT {
        if n > 1 {
            manager.ok(&format!("service update -d --no-resolve-image --image web:{n} web"))?;
        }
        node.comes_to_say("ps --format {{.Image}}", &format!("web:{n}"))?;
        let percent = fullness(&t)?;
        ensure!(percent <= HIGH, "{percent} % with image {n}");
        let there = images(&node)?;
        for wanted in [n, n.saturating_sub(1).max(1)] {
            ensure!(there.contains(&format!("web:{wanted}")), "image {wanted} with image {n}: {there:?}");
        }
    }
    let there = images(&node)?;
    ensure!(there.contains(&IMAGE.to_owned()), "older than all others, and its user's: {there:?}");
    ensure!(!there.contains(&"web:1".to_owned()), "{there:?}");
    let gone = told(&node, "delete")?;
    let untagged = told(&node, "untag")?;
    ensure!(gone >= 1 && untagged >= gone, "{gone} were deleted and {untagged} names taken away");
    let metrics = t.api("h2")?.request("GET", "/metrics", "", b"")?.text();
    let line = format!("rswarm_engine_images_collected_total {gone}");
    ensure!(metrics.lines().any(|known| known == line), "no {line} in\n{metrics}");

    let pulled = told(&node, "pull")?;
    manager.ok("service rollback -d web")?;
    node.comes_to_say("ps --format {{.Image}}", &format!("web:{}", COUNT - 1))?;
    ensure!(told(&node, "pull")? == pulled, "going back brings nothing");
    ensure!(images(&manager)?.len() == COUNT + 1, "where they were made they all stay");
    Ok(())
}

/// How full the node's disk is, as `df` shows it.
fn fullness(t: &ClusterUnderTest) -> Result<u64> {
    let disk = statvfs(&t.lab().var_lib("h2")?)?;
    let used = disk.blocks() - disk.blocks_free();
    Ok((used * 100).div_ceil(used + disk.blocks_available()))
}

fn images(docker: &Docker<'_>) -> Result<Vec<String>> {
    Ok(docker.ok("images --format {{.Repository}}:{{.Tag}}")?.lines().map(str::to_owned).collect())
}

/// How often the node has told this of an image.
fn told(docker: &Docker<'_>, action: &str) -> Result<usize> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 1;
    let line =
        format!("events --since 1 --until {now} --filter type=image --filter event={action} --format {{{{.Action}}}}");
    Ok(docker.ok(&line)?.lines().count())
}
