//! The image of a task: here already, or from its registry.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use image::{Progress, PullOptions};
use tokio::sync::Mutex;
use types::ImageReference;

use super::{
    Engine,
    events::{Event, EventKind},
    network::explain,
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

    /// The name under which the store knows the image, pulled if it was not there.
    pub(super) async fn ensure_image(&self, wanted: &ImageReference) -> Result<String, TaskError> {
        let reference = wanted.clone().with_default_tag();
        let name = reference.to_string();
        if self.inner.images.get(&name).is_ok() {
            return Ok(name);
        }
        let turn = self.inner.pulls.turn(&reference).await;
        let _turn = turn.lock().await;
        match self.inner.images.get(&name) {
            Ok(_) => return Ok(name),
            Err(image::Error::NoSuchImage(_)) => {}
            Err(error) => return Err(of_image(error)),
        }
        let options = PullOptions {
            insecure_registries: self.config().insecure_registries.clone(),
            mirrors: self.config().registry_mirrors.clone(),
            ..PullOptions::default()
        };
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for attempt in 1.. {
            let error = match self.inner.images.pull(&reference, &options, Progress::none()).await {
                Ok(pulled) => {
                    tracing::info!(image = reference.familiar(), id = %pulled.id, "pulled");
                    self.announce_pull(&reference);
                    return Ok(name);
                }
                Err(error) => error,
            };
            if !error.is_transient() || attempt >= ATTEMPTS {
                return Err(TaskError::Refused(format!(
                    "No such image: {}: {}",
                    reference.familiar(),
                    explain(&error)
                )));
            }
            tracing::info!(image = reference.familiar(), attempt, error = explain(&error), "pull failed, trying again");
            tokio::time::sleep(backoff.pause(random())).await;
        }
        Err(TaskError::Refused(format!("No such image: {}", reference.familiar())))
    }
}
