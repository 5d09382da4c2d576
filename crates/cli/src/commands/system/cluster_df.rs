//! `system df --cluster`: what takes the disks of all nodes, one line each, as a manager gathers it from them, and a line of their sums.

use serde_json::Value;

use super::super::{container::list::short, info::text, tasks::items};
use crate::{
    client::Client,
    output::{
        list::{Layout, Row, Style, render},
        terminal::{print, print_error},
        units::decimal_size,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Node}}\t{{.Images}}\t{{.ImagesSize}}\t{{.ImagesReclaimable}}\
            \t{{.Containers}}\t{{.ContainersSize}}\t{{.ContainersReclaimable}}\
            \t{{.Volumes}}\t{{.VolumesSize}}\t{{.VolumesReclaimable}}\t{{.Size}}\t{{.Reclaimable}}",
    titles: &[
        ("ID", "NODE ID"),
        ("Node", "NODE"),
        ("Images", "IMAGES"),
        ("ImagesSize", "SIZE"),
        ("ImagesReclaimable", "RECLAIMABLE"),
        ("Containers", "CONTAINERS"),
        ("ContainersSize", "SIZE"),
        ("ContainersReclaimable", "RECLAIMABLE"),
        ("Volumes", "VOLUMES"),
        ("VolumesSize", "SIZE"),
        ("VolumesReclaimable", "RECLAIMABLE"),
        ("BuildCache", "BUILD CACHE"),
        ("BuildCacheSize", "SIZE"),
        ("BuildCacheReclaimable", "RECLAIMABLE"),
        ("Size", "ALL"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    key: "ID",
};

/// Of each kind: its numbers in the answer, which is also the field of its count; the fields of bytes, and of bytes that are not in use.
const KINDS: [[&str; 3]; 4] = [
    ["Images", "ImagesSize", "ImagesReclaimable"],
    ["Containers", "ContainersSize", "ContainersReclaimable"],
    ["Volumes", "VolumesSize", "VolumesReclaimable"],
    ["BuildCache", "BuildCacheSize", "BuildCacheReclaimable"],
];

/// Of each kind, in their order: how many, bytes, and bytes that are not in use.
type Numbers = [[u64; 3]; KINDS.len()];

pub(super) async fn df(client: &Client, format: String) -> anyhow::Result<()> {
    let nodes = client.get("/system/df/all").await?;
    print(&render(&LAYOUT, &Style { format, quiet: false }, &rows(&nodes))?)?;
    print_error(&missing(&nodes))
}

/// Of each node that said something; last, without an id, their sums.
fn rows(nodes: &Value) -> Vec<Row> {
    let mut total = Numbers::default();
    let mut rows = Vec::new();
    for node in items(nodes).filter(|node| node["Error"].is_null()) {
        let numbers = numbers(node);
        for (sums, more) in total.iter_mut().flatten().zip(numbers.iter().flatten()) {
            *sums = sums.saturating_add(*more);
        }
        rows.push(row(short(&text(&node["NodeID"])), text(&node["Node"]), &numbers));
    }
    rows.push(row(String::new(), "TOTAL".to_owned(), &total));
    rows
}

fn numbers(node: &Value) -> Numbers {
    KINDS.map(|[kind, ..]| {
        ["TotalCount", "TotalSize", "Reclaimable"].map(|field| node[kind][field].as_u64().unwrap_or(0))
    })
}

fn row(id: String, name: String, numbers: &Numbers) -> Row {
    let sum = |which: usize| decimal_size(numbers.iter().fold(0, |sum: u64, kind| sum.saturating_add(kind[which])));
    let mut row = Row::from([("ID", id), ("Node", name), ("Size", sum(1)), ("Reclaimable", sum(2))]);
    for ([count, size, spare], [n, bytes, spare_bytes]) in KINDS.into_iter().zip(numbers) {
        let texts = [(count, n.to_string()), (size, decimal_size(*bytes)), (spare, decimal_size(*spare_bytes))];
        row = texts.into_iter().fold(row, |row, (field, text)| row.with(field, text));
    }
    row
}

/// A line for each node that is not in the numbers.
fn missing(nodes: &Value) -> String {
    let silent = items(nodes).filter(|node| !node["Error"].is_null());
    silent.map(|node| format!("WARNING: not counted: {}\n", text(&node["Error"]))).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    /// P27: the last line is the sum of the others; who did not answer is in none and is named.
    #[test]
    fn p27_a_line_for_each_node_and_their_sum() {
        let kind = |count: u64, bytes: u64, spare: u64| -> Value {
            json!({ "TotalCount": count, "ActiveCount": 1, "TotalSize": bytes, "Reclaimable": spare })
        };
        let nodes = json!([
            { "NodeID": "aaaaaaaaaaaaaaaa", "Node": "h1", "Error": null, "Images": kind(2, 4_000_000, 1000),
                "Containers": kind(3, 500, 200), "Volumes": kind(1, 20, 0), "BuildCache": kind(0, 0, 0) },
            { "NodeID": "bbbbbbbbbbbbbbbb", "Node": "h2", "Error": "node h2 is down" },
            { "NodeID": "cccccccccccccccc", "Node": "h3", "Error": null, "Images": kind(5, 1_000_000, 9000),
                "Containers": kind(1, 100, 0), "Volumes": kind(0, 0, 0), "BuildCache": kind(0, 0, 0) },
        ]);
        let shown = |format: &str| {
            let style = Style { format: format.to_owned(), quiet: false };
            render(&LAYOUT, &style, &rows(&nodes)).expect("known fields")
        };
        expect![[r#"
            NODE      IMAGES    SIZE      RECLAIMABLE   CONTAINERS   SIZE      RECLAIMABLE   VOLUMES   SIZE      RECLAIMABLE   ALL       RECLAIMABLE
            h1        2         4MB       1kB           3            500B      200B          1         20B       0B            4MB       1.2kB
            h3        5         1MB       9kB           1            100B      0B            0         0B        0B            1MB       9kB
            TOTAL     7         5MB       10kB          4            600B      200B          1         20B       0B            5MB       10.2kB
        "#]]
        .assert_eq(&shown(""));
        assert_eq!(shown("{{.ID}}={{.Images}}"), "aaaaaaaaaaaa=2\ncccccccccccc=5\n=7\n");
        assert_eq!(missing(&nodes), "WARNING: not counted: node h2 is down\n");
    }
}
