//! `secret` and `config`: `create/ls/inspect/update/rm`, the same for both.

use std::io::Read as _;

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{info::text, inspect, parse_filter, tasks::items};
use crate::{
    client::{Client, escape, filters_query},
    output::{
        list::{Layout, Row, Style, render},
        natural,
        terminal::print,
        units::age,
    },
    spec::edit::change_map,
};

/// More than any secret or config may have: who gives the wrong file learns it before all of it was read.
const MAX_FILE_BYTES: u64 = 2 << 20;

const SECRETS: Kind =
    Kind { name: "secret", root: "/secrets", table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}" };
const CONFIGS: Kind =
    Kind { name: "config", root: "/configs", table: "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}" };

/// What the two differ in here.
pub(crate) struct Kind {
    name: &'static str,
    root: &'static str,
    table: &'static str,
}

impl Kind {
    pub(crate) const SECRET: &'static Self = &SECRETS;
    pub(crate) const CONFIG: &'static Self = &CONFIGS;

    fn path(&self, name: &str) -> String {
        format!("{}/{}", self.root, escape(name))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum DependencyCommand {
    /// Create one from a file, or - for standard input
    #[command(after_help = "Example: printf hunter2 | rswarm secret create db-password -")]
    Create(CreateArgs),
    /// List them
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show one or more; the data of a secret is never shown
    Inspect(InspectArgs),
    /// Replace the data, which the services that use it follow by their own rolling update, or change labels
    #[command(
        after_help = "Example: rswarm config update app.conf ./app.conf\nrswarm service rollback SERVICE goes back to the data before."
    )]
    Update(UpdateArgs),
    /// Remove some that no service uses
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    name: String,
    /// File with the data, or -
    file: Option<String>,
    /// Label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Driver of the secret
    #[arg(short, long, default_value = "")]
    driver: String,
    /// The data has placeholders for each task: golang
    #[arg(long, value_name = "DRIVER", default_value = "")]
    template_driver: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only show those for which KEY=VALUE holds (id, label, name)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Only show ids
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// For people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    name: String,
    /// File with the new data, or -
    file: Option<String>,
    /// Add or change a label
    #[arg(long, value_name = "KEY=VALUE")]
    label_add: Vec<String>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) async fn run(client: &Client, kind: &Kind, command: DependencyCommand) -> anyhow::Result<()> {
    match command {
        DependencyCommand::Create(arguments) => create(client, kind, arguments).await,
        DependencyCommand::Ls(arguments) => list(client, kind, arguments).await,
        DependencyCommand::Inspect(arguments) => inspect_all(client, kind, arguments).await,
        DependencyCommand::Update(arguments) => update(client, kind, arguments).await,
        DependencyCommand::Rm(arguments) => remove(client, kind, arguments).await,
    }
}

impl CreateArgs {
    /// Docker's rules: data comes from a file or from a driver, and only secrets have drivers.
    fn check(&self, kind: &Kind) -> anyhow::Result<()> {
        let name = kind.name;
        ensure!(self.driver.is_empty() || kind.root == SECRETS.root, "a {name} has no driver: leave --driver out");
        match (&self.file, self.driver.is_empty()) {
            (None, true) => bail!("{name} file is required: give a file with the data, or - for standard input"),
            (Some(_), false) => bail!("when using {name} driver {name} data must be empty: leave the file out"),
            _ => Ok(()),
        }
    }
}

async fn create(client: &Client, kind: &Kind, arguments: CreateArgs) -> anyhow::Result<()> {
    arguments.check(kind)?;
    let mut body = json!({ "Name": arguments.name, "Labels": {} });
    change_map(&mut body, "Labels", &[], &arguments.label);
    if let Some(file) = &arguments.file {
        body["Data"] = Value::from(read(kind, file)?);
    }
    if !arguments.driver.is_empty() {
        body["Driver"] = json!({ "Name": arguments.driver });
    }
    if !arguments.template_driver.is_empty() {
        body["Templating"] = json!({ "Name": arguments.template_driver });
    }
    let answer = client.post(&format!("{}/create", kind.root), Some(&body)).await?;
    print(&format!("{}\n", text(&answer["ID"])))
}

/// The data in base64.
fn read(kind: &Kind, file: &str) -> anyhow::Result<String> {
    let mut data = Vec::new();
    let reading = match file {
        "-" => std::io::stdin().take(MAX_FILE_BYTES).read_to_end(&mut data),
        path => std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut data)),
    };
    reading.with_context(|| format!("read the data of the {} from {file}", kind.name))?;
    let from = if file == "-" { "STDIN" } else { file };
    ensure!(!data.is_empty(), "error reading from {from}: data is empty; a {} needs at least one byte", kind.name);
    Ok(BASE64.encode(data))
}

