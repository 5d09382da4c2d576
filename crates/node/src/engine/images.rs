//! The image of a task: here already, from other nodes, or from its registry.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use image::{Credentials, Held, Progress, PullOptions};
use tokio::sync::Mutex;
use types::{
    Assignment, ImageReference, PULL_LABEL, Payload, Placement, Platform, PullPolicy, pull_policy, with_causes,
};

use super::{
    Engine,
    events::{Event, EventKind},
    image_gc::{user_of, user_of_mount},
    peers::NotGiven,
    tasks::{TaskError, of_image},
};
use crate::clock::{Backoff, random};

/// Tries of one pull before the task is rejected; the managers then try again later, or elsewhere.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Pulls in progress, so that tasks that need the same image wait for one of them.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    running: Mutex<HashMap<ImageReference, Weak<Mutex<()>>>>,
}

impl Pulls {
    async fn turn(&self, reference: &ImageReference) -> Arc<Mutex<()>> {
        let mut running = self.running.lock().await;
        running.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = running.get(reference).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        running.insert(reference.clone(), Arc::downgrade(&turn));
        turn
    }
}

impl Engine {
    /// Tells that an image was pulled under this name.
    pub fn announce_pull(&self, reference: &ImageReference) {
        let name = reference.familiar();
        let labels = self.inner.images.inspect(&name).map(|image| image.config.config.labels).unwrap_or_default();
        let repository = ImageReference { tag: None, digest: None, ..reference.clone() }.familiar();
        let event = Event::new(EventKind::Image, "pull", name).with("name", repository).with_labels(&labels);
        self.inner.events.publish(event);
    }

    /// The images of a task, brought here where they are not: gives the name under which the store knows its own, and
    /// what keeps all of them until the task's container does. The spec's credentials are for its own image's registry,
    /// and shown to no other.
    pub(super) async fn ensure_images(&self, a: &Assignment) -> Result<(String, Vec<Held>), TaskError> {
        let container = &a.spec.container;
        // judged when the service was admitted
        let policy = pull_policy(&a.service_labels).unwrap_or_default();
        let none = Payload::default();
        let mut all = Vec::new();
        for (at, (source, image)) in container.mounted_images().enumerate() {
            let own = if image.registry == container.image.registry { &container.registry_auth } else { &none };
            let auths = [own, a.mount_auths.get(source).unwrap_or(&none)];
            let found = self.ensure_image(image, &auths, &a.spec.placement, policy, &user_of_mount(a, at)).await?;
            all.push(found.1);
        }
        let auths = [&container.registry_auth, &a.registry_auth];
        let image = container.image.clone();
        let own = self.ensure_image(image, &auths, &a.spec.placement, policy, &user_of(a)).await?;
        all.push(own.1);
        Ok((own.0, all))
    }

    /// An image that is here, which this user now has.
    async fn hold_image(&self, name: &str, user: &str) -> Result<Option<Held>, TaskError> {
        let held = match self.inner.images.hold(name) {
            Ok(held) => held,
            Err(image::Error::NoSuchImage(_)) => return Ok(None),
            Err(error) => return Err(of_image(error)),
        };
        // a task does not fail for that: at worst its image goes sooner than another
        if let Err(error) = self.inner.images.note_use(&held, user).await {
            tracing::warn!(
                image = name,
                user,
                error = with_causes(&error),
                "who uses an image could not be written down"
            );
        }
        Ok(Some(held))
    }

    /// The name under which the store knows an image. Of the credentials the first are tried that there are, then the next (P17).
    async fn ensure_image(
        &self,
        image: ImageReference,
        auths: &[&Payload],
        placement: &Placement,
        policy: PullPolicy,
        user: &str,
    ) -> Result<(String, Held), TaskError> {
        let reference = image.with_default_tag();
        let name = reference.to_string();
        let is_asked_anew = policy == PullPolicy::Always && reference.digest.is_none();
        if !is_asked_anew && let Some(held) = self.hold_image(&name, user).await? {
            return Ok((name, held));
        }
        let turn = self.inner.pulls.turn(&reference).await;
        let _turn = turn.lock().await;
        if !is_asked_anew && let Some(held) = self.hold_image(&name, user).await? {
            return Ok((name, held));
        }
        self.collect_images().await;
        let options = self.pull_options(auths, placement);
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut attempt = 1;
        loop {
            let failed = match self.bring(&reference, &options, policy).await {
                Ok(()) => match self.hold_image(&name, user).await? {
                    Some(held) => {
                        // it may have been a large one
                        self.collect_images().await;
                        return Ok((name, held));
                    }
                    None => Failed {
                        registry: "it was removed again at once".into(),
                        is_transient: true,
                        ..Failed::default()
                    },
                },
                Err(failed) => failed,
            };
            let may_help = failed.is_transient || failed.is_disk_full;
            if !may_help || attempt >= ATTEMPTS {
                return Err(TaskError::Refused(failed.text(&reference)));
            }
            tracing::info!(image = reference.familiar(), attempt, error = failed.registry, "pull failed, trying again");
            attempt += 1;
            if failed.is_disk_full {
                self.collect_all_images().await;
            }
            tokio::time::sleep(backoff.pause(random())).await;
        }
    }

