//! Images in a cluster: from node to node, with no registry.

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, until};

use crate::can_make_hosts;

/// P16, S-20: an image that was loaded on one host runs on all, with no registry.
#[test]
fn p16_s20_an_image_of_one_node_runs_on_all() -> Result<()> {
    if !can_make_hosts("p16_s20_an_image_of_one_node_runs_on_all") {
        return Ok(());
    }
    let t = ClusterUnderTest::without_image("peerimages", 1, 1)?;
    t.api("h2")?.post_tar("/images/load", &image::busybox_archive(IMAGE)?)?;
    let d = Docker::new(&t, "h1");
    let made = d.run(&["service", "create", "-d", "--name", "web", "--mode", "global", IMAGE, "sleep", "100000"])?;
    ensure!(made.0 == 0 && made.2.contains("could not be accessed on a registry to record"), "{made:?}");
    let (_, time) = t.running("web", 2)?;
    eprintln!("from another node, the registry's silence included: {time:?}");
    let id = |host: &str| Docker::new(&t, host).ok(&format!("image inspect {IMAGE} --format {{{{.Id}}}}"));
    ensure!(id("h1")? == id("h2")?, "another image");
    d.says("service inspect web --format {{.Spec.TaskTemplate.ContainerSpec.Image}}", IMAGE)?;

    let missing = ["service", "create", "-d", "--no-resolve-image", "--name", "no", "nowhere:1"];
    ensure!(d.run(&missing)?.0 == 0);
    until("the task says what was tried", DEADLINE, || {
        d.shows(
            "service ps no --no-trunc --format {{.Error}}",
            "from other nodes: the one that was asked does not have it",
        )
    })?;
    Ok(())
}
