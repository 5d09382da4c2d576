//! Hostile input to every route of the API: always a 4xx with `{"message": …}` or an answer, never a 5xx, never a panic,
//! and a daemon that lives on (parity E-13 to E-42).

mod fields;
mod victim;

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::can_make_hosts;
use fields::{CREATE, Model, OTHERS, PARAMETERS, ROUTES};
use victim::{NAME, PATIENCE, Victim, shown};
pub(crate) use victim::{Random, seed};

/// Requests with a query string for each route; `RSWARM_HOSTILE` makes it another number.
const QUERIES: u64 = 25;
fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// What stands where an id or a name should.
fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> =
        ["nobody", "%00", "%ff%fe", "..%2f..%2fetc", "%0a", "%25s%25n", "a%20b", "-", "%zz", "%", "\"<>`#"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
    names.push(b"x".repeat(3000));
    names.push(escape("\u{202e}ä\u{1f600}".as_bytes()).into_bytes());
    names
}

fn hostile_values() -> Vec<String> {
    let mut values: Vec<String> = [
        "",
        "-1",
        "0",
        "1",
        "99999999999999999999",
        "-99999999999999999999",
        "1e400",
        "NaN",
        "true",
        "null",
        "%00",
        "%ff%fe%80",
        "../../etc",
        "%7B%7D",
        "%7B%22a%22%3A%5B%5D%7D",
        "%5B%5D",
        "%7B%22label%22%3A%7B%22a%22%3A1%7D%7D",
        "%7B%22until%22%3A%5B%22x%22%5D%7D",
        "9223372036854775807",
        "-9223372036854775808",
        "1970-13-40T99%3A99",
        "-o%20pid%3Da",
        "%7B%22name%22%3A%5B%22%28%22%5D%7D",
        "%0d%0aX%3A%20y",
    ]
    .map(str::to_owned)
    .to_vec();
    values.push("x".repeat(20_000));
    values.push(escape(&[b"[".repeat(2000), b"]".repeat(2000)].concat()));
    values
}

/// More than any route reads.
fn oversized() -> Vec<u8> {
    [b"{\"Name\":\"".to_vec(), b"x".repeat(17 << 20), b"\"}".to_vec()].concat()
}

/// No body of these is what any route wants.
fn hostile_bodies() -> Vec<Vec<u8>> {
    let deep = |open: &str, close: &str, depth: usize| [open.repeat(depth), "1".into(), close.repeat(depth)].concat();
    vec![
        b"{".to_vec(),
        b"[]".to_vec(),
        b"\"text\"".to_vec(),
        b"7".to_vec(),
        b"true".to_vec(),
        b"{\"\xff\xfe\":\"\x80\"}".to_vec(),
        b"\x00\x01\x02".to_vec(),
        b"{} trailing".to_vec(),
        b"{\"Name\":NaN}".to_vec(),
        deep("[", "]", 100_000).into_bytes(),
        deep("{\"a\":", "}", 100_000).into_bytes(),
    ]
}

/// Objects of what not every route knows, and so does not look at.
fn strange_bodies() -> [Vec<u8>; 2] {
    let deep = ["{\"Labels\":".repeat(100), "1".into(), "}".repeat(100)].concat();
    [b"{\"Unheard\":\"of\"}".to_vec(), deep.into_bytes()]
}

/// E-13 to E-42: bodies that are none, of each route that needs one; whatever body, of the others.
#[test]
fn docker_api_hostile_bodies() -> Result<()> {
    if !can_make_hosts("docker_api_hostile_bodies") {
        return Ok(());
    }
    let victim = Victim::up("hostbody")?;
    for (method, path, needs_json) in ROUTES {
        for body in hostile_bodies().into_iter().chain(needs_json.then(oversized)) {
            let path = path.replace("NAME", NAME).replace("ID", "nobody");
            // what the others do with a body that they do not read is up to them
            let must_fail = *needs_json || path.contains("nobody");
            victim.check(method, path.as_bytes(), &body, must_fail)?;
        }
        for body in strange_bodies() {
            let path = path.replace("NAME", NAME).replace("ID", "nobody");
            victim.check(method, path.as_bytes(), &body, path.contains("nobody"))?;
        }
        victim.is_well().with_context(|| format!("after {method} {path}"))?;
    }
    victim.verdict()
}

