//! Wrong input: a sentence that names the object, the cause and the next step; a non-zero exit
//! code; and a state that is as before.

use anyhow::{Result, ensure};
use it::ClusterUnderTest;

use crate::can_make_hosts;

/// P55, C-10: every way to join wrongly says which, and leaves the host as it was.
#[test]
fn cluster_p55_joining_wrongly() -> Result<()> {
    if !can_make_hosts("cluster_p55_joining_wrongly") {
        return Ok(());
    }
    let t = ClusterUnderTest::without_image("joins", 1, 1)?;
    let address = format!("{}:2377", t.lab().address("h1")?);
    t.cli("h2", &["leave"])?;
    let token = t.cli("h1", &["join-token", "-q", "worker"])?.trim().to_owned();
    let (head, secret) = token.rsplit_once('-').unwrap();
    let foreign_digest = format!("SWMTKN-1-{}-{secret}", "1".repeat(50));
    let foreign_secret = format!("{head}-{}", "1".repeat(25));
    let cases: &[(&str, &str, &[&str])] = &[
        ("nonsense", &address, &["token"]),
        (&token[..token.len() - 3], &address, &["token"]),
        (&foreign_digest, &address, &["cluster"]),
        (&foreign_secret, &address, &["token"]),
        (&token, "127.0.0.1:1", &["127.0.0.1:1", "refused"]),
        (&token, "no-such-host.invalid:2377", &["no-such-host.invalid"]),
    ];
    for (token, address, words) in cases {
        let error = t.cli_fails("h2", &["join", "--token", token, address])?;
        ensure!(words.iter().all(|w| error.contains(w)), "join {token} {address}: want {words:?}: {error}");
        let info = t.api("h2")?.get("/info")?;
        ensure!(info["Swarm"]["LocalNodeState"] == "inactive", "half joined after {error}: {}", info["Swarm"]);
    }
    t.cli("h1", &["join-token", "--rotate", "worker"])?;
    let rotated = t.cli_fails("h2", &["join", "--token", &token, &address])?;
    ensure!(rotated.contains("token"), "{rotated}");
    let fresh = t.cli("h1", &["join-token", "-q", "worker"])?;
    t.cli("h2", &["join", "--token", fresh.trim(), &address])?;
    let twice = t.cli_fails("h2", &["join", "--token", fresh.trim(), &address])?;
    ensure!(twice.contains("already part of a swarm") || twice.contains("already"), "{twice}");
    let again = t.cli_fails("h1", &["init"])?;
    ensure!(again.contains("already"), "{again}");
    Ok(())
}

/// S-01, S-30, S-40: bad specs are refused whole.
#[test]
fn cluster_s_01_bad_services() -> Result<()> {
    if !can_make_hosts("cluster_s_01_bad_services") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("badspec", 1, 0)?;
    t.create("taken", 1, &[])?;
    let create = |more: &[&str]| -> Result<String> {
        let mut arguments = vec!["service", "create", "-d"];
        arguments.extend(more);
        t.cli_fails("h1", &arguments)
    };
    let image = it::IMAGE;
    let cases: &[(&[&str], &[&str])] = &[
        (&["--name", "a.b", image], &["a.b"]),
        (&["--name", "taken", image], &["taken"]),
        (&["--name", "x", "UPPER:case"], &["UPPER"]),
        (&["--name", "x", "--constraint", "node.colour==red", image], &["node.colour"]),
        (&["--name", "x", "--constraint", "node.role", image], &["node.role"]),
        (&["--name", "x", "--limit-memory", "1m", image], &["memory"]),
        (&["--name", "x", "--limit-cpu", "0.0001", image], &["cpu"]),
        (&["--name", "x", "--replicas", "-1", image], &["replicas"]),
        (&["--name", "x", "--mode", "sometimes", image], &["sometimes"]),
        (&["--name", "x", "--restart-condition", "maybe", image], &["maybe"]),
        (&["--name", "x", "--mount", "type=bind,source=relative,target=/x", image], &["relative"]),
    ];
    for (arguments, words) in cases {
        let error = create(arguments)?;
        let lower = error.to_lowercase();
        ensure!(words.iter().all(|w| lower.contains(&w.to_lowercase())), "{arguments:?}: want {words:?}: {error}");
    }
    let services = t.first()?.get("/services")?;
    ensure!(services.as_array().is_some_and(|s| s.len() == 1), "a refused service left something: {services}");
    for (arguments, word) in [
        (&["node", "inspect", "nobody"][..], "nobody"),
        (&["node", "update", "--availability", "asleep", "h1"][..], "asleep"),
        (&["node", "demote", "h1"][..], "last manager"),
        (&["service", "inspect", "nothing"][..], "nothing"),
        (&["service", "scale", "taken"][..], "taken"),
        (&["service", "rm", "nothing"][..], "nothing"),
        (&["image", "rm", "nothing:here"][..], "nothing:here"),
        (&["leave"][..], "manager"),
    ] {
        let error = t.cli_fails("h1", arguments)?;
        ensure!(error.contains(word), "{arguments:?}: {error}");
    }
    Ok(())
}

