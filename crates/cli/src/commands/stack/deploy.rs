//! `stack deploy`: the files are read and judged here, then the cluster is asked for the whole stack in one request. What
//! waits for what is the cluster's matter; here it is only watched.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    super::{
        info::text,
        login,
        service::{check_update::look_up, say_what_docker_says},
    },
    check_name,
    live::Live,
    load::{self, FileArgs},
    outcome::{Outcome, watch},
};
use crate::{
    client::{Client, escape},
    compose::{Dependency, Project, Service},
    output::{terminal::print_error, units::parse_duration},
    spec::edit::set,
};

/// As long as a rollout may make no progress by default.
const WAIT_LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ResolveImage {
    Always,
    Changed,
    Never,
}

/// Whether the service has an image of the same repository by its digest.
fn is_pinned(service: &Value, wanted: &str) -> bool {
    let present = text(&service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]);
    match (present.parse::<types::ImageReference>(), wanted.parse::<types::ImageReference>()) {
        (Ok(present), Ok(wanted)) => present.digest.is_some() && present.name() == wanted.name(),
        _ => false,
    }
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Exit at once instead of waiting for the services to converge
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
    /// Wait until the services have converged or will not; exit code 0: they have, 2: an image is missing, 3: tasks fail, 4: it
    /// took too long
    #[arg(long)]
    wait: bool,
    /// How long to wait at most [default: 10m with --wait, no limit with --detach=false]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait_timeout: Option<Duration>,
    stack: String,
}

pub(super) async fn deploy(client: &Client, arguments: &DeployArgs) -> anyhow::Result<()> {
    check_name(&arguments.stack)?;
    let stack = &arguments.stack;
    let loaded = load::load(&arguments.files, stack, true)?;
    let live = Live::fetch(client).await?;
    live.check(&loaded.project, stack)?;
    let body = Sender { client, arguments, live: &live }.body(&loaded.project).await?;
    let path = format!("/stacks/{}/deploy?prune={}", escape(stack), arguments.prune);
    let answer = client.post(&path, Some(&body)).await.with_context(|| format!("failed to deploy stack {stack}"))?;
    let outcome = Outcome::of(&answer);
    outcome.show(stack)?;
    if arguments.detach && !arguments.wait {
        return Ok(());
    }
    let limit = arguments.wait_timeout.or(arguments.wait.then_some(WAIT_LIMIT));
    let order = loaded.project.services.iter().map(|service| service.name.as_str());
    let changed: Vec<&str> = order.filter(|name| outcome.has_changed(name)).collect();
    watch(client, stack, &live.rollouts(&changed), arguments.quiet, (limit, false)).await
}

struct Sender<'a> {
    client: &'a Client,
    arguments: &'a DeployArgs,
    live: &'a Live,
}

impl Sender<'_> {
    /// All of the stack, as the cluster is asked for it.
    async fn body(&self, project: &Project) -> anyhow::Result<Value> {
        let mut services = Vec::new();
        let mut auth = BTreeMap::new();
        for service in &project.services {
            let found = self.live.services.get(&service.name);
            let mut spec = service.spec.clone();
            set(&mut spec, "TaskTemplate.ContainerSpec.Image", self.image(service, found).await?);
            if spec.get("DependsOn").is_none() {
                // said although it is nothing: else what there was would stay
                spec["DependsOn"] = json!([]);
            }
            say_what_docker_says(&mut spec);
            services.push(spec);
            if self.arguments.with_registry_auth
                && let Some(credentials) = login::credentials(&service.image)?
            {
                auth.insert(service.name.clone(), credentials);
            }
        }
        let networks: Vec<&Value> =
            project.networks.iter().filter(|network| !network.external).map(|network| &network.body).collect();
        let own = |all: &[Dependency]| -> Vec<Value> {
            all.iter().filter(|one| !one.external).map(|one| one.body.clone()).collect()
        };
        Ok(json!({
            "Services": services, "Networks": networks, "Secrets": own(&project.secrets),
            "Configs": own(&project.configs), "RegistryAuth": auth,
        }))
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
            _ if image.contains('@') || service.spec["Labels"][types::PULL_LABEL] == "never" => {
                return Ok(image.clone());
            }
            _ => {}
        }
        let reference = match image.parse::<types::ImageReference>() {
            Ok(reference) => reference.with_default_tag().familiar(),
            Err(_) => return Ok(image.clone()),
        };
        match look_up(self.client, &reference).await {
            Ok(digest) => Ok(format!("{reference}@{digest}")),
            // what came from that registry is not replaced by whatever each node has under the tag (P48)
            Err(error) if found.is_some_and(|found| is_pinned(found, &reference)) => {
                let name = &service.name;
                Err(error.context(format!(
                    "image {reference} of service {name} was not found at its registry, and nothing was changed: try \
                     again when it answers, or leave it unasked with --resolve-image never"
                )))
            }
            Err(_) => {
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
