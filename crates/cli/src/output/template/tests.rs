//! Templates in, text out.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::Template;

fn value() -> Value {
    json!({
        "ID": "abc", "Replicas": 3, "Ready": true,
        "Spec": { "Name": "web", "Labels": { "b": "2", "a": "1" } },
        "Ports": [{ "Target": 80 }, { "Target": 443 }],
        "Empty": [],
    })
}

#[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
fn check(template: &str, expected: Expect) {
    let shown = match Template::parse(template).and_then(|template| template.run(&value())) {
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

/// E-28: what docker's functions give where there is nothing, too much or another kind.
#[test]
fn e_28_functions_give_what_dockers_do() {
    check("{{pad .Empty 1 2}}|{{pad \"\" 1 2}}|{{truncate .ID 9}}", expect![" []  ||abc"]);
    check("{{title \"one-two three_four 5six\"}}", expect!["One-Two Three_four 5six"]);
    check("{{split \"abc\" \"\"}} {{len (split \"\" \",\")}}", expect!["[a b c] 1"]);
    check("{{join .Spec.Command \" \"}}|{{join .Spec.Labels \",\"}}|{{join .Empty \",\"}}", expect!["|1,2|"]);
    check("{{slice .ID 1}} {{slice .ID 0 2}} {{len (slice .Ports 1)}}", expect!["bc ab 1"]);
    check("{{print .Replicas 4 .ID .ID true}}|{{println .ID 1}}", expect!["3 4abcabctrue|abc 1\n"]);
    check("{{eq .ID \"x\" \"abc\"}} {{ne .Replicas 3}} {{eq .Spec.Command \"\"}}", expect!["true false true"]);
    check("{{and .Empty (index .Empty 0)}} {{or .ID (index .Empty 0)}}", expect!["[] abc"]);
    check("{{lt 1 2}} {{ge .ID \"abd\"}} {{not .Empty}}", expect!["true false true"]);
}

/// E-28
#[test]
fn e_28_printf_has_gos_verbs() {
    check("{{printf \"%.2s|%5s|%-5s|\" .ID .ID .ID}}", expect!["ab|  abc|abc  |"]);
    check("{{printf \"%d %+d %04d %x %X %o %b %c\" 12 12 12 255 255 8 5 65}}", expect!["12 +12 0012 ff FF 10 101 A"]);
    check("{{printf \"%.1f %6.2f %t %q %x\" 2.5 3 .Ready .ID .ID}}", expect![[r#"2.5   3.00 true "abc" 616263"#]]);
    check("{{printf \"%*d %-*d| %v %% %d %s\" 4 7 3 7 .Empty .ID}}", expect!["   7 7  | [] % abc %!s(MISSING)"]);
    check("{{printf \"%z %s%\" 1 .Replicas}}", expect!["%!z(1) 3%!(NOVERB)"]);
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
    check("{{with $s := .Spec}}{{$s.Name}} {{.Name}}{{end}}", expect!["web web"]);
    check("{{if $n := len .Empty}}{{$n}}{{else}}{{$n}} of them{{end}}", expect!["0 of them"]);
    check("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}{{if true}}{{$x = 3}}{{end}}{{$x}}", expect!["13"]);
    check("{{range $i, $p := .Ports}}{{if $i}}{{break}}{{end}}{{.Target}}{{end}}", expect!["80"]);
    check("{{range .Ports}}{{if eq .Target 80}}{{continue}}{{end}}{{.Target}}{{end}}", expect!["443"]);
    check("a \n{{-\t.ID\n-}}\n b{{- /* \"}} \" */ -}} c", expect!["aabcbc"]);
    check("{{\"\\u00e9\\x41\\102\\033[0m\"}}", expect!["éAB\u{1b}[0m"]);
}

#[test]
fn absent_fields() {
    check("{{.UpdateStatus.State}}|", expect!["|"]);
    check(
        "{{.Speck.Name}}",
        expect![[r#"error: template: no field "Speck" in . (there are Empty, ID, Ports, Ready, Replicas, Spec)"#]],
    );
}

/// E-28, E-42: names as in Docker's own types, fields that the API leaves out, maps with people's own keys.
#[test]
fn e_28_fields_are_found_by_both_names() {
    check("{{.Id}} {{.spec.Labels.a}}", expect!["abc 1"]);
    check("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", expect!["none"]);
    check("{{.Spec.Labels.c}}|{{.Spec.Labels.A}}|{{index .Spec.Labels \"c\"}}", expect!["||"]);
}

/// E-23: `.Label` is of lines of lists alone.
#[test]
fn e_23_a_label_by_its_key() {
    let labels = [("com.example.some-key", "one"), ("b", "2")];
    let labels: types::Labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let line = |text: &str| {
        let template = Template::parse(text).expect(text);
        template.run_line(&value(), Some(&labels)).unwrap_or_else(|error| error.to_string())
    };
    assert_eq!(line("{{.Label \"b\"}} {{.Label \"none\"}}|{{if .Label \"b\"}}yes{{end}}"), "2 |yes");
    assert_eq!(line("{{upper (.Label \"com.example.some-key\")}} {{\"b\" | .Label}} {{$.Label \"b\"}}"), "ONE 2 2");
    assert_eq!(line("{{.Label}}"), "template: wrong number of arguments for Label: got 0");
    let heading = |text: &str| Template::parse(text).expect(text).run_heading(&json!({ "Name": "NAME" }));
    assert_eq!(heading("{{.Label \"com.example.some-key\"}} {{.Label \"b\"}}").as_deref(), Ok("some key b"));
    check("{{.Label \"b\"}}", expect!["error: template: a value is not a function and takes no arguments"]);
}

/// E-23: titles go whole through what takes values apart, and are padded as they are.
#[test]
fn e_23_headings_of_templates() {
    let heading = |text: &str| {
        let template = Template::parse(text).expect(text);
        template.run_heading(&json!({ "Name": "NAME", "State": "STATE" })).expect(text)
    };
    assert_eq!(heading("{{truncate .Name 2}} {{join (split .Name \",\") \"-\"}} {{json .Name}}"), "NAME NAME NAME");
    assert_eq!(heading("{{slice .Name 0 2}} {{index (split .Name \":\") 0}} {{title .Name}}"), "NAME NAME NAME");
    assert_eq!(heading("{{pad .Name 1 2}}|{{printf \"%-6s\" .Name}}|"), " NAME  |NAME  |");
    assert_eq!(heading("{{if eq .State \"running\"}}up{{else}}{{.Name}}{{end}}"), "NAME");
    assert_eq!(heading("{{range split .Name \",\"}}{{.}}{{end}} {{lt .Name 1}}"), "NAME ");
}

#[test]
fn mistakes_are_named() {
    check("{{.ID", expect!["error: template parsing error: unclosed action: {{.ID"]);
    check("{{if .ID}}x", expect!["error: template parsing error: unexpected end of template: {{end}} is missing"]);
    check("{{end}}", expect!["error: template parsing error: unexpected {{end}}"]);
    check("{{colour .ID}}", expect![[r#"error: template parsing error: function "colour" not defined"#]]);
    check("{{}}", expect!["error: template parsing error: missing value for command"]);
    check("{{break}}", expect!["error: template parsing error: {{break}} outside {{range}}"]);
    check("{{\"\\y\"}}", expect![[r#"error: template parsing error: unknown escape in "\y""#]]);
    check("{{$x = 1}}", expect!["error: template: undefined variable $x"]);
    check(
        "{{eq .Replicas \"3\"}}",
        expect!["error: template: eq: incompatible types for comparison: a number and a text"],
    );
    check("{{eq .ID}}", expect!["error: template: wrong number of arguments for eq: got 1"]);
    check("{{slice .ID 0 9}}", expect!["error: template: slice: index out of range: 9"]);
    check("{{slice .ID 2 1}}", expect!["error: template: slice: invalid slice index: 2 > 1"]);
    check("{{len .Replicas}}", expect!["error: template: len: a number has no length"]);
    check("{{join .ID \",\"}}", expect!["error: template: join: expected a list and a separator, got a text"]);
    check("{{.ID.Name}}", expect!["error: template: .ID.Name: a text or number has no fields"]);
    check(&"{{if .ID}}".repeat(100), expect!["error: template parsing error: blocks are nested too deeply"]);
}
