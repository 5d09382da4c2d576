//! `search`: images on Docker Hub by a part of their names.

use clap::Args;
use serde_json::Value;

use super::super::{info::text, parse_filter, tasks::items};
use crate::{
    client::{Client, escape, filters_query},
    output::{
        list::{Layout, Row, Style, render},
        terminal::print,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    titles: &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")],
    key: "Name",
};

/// What docker shows of a description unless all is asked for.
const DESCRIPTION_WIDTH: usize = 45;

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Part of a name
    term: String,
    /// Only show those for which KEY=VALUE holds (is-official, stars)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// How many at most (default 25)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u32,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
}

pub(crate) async fn search(client: &Client, arguments: SearchArgs) -> anyhow::Result<()> {
    let filters = filters_query(&arguments.filter).replace('?', "&");
    let path = format!("/images/search?term={}&limit={}{filters}", escape(&arguments.term), arguments.limit);
    let found = client.get(&path).await?;
    let rows: Vec<Row> = items(&found).map(|one| row(one, &arguments)).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: false }, &rows)?)
}

fn row(one: &Value, arguments: &SearchArgs) -> Row {
    let mut description = text(&one["description"]).replace(['\n', '\r'], " ");
    if !arguments.no_trunc && description.chars().count() > DESCRIPTION_WIDTH {
        description = description.chars().take(DESCRIPTION_WIDTH - 1).chain(['…']).collect();
    }
    // docker's words for programs and for people
    let official = match (one["is_official"] == true, arguments.format.trim() == "json") {
        (is_official, true) => is_official.to_string(),
        (true, false) => "[OK]".to_owned(),
        (false, false) => String::new(),
    };
    Row::from([
        ("Name", text(&one["name"])),
        ("Description", description),
        ("StarCount", text(&one["star_count"])),
        ("IsOfficial", official),
    ])
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn e_05_what_was_found_as_docker_shows_it() {
        let found = [
            json!({ "name": "nginx", "description": "Official build\nof Nginx.", "star_count": 20_000, "is_official": true }),
            json!({ "name": "me/nginx", "description": "a".repeat(50), "star_count": 0, "is_official": false }),
        ];
        let shown = |format: &str| {
            let (term, format) = ("nginx".to_owned(), format.to_owned());
            let arguments = SearchArgs { term, filter: Vec::new(), format, limit: 0, no_trunc: false };
            let rows: Vec<Row> = found.iter().map(|one| row(one, &arguments)).collect();
            render(&LAYOUT, &Style { format: arguments.format, quiet: false }, &rows).expect("a good format")
        };
        expect![[r#"
            NAME       DESCRIPTION                                     STARS     OFFICIAL
            nginx      Official build of Nginx.                        20000     [OK]
            me/nginx   aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…   0         
        "#]]
        .assert_eq(&shown(""));
        assert!(shown("json").starts_with(
            r#"{"Description":"Official build of Nginx.","IsOfficial":"true","Name":"nginx","StarCount":"20000"}"#
        ));
    }
}