/// Paths and query strings of all kinds; what is no HTTP at all.
#[test]
fn docker_api_hostile_queries() -> Result<()> {
    if !can_make_hosts("docker_api_hostile_queries") {
        return Ok(());
    }
    let victim = Victim::up("hostquery")?;
    let mut random = Random(seed());
    let (names, values) = (hostile_names(), hostile_values());
    let count = std::env::var("RSWARM_HOSTILE").ok().and_then(|text| text.parse().ok()).unwrap_or(QUERIES);
    for (method, template, _) in ROUTES {
        for name in names.iter().filter(|_| template.contains("ID")) {
            let (before, after) = template.split_once("ID").context("an id")?;
            let path = [before.as_bytes(), name, after.as_bytes()].concat();
            victim.check(method, &path, b"{}", true)?;
        }
        for _ in 0..count {
            let mut path = format!("{}?", template.replace("NAME", NAME).replace("ID", "nobody"));
            for _ in 0..1 + random.next() % 3 {
                path += &format!("{}={}&", random.pick(PARAMETERS), random.pick(&values));
            }
            victim.check(method, path.as_bytes(), b"", false)?;
        }
        victim.is_well().with_context(|| format!("after {method} {template}"))?;
    }
    for method in ["PATCH", "DELETE", "TRACE", "NONESUCH", "CONNECT"] {
        victim.check(method, b"/containers/json", b"", true)?;
    }
    for path in ["/v1.4x/info", "/v/info", "/v99999999999.1/info", "/v1.44", "/%2e%2e/info"] {
        victim.check("GET", path.as_bytes(), b"", true)?;
    }
    // sent elsewhere
    for path in ["//", "/containers//json"] {
        victim.check("GET", path.as_bytes(), b"", false)?;
    }
    for bytes in [
        &b"\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        &[&b"GET /info HTTP/1.1\r\nX: "[..], &b"y".repeat(1 << 20), b"\r\n\r\n"].concat(),
    ] {
        let mut stream = UnixStream::connect(victim.api.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(bytes).ok(); // may be refused before all was read
        stream.shutdown(Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let text = String::from_utf8_lossy(&answer);
        ensure!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{}: {}", shown(bytes), shown(&answer));
    }
    victim.is_well()?;
    victim.verdict()
}

/// The field's value in an otherwise right body.
fn put(body: &str, path: &str, value: Value) -> Result<Value> {
    let mut whole: Value = serde_json::from_str(body)?;
    let mut at = &mut whole;
    for key in path.split('.') {
        let (key, is_list) = key.strip_suffix("[]").map_or((key, false), |key| (key, true));
        if at.is_null() {
            *at = json!({});
        }
        at = &mut at[key];
        if is_list {
            *at = json!([{}]);
            at = &mut at[0];
        }
    }
    *at = value;
    Ok(whole)
}

fn wrong(kind: &str) -> Vec<Value> {
    let all = [
        ("s", json!("text")),
        ("n", json!(7)),
        ("n", json!(1.5)),
        ("b", json!(true)),
        ("L", json!(["text"])),
        ("N", json!([7, 7])),
        ("O", json!([{ "A": "b" }])),
        ("o", json!({ "A": 7 })),
        ("x", json!([[["deep"]]])),
    ];
    let fits = |of: &str| match kind {
        "W" => of == "s" || of == "L",
        "M" | "E" => false,
        _ => of == kind,
    };
    // no number of these fields has a fraction
    let wrong = all.into_iter().filter(|(of, value)| !fits(of) || (value.is_f64() && kind == "n"));
    wrong.map(|(_, value)| value).collect()
}

/// Of the right type, and nothing that anybody should have to honour.
fn hostile(kind: &str) -> Vec<Value> {
    let texts =
        ["", "\0", "a\nb", "../../../etc", "/", "-", "%s%n", ":", "=", "container:", "\u{202e}ä", "/proc/1/root"];
    let mut texts: Vec<String> = texts.map(str::to_owned).to_vec();
    texts.push("x".repeat(100_000));
    let numbers = [json!(0), json!(-1), json!(i64::MAX), json!(i64::MIN), json!(u64::MAX), json!(1e300)];
    match kind {
        "s" => texts.into_iter().map(Value::from).collect(),
        "W" | "L" => texts.into_iter().map(|text| json!([text, text])).chain([json!(vec!["x"; 5000])]).collect(),
        "n" => numbers.to_vec(),
        "N" => vec![json!([]), json!([7]), json!([-1, -1]), json!([1, 2, 3]), json!([u64::MAX, 0])],
        "M" | "E" | "o" => texts.into_iter().map(|text| json!({ text.clone(): text })).collect(),
        "O" => vec![json!([{}]), json!([{ "": "" }]), json!([null]), json!(vec![json!({}); 5000])],
        _ => vec![json!(true), json!(false)],
    }
}

fn fields_of(model: &Model) -> impl Iterator<Item = (&'static str, &'static str)> {
    model.fields.lines().filter_map(|line| line.split_once(' '))
}

/// Each field of each model of the wrong type, one at a time: 400, and the message names the field.
#[test]
fn docker_api_fields_of_the_wrong_type() -> Result<()> {
    if !can_make_hosts("docker_api_fields_of_the_wrong_type") {
        return Ok(());
    }
    let victim = Victim::up("hosttype")?;
    let mut count = 0;
    for model in [&CREATE].into_iter().chain(&OTHERS) {
        let path = model.path.replace("NAME", NAME);
        for (field, kind) in fields_of(model) {
            for value in wrong(kind) {
                let body = put(model.body, field, value)?.to_string();
                let answer = victim.check("POST", path.as_bytes(), body.as_bytes(), true)?;
                undo(&victim, model.path)?;
                count += 1;
                // of an item, another field may be missed first: its list is named then
                let whole = field.split_once("[]").map_or(field, |(list, _)| list);
                let name = whole.rsplit('.').next().unwrap_or(whole).to_lowercase();
                if !answer.to_lowercase().contains(&name) {
                    victim.note(format!("{path} {body}: {} does not name {field}", shown(answer.as_bytes())));
                    break;
                }
            }
        }
        victim.is_well().with_context(|| format!("after {path}"))?;
    }
    ensure!(count > 1000, "only {count} requests");
    victim.verdict()?;
    let left = victim.api.get("/containers/json?all=1")?;
    ensure!(left.as_array().is_some_and(|list| list.len() == 1), "a refused container is there: {left}");
    Ok(())
}

/// Each field of each model with values of the right type that nobody should have to honour: refused, or made, started
/// and removed.
#[test]
fn docker_api_fields_with_hostile_values() -> Result<()> {
    if !can_make_hosts("docker_api_fields_with_hostile_values") {
        return Ok(());
    }
    let victim = Victim::up("hostvalue")?;
    for model in [&CREATE].into_iter().chain(&OTHERS).filter(|model| model.path != "/swarm/init") {
        let path = model.path.replace("NAME", NAME);
        for (field, kind) in fields_of(model) {
            for value in hostile(kind) {
                let body = put(model.body, field, value)?.to_string();
                victim.check("POST", path.as_bytes(), body.as_bytes(), false)?;
                undo(&victim, model.path).with_context(|| format!("{field}: {}", shown(body.as_bytes())))?;
            }
            victim.is_well().with_context(|| format!("after {path} {field}"))?;
        }
    }
    victim.verdict()
}

/// What was made is started, where it can be, and goes.
fn undo(victim: &Victim, path: &str) -> Result<()> {
    let collection = match path {
        "/containers/create" => {
            for made in victim.api.get("/containers/json?all=1")?.as_array().into_iter().flatten() {
                let id = made["Id"].as_str().unwrap_or_default();
                if made["Names"] == json!([format!("/{NAME}")]) {
                    continue;
                }
                victim.check("POST", format!("/containers/{id}/start").as_bytes(), b"", false)?;
                victim.check("GET", format!("/containers/{id}/json").as_bytes(), b"", false)?;
                victim.check("DELETE", format!("/containers/{id}?force=1&v=1").as_bytes(), b"", false)?;
            }
            return Ok(());
        }
        "/networks/create" => ("/networks", "Name", &["bridge", "host", "none", "ingress"][..]),
        "/services/create" => ("/services", "ID", &[][..]),
        "/volumes/create" => ("/volumes", "Name", &[][..]),
        _ => return Ok(()),
    };
    let (list, key, own) = collection;
    let found = victim.api.get(list)?;
    let found = if list == "/volumes" { found["Volumes"].clone() } else { found };
    for made in found.as_array().into_iter().flatten() {
        let name = made[key].as_str().unwrap_or_default();
        if !own.contains(&name) {
            victim.check("DELETE", format!("{list}/{}", escape(name.as_bytes())).as_bytes(), b"", false)?;
        }
    }
    Ok(())
}
