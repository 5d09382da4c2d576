//! bollard, the Rust client: a web application and its database-like neighbour, from nothing to nothing.

use std::{collections::HashMap, future::Future};

use anyhow::{Context, Result, ensure};
use bollard::{
    API_DEFAULT_VERSION, Docker,
    container::LogOutput,
    exec::{CreateExecOptions, StartExecResults},
    models::{
        ContainerCreateBody, ContainerUpdateBody, EndpointSettings, HealthConfig, HealthStatusEnum, HostConfig,
        NetworkCreateRequest, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum, VolumeCreateRequest,
    },
    query_parameters as q,
};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use it::{ClusterUnderTest, DEADLINE, IMAGE};
use tokio::time::{Instant, sleep};

use super::PATIENCE;
use crate::can_make_hosts;

/// E-13 to E-42, N-11: volume, user network, health check, logs, exec, copies, statistics, commit, events.
#[test]
fn clients_e_13_bollard() -> Result<()> {
    if !can_make_hosts("clients_e_13_bollard") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("bollard", 1, 0)?;
    let socket = t.lab().socket("h1")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = socket.to_str().context("the socket's path is a text")?;
        let docker = Docker::connect_with_unix(socket, PATIENCE.as_secs(), API_DEFAULT_VERSION)?;
        tokio::time::timeout(PATIENCE, scenario(&docker)).await.context("the scenario hangs")?
    })?;
    t.no_containers()
}

