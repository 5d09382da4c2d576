//! `system df`.

use clap::Args;
use serde_json::{Value, json};

use super::{
    super::{container::list, image, tasks::items, volume},
    cluster_df,
};
use crate::{
    client::Client,
    output::{
        list::{Layout, Row, Style, object, render},
        template::Template,
        terminal::print,
        units::decimal_size,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    titles: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    key: "Type",
};
const IMAGES: Layout = Layout {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    ..image::LAYOUT
};
const CONTAINERS: Layout = Layout {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    titles: list::TITLES,
    key: "ID",
};
const VOLUMES: Layout = Layout { table: "{{.Name}}\t{{.Links}}\t{{.Size}}", ..volume::LAYOUT };

#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// Of all nodes, a line each and their sums; asked of a manager
    #[arg(long)]
    cluster: bool,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Each object
    #[arg(short, long)]
    verbose: bool,
}

pub(super) async fn df(client: &Client, arguments: DfArgs) -> anyhow::Result<()> {
    if arguments.cluster {
        anyhow::ensure!(
            !arguments.verbose,
            "--verbose shows each object of one host: leave it out, or ask that host, as in `rswarm -H ssh://HOST system df -v`"
        );
        return cluster_df::df(client, arguments.format).await;
    }
    if !arguments.verbose {
        let found = client.get("/system/df?summary=true").await?;
        return print(&render(&LAYOUT, &Style { format: arguments.format, quiet: false }, &summary(&found))?);
    }
    let found = client.get("/system/df").await?;
    print(&each(&found, &arguments.format, jiff::Timestamp::now().as_second())?)
}

/// Each object: three tables, or what a template makes of three lists. In tables long texts are cut.
fn each(found: &Value, format: &str, now: i64) -> anyhow::Result<String> {
    let format = format.trim();
    let is_table = matches!(format, "" | "table");
    let images = items(&found["Images"]).map(|one| image::row(one, now, !is_table)).collect::<Vec<_>>();
    let containers = items(&found["Containers"]).map(|one| container(one, now, !is_table)).collect::<Vec<_>>();
    let volumes = items(&found["Volumes"]).map(volume::row).collect::<Vec<_>>();
    if !is_table {
        let list = |rows: &[Row]| rows.iter().map(object).collect::<Value>();
        let all = json!({
            "Images": list(&images),
            "Containers": list(&containers),
            "Volumes": list(&volumes),
            "BuildCache": [],
        });
        return Ok(match format {
            "json" => format!("{all}\n"),
            template => Template::parse(template)?.run(&all)? + "\n",
        });
    }
    let part = |title: &str, layout: &Layout, rows: &[Row]| {
        render(layout, &Style::default(), rows).map(|table| format!("{title} space usage:\n\n{table}\n"))
    };
    Ok(part("Images", &IMAGES, &images)?
        + &part("Containers", &CONTAINERS, &containers)?
        + &part("Local Volumes", &VOLUMES, &volumes)?)
}

/// Its own bytes alone, without its image's.
fn container(one: &Value, now: i64, whole: bool) -> Row {
    let mut own = one.clone();
    own["SizeRootFs"] = json!(0);
    list::row(&own, whole, now)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// What lines are called, and the numbers that the daemon gives for them.
const KINDS: [(&str, &str); 4] =
    [("Images", "Images"), ("Containers", "Containers"), ("Local Volumes", "Volumes"), ("Build Cache", "BuildCache")];

/// One line for each kind: how many, how many in use, bytes, and bytes of those that are not in use.
fn summary(found: &Value) -> Vec<Row> {
    let line = |(title, kind): &(&str, &str)| {
        let count = |field: &str| number(&found[*kind][field]);
        let (size, spare) = (count("TotalSize"), count("Reclaimable"));
        let percent = (spare * 100).checked_div(size).map_or_else(String::new, |percent| format!(" ({percent}%)"));
        Row::from([
            ("Type", (*title).to_owned()),
            ("TotalCount", count("TotalCount").to_string()),
            ("Active", count("ActiveCount").to_string()),
            ("Size", decimal_size(size)),
            ("Reclaimable", format!("{}{percent}", decimal_size(spare))),
        ])
    };
    KINDS.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn e_42_each_object_in_tables_and_templates() {
        let found = json!({
            "Images": [{ "Id": "sha256:0123456789abcdef", "RepoTags": ["app:1", "app:2"], "Created": 1000, "Size": 4_190_000,
                "SharedSize": 190_000, "Containers": 2 }],
            "Containers": [{ "Id": "fedcba9876543210", "Names": ["/web"], "Image": "app:1", "Command": "sleep 1", "Created": 1000,
                "Status": "Up", "SizeRw": 7, "SizeRootFs": 9, "Mounts": [{ "Driver": "local" }] }],
            "Volumes": [{ "Name": "data", "Driver": "local", "UsageData": { "RefCount": 1, "Size": 1000 } }],
        });
        expect![[r#"
            Images space usage:

            REPOSITORY   TAG       IMAGE ID       CREATED         SIZE      SHARED SIZE   UNIQUE SIZE   CONTAINERS
            app          1         0123456789ab   5 seconds ago   4.19MB    190kB         4MB           2

            Containers space usage:

            CONTAINER ID   IMAGE     COMMAND     LOCAL VOLUMES   SIZE      CREATED         STATUS    NAMES
            fedcba987654   app:1     "sleep 1"   1               7B        5 seconds ago   Up        web

            Local Volumes space usage:

            VOLUME NAME   LINKS     SIZE
            data          1         1kB

        "#]]
        .assert_eq(&each(&found, "", 1005).expect("tables"));
        let ids = "{{range .Images}}{{.ID}} {{end}}{{range .Containers}}{{.ID}}{{end}} {{(index .Volumes 0).Links}}";
        let shown = each(&found, ids, 1005).expect("a good template");
        assert_eq!(shown, "sha256:0123456789abcdef fedcba9876543210 1\n");
        let json: Value = serde_json::from_str(&each(&found, "json", 1005).expect("JSON")).expect("JSON");
        assert_eq!((&json["BuildCache"], &json["Volumes"][0]["Size"]), (&json!([]), &json!("1kB")));
    }
}
