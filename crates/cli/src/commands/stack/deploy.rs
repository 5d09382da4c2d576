//! `stack deploy`: everything is judged first; then networks, secrets and configs, then services in the order in which they
//! need each other. An error on the way says so, and running the same command again goes on from there.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    super::{info::text, login, service::watch},
    check_name,
    live::Live,
    load::{self, FileArgs},
    remove::sweep,
    wait::wait_for,
};
use crate::{
    client::{Client, escape},
    compose::{Dependency, Project, Service},
    output::{
        terminal::{print, print_error},
        units::parse_duration,
    },
    spec::edit::set,
};

/// A registry that does not answer holds no deploy up for long.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ResolveImage {
    Always,
    Changed,
    Never,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Exit at once instead of waiting for the services to converge; conditions of depends_on are waited for all the same
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    detach: bool,
    /// Remove what is of the stack and no longer in its files: services, and the networks, secrets and configs of the stack
    #[arg(long)]
    prune: bool,
    /// Suppress progress output
    #[arg(short, long)]
    quiet: bool,
    /// Ask the registry for the digests of images: always, for changed images, or never
    #[arg(long, value_name = "WHEN", value_enum, default_value = "always")]
    resolve_image: ResolveImage,
    /// Send credentials of registries to the nodes
    #[arg(long)]
    with_registry_auth: bool,
    /// How long a service is waited for that another depends on
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10m")]
    wait_timeout: Duration,
    stack: String,
}

pub(super) async fn deploy(client: &Client, arguments: &DeployArgs) -> anyhow::Result<()> {
    check_name(&arguments.stack)?;
    let loaded = load::load(&arguments.files, &arguments.stack, true)?;
    let live = Live::fetch(client).await?;
    live.check(&loaded.project, &arguments.stack)?;
    let deployment = Deployment { client, arguments, live: &live };
    let mut done = 0;
    let result = deployment.run(&loaded.project, &mut done).await;
    result.with_context(|| {
        let stack = &arguments.stack;
        match done {
            0 => format!("nothing of stack {stack} was changed"),
            1 => format!("stack {stack} is deployed in part, 1 step is done; the same command goes on from there"),
            done => {
                format!("stack {stack} is deployed in part, {done} steps are done; the same command goes on from there")
            }
        }
    })
}

struct Deployment<'a> {
    client: &'a Client,
    arguments: &'a DeployArgs,
    live: &'a Live,
}

