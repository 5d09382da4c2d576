//! `service create/update/scale/rollback`: the ones that wait until the service converges.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{
    super::{info::text, login},
    fetch,
    watch::{self, Wait},
};
use crate::{
    client::{Client, escape},
    output::{
        terminal::{print, print_error},
        units::parse_duration,
    },
    spec::{
        edit::{get, set},
        flags::{CreateLists, Scalars, UpdateLists},
        job, lists,
        network::{self, Ids},
        scalars,
    },
};

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Exit at once instead of waiting for the service to converge
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    detach: bool,
    /// Suppress progress output
    #[arg(short, long)]
    quiet: bool,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "detach")]
    wait_timeout: Option<Duration>,
}

/// How the image is found.
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// Do not ask the registry for the image's digest and platforms
    #[arg(long)]
    no_resolve_image: bool,
    /// Send the credentials that `login` kept to the nodes that run the service
    #[arg(long)]
    with_registry_auth: bool,
}

impl ImageArgs {
    /// Of a request about a service with this image.
    fn credentials(&self, image: &str) -> anyhow::Result<Option<String>> {
        if !self.with_registry_auth {
            return Ok(None);
        }
        let found = login::credentials(image)?;
        if found.is_none() {
            // as docker does: scripts give the flag whether or not somebody logged in
            print_error(&format!(
                "there are no credentials for the registry of {image} to send; log in with `rswarm login` first\n"
            ))?;
        }
        Ok(found)
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Service name (default: one is made up)
    #[arg(long, default_value = "")]
    name: String,
    /// Service mode: replicated, global, replicated-job or global-job
    #[arg(long, default_value = "replicated")]
    mode: String,
    #[command(flatten)]
    scalars: Scalars,
    #[command(flatten)]
    lists: CreateLists,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    resolve: ImageArgs,
    /// Image of the containers
    image: String,
    /// Command to run in them, instead of the image's, and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Service image tag
    #[arg(long)]
    image: Option<String>,
    /// Service command args
    #[arg(long, value_name = "COMMAND")]
    args: Option<String>,
    /// Force update even if no changes require it
    #[arg(long)]
    force: bool,
    /// Rollback to previous specification
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    scalars: Scalars,
    #[command(flatten)]
    lists: UpdateLists,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    resolve: ImageArgs,
    service: String,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    #[arg(required = true, value_name = "SERVICE=REPLICAS")]
    targets: Vec<String>,
    /// Exit at once instead of waiting for the services to converge
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The revision to go back to (see `service history`; default: the spec before the present one)
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    #[command(flatten)]
    wait: WaitArgs,
    service: String,
}

pub(super) async fn create(client: &Client, arguments: CreateArgs) -> anyhow::Result<()> {
    let ids = network_ids(client, &arguments.lists.network, &[]).await?;
    let mut spec = new_spec(&arguments, &ids)?;
    say_what_docker_says(&mut spec);
    let credentials = arguments.resolve.credentials(&arguments.image)?;
    let path = format!("/services/create?queryRegistry={}", !arguments.resolve.no_resolve_image);
    let answer = client.post_as(&path, &spec, credentials.as_deref()).await?;
    show_warnings(&answer)?;
    let id = text(&answer["ID"]);
    print(&format!("{id}\n"))?;
    wait(client, &json!({ "ID": id }), false, &arguments.wait).await
}

/// Looks up the networks that flags speak of.
async fn network_ids(client: &Client, add: &[String], remove: &[String]) -> anyhow::Result<Ids> {
    let mut ids = Ids::new();
    for name in network::names(add, remove)? {
        let found = client.get(&format!("/networks/{}?scope=swarm", escape(&name))).await?;
        ids.insert(name, text(&found["Id"]));
    }
    Ok(ids)
}

/// The spec that the flags of `service create` say.
pub(crate) fn new_spec(arguments: &CreateArgs, ids: &Ids) -> anyhow::Result<Value> {
    let mode = match arguments.mode.as_str() {
        "replicated" => json!({ "Replicated": {} }),
        "global" => json!({ "Global": {} }),
        "replicated-job" => json!({ "ReplicatedJob": {} }),
        "global-job" => json!({ "GlobalJob": {} }),
        other => {
            anyhow::bail!("unknown mode: {other}, only replicated, global, replicated-job and global-job supported")
        }
    };
    let mut spec = json!({
        "Name": arguments.name,
        "TaskTemplate": { "ContainerSpec": { "Image": arguments.image } },
        "Mode": mode,
    });
    if !arguments.command.is_empty() {
        set(&mut spec, "TaskTemplate.ContainerSpec.Args", arguments.command.clone());
    }
    scalars::apply(&mut spec, &arguments.scalars)?;
    lists::create(&mut spec, &arguments.lists, ids)?;
    Ok(spec)
}

/// What docker's command line says of every new service, so that others find it where they look for it: proxies do not lead to
/// a service whose endpoint mode they are not told.
pub(crate) fn say_what_docker_says(spec: &mut Value) {
    let parts = [
        ("TaskTemplate.ContainerSpec.DNSConfig", json!({})),
        ("TaskTemplate.Resources.Limits", json!({})),
        ("TaskTemplate.Resources.Reservations", json!({})),
        ("TaskTemplate.Placement", json!({})),
        ("EndpointSpec.Mode", json!("vip")),
    ];
    for (path, value) in parts {
        if get(spec, path).is_none() {
            set(spec, path, value);
        }
    }
}

impl UpdateArgs {
    /// A rollback takes the whole spec back: nothing else can be asked for beside it.
    fn check_rollback(&self) -> anyhow::Result<()> {
        let image = self.image.is_some() || self.resolve.no_resolve_image || self.resolve.with_registry_auth;
        let spec = self.scalars != Scalars::default() || self.lists != UpdateLists::default();
        ensure!(
            !(self.rollback && (image || spec || self.args.is_some() || self.force)),
            "other flags may not be combined with --rollback: roll back first, then update"
        );
        Ok(())
    }
}

pub(super) async fn update(client: &Client, arguments: UpdateArgs) -> anyhow::Result<()> {
    arguments.check_rollback()?;
    let service = fetch(client, &arguments.service).await?;
    if arguments.rollback {
        roll_back(client, &service, None).await?;
    } else {
        let mut spec = service["Spec"].clone();
        let ids = network_ids(client, &arguments.lists.network_add, &arguments.lists.network_rm).await?;
        change_spec(&mut spec, &arguments, &ids)?;
        let is_asked_anew = arguments.image.is_none() && arguments.scalars.steering.pull.as_deref() == Some("always");
        if is_asked_anew {
            forget_digest(&mut spec)?;
        }
        let image = text(&spec["TaskTemplate"]["ContainerSpec"]["Image"]);
        let credentials = arguments.resolve.credentials(&image)?;
        // the digest that was found before stays, unless another image is asked for, or the same one anew
        let query = (arguments.image.is_some() || is_asked_anew) && !arguments.resolve.no_resolve_image;
        let path = format!("{}&queryRegistry={query}", update_path(&service));
        show_warnings(&client.post_as(&path, &spec, credentials.as_deref()).await?)?;
    }
    print(&format!("{}\n", arguments.service))?;
    wait(client, &service, arguments.rollback, &arguments.wait).await
}

/// The tag alone, so that it is looked up again (P48).
fn forget_digest(spec: &mut Value) -> anyhow::Result<()> {
    let image = text(&spec["TaskTemplate"]["ContainerSpec"]["Image"]);
    let reference: types::ImageReference = image.parse().with_context(|| format!("image {image} of the service"))?;
    if reference.digest.is_some() {
        ensure!(
            reference.tag.is_some(),
            "image {image} is pinned without a tag, there is nothing to look up anew: name another one with --image"
        );
        let tagged = types::ImageReference { digest: None, ..reference };
        set(spec, "TaskTemplate.ContainerSpec.Image", tagged.familiar());
    }
    Ok(())
}

/// What the flags of `service update` make of a spec.
pub(crate) fn change_spec(spec: &mut Value, arguments: &UpdateArgs, ids: &Ids) -> anyhow::Result<()> {
    if let Some(image) = &arguments.image {
        set(spec, "TaskTemplate.ContainerSpec.Image", image.as_str());
    }
    if let Some(args) = &arguments.args {
        let words = scalars::split_words(args).with_context(|| format!("bad --args {args:?}"))?;
        set(spec, "TaskTemplate.ContainerSpec.Args", words);
    }
    if arguments.force {
        let count = get(spec, "TaskTemplate.ForceUpdate").and_then(Value::as_u64).unwrap_or(0);
        set(spec, "TaskTemplate.ForceUpdate", count + 1);
    }
    scalars::apply(spec, &arguments.scalars)?;
    lists::update(spec, &arguments.lists, ids)
}

fn update_path(service: &Value) -> String {
    format!("/services/{}/update?version={}", text(&service["ID"]), service["Version"]["Index"])
}

async fn send_update(client: &Client, service: &Value, spec: &Value) -> anyhow::Result<()> {
    show_warnings(&client.post(&update_path(service), Some(spec)).await?)
}

async fn roll_back(client: &Client, service: &Value, to: Option<u64>) -> anyhow::Result<()> {
    let to = to.map_or_else(|| "previous".to_owned(), |number| number.to_string());
    let path = format!("{}&rollback={to}", update_path(service));
    show_warnings(&client.post(&path, Some(&service["Spec"])).await?)
}

pub(super) async fn rollback(client: &Client, arguments: RollbackArgs) -> anyhow::Result<()> {
    let service = fetch(client, &arguments.service).await?;
    roll_back(client, &service, arguments.to).await?;
    print(&format!("{}\n", arguments.service))?;
    wait(client, &service, true, &arguments.wait).await
}

/// Pauses or resumes.
pub(super) async fn steer_update(client: &Client, name: &str, rollout: &str) -> anyhow::Result<()> {
    let service = fetch(client, name).await?;
    let path = format!("{}&rollout={rollout}", update_path(&service));
    show_warnings(&client.post(&path, Some(&service["Spec"])).await?)?;
    print(&format!("{name}\n"))
}

pub(super) async fn scale(client: &Client, arguments: ScaleArgs) -> anyhow::Result<()> {
    let mut targets = Vec::new();
    for target in &arguments.targets {
        let (name, number) = target
            .split_once('=')
            .with_context(|| format!("invalid scale specifier {target:?}: write SERVICE=REPLICAS"))?;
        let replicas: u64 = number.parse().with_context(|| format!("invalid replicas value {number:?} for {name}"))?;
        targets.push((name, replicas));
    }
    let (mut scaled, mut errors) = (Vec::new(), Vec::new());
    for (name, replicas) in targets {
        match scale_one(client, name, replicas).await {
            Ok(service) => {
                print(&format!("{name} scaled to {replicas}\n"))?;
                scaled.push(service);
            }
            Err(error) => errors.push(format!("{name}: {error:#}")),
        }
    }
    if !arguments.detach {
        for service in &scaled {
            let before = text(&service["UpdateStatus"]["StartedAt"]);
            watch::converge(client, &text(&service["ID"]), Wait { before, ..Wait::default() }).await?;
        }
    }
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

/// Gives the service as it was before.
async fn scale_one(client: &Client, name: &str, replicas: u64) -> anyhow::Result<Value> {
    let service = fetch(client, name).await?;
    let mut spec = service["Spec"].clone();
    let mode = &spec["Mode"];
    ensure!(
        mode["Replicated"].is_object() || mode["ReplicatedJob"].is_object(),
        "scale can only be used with replicated or replicated-job mode"
    );
    job::set_replicas(&mut spec, replicas);
    send_update(client, &service, &spec).await?;
    Ok(service)
}

/// Waits, unless told not to. `before` is the service as it was before the change.
async fn wait(client: &Client, before: &Value, is_rollback: bool, arguments: &WaitArgs) -> anyhow::Result<()> {
    if arguments.detach {
        return Ok(());
    }
    let started = text(&before["UpdateStatus"]["StartedAt"]);
    let wait = Wait { quiet: arguments.quiet, is_rollback, before: started, limit: arguments.wait_timeout };
    watch::converge(client, &text(&before["ID"]), wait).await
}

fn show_warnings(answer: &Value) -> anyhow::Result<()> {
    let warnings = answer["Warnings"].as_array().into_iter().flatten();
    warnings.map(text).try_for_each(|warning| print_error(&format!("{warning}\n")))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// S-13: a rollback is no update.
    #[test]
    fn s_13_a_rollback_takes_no_other_flags() {
        let update = |line: &str| {
            let words = ["rswarm", "service", "update", "--rollback"].into_iter().chain(line.split(' ')).chain(["web"]);
            let root =
                crate::arguments::Root::try_parse_from(words.filter(|word| !word.is_empty())).expect("known flags");
            match root.command {
                crate::arguments::Command::Service(super::super::ServiceCommand::Update(arguments)) => {
                    arguments.check_rollback().map_err(|error| error.to_string())
                }
                other => panic!("{other:?}"),
            }
        };
        for fits in ["", "-d", "--quiet", "--wait-timeout 3s"] {
            assert_eq!(update(fits), Ok(()), "{fits}");
        }
        for more in
            ["--image a", "--force", "--args x", "--replicas 2", "--env-rm A", "--with-registry-auth", "--pid host"]
        {
            let said = update(more).expect_err(more);
            assert!(said.starts_with("other flags may not be combined with --rollback"), "{more}: {said}");
        }
    }

    /// S-01: as `docker service create` says it; what was given stays.
    #[test]
    fn s_01_a_new_service_says_what_docker_says() {
        let mut spec = json!({ "Name": "a", "TaskTemplate": { "ContainerSpec": { "Image": "x" } } });
        say_what_docker_says(&mut spec);
        assert_eq!(
            spec,
            json!({
                "Name": "a",
                "TaskTemplate": {
                    "ContainerSpec": { "Image": "x", "DNSConfig": {} },
                    "Resources": { "Limits": {}, "Reservations": {} },
                    "Placement": {},
                },
                "EndpointSpec": { "Mode": "vip" },
            })
        );
        let mut spec =
            json!({ "EndpointSpec": { "Mode": "dnsrr" }, "TaskTemplate": { "Placement": { "MaxReplicas": 2 } } });
        say_what_docker_says(&mut spec);
        assert_eq!(spec["EndpointSpec"]["Mode"], "dnsrr");
        assert_eq!(spec["TaskTemplate"]["Placement"]["MaxReplicas"], 2);
    }
}
