//! What a device adds to a container.

use super::{CdiError, Edits, document};
use crate::config::{ContainerConfig, Device, Hook, HookStage, HostMount};

impl Edits {
    /// # Errors
    /// What a container here cannot have; ignoring it would give it less than the vendor meant.
    pub(super) fn check(&self, device: &str) -> Result<(), CdiError> {
        let refuse = |what: String| Err(CdiError::Unsupported { device: device.to_owned(), what });
        if !self.net_devices.is_empty() {
            return refuse("a network interface of the host (netDevices)".to_owned());
        }
        if self.intel_rdt.is_some() {
            return refuse("a class of cache and memory bandwidth (intelRdt)".to_owned());
        }
        match self.hooks.iter().find(|hook| HookStage::of(&hook.hook_name).is_none()) {
            Some(hook) => refuse(format!("a hook {:?}", hook.hook_name)),
            None => Ok(()),
        }
    }

    /// Its variables replace those of the same name.
    pub(super) fn apply(&self, config: &mut ContainerConfig) {
        for variable in &self.env {
            let name = |text: &str| text.split_once('=').map_or(text, |(name, _)| name).to_owned();
            config.env.retain(|other| name(other) != name(variable));
            config.env.push(variable.clone());
        }
        config.devices.extend(self.device_nodes.iter().map(device));
        config.host_mounts.extend(self.mounts.iter().map(mount));
        config.hooks.extend(self.hooks.iter().filter_map(hook));
        config.additional_groups.extend(self.additional_gids.iter().filter(|gid| **gid != 0).map(u32::to_string));
    }
}

fn device(node: &document::DeviceNode) -> Device {
    Device {
        host_path: node.host_path.as_ref().filter(|path| !path.is_empty()).unwrap_or(&node.path).into(),
        container_path: node.path.clone(),
        permissions: node.permissions.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "rwm".to_owned()),
        mode: node.file_mode,
        uid: node.uid,
        gid: node.gid,
    }
}

fn mount(mount: &document::Mount) -> HostMount {
    let bind = mount.kind.is_empty() || mount.kind == "bind";
    let mut options = mount.options.clone();
    if bind && !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.insert(0, "rbind".to_owned());
    }
    HostMount {
        source: (&mount.host_path).into(),
        target: mount.container_path.clone(),
        kind: if bind { "bind".to_owned() } else { mount.kind.clone() },
        options,
    }
}

fn hook(hook: &document::Hook) -> Option<Hook> {
    Some(Hook {
        stage: HookStage::of(&hook.hook_name)?,
        path: (&hook.path).into(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout_s: hook.timeout,
    })
}