async fn list(client: &Client, kind: &Kind, arguments: ListArgs) -> anyhow::Result<()> {
    let all = client.get(&format!("{}{}", kind.root, filters_query(&arguments.filter))).await?;
    let mut all: Vec<&Value> = items(&all).collect();
    let name = |one: &Value| text(&one["Spec"]["Name"]);
    all.sort_by(|a, b| natural::compare(&name(a), &name(b)));
    let layout = Layout {
        table: kind.table,
        titles: &[
            ("ID", "ID"),
            ("Name", "NAME"),
            ("Driver", "DRIVER"),
            ("CreatedAt", "CREATED"),
            ("UpdatedAt", "UPDATED"),
            ("Labels", "LABELS"),
        ],
        key: "ID",
    };
    let rows: Vec<Row> = all.into_iter().map(row).collect();
    print(&render(&layout, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)
}

fn row(one: &Value) -> Row {
    let now = jiff::Timestamp::now();
    let ago = |field: &str| age(&text(&one[field]), now);
    Row::from([
        ("ID", text(&one["ID"])),
        ("Name", text(&one["Spec"]["Name"])),
        ("Driver", String::new()),
        ("CreatedAt", ago("CreatedAt")),
        ("UpdatedAt", ago("UpdatedAt")),
    ])
    .with_labels(&one["Spec"]["Labels"])
}

fn labels(one: &Value) -> Vec<String> {
    let labels = one["Spec"]["Labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| format!("{key}={}", text(value))).collect()
}

async fn inspect_all(client: &Client, kind: &Kind, arguments: InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match client.get(&kind.path(name)).await {
            Ok(one) => found.push(one),
            Err(error) => missing.push(error),
        }
    }
    if !arguments.pretty {
        return inspect::show(&found, &missing, arguments.format.as_deref());
    }
    for one in &found {
        print(&pretty(kind, one))?;
    }
    let reasons: Vec<String> = missing.iter().map(|error| format!("{error:#}")).collect();
    ensure!(reasons.is_empty(), "{}", reasons.join("\n"));
    Ok(())
}

fn pretty(kind: &Kind, one: &Value) -> String {
    let mut shown = format!("ID:\t\t\t{}\nName:\t\t\t{}\n", text(&one["ID"]), text(&one["Spec"]["Name"]));
    let labels: String = labels(one).iter().map(|label| format!(" - {}\n", label.trim_end_matches('='))).collect();
    if !labels.is_empty() {
        shown += &format!("Labels:\n{labels}");
    }
    if kind.root == SECRETS.root {
        shown += &format!("Driver:\t\t\t{}\n", text(&one["Spec"]["Driver"]["Name"]));
    }
    shown += &format!(
        "Created at:            \t{}\nUpdated at:            \t{}\n",
        text(&one["CreatedAt"]),
        text(&one["UpdatedAt"]),
    );
    if let Some(data) = one["Spec"]["Data"].as_str().and_then(|data| BASE64.decode(data).ok()) {
        shown += &format!("Data:\n{}\n", String::from_utf8_lossy(&data));
    }
    shown
}

async fn update(client: &Client, kind: &Kind, arguments: UpdateArgs) -> anyhow::Result<()> {
    let present = client.get(&kind.path(&arguments.name)).await?;
    let mut body = Value::Object(Map::from_iter([
        ("Name".to_owned(), present["Spec"]["Name"].clone()),
        ("Labels".to_owned(), present["Spec"]["Labels"].clone()),
    ]));
    change_map(&mut body, "Labels", &arguments.label_rm, &arguments.label_add);
    if let Some(file) = &arguments.file {
        body["Data"] = Value::from(read(kind, file)?);
    }
    let path = format!("{}/update?version={}", kind.path(&text(&present["ID"])), text(&present["Version"]["Index"]));
    client.post(&path, Some(&body)).await?;
    print(&format!("{}\n", arguments.name))
}

async fn remove(client: &Client, kind: &Kind, arguments: RemoveArgs) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    for name in &arguments.names {
        match client.delete(&kind.path(name)).await {
            Ok(_) => print(&format!("{name}\n"))?,
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(file: Option<&str>, driver: &str) -> CreateArgs {
        let file = file.map(str::to_owned);
        let (label, template_driver) = (Vec::new(), String::new());
        CreateArgs { name: "a".to_owned(), file, label, driver: driver.to_owned(), template_driver }
    }

    /// what cannot be created is refused before the daemon is asked, in docker's words.
    #[test]
    fn x_01_data_comes_from_a_file_or_from_a_driver() {
        let said = |kind, file, driver| match arguments(file, driver).check(kind) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(said(Kind::SECRET, Some("f"), ""), "");
        assert_eq!(said(Kind::SECRET, None, "vault"), "");
        assert!(said(Kind::SECRET, None, "").starts_with("secret file is required"));
        assert!(said(Kind::CONFIG, None, "").starts_with("config file is required"));
        assert!(
            said(Kind::SECRET, Some("-"), "vault").starts_with("when using secret driver secret data must be empty")
        );
        assert!(said(Kind::CONFIG, Some("f"), "vault").starts_with("a config has no driver"));
        let empty = read(Kind::SECRET, "/dev/null").expect_err("nothing in it").to_string();
        assert!(empty.starts_with("error reading from /dev/null: data is empty"), "{empty}");
    }

    #[test]
    fn x_01_shown_for_people_as_docker_does() {
        let one = |labels: Value, data: Value| json!({ "ID": "i", "CreatedAt": "c", "UpdatedAt": "u", "Spec": { "Name": "n", "Labels": labels, "Data": data } });
        assert_eq!(
            pretty(Kind::SECRET, &one(json!({}), Value::Null)),
            "ID:\t\t\ti\nName:\t\t\tn\nDriver:\t\t\t\nCreated at:            \tc\nUpdated at:            \tu\n"
        );
        assert_eq!(
            pretty(Kind::CONFIG, &one(json!({ "a": "b", "c": "" }), json!("eA=="))),
            "ID:\t\t\ti\nName:\t\t\tn\nLabels:\n - a=b\n - c\nCreated at:            \tc\nUpdated at:            \tu\nData:\nx\n"
        );
    }
}
