//! One host as a container engine against Docker Engine on the same host, as one JSON object on stdout.
//!
//! The same docker CLI drives both daemons in turn, round by round, so that whatever else the machine does meets both. The
//! peer is Debian's, from `scripts/peers`; without it only our own figures are there. An OCI runtime alone (runc) shows
//! what starting a container costs before anybody's engine.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use benches::round;
use it::{Api, ClusterUnderTest, IMAGE, until};
use serde_json::{Map, Value, json};

const HOST: &str = "h1";
const ROUNDS: usize = 15;
const AT_ONCE: usize = 50;
const LISTED: usize = 500;
const LOG_BYTES: usize = 100 << 20;
const IMAGE_BYTES: usize = 500 << 20;
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A daemon and how the CLI reaches it.
struct Engine {
    name: &'static str,
    socket: PathBuf,
}

impl Engine {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket.display())).args(arguments);
        command.env("DOCKER_CONFIG", "/nonexistent").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output()?;
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{}: docker {}: {error}", self.name, arguments.join(" "));
        Ok(said.trim().to_owned())
    }

    fn time(&self, arguments: &[&str]) -> Result<f64> {
        let begin = Instant::now();
        self.run(arguments)?;
        Ok(begin.elapsed().as_secs_f64())
    }

    fn remove(&self, names: &[String]) -> Result<()> {
        let arguments: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        self.run(&arguments).map(drop)
    }
}

fn main() -> Result<()> {
    let t = ClusterUnderTest::up("bench-engine", 1, 0)?;
    let own = Engine { name: "rswarm", socket: t.lab().socket(HOST)? };
    let files = tempfile::tempdir()?;
    let mut engines = vec![own];
    engines.extend(docker(&t, &engines[0], files.path())?);

    let mut figures = Map::new();
    let mut put = |name: &str, figure: Vec<f64>| {
        let named = engines.iter().zip(&figure).map(|(engine, value)| (engine.name.to_owned(), json!(round(*value))));
        let mut all: Map<String, Value> = named.collect();
        if let [own, peer] = figure[..] {
            // seconds: how many times faster; throughput is given as seconds too
            all.insert("times".to_owned(), json!(round(peer / own)));
        }
        eprintln!("{name}: {}", Value::Object(all.clone()));
        figures.insert(name.to_owned(), Value::Object(all));
    };
    put("run_rm_s", medians(&engines, ROUNDS, |e, _| e.time(&["run", "--rm", IMAGE, "true"]))?);
    put(
        "run_rm_no_network_s",
        medians(&engines, ROUNDS, |e, _| e.time(&["run", "--rm", "--net", "none", IMAGE, "true"]))?,
    );
    put("start_s", medians(&engines, ROUNDS, start)?);
    put("exec_s", exec(&engines)?);
    put("run_50_at_once_s", medians(&engines, 3, at_once)?);
    put("log_100_mib_written_s", medians(&engines, 3, log_written)?);
    put("log_100_mib_read_s", log_read(&engines)?);
    put("load_500_mib_s", load(&engines, files.path())?);
    put("ps_500_s", listed(&engines)?);
    figures.insert("runc_alone_s".to_owned(), json!(round(runc_alone(files.path())?)));
    println!("{}", Value::Object(figures));
    Ok(())
}

/// Docker Engine on the same host as ours, with our image; none where `scripts/peers` has not been.
fn docker(t: &ClusterUnderTest, own: &Engine, files: &Path) -> Result<Option<Engine>> {
    let home = env::var("HOME").unwrap_or_default();
    let peers = env::var("RSWARM_PEERS").unwrap_or_else(|_| format!("{home}/.cache/rswarm/peers"));
    if !Path::new(&peers).join("usr/sbin/dockerd").exists() {
        eprintln!("Docker Engine is not there to be measured against: scripts/peers brings it");
        return Ok(None);
    }
    let line = format!(
        "export PATH={peers}/usr/bin:{peers}/usr/sbin:$PATH; mkdir -p /var/lib/docker-peer; exec dockerd --data-root \
         /var/lib/docker-peer --exec-root /run/docker-peer --pidfile /run/docker-peer.pid --storage-driver overlay2 \
         --bip 172.30.0.1/16 -H unix:///run/rswarm/docker-peer.sock"
    );
    t.lab().spawn(HOST, "dockerd", &["sh", "-c", &line], &[])?;
    let peer = Engine { name: "docker", socket: own.socket.with_file_name("docker-peer.sock") };
    until("dockerd answers", STARTS_WITHIN, || peer.run(&["version"]))?;
    let archive = files.join("image.tar");
    own.run(&["save", "-o", path(&archive)?, IMAGE])?;
    peer.run(&["load", "-i", path(&archive)?])?;
    Ok(Some(peer))
}

/// All engines in turn, `rounds` times, and the median of each.
fn medians(
    engines: &[Engine],
    rounds: usize,
    mut measure: impl FnMut(&Engine, usize) -> Result<f64>,
) -> Result<Vec<f64>> {
    let mut series: Vec<Vec<f64>> = vec![Vec::new(); engines.len()];
    // what only a first time costs is not what is asked for
    for engine in engines {
        measure(engine, rounds)?;
    }
    for number in 0..rounds {
        for (engine, series) in engines.iter().zip(&mut series) {
            series.push(measure(engine, number)?);
        }
    }
    Ok(series.into_iter().map(median).collect())
}

fn median(mut series: Vec<f64>) -> f64 {
    series.sort_by(f64::total_cmp);
    series[series.len() / 2]
}

