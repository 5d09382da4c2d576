//! Lists: rows of named texts shown as a table, by a template, or as JSON lines.

use serde_json::Value;

pub(crate) use super::row::Row;
use super::{table, template::Template};

/// What a kind of list looks like.
pub(crate) struct Layout {
    /// Template of the table shown when nothing else is asked for.
    pub(crate) table: &'static str,
    /// Field and column title; all fields a template may use beside `.Label "KEY"`, where rows have labels.
    pub(crate) titles: &'static [(&'static str, &'static str)],
    /// The field that `-q` prints.
    pub(crate) key: &'static str,
}

/// How the user wants it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Style {
    /// Empty, `table`, `table TEMPLATE`, `json` or a template.
    pub(crate) format: String,
    pub(crate) quiet: bool,
}

/// The text of a whole list.
pub(crate) fn render(layout: &Layout, style: &Style, rows: &[Row]) -> anyhow::Result<String> {
    let format = style.format.trim();
    if style.quiet && matches!(format, "" | "table") {
        let key = |row: &Row| format!("{}\n", row.fields.get(layout.key).map_or("", String::as_str));
        return Ok(rows.iter().map(key).collect());
    }
    if format == "json" {
        return Ok(rows.iter().map(|row| format!("{}\n", object(row))).collect());
    }
    let unescaped = format.replace("\\t", "\t").replace("\\n", "\n");
    let (body, is_table) = match unescaped.strip_prefix("table") {
        Some("") => (layout.table.to_owned(), true),
        Some(template) => (template.trim_start().to_owned(), true),
        None if unescaped.is_empty() => (layout.table.to_owned(), true),
        None => (unescaped, false),
    };
    let template = Template::parse(&body)?;
    let mut lines = Vec::new();
    if is_table {
        let titles = layout.titles.iter().map(|(field, title)| ((*field).to_owned(), Value::from(*title))).collect();
        lines.push(template.run_heading(&Value::Object(titles))?);
    }
    for row in rows {
        lines.push(template.run_line(&object(row), row.labels.as_ref())?);
    }
    match is_table {
        true => Ok(table::align(&lines)),
        false => Ok(lines.iter().map(|line| format!("{line}\n")).collect()),
    }
}

/// The fields as templates see them.
pub(crate) fn object(row: &Row) -> Value {
    row.fields.iter().map(|(field, text)| ((*field).to_owned(), shown(field, text))).collect()
}

/// Fields that are yes or no in docker's lists, so that templates can ask for them.
const YES_OR_NO: [&str; 1] = ["Self"];

fn shown(field: &str, text: &str) -> Value {
    if YES_OR_NO.contains(&field) { Value::Bool(text == "true") } else { Value::from(text) }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const LAYOUT: Layout =
        Layout { table: "{{.ID}}\t{{.Name}}", titles: &[("ID", "ID"), ("Name", "NAME"), ("Mode", "MODE")], key: "ID" };

    #[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
    fn check(format: &str, quiet: bool, expected: Expect) {
        let row = |id: &str, name: &str| {
            Row::from([("ID", id.to_owned()), ("Name", name.to_owned()), ("Mode", "global".to_owned())])
        };
        let style = Style { format: format.to_owned(), quiet };
        let shown = render(&LAYOUT, &style, &[row("1", "web"), row("2", "db")]);
        expected.assert_eq(&shown.unwrap_or_else(|error| format!("error: {error:#}")));
    }

    #[test]
    fn forms_of_a_list() {
        check(
            "",
            false,
            expect![[r#"
            ID        NAME
            1         web
            2         db
        "#]],
        );
        check(
            "",
            true,
            expect![[r#"
            1
            2
        "#]],
        );
        check(
            "table {{.Name}}\\t{{upper .Mode}}",
            false,
            expect![[r#"
            NAME      MODE
            web       GLOBAL
            db        GLOBAL
        "#]],
        );
        check(
            "{{.ID}}:{{.Name}}",
            false,
            expect![[r#"
            1:web
            2:db
        "#]],
        );
        check(
            "json",
            false,
            expect![[r#"
            {"ID":"1","Mode":"global","Name":"web"}
            {"ID":"2","Mode":"global","Name":"db"}
        "#]],
        );
        check(
            "table{{.ID}}",
            false,
            expect![[r#"
            ID
            1
            2
        "#]],
        );
        check(
            "table",
            true,
            expect![[r#"
            1
            2
        "#]],
        );
        check("{{.Nam}}", false, expect![[r#"error: template: no field "Nam" in . (there are ID, Mode, Name)"#]]);
    }

    /// E-23, E-29, N-22, X-01: labels all together and one by one, with their key as the column's title.
    #[test]
    fn e_23_labels_of_a_line() {
        const LABELLED: Layout = Layout { table: "{{.ID}}", titles: &[("ID", "ID"), ("Labels", "LABELS")], key: "ID" };
        let row = |id: &str, labels: Value| Row::from([("ID", id.to_owned())]).with_labels(&labels);
        let rows = [row("1", serde_json::json!({ "b": "2", "com.example.some-key": "x" })), row("2", Value::Null)];
        let shown = |format: &str| {
            let style = Style { format: format.to_owned(), quiet: false };
            render(&LABELLED, &style, &rows).unwrap_or_else(|error| format!("error: {error:#}"))
        };
        expect![[r#"
            ID        some key   LABELS
            1         x          b=2,com.example.some-key=x
            2                    
        "#]]
        .assert_eq(&shown("table {{.ID}}\t{{.Label \"com.example.some-key\"}}\t{{.Labels}}"));
        assert_eq!(shown("{{.ID}}{{.Label \"b\"}}"), "12\n2\n");
        assert_eq!(
            shown("json"),
            "{\"ID\":\"1\",\"Labels\":\"b=2,com.example.some-key=x\"}\n{\"ID\":\"2\",\"Labels\":\"\"}\n"
        );
    }
}