    /// One way to ask the registry for each of the credentials, at least one without.
    fn pull_options(&self, auths: &[&Payload], placement: &Placement) -> Vec<PullOptions> {
        let info = self.info();
        let wanted =
            |platform: &Platform| image::Platform::new(&platform.os, &platform.architecture, Some(&platform.variant));
        let also_runs: Vec<_> = info.also_runs.iter().map(wanted).collect();
        let with = |credentials: Option<Credentials>| PullOptions {
            credentials,
            insecure_registries: info.settings.insecure_registries.clone(),
            mirrors: info.settings.registry_mirrors.clone(),
            any_platform: placement.platforms.iter().any(Platform::is_any),
            also_runs: also_runs.clone(),
            for_task: true,
            ..PullOptions::default()
        };
        let known: Vec<PullOptions> =
            auths.iter().filter_map(|auth| Credentials::unpack(auth.bytes())).map(|known| with(Some(known))).collect();
        if known.is_empty() { vec![with(None)] } else { known }
    }

    async fn pull(
        &self,
        reference: &ImageReference,
        options: &[PullOptions],
    ) -> Result<image::PulledImage, image::Error> {
        let (last, others) = options.split_last().expect("there is one without credentials at least");
        for options in others {
            match self.inner.images.pull(reference, options, Progress::none()).await {
                Err(image::Error::Unauthorized { .. }) => {}
                other => return other,
            }
        }
        self.inner.images.pull(reference, last, Progress::none()).await
    }

    /// One try of each source.
    async fn bring(
        &self,
        reference: &ImageReference,
        options: &[PullOptions],
        policy: PullPolicy,
    ) -> Result<(), Failed> {
        let mut failed = Failed::default();
        if policy == PullPolicy::Never {
            failed.registry = format!("it is not on this node, and no registry is asked (label {PULL_LABEL}=never)");
        }
        for source in sources(reference, policy) {
            match source {
                Source::Nodes => match self.image_from_peers(reference, &options[0]).await {
                    Ok(pulled) => {
                        tracing::info!(image = reference.familiar(), id = %pulled.id, "came from another node");
                        self.announce_pull(reference);
                        return Ok(());
                    }
                    Err(NotGiven { why, is_disk_full }) => {
                        failed.nodes = why;
                        failed.is_disk_full |= is_disk_full;
                    }
                },
                Source::Registry => match self.pull(reference, options).await {
                    Ok(pulled) => {
                        tracing::info!(image = reference.familiar(), id = %pulled.id, "pulled");
                        self.announce_pull(reference);
                        return Ok(());
                    }
                    Err(error) => {
                        failed.is_transient = error.is_transient();
                        failed.is_disk_full |= matches!(error, image::Error::NoSpace { .. });
                        failed.registry = with_causes(&error);
                    }
                },
            }
        }
        Err(failed)
    }
}

/// Where an image is looked for that is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Nodes,
    Registry,
}

/// A digest means the same everywhere, and other nodes are nearer than the registry. What a tag means the registry
/// says, as long as it says anything, and where it is always asked, nobody else.
fn sources(reference: &ImageReference, policy: PullPolicy) -> &'static [Source] {
    match (policy, &reference.digest) {
        (PullPolicy::Never, _) => &[Source::Nodes],
        (_, Some(_)) => &[Source::Nodes, Source::Registry],
        (PullPolicy::Always, None) => &[Source::Registry],
        (PullPolicy::Missing, None) => &[Source::Registry, Source::Nodes],
    }
}

/// Why no source had it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Failed {
    registry: String,
    /// Empty where there is no other node.
    nodes: String,
    is_transient: bool,
    is_disk_full: bool,
}

impl Failed {
    fn text(&self, reference: &ImageReference) -> String {
        let nodes = if self.nodes.is_empty() { String::new() } else { format!("; from other nodes: {}", self.nodes) };
        format!("No such image: {}: {}{nodes}", reference.familiar(), self.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_16_a_digest_is_asked_of_nodes_first_and_a_tag_of_the_registry() {
        let of = |text: &str, policy| sources(&text.parse().expect("good"), policy);
        let pinned = format!("web:1@sha256:{}", "0".repeat(64));
        assert_eq!(of("web:1", PullPolicy::Missing), [Source::Registry, Source::Nodes]);
        assert_eq!(of(&pinned, PullPolicy::Missing), [Source::Nodes, Source::Registry]);
        // P48: what an old tag means on another node is not what was asked for
        assert_eq!(of("web:1", PullPolicy::Always), [Source::Registry]);
        assert_eq!(of(&pinned, PullPolicy::Always), [Source::Nodes, Source::Registry]);
        assert_eq!(of("web:1", PullPolicy::Never), [Source::Nodes]);
        assert_eq!(of(&pinned, PullPolicy::Never), [Source::Nodes]);
    }

    #[test]
    fn a_failure_names_all_that_was_tried() {
        let reference: ImageReference = "web:1".parse().expect("good");
        let mut failed = Failed { registry: "unreachable".into(), ..Failed::default() };
        assert_eq!(failed.text(&reference), "No such image: web:1: unreachable");
        failed.nodes = "none of 2 has it".into();
        assert_eq!(failed.text(&reference), "No such image: web:1: unreachable; from other nodes: none of 2 has it");
    }
}
