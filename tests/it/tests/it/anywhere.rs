//! A task's container through a manager that does not have it (P21): commands, streams, files, ports; and who may not.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, Said, apart, until};
use lab::ExecOptions;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::can_make_hosts;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes of every value, in no order that a terminal or a frame could hide a fault in.
fn noise(bytes: u32) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// One task on the worker, which says `tick` and serves its own files on port 80 of its loopback interface.
fn on_the_worker(test: &str) -> Result<(ClusterUnderTest, it::TaskRow)> {
    let t = ClusterUnderTest::up(test, 1, 1)?;
    let serve =
        "mkdir -p /w; echo served > /w/index.html; httpd -p 127.0.0.1:80 -h /w; while :; do echo tick; sleep 1; done";
    let worker = ["service", "create", "-d", "--name", "web", "--constraint", "node.role==worker"];
    t.cli("h1", &[&worker[..], &[it::IMAGE, "sh", "-c", serve]].concat())?;
    let row = t.running("web", 1)?.0[0].clone();
    ensure!(row.node == t.node_id("h2")?, "it runs on the worker: {row:?}");
    Ok((t, row))
}

/// P21: `exec`, `attach`, `logs`, `top`, `stats`, `inspect`, archives and ports of a task on another node, byte for byte.
#[test]
fn cluster_p_21_a_task_of_another_node_through_a_manager() -> Result<()> {
    if !can_make_hosts("cluster_p_21_a_task_of_another_node_through_a_manager") {
        return Ok(());
    }
    let (t, row) = on_the_worker("anywhere")?;
    let api = t.first()?;
    for name in ["web.1", &format!("web.1.{}", row.id), &row.id[..10], &row.container, &row.container[..12]] {
        let said = api.exec(name, &["sh", "-c", "echo out; echo err >&2; exit 7"], &Value::Null, b"")?;
        ensure!(
            said == Said { stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec(), code: Some(7) },
            "{name}: {said:?}"
        );
    }
    let input = noise(4 << 20);
    let said = api.exec("web.1", &["cat"], &Value::Null, &input)?;
    ensure!(said.stdout == input && said.code == Some(0), "{} of {} bytes came back", said.stdout.len(), input.len());
    let said =
        api.exec("web.1", &["sh", "-c", "stty size; exit 3"], &json!({"Tty": true, "ConsoleSize": [33, 77]}), b"")?;
    ensure!(text(&said.stdout) == "33 77\r\n" && said.code == Some(3), "{said:?}");
    resize_and_old_clients(&t)?;

    let wire = api.take_over("/containers/web.1/attach?logs=1&stream=1&stdout=1", &Value::Null, true)?;
    ensure!(wire.head.contains("multiplexed-stream"), "{}", wire.head);
    until("it says tick", DEADLINE, || {
        let logs = api.request("GET", "/containers/web.1/logs?stdout=1", "", b"")?.body;
        ensure!(text(&apart(&logs)?.0).starts_with("tick\ntick\n"), "{}", text(&logs));
        Ok(())
    })?;
    let shown = api.get("/containers/web.1/json")?;
    ensure!(shown["Id"] == json!(row.container) && shown["State"]["Running"] == json!(true), "{shown}");
    let stats = api.get("/containers/web.1/stats?stream=0&one-shot=1")?;
    ensure!(stats["memory_stats"]["usage"].as_u64() > Some(0) && stats["id"] == json!(row.container), "{stats}");
    ensure!(api.get("/containers/web.1/top")?.to_string().contains("httpd"), "its processes are shown");

    let page = "GET /index.html HTTP/1.0\r\n\r\n";
    let wire_to_port = api.take_over("/containers/web.1/forward?port=80", &Value::Null, true)?;
    ensure!(text(&wire_to_port.converse(page.as_bytes())?).ends_with("served\n"), "the page comes through the port");
    let listening = ["rswarm", "port-forward", "web.1", "8080:80"];
    let forward = t.lab().spawn("h1", "forward", &listening, &[])?;
    until("a port of the manager leads into the container", DEADLINE, || {
        let options = ExecOptions { timeout: Some(DEADLINE), ..ExecOptions::default() };
        let got = t.lab().exec("h1", &["busybox", "wget", "-qO-", "http://127.0.0.1:8080/index.html"], &options)?;
        ensure!(got.stdout == "served\n", "{got:?}");
        Ok(())
    })?;
    t.lab().signal("h1", forward.process, Signal::SIGINT)?;

    // the attached client sees the container's end, and what it wrote till then
    t.lab().run("h2", &["kill", "-9", &row.pid.to_string()])?;
    let said = text(&apart(&wire.converse(b"")?)?.0);
    ensure!(said.starts_with("tick\n") && said.lines().all(|line| line == "tick"), "{said:?}");
    Ok(())
}

