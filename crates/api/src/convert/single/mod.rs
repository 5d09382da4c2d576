//! Docker's JSON of a single container: what is asked for at `create` and `update`, as the engine's own words.
//!
//! Texts that clients look for are Docker's. Every field of a request is honoured here or refused with its path.

mod create;
mod limits;
mod mounts;
mod network;
mod security;
pub(crate) mod show;
pub(crate) mod show_config;
pub(crate) mod usage;
pub(crate) mod words;

use node::engine::containers::spec;
use serde_json::Value;

use super::reader::{FieldError, Object};

pub(crate) use create::{read_devices, read_shm};
pub(crate) use limits::read_cpuset;
pub(crate) use network::read_place;
pub(crate) use show_config::write_device;

/// The container that the body of `/containers/create` asks for.
pub(crate) fn create(body: &Value) -> Result<spec::SingleSpec, FieldError> {
    create::read(Object::root(body)?)
}

/// What the body of `/containers/{id}/update` changes.
pub(crate) fn change(body: &Value) -> Result<spec::Change, FieldError> {
    let mut from = Object::root(body)?;
    let has_pids = from.has("PidsLimit");
    let limits = limits::read(&mut from)?;
    let pids = has_pids.then_some(limits.pids);
    // docker's client sends one without a name when it changes something else
    let is_named = !from.object("RestartPolicy")?.string("Name")?.is_empty();
    let policy = create::read_restart(&mut from)?;
    let restart = is_named.then_some(policy);
    from.finish()?;
    Ok(spec::Change { restart, pids, limits })
}

#[cfg(test)]
mod tests;