/// The request that starts a container, without the CLI around it.
fn start(engine: &Engine, number: usize) -> Result<f64> {
    let name = format!("start{number}");
    engine.run(&["create", "--name", &name, "--net", "none", IMAGE, "sleep", "1000"])?;
    let api = Api::new(&engine.socket);
    let begin = Instant::now();
    let answer = api.request("POST", &format!("/v1.41/containers/{name}/start"), "application/json", b"")?;
    let took = begin.elapsed().as_secs_f64();
    ensure!(answer.status == 204, "{}: start: {}", engine.name, answer.text());
    engine.remove(&[name])?;
    Ok(took)
}

fn exec(engines: &[Engine]) -> Result<Vec<f64>> {
    for engine in engines {
        engine.run(&["run", "-d", "--name", "target", IMAGE, "sleep", "1000"])?;
    }
    let figures = medians(engines, ROUNDS, |engine, _| engine.time(&["exec", "target", "true"]));
    for engine in engines {
        engine.remove(&["target".to_owned()])?;
    }
    figures
}

/// Until the last of fifty commands is back.
fn at_once(engine: &Engine, _: usize) -> Result<f64> {
    let names: Vec<String> = (0..AT_ONCE).map(|number| format!("crowd{number}")).collect();
    let begin = Instant::now();
    let started: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command = engine.command(&["run", "-d", "--name", name, IMAGE, "sleep", "1000"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
        })
        .collect::<Result<_, _>>()?;
    for child in started {
        let output = child.wait_with_output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: one of {AT_ONCE}: {error}", engine.name);
    }
    let took = begin.elapsed().as_secs_f64();
    engine.remove(&names)?;
    Ok(took)
}

fn write_log(engine: &Engine) -> Result<()> {
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -c {LOG_BYTES}");
    engine.run(&["run", "-d", "--name", "talker", "--log-opt", "max-size=1g", IMAGE, "sh", "-c", &script])?;
    ensure!(engine.run(&["wait", "talker"])? == "0", "{}: the talker failed", engine.name);
    Ok(())
}

fn log_written(engine: &Engine, _: usize) -> Result<f64> {
    let begin = Instant::now();
    write_log(engine)?;
    let took = begin.elapsed().as_secs_f64();
    engine.remove(&["talker".to_owned()])?;
    Ok(took)
}

fn log_read(engines: &[Engine]) -> Result<Vec<f64>> {
    for engine in engines {
        write_log(engine)?;
        let lines = engine.run(&["logs", "talker"])?.len() + 1;
        ensure!(lines == LOG_BYTES, "{}: {lines} of {LOG_BYTES} bytes are in the log", engine.name);
    }
    let figures = medians(engines, 3, |engine, _| {
        let begin = Instant::now();
        let status = engine.command(&["logs", "talker"]).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{}: logs", engine.name);
        Ok(begin.elapsed().as_secs_f64())
    });
    for engine in engines {
        engine.remove(&["talker".to_owned()])?;
    }
    figures
}

/// An archive with one layer of 500 MiB that no compression makes smaller.
fn load(engines: &[Engine], files: &Path) -> Result<Vec<f64>> {
    let (layer, archive) = (files.join("layer.tar"), files.join("big.tar"));
    let made = Command::new("sh")
        .arg("-c")
        .arg(format!("head -c {IMAGE_BYTES} /dev/urandom > blob && tar cf {} blob && rm blob", layer.display()))
        .current_dir(files)
        .status()?;
    ensure!(made.success(), "make the layer");
    let own = &engines[0];
    own.run(&["import", path(&layer)?, "big:1"])?;
    own.run(&["save", "-o", path(&archive)?, "big:1"])?;
    own.run(&["rmi", "big:1"])?;
    fs::remove_file(&layer)?;
    medians(engines, 2, |engine, _| {
        let took = engine.time(&["load", "-i", path(&archive)?])?;
        engine.run(&["rmi", "big:1"])?;
        Ok(took)
    })
}

fn listed(engines: &[Engine]) -> Result<Vec<f64>> {
    let names: Vec<String> = (0..LISTED).map(|number| format!("listed{number}")).collect();
    for engine in engines {
        for name in &names {
            engine.run(&["create", "--name", name, IMAGE, "true"])?;
        }
    }
    let figures = medians(engines, ROUNDS, |engine, _| {
        let begin = Instant::now();
        let rows = engine.run(&["ps", "-a", "-q"])?.lines().count();
        ensure!(rows == LISTED, "{}: {rows} of {LISTED} containers", engine.name);
        Ok(begin.elapsed().as_secs_f64())
    });
    for engine in engines {
        engine.remove(&names)?;
    }
    figures
}

/// `runc run` of the same program on a root filesystem that is there already.
fn runc_alone(files: &Path) -> Result<f64> {
    let bundle = files.join("bundle");
    let bin = bundle.join("rootfs/bin");
    fs::create_dir_all(&bin)?;
    let busybox = Command::new("sh").args(["-c", "command -v busybox"]).output()?.stdout;
    fs::copy(String::from_utf8_lossy(&busybox).trim(), bin.join("busybox")).context("find busybox")?;
    std::os::unix::fs::symlink("busybox", bin.join("true"))?;
    let made = Command::new("runc").arg("spec").current_dir(&bundle).status()?;
    ensure!(made.success(), "runc spec");
    let config = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config)?)?;
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["true"]);
    fs::write(&config, spec.to_string())?;
    let root = files.join("runc");
    let mut series = Vec::new();
    for number in 0..ROUNDS {
        let begin = Instant::now();
        let mut command = Command::new("runc");
        command.arg("--root").arg(&root).args(["run", "--bundle"]).arg(&bundle);
        let id = format!("rswarm-bench-{}-{number}", std::process::id());
        let status = command.arg(id).stdin(Stdio::null()).status()?;
        ensure!(status.success(), "runc run");
        series.push(begin.elapsed().as_secs_f64());
        thread::yield_now();
    }
    Ok(median(series))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the path of a temporary file is text")
}