/// Hostile HTTP: a 4xx in Docker's shape, never a 5xx, never a panic, and the daemon lives on.
#[test]
fn docker_api_bad_requests() -> Result<()> {
    if !can_make_hosts("docker_api_bad_requests") {
        return Ok(());
    }
    let t = ClusterUnderTest::without_image("badhttp", 1, 0)?;
    let api = t.first()?;
    let huge = format!("{{\"Name\":\"{}\"}}", "x".repeat(2_000_000));
    let cases: &[(&str, &str, &str)] = &[
        ("POST", "/services/create", ""),
        ("POST", "/services/create", "{"),
        ("POST", "/services/create", "[]"),
        ("POST", "/services/create", "{\"Name\":5}"),
        ("POST", "/services/create", "{\"Name\":\"x\"}"),
        ("POST", "/services/create", &huge),
        ("POST", "/services/nope/update?version=1", "{}"),
        ("POST", "/services/nope/update", "{}"),
        ("GET", "/services?filters=%7B", ""),
        ("GET", "/tasks?filters=notjson", ""),
        ("GET", "/nodes/nope", ""),
        ("POST", "/nodes/nope/update?version=x", "{}"),
        ("POST", "/swarm/init", "{\"ListenAddr\":7}"),
        ("GET", "/no/such/route", ""),
        ("GET", "/v9.99/info", ""),
        ("GET", "/images/%00/json", ""),
    ];
    for (method, path, body) in cases {
        let answer = api.request(method, path, "application/json", body.as_bytes())?;
        let short = &body[..body.len().min(40)];
        ensure!((400..500).contains(&answer.status), "{method} {path} {short}: {} {}", answer.status, answer.text());
        ensure!(answer.json()?["message"].is_string(), "{method} {path}: no message: {}", answer.text());
    }
    // As Docker answers it: a stream, whose last line is the error.
    for (path, body) in [("/images/load", "this is no tar"), ("/images/load?quiet=0", "")] {
        let answer = api.request("POST", path, "application/x-tar", body.as_bytes())?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        let last = answer.text().lines().last().unwrap_or_default().to_owned();
        let line: serde_json::Value = serde_json::from_str(&last)?;
        ensure!(line["errorDetail"]["message"].is_string() && line["error"].is_string(), "{path}: {last}");
    }
    let platform = api.request("POST", "/images/create?fromImage=a&platform=foobar", "application/json", b"")?;
    ensure!(platform.status == 400, "{} {}", platform.status, platform.text());
    let said = platform.json()?["message"].to_string();
    ensure!(said.contains("foobar") && said.contains("unknown operating system or architecture"), "{said}");
    api.get("/info").map(drop)
}
