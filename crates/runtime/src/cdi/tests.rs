//! A vendor's files and what a container gets of them.

use std::fs;

use super::*;
use crate::{ContainerConfig, config::HookStage};

/// What NVIDIA's toolkit writes, in small.
const VENDOR: &str = r#"
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /dev/null
      permissions: rw
      fileMode: 438
      gid: 44
- name: "1"
  containerEdits:
    deviceNodes:
    - path: /dev/zero
- name: GPU-4f3a
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/null
    - path: /dev/zero
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  additionalGids: [44, 0]
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-ctk
    args: [nvidia-ctk, hook, update-ldcache]
    timeout: 5
  mounts:
  - hostPath: /usr/lib/libcuda.so.1
    containerPath: /usr/lib/libcuda.so.1
    options: [ro, nosuid, nodev, rbind]
"#;

fn registry(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    let registry = Registry::read(&[directory.path().join("etc"), directory.path().join("run")]);
    (directory, registry)
}

fn config() -> ContainerConfig {
    let log = crate::LogConfig { path: "/log".into(), driver: crate::LogDriver::None, forward: None };
    let mut config = ContainerConfig::new("c", "/rootfs".into(), vec!["true".into()], log);
    config.env = vec!["A=1".into(), "NVIDIA_VISIBLE_DEVICES=all".into()];
    config
}

fn named(name: &str) -> types::DeviceClaim {
    types::DeviceClaim { driver: "cdi".into(), ids: vec![name.into()], ..types::DeviceClaim::default() }
}

#[test]
fn a_device_brings_what_its_vendor_says() {
    let (_directory, registry) = registry(&[("etc/nvidia.yaml", VENDOR)]);
    let mut config = config();
    registry.inject(&[named("nvidia.com/gpu=0")], &mut config).expect("it is described");
    assert_eq!(config.env, ["A=1", "NVIDIA_VISIBLE_DEVICES=void"]);
    assert_eq!(config.additional_groups, ["44"]);
    let node = &config.devices[0];
    assert_eq!((node.host_path.to_str(), node.container_path.as_str()), (Some("/dev/null"), "/dev/nvidia0"));
    assert_eq!((node.permissions.as_str(), node.mode, node.uid, node.gid), ("rw", Some(0o666), None, Some(44)));
    assert_eq!(config.host_mounts[0].options, ["ro", "nosuid", "nodev", "rbind"]);
    assert_eq!((config.hooks[0].stage, config.hooks[0].timeout_s), (HookStage::CreateContainer, Some(5)));
}

#[test]
fn what_is_not_there_is_refused_and_changes_nothing() {
    let (directory, registry) = registry(&[("etc/nvidia.yaml", VENDOR)]);
    let root = directory.path().display().to_string();
    let mut config = config();
    let claims = [named("nvidia.com/gpu=0"), named("nvidia.com/gpu=7")];
    let error = registry.inject(&claims, &mut config).expect_err("there is no such device").to_string();
    assert_eq!(
        error.replace(&root, "ROOT"),
        "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7; ROOT/etc and ROOT/run describe nvidia.com/gpu=0, \
         nvidia.com/gpu=1, nvidia.com/gpu=GPU-4f3a, nvidia.com/gpu=all"
    );
    assert!(config.devices.is_empty() && config.hooks.is_empty(), "{error}");
}

#[test]
fn the_later_directory_counts_and_doubles_of_one_do_not() {
    let one = |node: &str| {
        format!(
            r#"{{"cdiVersion":"0.6.0","kind":"acme.com/dev","devices":[{{"name":"a","containerEdits":{{"deviceNodes":[{{"path":"{node}"}}]}}}}]}}"#
        )
    };
    let (early, late) = (one("/dev/early"), one("/dev/late"));
    let (_directory, both) = registry(&[("etc/a.json", &early), ("run/a.json", &late)]);
    let mut config = config();
    both.inject(&[named("acme.com/dev=a")], &mut config).expect("it is there");
    assert_eq!(config.devices[0].container_path, "/dev/late");
    let (_directory, twice) = registry(&[("etc/a.json", &early), ("etc/b.json", &late)]);
    assert_eq!(twice.names().count(), 0);
    assert!(twice.problems()[0].ends_with("acme.com/dev=a is in two files of it"), "{:?}", twice.problems());
}

#[test]
fn a_wrong_file_is_a_problem_and_the_others_count() {
    let newer = VENDOR.replace("0.5.0", "9.0.0");
    let kind = VENDOR.replace("nvidia.com/gpu", "gpu");
    let (_directory, registry) = registry(&[
        ("etc/a.yaml", "cdiVersion: [}"),
        ("etc/b.yaml", &newer),
        ("etc/c.yaml", &kind),
        ("etc/d.yaml", VENDOR),
        ("etc/e.txt", "not read"),
    ]);
    assert_eq!(registry.names().count(), 4);
    let problems = registry.problems().join("\n");
    for part in
        ["a.yaml: is no CDI specification", "b.yaml: is of CDI version \"9.0.0\"", "c.yaml: has the kind \"gpu\""]
    {
        assert!(problems.contains(part), "{problems}");
    }
    let mut config = config();
    let error = registry.inject(&[named("nvidia.com/gpu=9")], &mut config).expect_err("not there").to_string();
    assert!(error.contains("a.yaml: is no CDI specification"), "{error}");
}

#[test]
fn what_a_container_cannot_have_is_not_left_out_silently() {
    for (edit, what) in [
        (r#"{"netDevices":[{"hostInterfaceName":"eth1","name":"eth1"}]}"#, "a network interface"),
        (r#"{"intelRdt":{"closID":"a"}}"#, "a class of cache"),
        (r#"{"hooks":[{"hookName":"later","path":"/x"}]}"#, "a hook \"later\""),
    ] {
        let text = format!(
            r#"{{"cdiVersion":"1.1.0","kind":"acme.com/dev","devices":[{{"name":"a","containerEdits":{edit}}}]}}"#
        );
        let (_directory, registry) = registry(&[("run/a.json", &text)]);
        let error = registry.inject(&[named("acme.com/dev=a")], &mut config()).expect_err(what).to_string();
        assert!(error.contains(what) && error.contains("acme.com/dev=a"), "{error}");
    }
}
