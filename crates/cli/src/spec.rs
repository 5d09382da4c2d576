//! From flags to Docker's `ServiceSpec` JSON, new or changed, and to that of a single container. Pure but for `--env-file` and `-e NAME`.

pub(crate) mod dependency;
pub(crate) mod devices;
pub(crate) mod edit;
pub(crate) mod fields;
pub(crate) mod flags;
pub(crate) mod ipam;
pub(crate) mod job;
pub(crate) mod lists;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod port;
mod publish;
pub(crate) mod scalars;
pub(crate) mod single;

#[cfg(test)]
mod tests;