async fn scenario(docker: &Docker) -> Result<()> {
    let docker = &docker.clone().negotiate_version().await?;
    ensure!(docker.ping().await? == "OK");
    ensure!(docker.info().await?.os_type.as_deref() == Some("linux"));
    ensure!(docker.inspect_image(IMAGE).await?.repo_tags.is_some_and(|tags| tags.iter().any(|tag| tag == IMAGE)));
    let begin = docker.info().await?.system_time.context("a time")?;
    let made = docker.create_network(NetworkCreateRequest {
        name: "shop".to_owned(),
        driver: Some("bridge".to_owned()),
        ..NetworkCreateRequest::default()
    });
    ensure!(!made.await?.id.is_empty());
    let wanted = VolumeCreateRequest { name: Some("shop-data".to_owned()), ..VolumeCreateRequest::default() };
    ensure!(docker.create_volume(wanted).await?.name == "shop-data");

    database(docker).await?;
    web(docker).await?;
    exec(docker).await?;
    files(docker).await?;
    usage(docker).await?;
    ends(docker).await?;

    docker.remove_network("shop").await?;
    docker.remove_volume("shop-data", None::<q::RemoveVolumeOptions>).await?;
    let until = docker.info().await?.system_time.context("a time")?;
    let options = q::EventsOptionsBuilder::new().since(&begin).until(&until).build();
    let events: Vec<_> = docker.events(Some(options)).try_collect().await?;
    let actions: Vec<String> = events.into_iter().filter_map(|event| event.action).collect();
    for action in ["create", "start", "die", "destroy", "rename", "pause"] {
        ensure!(actions.iter().any(|seen| seen == action), "{action} is not among {actions:?}");
    }
    Ok(())
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

fn in_shop(alias: &str) -> Option<NetworkingConfig> {
    let place = EndpointSettings { aliases: words(&[alias]), ..EndpointSettings::default() };
    Some(NetworkingConfig { endpoints_config: Some(HashMap::from([("shop".to_owned(), place)])) })
}

async fn start(docker: &Docker, name: &str, body: ContainerCreateBody) -> Result<()> {
    let options = q::CreateContainerOptionsBuilder::new().name(name).build();
    docker.create_container(Some(options), body).await?;
    Ok(docker.start_container(name, None).await?)
}

async fn until<F: Future<Output = Result<bool>>>(what: &str, mut state: impl FnMut() -> F) -> Result<()> {
    let begin = Instant::now();
    while !state().await? {
        ensure!(begin.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn database(docker: &Docker) -> Result<()> {
    let script = "echo ready > /data/state; echo database is up; while true; do echo row | nc -l -p 5432; done";
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: words(&["sh", "-c", script]),
        env: words(&["DB_NAME=shop"]),
        healthcheck: Some(HealthConfig {
            test: words(&["CMD-SHELL", "test -s /data/state"]),
            interval: Some(200_000_000),
            retries: Some(3),
            ..HealthConfig::default()
        }),
        host_config: Some(HostConfig {
            binds: words(&["shop-data:/data"]),
            memory: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            network_mode: Some("shop".to_owned()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::ON_FAILURE),
                maximum_retry_count: Some(3),
            }),
            ..HostConfig::default()
        }),
        networking_config: in_shop("storage"),
        ..ContainerCreateBody::default()
    };
    start(docker, "db", body).await?;
    until("the database is healthy", || async {
        let health = docker.inspect_container("db", None).await?.state.and_then(|state| state.health);
        Ok(health.is_some_and(|health| health.status == Some(HealthStatusEnum::HEALTHY)))
    })
    .await?;
    let shown = docker.inspect_container("db", None).await?;
    let host = shown.host_config.context("a host configuration")?;
    ensure!(host.memory == Some(64 << 20) && host.nano_cpus == Some(500_000_000), "{host:?}");
    ensure!(host.restart_policy.is_some_and(|policy| policy.maximum_retry_count == Some(3)));
    let mounts = shown.mounts.unwrap_or_default();
    ensure!(mounts.iter().any(|mount| mount.name.as_deref() == Some("shop-data")), "{mounts:?}");
    let options = q::LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    ensure!(text(docker.logs("db", Some(options))).await? == "database is up\n");
    Ok(())
}

async fn web(docker: &Docker) -> Result<()> {
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some("8085".to_owned()) };
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: words(&["sh", "-c", "mkdir -p /www; echo hello > /www/index.html; httpd -f -p 80 -h /www"]),
        exposed_ports: words(&["80/tcp"]),
        host_config: Some(HostConfig {
            port_bindings: Some(HashMap::from([("80/tcp".to_owned(), Some(vec![binding]))])),
            network_mode: Some("shop".to_owned()),
            ..HostConfig::default()
        }),
        networking_config: in_shop("front"),
        ..ContainerCreateBody::default()
    };
    start(docker, "web", body).await?;
    until("the page is there", || async {
        Ok(run(docker, "web", &["wget", "-q", "-O", "-", "http://127.0.0.1/"]).await?.0 == "hello\n")
    })
    .await?;
    let ports = docker.inspect_container("web", None).await?.network_settings.and_then(|settings| settings.ports);
    let port = ports.and_then(|mut ports| ports.remove("80/tcp").flatten()).context("a published port")?;
    ensure!(port[0].host_port.as_deref() == Some("8085"), "{port:?}");
    let filters = HashMap::from([("name", vec!["web"])]);
    let options = q::ListContainersOptionsBuilder::new().filters(&filters).build();
    let listed = docker.list_containers(Some(options)).await?;
    ensure!(listed.len() == 1 && listed[0].names == words(&["/web"]), "{listed:?}");
    Ok(())
}

/// What comes on both outputs.
async fn text(stream: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>) -> Result<String> {
    let parts: Vec<LogOutput> = stream.try_collect().await?;
    Ok(parts.iter().map(ToString::to_string).collect())
}

/// What a command writes, and its exit code.
async fn run(docker: &Docker, container: &str, command: &[&str]) -> Result<(String, Option<i64>)> {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..CreateExecOptions::default()
    };
    let made = docker.create_exec(container, options).await?;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&made.id, None).await? else {
        anyhow::bail!("{command:?} is detached")
    };
    let said = text(output).await?;
    Ok((said, docker.inspect_exec(&made.id).await?.exit_code))
}

async fn exec(docker: &Docker) -> Result<()> {
    let (rows, code) = run(docker, "web", &["nc", "storage", "5432"]).await?;
    ensure!(rows == "row\n" && code == Some(0), "the neighbour by its alias: {rows:?} {code:?}");
    let (said, code) = run(docker, "web", &["sh", "-c", "echo broken >&2; exit 7"]).await?;
    ensure!(said == "broken\n" && code == Some(7), "{said:?} {code:?}");
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        cmd: Some(vec!["cat"]),
        ..CreateExecOptions::default()
    };
    let made = docker.create_exec("web", options).await?;
    let StartExecResults::Attached { output, mut input } = docker.start_exec(&made.id, None).await? else {
        anyhow::bail!("cat is detached")
    };
    tokio::io::AsyncWriteExt::write_all(&mut input, b"echoed").await?;
    tokio::io::AsyncWriteExt::shutdown(&mut input).await?;
    ensure!(text(output).await? == "echoed");
    Ok(())
}

