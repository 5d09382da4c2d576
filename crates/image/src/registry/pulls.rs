//! What people pull: one image, or all tags of a repository, and the words that it ends with.

use types::ImageReference;

use super::{
    client::Registry,
    endpoint::candidates,
    pull::{PullOptions, PulledImage},
};
use crate::{
    error::{Error, Result},
    platform::Platform,
    progress::{Progress, ProgressStatus},
    store::Store,
};

impl Store {
    /// Pulls an image. What is there already is not fetched again; after a failure the store is as before.
    ///
    /// # Errors
    /// [`Error::NotFoundInRegistry`], [`Error::Unauthorized`], [`Error::RegistryUnreachable`],
    /// [`Error::DigestMismatch`], [`Error::NoMatchingPlatform`], [`Error::NoSpace`], [`Error::Hostile`].
    pub async fn pull(
        &self,
        reference: &ImageReference,
        options: &PullOptions,
        progress: Progress,
    ) -> Result<PulledImage> {
        let reference = reference.clone().with_default_tag();
        let pulled = self.pull_one(&reference, options, &progress).await?;
        progress.say("", ended(reference.familiar(), pulled.is_new));
        if let Some(warning) =
            options.platform.as_ref().and_then(|wanted| self.is_for_another(&pulled, &reference, wanted))
        {
            progress.say("", ProgressStatus::Warning(warning.to_string()));
        }
        Ok(pulled)
    }

    /// Pulls all tags of a repository, one after the other.
    ///
    /// # Errors
    /// As [`Store::pull`], of the first tag that cannot be had; those before it stay.
    pub async fn pull_all(
        &self,
        repository: &ImageReference,
        options: &PullOptions,
        progress: Progress,
    ) -> Result<Vec<ImageReference>> {
        let mut pulled = Vec::new();
        let mut is_new = false;
        for tag in tags(repository, options).await? {
            let reference = ImageReference { tag: Some(tag), digest: None, ..repository.clone() };
            is_new |= self.pull_one(&reference, options, &progress).await?.is_new;
            pulled.push(reference);
        }
        progress.say("", ended(repository.familiar_name(), is_new));
        Ok(pulled)
    }

    /// That an image is not for the platform that was asked for. What an index says is believed over the image.
    fn is_for_another(&self, pulled: &PulledImage, reference: &ImageReference, wanted: &Platform) -> Option<Error> {
        let is_single = self.inner.state().catalog.images.get(&pulled.id)?.indexes.is_empty();
        let detail = self.inspect(pulled.id.as_str()).ok().filter(|_| is_single)?;
        detail.fits(&reference.familiar(), wanted).err()
    }
}

fn ended(name: String, is_new: bool) -> ProgressStatus {
    if is_new { ProgressStatus::Downloaded(name) } else { ProgressStatus::UpToDate(name) }
}

async fn tags(repository: &ImageReference, options: &PullOptions) -> Result<Vec<String>> {
    let mut first_error = None;
    for candidate in candidates(repository, &options.mirrors, &options.insecure_registries).await {
        let (name, credentials) = (&repository.repository, options.credentials.clone());
        let found = match Registry::open(&candidate, name, credentials, &options.certificates).await {
            Ok(registry) => registry.tags().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => return Ok(found),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| Error::NoSuchImage(repository.familiar())))
}
