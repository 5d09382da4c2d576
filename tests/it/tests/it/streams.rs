//! Streams and files of single containers: exec, attach, cp, diff, export, commit (parity E-08, E-09, E-25, E-28).

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use it::{ClusterUnderTest, Said, apart};
use serde_json::{Value, json};

use crate::can_make_hosts;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// E-28: exit codes, both outputs, users, directories, variables, refusals, and a lot of input.
#[test]
fn cluster_e_28_exec() -> Result<()> {
    if !can_make_hosts("cluster_e_28_exec") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("exec", 1, 0)?;
    t.create("web", 1, &[])?;
    let container = t.running("web", 1)?.0[0].container.clone();
    let api = t.first()?;
    let run = |command: &[&str], more: Value| api.exec(&container, command, &more, b"");
    let said = run(&["sh", "-c", "echo out; echo err >&2; exit 42"], Value::Null)?;
    ensure!(said == Said { stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec(), code: Some(42) }, "{said:?}");
    for (command, code, words) in [
        ("nothing", 127, "exec: \"nothing\": executable file not found in $PATH"),
        ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
    ] {
        let said = run(&[command], Value::Null)?;
        ensure!(said.code == Some(code) && text(&said.stderr).contains(words), "{said:?}");
    }
    for (directory, words) in [
        ("/none", "cannot enter the directory /none: no such file or directory; make it in the container"),
        ("/etc/passwd", "cannot enter the directory /etc/passwd: not a directory; choose another with --workdir"),
    ] {
        let said = run(&["true"], json!({ "WorkingDir": directory }))?;
        ensure!(said.code == Some(127) && text(&said.stderr).contains(words), "{said:?}");
    }
    run(&["sh", "-c", "echo '#!/none' > /tmp/lost; chmod +x /tmp/lost"], Value::Null)?;
    let said = run(&["/tmp/lost"], Value::Null)?;
    let words = "exec /tmp/lost: no such file or directory\n";
    ensure!(said.code == Some(255) && text(&said.stderr) == words, "{said:?}");
    let more = json!({ "User": "nobody", "WorkingDir": "/tmp", "Env": ["A=b"] });
    let said = run(&["sh", "-c", "id -un; pwd; echo $A"], more)?;
    ensure!(text(&said.stdout) == "nobody\n/tmp\nb\n", "{said:?}");
    let said = run(&["sh", "-c", "tty; stty size; kill -TERM $$"], json!({ "Tty": true, "ConsoleSize": [33, 77] }))?;
    ensure!(text(&said.stdout) == "/dev/pts/0\r\n33 77\r\n" && said.code == Some(143), "{said:?}");

    let input: Vec<u8> = (0..32_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let said = api.exec(&container, &["cat"], &Value::Null, &input)?;
    ensure!(said.stdout == input && said.code == Some(0), "{} of {} bytes came back", said.stdout.len(), input.len());

    let refused = |path: &str, body: &Value| api.post(path, body).expect_err("it is refused").to_string();
    ensure!(refused("/exec/none/start", &json!({})).contains("404 {\"message\":\"No such exec instance: none\"}"));
    ensure!(refused("/containers/none/exec", &json!({"Cmd": ["a"]})).contains("No such container: none"));
    let path = format!("/containers/{container}/exec");
    ensure!(refused(&path, &json!({})).contains("No exec command specified"));
    let stranger = refused(&path, &json!({"Cmd": ["a"], "User": "stranger"}));
    ensure!(stranger.contains("400 {\"message\":\"unable to find user stranger"), "{stranger}");
    ensure!(refused(&path, &json!({"Cmd": ["a"], "DetachKeys": "ctrl-"})).contains("invalid detach keys"));
    Ok(())
}

/// E-28: old clients take the connection over without a word; a command outlives who leaves it.
#[test]
fn cluster_e_28_exec_without_upgrade_and_detached() -> Result<()> {
    if !can_make_hosts("cluster_e_28_exec_without_upgrade_and_detached") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("execold", 1, 0)?;
    t.create("web", 1, &[])?;
    let container = t.running("web", 1)?.0[0].container.clone();
    let api = t.first()?;
    let make = |body: Value| -> Result<String> {
        let made = api.post(&format!("/containers/{container}/exec"), &body)?;
        Ok(made["Id"].as_str().unwrap_or_default().to_owned())
    };
    let id = make(json!({ "Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true }))?;
    let wire = api.take_over(&format!("/exec/{id}/start"), &json!({ "Detach": false }), false)?;
    ensure!(wire.head == "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n", "{}", wire.head);
    ensure!(apart(&wire.converse(b"old")?)?.0 == b"old");
    let again = api.post(&format!("/exec/{id}/start"), &json!({})).expect_err("once only").to_string();
    ensure!(again.contains("has already run"), "{again}");

    let id = make(json!({ "Cmd": ["sh", "-c", "sleep 1; seq 1 50000; touch /tmp/done"], "AttachStdout": true }))?;
    drop(api.take_over(&format!("/exec/{id}/start"), &json!({}), true)?);
    let id = make(json!({ "Cmd": ["sh", "-c", "touch /tmp/started; exec sleep 1000"] }))?;
    api.post(&format!("/exec/{id}/start"), &json!({ "Detach": true }))?;
    it::until("both went on alone", it::DEADLINE, || {
        let said = api.exec(&container, &["ls", "/tmp"], &Value::Null, b"")?;
        ensure!(text(&said.stdout).contains("done") && text(&said.stdout).contains("started"), "{said:?}");
        Ok(())
    })?;
    ensure!(api.get(&format!("/exec/{id}/json"))?["Running"] == json!(true));
    Ok(())
}

/// E-28: the log and what comes after it are one stream; a container's end is the stream's.
#[test]
fn cluster_e_28_attach() -> Result<()> {
    if !can_make_hosts("cluster_e_28_attach") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("attach", 1, 0)?;
    let line = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; sleep 0.01; done; sleep 1000";
    t.cli("h1", &["service", "create", "-d", "--name", "web", it::IMAGE, "sh", "-c", line])?;
    let row = t.running("web", 1)?.0[0].clone();
    let api = t.first()?;
    let path = format!("/containers/{}/attach?logs=1&stream=1&stdout=1&stderr=1", row.container);
    let wire = api.take_over(&path, &Value::Null, true)?;
    ensure!(wire.head.contains("Content-Type: application/vnd.docker.multiplexed-stream"), "{}", wire.head);
    it::until("all is in the log", it::DEADLINE, || {
        let path = format!("/containers/{}/attach?logs=1&stdout=1", row.container);
        let logged = apart(&api.take_over(&path, &Value::Null, true)?.converse(b"")?)?.0;
        ensure!(text(&logged).ends_with("line 200\n"), "{}", text(&logged));
        Ok(())
    })?;
    t.lab().run("h1", &["kill", "-9", &row.pid.to_string()])?;
    let wanted: String = (1..=200).map(|i| format!("line {i}\n")).collect();
    let said = text(&apart(&wire.converse(b"")?)?.0);
    ensure!(said == wanted, "{} characters instead of {}", said.len(), wanted.len());

    // Whoever asks when the stream has ended hears how the container did.
    for number in 0..20 {
        let command = json!({ "Image": it::IMAGE, "Cmd": ["sh", "-c", "echo said; exit 7"] });
        let id = api.post("/containers/create", &command)?["Id"].as_str().context("an id")?.to_owned();
        let wire = api.take_over(&format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1"), &Value::Null, true)?;
        let started = api.request("POST", &format!("/containers/{id}/start"), "", b"")?;
        ensure!(started.status == 204, "{}", started.text());
        ensure!(text(&apart(&wire.converse(b"")?)?.0) == "said\n");
        let state = api.get(&format!("/containers/{id}/json"))?["State"].take();
        ensure!(state["Status"] == "exited" && state["ExitCode"] == 7, "attempt {number}: {state}");
    }
    Ok(())
}

/// Docker's own command line, with `input`: must succeed, gives what it printed.
fn docker(t: &ClusterUnderTest, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let socket = format!("unix://{}", t.lab().socket("h1")?.display());
    let mut child = Command::new("docker")
        .args(["-H", &socket])
        .args(arguments)
        .env("DOCKER_CONFIG", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().into_iter().try_for_each(|mut stdin| stdin.write_all(input))?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "docker {}: {}", arguments.join(" "), text(&output.stderr));
    Ok(output.stdout)
}

/// E-28, E-25, E-08, E-09: files in and out, through links and into volumes; what changed; a new image of it.
#[test]
fn docker_e_28_cp_diff_export_commit() -> Result<()> {
    if !can_make_hosts("docker_e_28_cp_diff_export_commit") || Command::new("docker").arg("--version").output().is_err()
    {
        return Ok(());
    }
    let t = ClusterUnderTest::up("cp", 1, 0)?;
    t.create("web", 1, &["--mount", "type=volume,source=data,target=/data"])?;
    let container = t.running("web", 1)?.0[0].container.clone();
    let here = tempfile::tempdir()?;
    let local = |name: &str| here.path().join(name).display().to_string();
    let there = |path: &str| format!("{container}:{path}");
    let run = |command: &str| -> Result<String> {
        Ok(text(&t.first()?.exec(&container, &["sh", "-c", command], &Value::Null, b"")?.stdout))
    };
    fs::create_dir_all(here.path().join("dir/deep"))?;
    let big: Vec<u8> = (0..8_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(here.path().join("dir/big"), &big)?;
    std::os::unix::fs::symlink("big", here.path().join("dir/link"))?;

    docker(&t, &["cp", &local("dir"), &there("/data/new")], b"")?;
    ensure!(run("ls /data/new; readlink /data/new/link")? == "big\ndeep\nlink\nbig\n");
    docker(&t, &["cp", &there("/data/new/."), &local("back")], b"")?;
    ensure!(fs::read(here.path().join("back/big"))? == big);
    docker(&t, &["cp", "-L", &there("/data/new/link"), &local("followed")], b"")?;
    ensure!(fs::read(here.path().join("followed"))? == big);
    let tar = docker(&t, &["cp", &there("/etc/passwd"), "-"], b"")?;
    docker(&t, &["cp", "-", &there("/tmp")], &tar)?;
    ensure!(run("cat /tmp/passwd")? == run("cat /etc/passwd")?);
    run("ln -s /etc /tmp/way; ln -s /../../../../etc/hostname /tmp/out")?;
    docker(&t, &["cp", &local("followed"), &there("/tmp/way/made")], b"")?;
    ensure!(run("wc -c < /etc/made")?.trim() == big.len().to_string());
    let out = docker(&t, &["cp", "-L", &there("/tmp/out"), "-"], b"")?;
    ensure!(text(&out).contains(&run("cat /etc/hostname")?), "a link leads nowhere but inside");
    for (from, to, words) in [
        (there("/none"), local("x"), "Could not find the file /none in container"),
        (local("followed"), there("/none/x"), "Could not find the file /none in container"),
    ] {
        let refused = docker(&t, &["cp", &from, &to], b"").expect_err("it is refused").to_string();
        ensure!(refused.contains(words), "{refused}");
    }

    run("rm /etc/group; rm -rf /home; mkdir /home; touch /home/x; echo >> /etc/passwd; rm -r /tmp/*")?;
    let diff = text(&docker(&t, &["diff", &container], b"")?);
    for line in ["C /etc", "D /etc/group", "A /etc/made", "C /etc/passwd", "C /home", "A /home/x"] {
        ensure!(diff.lines().any(|l| l == line), "{line} is not in {diff}");
    }
    ensure!(!diff.contains("/etc/hosts") && !diff.contains("/data/"), "{diff}");
    docker(&t, &["export", "-o", &local("tar"), &container], b"")?;
    let names = text(&Command::new("tar").args(["tf", &local("tar")]).output()?.stdout);
    let has = |name: &str| names.lines().any(|line| line == name);
    ensure!(has("home/x") && has("etc/made") && !has("etc/group"), "{names}");
    docker(&t, &["commit", "-m", "why", "-c", "CMD [\"sleep\", \"77777\"]", &container, "made:1"], b"")?;
    t.cli("h1", &["service", "create", "-d", "--name", "made", "made:1"])?;
    let made = t.running("made", 1)?.0[0].container.clone();
    let said = t.first()?.exec(&made, &["sh", "-c", "ls /etc /home; ps"], &Value::Null, b"")?;
    let said = text(&said.stdout);
    ensure!(said.contains("made\n") && said.contains("x\n") && said.contains("sleep 77777"), "{said}");
    ensure!(!said.contains("group\n"), "{said}");
    Ok(())
}
