//! The body of `rswarm daemon`: starts the engine, the membership and the API, in this order, and
//! ends them in reverse on SIGTERM or SIGINT; on SIGHUP it reads its settings again. Containers, shims and netd go on.
#![allow(clippy::print_stderr)]

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use node::{Engine, EngineConfig, engine::Settings, membership};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    config::Config,
    docker_paths::DockerPaths,
    helpers::{self, VERSION},
    logging::LogFilter,
    supervisor::Supervisor,
};

/// The daemon waits more than it works; two threads keep heartbeats going while one is busy.
const WORKER_THREADS: usize = 2;

pub fn main(flags: &Config) -> ExitCode {
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rswarm daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: &Config) -> Result<()> {
    let config = flags.with_file()?;
    let filter = crate::logging::parse(config.log_filter())?;
    let settings = config.settings()?;
    if config.validate {
        // certificates that cannot be used are found here and not at the next start
        config.tcp()?;
        config.metrics()?;
        eprintln!("configuration OK");
        return Ok(());
    }
    let log = crate::logging::start(filter, config.of_file.log_json);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(run(flags, &config, settings, &log))
}

/// Takes what the file says now, or leaves all as it is.
fn reload(flags: &Config, config: &Config, engine: &Engine, log: &LogFilter) {
    let read = || {
        let new = flags.with_file()?;
        let (filter, settings) = (crate::logging::parse(new.log_filter())?, new.settings()?);
        log.set(filter)?;
        anyhow::Ok((new, settings))
    };
    match read() {
        Ok((new, settings)) => {
            engine.reload(settings);
            tracing::info!("the configuration was read again");
            let waiting = config.fixed_changes(&new);
            if !waiting.is_empty() {
                tracing::warn!(keys = waiting.join(", "), "settings that are read at the start alone were changed");
            }
        }
        Err(error) => tracing::error!("the configuration was not read again, all stays as it was: {error:#}"),
    }
}

async fn run(flags: &Config, config: &Config, settings: Settings, log: &LogFilter) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let (tcp, metrics) = (config.tcp()?, config.metrics()?);
    let engine = Engine::start(engine_config(config, settings).await?).await?;
    // there before any container that has the socket, or Docker's places, as mounts
    let _docker_paths = DockerPaths::make(config);
    let group = config.of_file.group.as_deref();
    let listeners = api::Listeners::bind(config.socket_path(), group, tcp).await.context("serve the API")?;
    engine.renew_socket(config.socket_path()).await;
    let (membership, served) = membership::channel();
    let (stop, stopping) = watch::channel(false);
    let advertise = config.of_file.advertise.clone();
    let supervisor = Supervisor::new(engine.clone(), config.cluster_dir(), advertise, served);
    let mut supervising = tokio::spawn(supervisor.run(stopping.clone()));
    let api = api::ApiConfig { listeners, metrics, engine: engine.clone(), membership };
    let mut serving = tokio::spawn(api::serve(api, stopping));
    tracing::info!(version = VERSION, socket = %config.socket_path().display(), "rswarm daemon runs");
    let ended = loop {
        tokio::select! {
            _ = hangup.recv() => reload(flags, config, &engine, log),
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            result = &mut serving => break Some(result.context("the API ended")?.context("serve the API")),
            result = &mut supervising => break Some(result.context("the membership loop ended")),
        }
    };
    tracing::info!("rswarm daemon stops; containers go on");
    let _ = stop.send(true);
    if ended.is_none() {
        serving.await.context("the API ended")?.context("serve the API")?;
        supervising.await.context("the membership loop ended")?;
    }
    ended.unwrap_or(Ok(()))
}

async fn engine_config(config: &Config, settings: Settings) -> Result<EngineConfig> {
    let exe = std::env::current_exe().context("find this program's own path")?;
    let shim = match &config.shim {
        Some(path) => path.clone(),
        None => exe.with_file_name("rswarm-shim"),
    };
    let netd: Vec<OsString> = vec![exe.into(), helpers::NETD.into(), PathBuf::from(&config.run_dir).into()];
    let encryption = config.encryption.on(overlay::kernel_wireguard().await).map_err(anyhow::Error::msg)?;
    Ok(EngineConfig {
        state_dir: config.state_dir.clone(),
        run_dir: config.run_dir.clone(),
        shim,
        oci_runtime: config.oci_runtime.clone(),
        storage_driver: config.storage_driver,
        settings,
        netd,
        cdi_directories: config.cdi_spec_dir.clone(),
        version: VERSION.to_owned(),
        encryption,
        address_pools: config.of_file.address_pools.clone(),
        network: config.of_file.network.clone(),
    })
}