impl Deployment<'_> {
    fn say(&self, line: &str) -> anyhow::Result<()> {
        print(&format!("{line}\n"))
    }

    async fn run(&self, project: &Project, done: &mut usize) -> anyhow::Result<()> {
        if self.arguments.prune {
            self.prune(&|kind, name| kind == "service" && !project.has(kind, name)).await?;
        }
        for network in project.networks.iter().filter(|network| !network.external) {
            if !self.live.networks.contains_key(&network.name) {
                self.say(&format!("Creating network {}", network.name))?;
                let made = self.client.post("/networks/create", Some(&network.body)).await;
                made.with_context(|| format!("failed to create network {}", network.name))?;
                *done += 1;
            }
        }
        for secret in project.secrets.iter().filter(|secret| !secret.external) {
            self.dependency("secret", secret, self.live.secrets.get(&secret.name)).await?;
            *done += 1;
        }
        for config in project.configs.iter().filter(|config| !config.external) {
            self.dependency("config", config, self.live.configs.get(&config.name)).await?;
            *done += 1;
        }
        let mut made = Vec::new();
        for service in &project.services {
            self.wait_for_needs(project, service).await?;
            made.push(self.service(service).await?);
            *done += 1;
        }
        if self.arguments.prune {
            self.prune(&|kind, name| kind != "service" && !project.has(kind, name)).await?;
        }
        if !self.arguments.detach {
            for (id, before) in made {
                let wait = watch::Wait { quiet: self.arguments.quiet, is_rollback: false, before };
                watch::converge(self.client, &id, wait).await?;
            }
        }
        Ok(())
    }

    async fn prune(&self, is_left_over: &dyn Fn(&str, &str) -> bool) -> anyhow::Result<()> {
        let mut errors = Vec::new();
        sweep(self.client, &self.arguments.stack, is_left_over, &mut errors).await?;
        anyhow::ensure!(errors.is_empty(), "{}", errors.join("\n"));
        Ok(())
    }

    /// New data makes a new version, which the services that use the name follow; the same data changes nothing.
    async fn dependency(&self, kind: &str, wanted: &Dependency, found: Option<&Value>) -> anyhow::Result<()> {
        let Some(found) = found else {
            self.say(&format!("Creating {kind} {}", wanted.name))?;
            let made = self.client.post(&format!("/{kind}s/create"), Some(&wanted.body)).await;
            made.with_context(|| format!("failed to create {kind} {}", wanted.name))?;
            return Ok(());
        };
        let path =
            format!("/{kind}s/{}/update?version={}", escape(&text(&found["ID"])), text(&found["Version"]["Index"]));
        let made = self.client.post(&path, Some(&wanted.body)).await;
        made.with_context(|| format!("failed to update {kind} {}", wanted.name))?;
        Ok(())
    }

    async fn wait_for_needs(&self, project: &Project, service: &Service) -> anyhow::Result<()> {
        for need in &service.needs {
            let Some(other) = project.services.iter().find(|other| other.key == need.service) else { continue };
            let limit = self.arguments.wait_timeout;
            wait_for(self.client, &other.name, need.condition, limit, &service.name).await?;
        }
        Ok(())
    }

    /// Gives its id, and when its last rollout before this began.
    async fn service(&self, service: &Service) -> anyhow::Result<(String, String)> {
        let name = &service.name;
        let mut spec = service.spec.clone();
        let credentials = match self.arguments.with_registry_auth {
            true => login::credentials(&service.image)?,
            false => None,
        };
        // a version that a secret's update has made since is another one than that of the first look
        let found = match self.live.services.contains_key(name) {
            true => Some(super::super::service::fetch(self.client, name).await?),
            false => None,
        };
        let image = self.image(service, found.as_ref()).await?;
        set(&mut spec, "TaskTemplate.ContainerSpec.Image", image);
        let credentials = credentials.as_deref();
        let Some(found) = found else {
            self.say(&format!("Creating service {name}"))?;
            let answer = self.client.post_as("/services/create", &spec, credentials).await;
            let answer = answer.with_context(|| format!("failed to create service {name}"))?;
            show_warnings(&answer)?;
            return Ok((text(&answer["ID"]), String::new()));
        };
        let id = text(&found["ID"]);
        self.say(&format!("Updating service {name} (id: {id})"))?;
        // an update that was forced is not undone
        let forced = found["Spec"]["TaskTemplate"]["ForceUpdate"].clone();
        set(&mut spec, "TaskTemplate.ForceUpdate", if forced.is_null() { json!(0) } else { forced });
        let path = format!("/services/{id}/update?version={}", found["Version"]["Index"]);
        let answer = self.client.post_as(&path, &spec, credentials).await;
        show_warnings(&answer.with_context(|| format!("failed to update service {name}"))?)?;
        Ok((id, text(&found["UpdateStatus"]["StartedAt"])))
    }

    /// With its digest, where a registry is to be asked and answers.
    async fn image(&self, service: &Service, found: Option<&Value>) -> anyhow::Result<String> {
        let image = &service.image;
        let is_same = found.is_some_and(|found| found["Spec"]["Labels"][crate::compose::IMAGE] == image.as_str());
        match self.arguments.resolve_image {
            ResolveImage::Never => return Ok(image.clone()),
            ResolveImage::Changed if is_same => {
                let present = found.map(|found| text(&found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]));
                return Ok(present.unwrap_or_else(|| image.clone()));
            }
            _ if image.contains('@') => return Ok(image.clone()),
            _ => {}
        }
        let reference = match image.parse::<types::ImageReference>() {
            Ok(reference) => reference.with_default_tag().familiar(),
            Err(_) => return Ok(image.clone()),
        };
        let credentials = login::credentials(image)?;
        let path = format!("/distribution/{reference}/json");
        let asked = self.client.get_as(&path, credentials.as_deref());
        let answer = tokio::time::timeout(REGISTRY_TIMEOUT, asked).await;
        let digest = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|answer| answer["Descriptor"]["digest"].as_str().map(str::to_owned));
        match digest {
            Some(digest) => Ok(format!("{reference}@{digest}")),
            None => {
                print_error(&format!(
                    "image {reference} could not be accessed on a registry to record\nits digest. Each node will access \
                     {reference} independently,\npossibly leading to different nodes running different\nversions of the \
                     image.\n"
                ))?;
                Ok(image.clone())
            }
        }
    }
}

fn show_warnings(answer: &Value) -> anyhow::Result<()> {
    let warnings = answer["Warnings"].as_array().into_iter().flatten();
    warnings.map(text).try_for_each(|warning| print_error(&format!("{warning}\n")))
}
