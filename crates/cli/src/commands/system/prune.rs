//! `system prune`: what nothing uses goes, from this host or, by a manager, from all nodes.

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::Value;

use super::super::{confirmed, container::life::deleted, image::pruned_images, info::text, parse_filter, tasks::items};
use crate::{
    client::{Client, filters_query},
    output::{terminal::print, units::decimal_size},
};

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also images with a name that no container has
    #[arg(short, long)]
    all: bool,
    /// On all nodes; asked of a manager
    #[arg(long)]
    cluster: bool,
    /// Only remove those for which KEY=VALUE holds (until, label, label!)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Also anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl PruneArgs {
    /// `place`: where, if it is not here alone.
    fn question(&self, place: &str) -> String {
        let mut what = vec!["  - all stopped containers", "  - all networks not used by at least one container"];
        if self.volumes {
            what.push("  - all anonymous volumes not used by at least one container");
        }
        what.push(match self.all {
            true => "  - all images without at least one container associated to them",
            false => "  - all dangling images",
        });
        let what = what.join("\n");
        format!("WARNING! This will remove{place}:\n{what}\n\nAre you sure you want to continue? [y/N] ")
    }
}

pub(super) async fn prune(client: &Client, arguments: &PruneArgs) -> anyhow::Result<()> {
    let until = arguments.filter.iter().any(|(key, _)| key == "until");
    ensure!(!(arguments.volumes && until), "the \"until\" filter is not supported with \"--volumes\"");
    match arguments.cluster {
        true => everywhere(client, arguments).await,
        false => here(client, arguments).await,
    }
}

async fn here(client: &Client, arguments: &PruneArgs) -> anyhow::Result<()> {
    if !arguments.force && !confirmed(&arguments.question(""))? {
        return Ok(());
    }
    let filters = filters_query(&arguments.filter);
    let mut bytes = 0;
    let mut freed = |answer: &Value| bytes += answer["SpaceReclaimed"].as_u64().unwrap_or(0);
    let answer = client.post(&format!("/containers/prune{filters}"), None).await?;
    freed(&answer);
    print(&deleted("Containers", &answer["ContainersDeleted"]))?;
    let answer = client.post(&format!("/networks/prune{filters}"), None).await?;
    print(&deleted("Networks", &answer["NetworksDeleted"]))?;
    if arguments.volumes {
        let answer = client.post(&format!("/volumes/prune{filters}"), None).await?;
        freed(&answer);
        print(&deleted("Volumes", &answer["VolumesDeleted"]))?;
    }
    let mut of_images = arguments.filter.clone();
    of_images.push(("dangling".to_owned(), (!arguments.all).to_string()));
    let answer = client.post(&format!("/images/prune{}", filters_query(&of_images)), None).await?;
    freed(&answer);
    print(&images(&answer))?;
    print(&format!("Total reclaimed space: {}\n", decimal_size(bytes)))
}

fn images(answer: &Value) -> String {
    let gone = pruned_images(answer);
    if gone.is_empty() { gone } else { format!("Deleted Images:\n{gone}\n") }
}

/// Exit code 1 when a node did not do all of it.
async fn everywhere(client: &Client, arguments: &PruneArgs) -> anyhow::Result<()> {
    if !arguments.force {
        let count = items(&client.get("/nodes").await?).count();
        if !confirmed(&arguments.question(&format!(" on all {count} nodes")))? {
            return Ok(());
        }
    }
    let filters = filters_query(&arguments.filter).replace('?', "&");
    let path = format!("/system/prune/all?all={}&volumes={}{filters}", arguments.all, arguments.volumes);
    let nodes = client.post(&path, None).await?;
    print(&said(&nodes))?;
    let failed = failed(&nodes);
    if !failed.is_empty() {
        bail!("not all was removed from all nodes:\n{}", failed.join("\n"));
    }
    Ok(())
}

/// A part for each node, and the sum of what they gained. Of one that failed there is a part if it did something.
fn said(nodes: &Value) -> String {
    let freed = |node: &Value| node["SpaceReclaimed"].as_u64().unwrap_or(0);
    let part = |node: &Value| {
        let lists = ["Containers", "Networks", "Volumes"].map(|what| deleted(what, &node[format!("{what}Deleted")]));
        let lists = lists.concat() + &images(node);
        let head = format!("Node {}: {} reclaimed\n", text(&node["Node"]), decimal_size(freed(node)));
        match (lists.is_empty(), node["Error"].is_null()) {
            (false, _) => head + &lists,
            (true, true) => head + "\n",
            (true, false) => String::new(),
        }
    };
    let parts: String = items(nodes).map(part).collect();
    let bytes = items(nodes).map(freed).fold(0, u64::saturating_add);
    format!("{parts}Total reclaimed space: {}\n", decimal_size(bytes))
}

/// A line for each node that did not do all of it.
fn failed(nodes: &Value) -> Vec<String> {
    items(nodes).filter(|node| !node["Error"].is_null()).map(|node| text(&node["Error"])).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    /// P27: what each node removed, also one that failed later; the sum; who did not do it.
    #[test]
    fn p27_what_nodes_removed_and_who_did_not() {
        let nodes = json!([
            { "NodeID": "a", "Node": "h1", "Error": null, "ContainersDeleted": ["c1"], "NetworksDeleted": null,
                "ImagesDeleted": [{ "Untagged": "app:1" }, { "Deleted": "sha256:aa" }], "SpaceReclaimed": 2_000_000 },
            { "NodeID": "b", "Node": "h2", "Error": null, "ContainersDeleted": null, "SpaceReclaimed": 0 },
            { "NodeID": "c", "Node": "h3", "Error": "node h3 closed the connection", "ContainersDeleted": null,
                "NetworksDeleted": ["back"], "SpaceReclaimed": 500_000 },
            { "NodeID": "d", "Node": "h4", "Error": "node h4 is down", "SpaceReclaimed": 0 },
        ]);
        expect![[r#"
            Node h1: 2MB reclaimed
            Deleted Containers:
            c1

            Deleted Images:
            untagged: app:1
            deleted: sha256:aa

            Node h2: 0B reclaimed

            Node h3: 500kB reclaimed
            Deleted Networks:
            back

            Total reclaimed space: 2.5MB
        "#]]
        .assert_eq(&said(&nodes));
        assert_eq!(failed(&nodes), ["node h3 closed the connection", "node h4 is down"]);
    }

    /// P27: the question is that of one host, with the number of nodes.
    #[test]
    fn p27_the_question_says_where_and_what() {
        let (filter, force) = (Vec::new(), false);
        let arguments = PruneArgs { all: true, cluster: true, filter, force, volumes: true };
        expect![[r#"
            WARNING! This will remove on all 3 nodes:
              - all stopped containers
              - all networks not used by at least one container
              - all anonymous volumes not used by at least one container
              - all images without at least one container associated to them

            Are you sure you want to continue? [y/N] "#]]
        .assert_eq(&arguments.question(" on all 3 nodes"));
    }
}
