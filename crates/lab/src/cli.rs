//! `rswarm lab …`: the command line of labs, embedded by the `cli` crate.
//!
//! Prints for people; everything it does is one call of the library.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this module is a command line")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};

use crate::{CgroupMode, Cluster, Error, ExecOptions, Lab, LabSpec, LabSummary, Name, StateDir, Stdio};

/// Hosts on this machine: make a cluster to try things on, break it, remove it.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// Which lab
    #[arg(long, global = true, default_value = "lab", env = "RSWARM_LAB", value_parser = parse_name)]
    name: Name,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Make a lab with a running cluster on it
    #[command(
        after_help = "Example: rswarm lab up --managers 3 --workers 2 && eval $(rswarm lab env m1) && docker node ls"
    )]
    Up(UpArgs),
    /// List the labs and their hosts
    Ls,
    /// Run a program on a host
    #[command(after_help = "Example: rswarm lab exec m1 -- rswarm node ls")]
    Exec {
        /// Host to run it on
        host: String,
        /// Program and arguments
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Print the line that makes the docker CLI drive a host: eval $(rswarm lab env m1)
    Env {
        /// Host to drive
        host: String,
    },
    /// Print what the daemon of a host wrote
    Logs {
        /// Host to look at
        host: String,
    },
    /// Power failure: end every process of a host at once
    Kill {
        /// Host to kill
        host: String,
    },
    /// Start a killed host again, with its daemon
    Start {
        /// Host to start
        host: String,
        /// Forget what was in its /var/lib
        #[arg(long)]
        fresh: bool,
    },
    /// Pull the network cable of a host
    Cut {
        /// Host to cut off
        host: String,
    },
    /// Put the network cable of a host back
    Heal {
        /// Host to connect
        host: String,
    },
    /// Remove the lab and everything in it
    Down {
        /// Remove every lab of this machine
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Number of managers: m1, m2, …
    #[arg(long, default_value_t = 3)]
    managers: usize,
    /// Number of workers: w1, w2, …
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Only the hosts, no daemons
    #[arg(long)]
    bare: bool,
    /// What the hosts see in /sys/fs/cgroup
    #[arg(long, value_enum, default_value_t = CgroupChoice::Auto)]
    cgroup: CgroupChoice,
    /// File or folder of this machine to show in the hosts; may be repeated
    #[arg(long)]
    share: Vec<PathBuf>,
    /// MTU of the network between the hosts, in bytes
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CgroupChoice {
    Auto,
    V1,
    V2,
}

fn parse_name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

/// Does what the arguments say; `rswarm` is the program the hosts run. Returns the exit code.
///
/// # Errors
/// As the library's call; [`Error::sentence`] is what a person should read.
pub fn run(args: &LabArgs, rswarm: &Path) -> Result<u8, Error> {
    let name = args.name.as_str();
    match &args.command {
        LabCommand::Up(wanted) => up(&args.name, wanted, rswarm)?,
        LabCommand::Ls => Lab::list().iter().for_each(show),
        LabCommand::Exec { host, argv } => {
            let options = ExecOptions { stdio: Stdio::Inherit, ..ExecOptions::default() };
            let code = Lab::open(name)?.exec(host, argv, &options)?.code;
            return Ok(u8::try_from(code).unwrap_or(255));
        }
        LabCommand::Env { host } => {
            println!("export DOCKER_HOST=unix://{}", Lab::open(name)?.socket(host)?.display());
        }
        LabCommand::Logs { host } => {
            for (path, text) in Lab::open(name)?.logs(host)? {
                print!("==> {} <==\n{text}", path.display());
            }
        }
        LabCommand::Kill { host } => Lab::open(name)?.kill(host)?,
        LabCommand::Start { host, fresh } => start(&Lab::open(name)?, host, *fresh)?,
        LabCommand::Cut { host } => Lab::open(name)?.cut(host)?,
        LabCommand::Heal { host } => Lab::open(name)?.heal(host)?,
        LabCommand::Down { all } => down(name, *all)?,
    }
    Ok(0)
}

fn up(name: &Name, wanted: &UpArgs, rswarm: &Path) -> Result<(), Error> {
    let begin = Instant::now();
    let mut spec = LabSpec::cluster(name.clone(), wanted.managers, wanted.workers, rswarm);
    spec.cgroup = match wanted.cgroup {
        CgroupChoice::Auto => CgroupMode::Auto,
        CgroupChoice::V1 => CgroupMode::V1,
        CgroupChoice::V2 => CgroupMode::V2,
    };
    spec.share.clone_from(&wanted.share);
    spec.underlay_mtu = wanted.mtu;
    let lab = Lab::up(&spec)?;
    if !wanted.bare
        && let Err(e) = Cluster::up(&lab, wanted.managers, wanted.workers)
    {
        // As before the command: what was made for it goes with it.
        if let Err(left) = lab.down() {
            eprintln!("{}", left.sentence());
        }
        return Err(e);
    }
    let hosts = lab.hosts()?;
    eprintln!("lab {name} is up in {:.1} s: {}", begin.elapsed().as_secs_f64(), hosts.join(", "));
    if let Some(first) = hosts.first() {
        let flag = if name.as_str() == "lab" { String::new() } else { format!(" --name {name}") };
        if !wanted.bare {
            eprintln!("drive it with docker:  eval $(rswarm lab env {first}{flag})");
        }
        eprintln!("walk into a host:      rswarm lab exec {first}{flag} -- bash");
        eprintln!("remove it:             rswarm lab down{flag}");
    }
    Ok(())
}

fn start(lab: &Lab, host: &str, fresh: bool) -> Result<(), Error> {
    lab.start(host, if fresh { StateDir::Fresh } else { StateDir::Keep })?;
    match Cluster::open(lab) {
        Ok(cluster) if cluster.hosts().iter().any(|h| h == host) => cluster.start_daemon(host).map(drop),
        // A bare lab, or a bare host of one: nothing to start.
        _ => Ok(()),
    }
}

fn down(name: &str, all: bool) -> Result<(), Error> {
    let known = Lab::list();
    if !all && !known.iter().any(|l| l.name == name) {
        return Lab::open(name).map(drop);
    }
    let mut first_error = None;
    for lab in known.iter().filter(|l| all || l.name == name) {
        match crate::teardown::remove(&lab.name) {
            Ok(()) => eprintln!("lab {} is removed", lab.name),
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn show(lab: &LabSummary) {
    let Some(state) = &lab.state else {
        println!("{}  half made; remove it with `rswarm lab down --name {}`", lab.name, lab.name);
        return;
    };
    println!("{}  {}", lab.name, if state.cluster.is_some() { "cluster" } else { "bare" });
    for host in &state.hosts {
        let running = host.init.is_some_and(crate::ProcessId::alive);
        let status = match (running, host.cut) {
            (false, _) => "killed",
            (true, true) => "cut off",
            (true, false) => "up",
        };
        println!("  {:<12} {:<16} {status}", host.name.as_str(), crate::addr::ipv4(state.number, host.index));
    }
}
