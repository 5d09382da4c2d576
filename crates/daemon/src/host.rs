//! The body of `rswarm daemon`: starts the engine, the membership and the API, in this order, and
//! ends them in reverse on SIGTERM or SIGINT. Containers, shims and netd go on.
#![allow(clippy::print_stderr)]

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use node::{Engine, EngineConfig, membership};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    config::Config,
    helpers::{self, VERSION},
    supervisor::Supervisor,
};

/// The daemon waits more than it works; two threads keep heartbeats going while one is busy.
const WORKER_THREADS: usize = 2;

pub fn main(config: &Config) -> ExitCode {
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rswarm daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: &Config) -> Result<()> {
    crate::logging::start(&config.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(run(config))
}

async fn run(config: &Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let (tcp, metrics) = (config.tcp()?, config.metrics()?);
    let engine = Engine::start(engine_config(config).await?).await?;
    let (membership, served) = membership::channel();
    let (stop, stopping) = watch::channel(false);
    let supervisor = Supervisor::new(engine.clone(), config.cluster_dir(), served);
    let mut supervising = tokio::spawn(supervisor.run(stopping.clone()));
    let api = api::ApiConfig { socket: config.socket_path(), tcp, metrics, engine, membership };
    let mut serving = tokio::spawn(api::serve(api, stopping));
    tracing::info!(version = VERSION, socket = %config.socket_path().display(), "rswarm daemon runs");
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        result = &mut serving => Some(result.context("the API ended")?.context("serve the API")),
        result = &mut supervising => Some(result.context("the membership loop ended")),
    };
    tracing::info!("rswarm daemon stops; containers go on");
    let _ = stop.send(true);
    if ended.is_none() {
        serving.await.context("the API ended")?.context("serve the API")?;
        supervising.await.context("the membership loop ended")?;
    }
    ended.unwrap_or(Ok(()))
}

async fn engine_config(config: &Config) -> Result<EngineConfig> {
    let exe = std::env::current_exe().context("find this program's own path")?;
    let shim = match &config.shim {
        Some(path) => path.clone(),
        None => exe.with_file_name("rswarm-shim"),
    };
    let mut labels = types::Labels::new();
    for label in &config.label {
        let Some((name, value)) = label.split_once('=') else {
            bail!("--label {label:?} has no '='; write NAME=VALUE")
        };
        labels.insert(name.to_owned(), value.to_owned());
    }
    let generic_resources = types::parse_generic_resources(config.node_generic_resource.iter().map(String::as_str))
        .context("--node-generic-resource is not taken")?;
    let netd: Vec<OsString> = vec![exe.into(), helpers::NETD.into(), PathBuf::from(&config.run_dir).into()];
    let encryption = config.encryption.on(overlay::kernel_wireguard().await).map_err(anyhow::Error::msg)?;
    Ok(EngineConfig {
        state_dir: config.state_dir.clone(),
        run_dir: config.run_dir.clone(),
        shim,
        oci_runtime: config.oci_runtime.clone(),
        insecure_registries: config.insecure_registry.clone(),
        registry_mirrors: config.registry_mirror.clone(),
        netd,
        cdi_directories: config.cdi_spec_dir.clone(),
        version: VERSION.to_owned(),
        labels,
        generic_resources,
        encryption,
    })
}
