//! A bind over all of /dev. The embedded library fills /dev after it has made the mounts: it would write into the host's
//! own, and cannot where that may only be read. So the container is made with a /dev of its own, and a hook, which is our
//! shim, lays the bind over it before the container's root is changed (`shim/dev`). Called by `launch`. Pure.

use std::path::Path;

use crate::{
    config::{ContainerConfig, Hook, HookStage, Mount, MountKind},
    oci,
    shim::DEV,
};

const PLACE: &str = "/dev";
/// The container has it of its own whatever is mounted over /dev.
const SHARED_MEMORY: &str = "/dev/shm";

/// The container without such a bind and with the hook for it; nothing if it has none.
pub(crate) fn apart(config: &ContainerConfig, shim: &Path) -> Option<ContainerConfig> {
    let at = config.mounts.iter().position(is_whole)?;
    let mut config = config.clone();
    let bind = config.mounts.remove(at);
    let (MountKind::Bind { source, .. } | MountKind::Volume { source, .. }) = &bind.kind else { return None };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let fixed = ["rswarm-shim".to_owned(), text(&config.rootfs), DEV.to_owned(), text(source), options(&bind)];
    let hook = Hook {
        stage: HookStage::CreateContainer,
        path: shim.to_owned(),
        args: fixed.into_iter().chain(below(&config)).collect(),
        env: Vec::new(),
        timeout_s: None,
    };
    // the devices' own hooks see what the container will have
    config.hooks.insert(0, hook);
    Some(config)
}

fn is_whole(mount: &Mount) -> bool {
    let is_tree = matches!(mount.kind, MountKind::Bind { .. } | MountKind::Volume { .. });
    is_tree && mount.target.trim_end_matches('/') == PLACE
}

fn options(bind: &Mount) -> String {
    oci::mount_options(bind).join(",")
}

/// What stays over it.
fn below(config: &ContainerConfig) -> Vec<String> {
    let mounts = config.mounts.iter().map(|mount| &mount.target);
    let files = config.files.iter().map(|file| &file.target);
    let of_devices = config.host_mounts.iter().map(|mount| &mount.target);
    let all = mounts.chain(files).chain(of_devices).map(|target| target.trim_end_matches('/'));
    let own = (!config.no_shm).then_some(SHARED_MEMORY);
    let mut below: Vec<String> =
        all.filter(|target| target.starts_with("/dev/")).chain(own).map(str::to_owned).collect();
    // shallow ones first, as they were mounted
    below.sort_by_cached_key(|target| (target.split('/').count(), target.clone()));
    below.dedup();
    below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogConfig, LogDriver, Propagation};

    #[test]
    fn e_15_a_bind_over_dev_is_the_hooks() {
        let log = LogConfig { path: "/log".into(), driver: LogDriver::None, forward: None };
        let mut config = ContainerConfig::new("c1", "/root".into(), vec!["true".to_owned()], log);
        assert!(apart(&config, Path::new("/shim")).is_none());
        let bind = |target: &str, readonly| Mount {
            kind: MountKind::Bind { source: "/dev".into(), recursive: true, readonly_below: true },
            target: target.to_owned(),
            readonly,
            propagation: Propagation::RPrivate,
        };
        config.mounts = vec![bind("/dev/disk/mine", false), bind("/dev/", true)];
        let apart = apart(&config, Path::new("/shim")).expect("a bind over /dev");
        assert_eq!(apart.mounts, [bind("/dev/disk/mine", false)]);
        let words = ["rswarm-shim", "/root", "dev", "/dev", "rbind,rprivate,ro,rro", "/dev/shm", "/dev/disk/mine"];
        assert_eq!(
            (apart.hooks[0].args.as_slice(), apart.hooks[0].path.as_path()),
            (&words.map(str::to_owned)[..], Path::new("/shim"))
        );
    }
}