async fn files(docker: &Docker) -> Result<()> {
    let options = q::DownloadFromContainerOptionsBuilder::new().path("/www").build();
    let parts: Vec<_> = docker.download_from_container("web", Some(options)).try_collect().await?;
    let tar = parts.concat();
    let options = q::UploadToContainerOptionsBuilder::new().path("/tmp").build();
    docker.upload_to_container("web", Some(options), bollard::body_full(tar.into())).await?;
    let (said, _) = run(docker, "web", &["cat", "/tmp/www/index.html"]).await?;
    ensure!(said == "hello\n", "{said:?}");
    let changes = docker.container_changes("web").await?.unwrap_or_default();
    ensure!(changes.iter().any(|change| change.path == "/tmp/www/index.html"), "{changes:?}");
    let export: Vec<_> = docker.export_container("web").try_collect().await?;
    ensure!(export.concat().windows(14).any(|part| part == b"www/index.html"));
    Ok(())
}

async fn usage(docker: &Docker) -> Result<()> {
    let options = q::StatsOptionsBuilder::new().stream(false).build();
    let used = docker.stats("web", Some(options)).next().await.context("a reading")??;
    ensure!(used.memory_stats.and_then(|memory| memory.usage).unwrap_or(0) > 0);
    let top = docker.top_processes("web", None).await?.processes.unwrap_or_default();
    ensure!(top.iter().any(|line| line.join(" ").contains("httpd")), "{top:?}");
    let options = q::RenameContainerOptionsBuilder::new().name("front").build();
    docker.rename_container("web", options).await?;
    docker.pause_container("front").await?;
    let paused = docker.inspect_container("front", None).await?.state.and_then(|state| state.paused);
    ensure!(paused == Some(true));
    docker.unpause_container("front").await?;
    let change =
        ContainerUpdateBody { memory: Some(96 << 20), memory_swap: Some(192 << 20), ..ContainerUpdateBody::default() };
    docker.update_container("front", change).await?;
    let memory = docker.inspect_container("front", None).await?.host_config.and_then(|host| host.memory);
    ensure!(memory == Some(96 << 20));
    docker.df(None).await?;
    // a daemon of this version of the API tells it in fields that are no longer among the models
    Ok(())
}

async fn ends(docker: &Docker) -> Result<()> {
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: words(&["sh", "-c", "sleep 0.3; exit 4"]),
        ..ContainerCreateBody::default()
    };
    start(docker, "task", body).await?;
    let ended = docker.wait_container("task", None).next().await.context("an end")?;
    let is_four = matches!(&ended, Err(bollard::errors::Error::DockerContainerWaitError { code: 4, .. }));
    ensure!(is_four, "bollard tells an exit code as an error: {ended:?}");
    for (result, status) in [
        (docker.remove_container("nobody", None).await, 404),
        (docker.remove_container("db", None).await, 409),
        (docker.start_container("nobody", None).await, 404),
    ] {
        let told = matches!(&result, Err(bollard::errors::Error::DockerResponseServerError { status_code, .. })
            if *status_code == status);
        ensure!(told, "{status}: {result:?}");
    }
    let commit = q::CommitContainerOptionsBuilder::new().container("front").repo("shop").tag("committed").build();
    docker.commit_container(commit, bollard::models::ContainerConfig::default()).await?;
    docker.remove_image("shop:committed", None::<q::RemoveImageOptions>, None).await?;
    let stop = q::StopContainerOptionsBuilder::new().t(1).build();
    docker.stop_container("front", Some(stop)).await?;
    let remove = || Some(q::RemoveContainerOptionsBuilder::new().force(true).v(true).build());
    for name in ["front", "db", "task"] {
        docker.remove_container(name, remove()).await?;
    }
    let left = docker.list_containers(Some(q::ListContainersOptionsBuilder::new().all(true).build())).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