/// A terminal's size follows, and clients that ask for no upgrade get their stream all the same.
fn resize_and_old_clients(t: &ClusterUnderTest) -> Result<()> {
    let api = t.first()?;
    let make = |body: Value| -> Result<String> {
        let made = api.post("/containers/web.1/exec", &body)?;
        Ok(made["Id"].as_str().context("an id")?.to_owned())
    };
    let size = "while :; do stty size; [ \"$(stty size)\" = \"44 99\" ] && exit 0; sleep 0.1; done";
    let id = make(json!({ "Cmd": ["sh", "-c", size], "Tty": true, "AttachStdout": true }))?;
    let wire = api.take_over(&format!("/exec/{id}/start"), &json!({ "Tty": true }), true)?;
    until("it has another size", DEADLINE, || {
        api.post(&format!("/exec/{id}/resize?h=44&w=99"), &Value::Null).map(drop)
    })?;
    ensure!(text(&wire.converse(b"")?).ends_with("44 99\r\n"), "the command sees it");
    let id = make(json!({ "Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true }))?;
    let wire = api.take_over(&format!("/exec/{id}/start"), &json!({}), false)?;
    ensure!(wire.head == "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n", "{}", wire.head);
    ensure!(apart(&wire.converse(b"old")?)?.0 == b"old");
    ensure!(api.get(&format!("/exec/{id}/json"))?["ID"] == json!(id));
    let again = api.post(&format!("/exec/{id}/start"), &json!({})).expect_err("once only").to_string();
    ensure!(again.contains("has already run"), "{again}");
    let refused = api.post("/containers/web.1/exec", &json!({})).expect_err("no command").to_string();
    ensure!(refused.contains("No exec command specified"), "{refused}");
    Ok(())
}

/// P21: docker's command line against the manager; what a manager does not do; who is no manager; a node that is silent.
#[test]
fn docker_p_21_a_task_of_another_node_and_refusals() -> Result<()> {
    if !can_make_hosts("docker_p_21_a_task_of_another_node_and_refusals")
        || Command::new("docker").arg("--version").output().is_err()
    {
        return Ok(());
    }
    let (t, row) = on_the_worker("anyrefuse")?;
    let here = tempfile::tempdir()?;
    let docker = Docker::new(&t, "h1").in_directory(here.path());
    docker.says("exec web.1 sh -c hostname", &row.container[..12])?;
    let big = noise(1 << 20);
    fs::write(here.path().join("big"), &big)?;
    docker.ok("cp big web.1:/tmp/big")?;
    docker.ok("cp web.1:/tmp/big back")?;
    ensure!(fs::read(here.path().join("back"))? == big, "the file came back as it went");
    docker.fails("cp web.1:/none x", "Could not find the file /none in container")?;
    docker.shows("stats --no-stream --format {{.Name}} web.1", "web.1")?;
    docker.shows("logs web.1", "tick")?;
    docker.shows("diff web.1", "A /tmp/big")?;
    docker.says(&format!("inspect --format {{{{.Status.State}}}} {}", row.id), "running")?;
    docker.fails("stop web.1", "whose service decides; use `service update`")?;
    docker.fails("rm -f web.1", "cannot remove container web.1: it belongs to a task on node h2")?;
    docker.fails("exec web.2 true", "No such container: web.2")?;

    // the worker's certificate opens no way to another node's containers
    let pem = t.lab().var_lib("h2")?.join("rswarm/cluster/node.pem");
    ensure!(pem.exists(), "{} is where a node keeps who it is", pem.display());
    let address = t.api("h1")?.get("/info")?["Swarm"]["NodeAddr"].as_str().unwrap_or_default().to_owned();
    let ask = format!(
        "printf 'GET /containers/json HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' | timeout 20 openssl s_client -quiet -alpn \
         rswarm-engine/1 -cert /var/lib/rswarm/cluster/node.pem -key /var/lib/rswarm/cluster/node.pem -connect \
         {address}:7946 2>/dev/null"
    );
    if Command::new("openssl").arg("version").output().is_ok() {
        let options = ExecOptions { timeout: Some(DEADLINE), ..ExecOptions::default() };
        let said = t.lab().exec("h2", &["sh", "-c", &ask], &options)?.stdout;
        ensure!(said.starts_with("HTTP/1.1 403 ") && said.contains("only managers may ask"), "{said:?}");
        // the manager's own certificate does, but not to containers that are no task's, nor to lists
        let said = t.lab().exec("h1", &["sh", "-c", &ask], &options)?.stdout;
        ensure!(said.starts_with("HTTP/1.1 403 ") && said.contains("containers of tasks alone"), "{said:?}");
    }
    t.cluster.stop_daemon("h2", Signal::SIGTERM)?;
    docker.fails("exec web.1 true", "node h2, which has web.1, does not answer at")?;
    Ok(())
}
