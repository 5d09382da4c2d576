//! The project's own commands: `cargo xtask verify | fix | tidy | bench | sim | gen`.
//!
//! Run by people, by `make` and by CI. Holds no product code.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod house;
mod metrics;
mod parity;
mod tidy;

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: cargo xtask <command>
  verify            formatting, lints, house rules: all that needs no test run
  fix               formats, and applies what clippy can fix by itself
  tidy              house rules only: layers, wrappers, sizes, module docs, forbidden words
  sim [ARG…]        the simulator: --seed N --nodes N, see `cargo xtask sim --help`
  bench plan        placements per second and bytes per task of the planner, as JSON
  bench cluster     start, failover and memory figures of a real cluster on this machine, as JSON
  bench services    the control plane without containers: 500 services on simulated nodes, as JSON
  bench overlay     streams, datagrams and round trips through overlays, plain and encrypted, against raw veth, hand-made
                    VXLAN and, where scripts/peers has been, VXLAN over wireguard-go and boringtun-cli, as JSON
  bench engine      one host as a container engine, against Docker Engine where scripts/peers has been, as JSON
  bench mesh        new connections and requests through a published port, against the server itself, a user-space
                    proxy and (where it is installed) HAProxy, and with 1,000 services, as JSON
  bench mesh --faults
                    wrk through a published port for 60 s in each of: updates of both orders, scaling, a drain, daemon
                    and netd killed, a host killed; says how many requests were answered and whether any failed
  gen               shell completions into target/completions, docs/parity.md from docs/parity.list and the tests";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["verify"] => verify(),
        ["fix"] => fix(),
        ["tidy"] => tidy::run(&root()),
        ["sim", rest @ ..] => cargo(&[&["run", "--quiet", "-p", "sim", "--"], rest].concat()),
        ["bench", "plan", rest @ ..] => cargo(&[&["run", "--quiet", "-p", "sim", "--", "--bench-plan"], rest].concat()),
        ["bench", "mesh", "--faults"] => mesh_faults(),
        ["bench", which @ ("cluster" | "engine" | "services"), rest @ ..] => {
            bench(&["--bins"], &format!("bench-{which}"), rest)
        }
        ["bench", which @ ("mesh" | "overlay"), rest @ ..] => {
            bench(&["--example", &format!("bench_{which}")], &format!("examples/bench_{which}"), rest)
        }
        ["gen"] => gen_completions().and_then(|()| parity::write(&root(), &tidy::rust_files(&root())?)),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn verify() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::run(&root())?;
    cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn fix() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"])?;
    cargo(&["fmt", "--all"])
}

/// Measures what users get: the release profile, with the daemons that a benchmark starts.
fn bench(build: &[&str], program: &str, arguments: &[&str]) -> Result<()> {
    cargo(&[&["build", "--release", "--quiet", "--workspace"], build].concat())?;
    let of_this_profile = env::current_exe()?;
    let target = of_this_profile.ancestors().nth(2).context("cargo builds into a directory of its own")?;
    let program = target.join("release").join(program);
    let status = Command::new(&program).args(arguments).current_dir(root()).status();
    if !status.with_context(|| format!("start {}", program.display()))?.success() {
        bail!("{} failed", program.display());
    }
    Ok(())
}

/// The cluster test with phases of a minute, built with all others as `make test` builds it.
fn mesh_faults() -> Result<()> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments =
        ["test", "--quiet", "--workspace", "--test", "it", "--", "--nocapture", "p05_no_request_of_wrk_fails"];
    // the daemons that it starts
    self::cargo(&["build", "--quiet", "--workspace"])?;
    let ran = Command::new(&cargo).args(arguments).env("RSWARM_WRK_SECONDS", "60").current_dir(root()).status()?;
    if !ran.success() {
        bail!("requests failed, or the test did not run: see above");
    }
    Ok(())
}

fn gen_completions() -> Result<()> {
    let directory = root().join("target/completions");
    std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    // the one that was built with all the others: by itself cargo would build it anew, with other features
    let rswarm = env::current_exe()?.with_file_name("rswarm");
    if !rswarm.is_file() {
        bail!("{} is not there: `make build` makes it", rswarm.display());
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = Command::new(&rswarm).args(["completion", shell]).output()?;
        if !script.status.success() {
            bail!("rswarm completion {shell}: {}", String::from_utf8_lossy(&script.stderr));
        }
        let path = directory.join(format!("rswarm.{shell}"));
        std::fs::write(&path, script.stdout).with_context(|| format!("write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(cargo).args(arguments).current_dir(root()).status()?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}

fn root() -> PathBuf {
    // Of this run, not of the build: clones that share a target directory share the binary.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().expect("xtask lies in the workspace").to_owned()
}
