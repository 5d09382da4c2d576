//! Templates in, text out.

use expect_test::{Expect, expect};
use serde_json::json;

use super::Template;

#[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
fn check(template: &str, expected: Expect) {
    let value = json!({
        "ID": "abc", "Replicas": 3, "Ready": true,
        "Spec": { "Name": "web", "Labels": { "b": "2", "a": "1" } },
        "Ports": [{ "Target": 80 }, { "Target": 443 }],
        "Empty": [],
    });
    let shown = match Template::parse(template).and_then(|template| template.run(&value)) {
        Ok(text) => text,
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn fields_and_pipelines() {
    check("{{.ID}}\t{{.Spec.Name}}", expect!["abc\tweb"]);
    check("{{json .Spec}}", expect![[r#"{"Name":"web","Labels":{"b":"2","a":"1"}}"#]]);
    check("{{.Spec.Name | upper | printf \"%-6s|\"}}", expect!["WEB   |"]);
    check("{{(index .Ports 1).Target}} {{len .Ports}}", expect!["443 2"]);
    check("{{index .Spec.Labels \"a\"}}", expect!["1"]);
    check("{{.Spec.Labels}} {{.Ready}} {{.Replicas}}", expect!["map[a:1 b:2] true 3"]);
    check("{{pad .ID 1 2}}|{{truncate .ID 2}}|{{join (split \"a,b\" \",\") \"-\"}}", expect![" abc  |ab|a-b"]);
}

#[test]
fn blocks() {
    check("{{range .Ports}}{{.Target}} {{end}}", expect!["80 443 "]);
    check("{{range $i, $p := .Ports}}{{if $i}}, {{end}}{{$p.Target}}{{end}}", expect!["80, 443"]);
    check("{{range $k, $v := .Spec.Labels}}{{$k}}={{$v}} {{end}}", expect!["a=1 b=2 "]);
    check("{{range .Empty}}x{{else}}none{{end}}", expect!["none"]);
    check("{{if eq .Replicas 1}}one{{else if gt .Replicas 2}}many{{else}}two{{end}}", expect!["many"]);
    check("{{with .Spec}}{{.Name}} of {{$.ID}}{{end}}", expect!["web of abc"]);
    check("{{$x := .ID}}{{$x}}{{/* quiet */}}", expect!["abc"]);
    check("a  {{- .ID -}}  b", expect!["aabcb"]);
    check("{{if and .Ready (not .Empty)}}yes{{end}}", expect!["yes"]);
}

#[test]
fn absent_fields() {
    check("{{.UpdateStatus.State}}|", expect!["|"]);
    check(
        "{{.Speck.Name}}",
        expect![[r#"error: template: no field "Speck" in . (there are Empty, ID, Ports, Ready, Replicas, Spec)"#]],
    );
}

#[test]
fn mistakes_are_named() {
    check("{{.ID", expect!["error: template parsing error: unclosed action: {{.ID"]);
    check("{{if .ID}}x", expect!["error: template parsing error: unexpected end of template: {{end}} is missing"]);
    check("{{end}}", expect!["error: template parsing error: unexpected {{end}}"]);
    check("{{colour .ID}}", expect![[r#"error: template parsing error: function "colour" not defined"#]]);
    check("{{}}", expect!["error: template parsing error: missing value for command"]);
    check("{{.ID.Name}}", expect!["error: template: .ID.Name: a text or number has no fields"]);
    check(&"{{if .ID}}".repeat(100), expect!["error: template parsing error: blocks are nested too deeply"]);
}
