//! What a container may do, and whose namespaces it is in.

use types::Seccomp;

use super::spec::NamespaceRequest;
use crate::convert::reader::{FieldError, Object};

#[derive(Default)]
pub(super) struct Security {
    /// As the user wrote them.
    pub(super) texts: Vec<String>,
    pub(super) seccomp: Seccomp,
    pub(super) no_new_privileges: bool,
    pub(super) writable_cgroups: bool,
}

pub(super) struct NameSpaces {
    pub(super) pid: NamespaceRequest,
    pub(super) ipc: NamespaceRequest,
    pub(super) uts_of_host: bool,
    pub(super) cgroupns_of_host: bool,
}

/// `SecurityOpt`: `name=value`, and `name:value` as older clients write it.
pub(super) fn read(host: &mut Object<'_>) -> Result<Security, FieldError> {
    let mut security = Security { texts: host.strings("SecurityOpt")?, ..Security::default() };
    for text in security.texts.clone() {
        security.take(&text).map_err(|reason| host.bad("SecurityOpt", reason))?;
    }
    Ok(security)
}

impl Security {
    fn take(&mut self, text: &str) -> Result<(), String> {
        let invalid = || format!("invalid --security-opt 2: {text:?}");
        let switch = matches!(text, "no-new-privileges" | "writable-cgroups").then_some((text, "true"));
        let pair = switch.or_else(|| text.split_once('=')).or_else(|| text.split_once(':'));
        let (name, value) = pair.ok_or_else(invalid)?;
        match (name, value) {
            ("no-new-privileges", "true" | "false") => self.no_new_privileges = value == "true",
            ("writable-cgroups", "true" | "false") => self.writable_cgroups = value == "true",
            ("seccomp", "unconfined") => self.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin" | "default") => self.seccomp = Seccomp::Default,
            ("seccomp", profile) => {
                if !serde_json::from_str::<serde_json::Value>(profile).is_ok_and(|json| json.is_object()) {
                    return Err("decoding seccomp profile failed: it is not a JSON object".to_owned());
                }
                self.seccomp = Seccomp::Profile(profile.to_owned());
            }
            // there is nothing here that would confine it; the engine looks whether a label would have a meaning
            ("apparmor", "unconfined") | ("label", _) => {}
            ("apparmor", profile) => {
                return Err(format!("apparmor profile {profile}: AppArmor is not supported; use apparmor=unconfined"));
            }
            _ => return Err(invalid()),
        }
        Ok(())
    }
}

pub(super) fn read_namespaces(host: &mut Object<'_>) -> Result<NameSpaces, FieldError> {
    let users = host.string("UsernsMode")?;
    if !matches!(users.as_str(), "" | "host") {
        return Err(host.bad("UsernsMode", format!("invalid USER mode: {users}; use host or leave it out")));
    }
    let pid = host.string("PidMode")?;
    let pid = match pid.as_str() {
        "" | "private" => NamespaceRequest::Private,
        "host" => NamespaceRequest::Host,
        other => of_container(other).ok_or_else(|| host.bad("PidMode", format!("invalid PID mode: {other}")))?,
    };
    let ipc = host.string("IpcMode")?;
    let ipc = match ipc.as_str() {
        "" | "private" => NamespaceRequest::Private,
        "shareable" => NamespaceRequest::Shareable,
        "none" => NamespaceRequest::None,
        "host" => NamespaceRequest::Host,
        other => of_container(other).ok_or_else(|| host.bad("IpcMode", format!("invalid IPC mode: {other}")))?,
    };
    let host_or_own = |host: &mut Object<'_>, field: &'static str, what: &str| {
        let mode = host.string(field)?;
        match mode.as_str() {
            "" | "private" => Ok(false),
            "host" => Ok(true),
            other => Err(host.bad(field, format!("invalid {what} mode: {other}; use host or leave it out"))),
        }
    };
    Ok(NameSpaces {
        uts_of_host: host_or_own(host, "UTSMode", "UTS")?,
        cgroupns_of_host: host_or_own(host, "CgroupnsMode", "cgroup namespace")?,
        pid,
        ipc,
    })
}

fn of_container(mode: &str) -> Option<NamespaceRequest> {
    let name = mode.strip_prefix("container:").filter(|name| !name.is_empty())?;
    Some(NamespaceRequest::Container(name.to_owned()))
}
