//! The keys of what runs containers: the OCI runtime, how control groups are made, and the switches of Docker's that rswarm
//! has the one or the other way. Pure.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ConfigFile;

/// Names of Docker's for the runtime that it has without configuration.
const STOCK: [&str; 2] = ["runc", "io.containerd.runc.v2"];

/// A runtime, as Docker writes it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Program {
    path: String,
    runtime_args: Vec<String>,
    runtime_type: String,
    options: Map<String, Value>,
}

impl ConfigFile {
    /// The one program that runs all containers, if it says which.
    pub(super) fn program(&self) -> Result<Option<String>> {
        let wanted = self.default_runtime.as_deref().filter(|name| !name.is_empty());
        let mut others = self.runtimes.iter().flatten().filter(|(name, _)| Some(name.as_str()) != wanted);
        if let Some((name, _)) = others.next() {
            bail!(
                "\"runtimes\": {name}: rswarm runs all containers of a host with one program; name the one you want as \
                 \"default-runtime\" and leave the others out (GPUs need none: \"cdi-spec-dirs\", and run --device nvidia.com/gpu=all)"
            );
        }
        let Some(wanted) = wanted else { return Ok(None) };
        let Some(program) = self.runtimes.as_ref().and_then(|runtimes| runtimes.get(wanted)) else {
            return Ok(Some(if STOCK.contains(&wanted) { STOCK[0] } else { wanted }.to_owned()));
        };
        if !(program.runtime_args.is_empty() && program.runtime_type.is_empty() && program.options.is_empty()) {
            bail!(
                "\"runtimes\": {wanted}: rswarm calls a runtime itself, as it is, without runtimeArgs, runtimeType or options; \
                 leave them out, or name a script of your own as its path"
            );
        }
        match program.path.is_empty() {
            true => bail!("\"runtimes\": {wanted}: its path is empty; give the path of the program"),
            false => Ok(Some(program.path.clone())),
        }
    }

    /// What has one value here.
    pub(super) fn check_taken(&self) -> Result<()> {
        self.check_bridge()?;
        for option in self.exec_opts.iter().flatten() {
            match option.split_once('=') {
                Some(("native.cgroupdriver", "cgroupfs")) => {}
                Some(("native.cgroupdriver", _)) => bail!(
                    "\"exec-opts\": {option}: rswarm makes control groups itself, below /rswarm or the \"cgroup-parent\", and asks \
                     no systemd, so there are no slices and scopes for it; leave it out, or say native.cgroupdriver=cgroupfs"
                ),
                _ => bail!("\"exec-opts\": {option}: the only option is native.cgroupdriver=cgroupfs; leave it out"),
            }
        }
        for (feature, on) in self.features.iter().flatten() {
            match (feature.as_str(), on) {
                // it says who builds images, and here nobody does
                ("buildkit", _) | ("cdi", true) | ("containerd-snapshotter" | "windows-dns-proxy", false) => {}
                ("cdi", false) => bail!(
                    "\"features\": cdi: false: devices that vendors describe are always there to be asked for; leave it out, and \
                     name no place for them with \"cdi-spec-dirs\": []"
                ),
                ("containerd-snapshotter", true) => bail!(
                    "\"features\": containerd-snapshotter: rswarm keeps images itself, in \"data-root\" and without containerd; \
                     leave it out"
                ),
                _ => bail!("\"features\": {feature}: rswarm has no such feature to switch; leave it out"),
            }
        }
        Ok(())
    }

    /// Whether lines of the log are JSON.
    pub(super) fn log_json(&self) -> Result<bool> {
        match self.log_format.as_deref() {
            None | Some("" | "text") => Ok(false),
            Some("json") => Ok(true),
            Some(other) => bail!("\"log-format\": {other:?} is none; say text or json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        serde_json::from_str(text).expect("keys and values of their kinds")
    }

    /// E-50: one program for all, or none named.
    #[test]
    fn e_50_the_oci_runtime() {
        let program = |text: &str| file(text).program().map_err(|error| error.to_string());
        assert_eq!(program("{}"), Ok(None));
        assert_eq!(program(r#"{"default-runtime": "io.containerd.runc.v2"}"#), Ok(Some("runc".into())));
        assert_eq!(program(r#"{"default-runtime": "embedded"}"#), Ok(Some("embedded".into())));
        let named =
            r#"{"default-runtime": "crun", "runtimes": {"crun": {"path": "/usr/bin/crun", "runtimeArgs": []}}}"#;
        assert_eq!(program(named), Ok(Some("/usr/bin/crun".into())));
        let refused = |text: &str| program(text).expect_err(text);
        let second = r#"{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}"#;
        assert!(refused(second).contains("run --device nvidia.com/gpu=all"));
        let arguments = r#"{"default-runtime": "a", "runtimes": {"a": {"path": "/a", "runtimeArgs": ["--debug"]}}}"#;
        assert!(refused(arguments).contains("a script of your own"));
        assert!(refused(r#"{"default-runtime": "a", "runtimes": {"a": {}}}"#).contains("its path is empty"));
    }

    /// E-50: what rswarm does anyway is taken, and what it does not is refused with what it does.
    #[test]
    fn e_50_switches_that_are_set_one_way() {
        let check = |text: &str| file(text).check_taken().map_err(|error| error.to_string());
        let usual = r#"{"exec-opts": ["native.cgroupdriver=cgroupfs"], "features": {"buildkit": true, "cdi": true}}"#;
        assert_eq!(check(usual), Ok(()));
        let refused = |text: &str| check(text).expect_err(text);
        assert!(refused(r#"{"exec-opts": ["native.cgroupdriver=systemd"]}"#).contains("asks no systemd"));
        assert!(refused(r#"{"exec-opts": ["isolation=hyperv"]}"#).contains("the only option is"));
        assert!(refused(r#"{"features": {"cdi": false}}"#).contains("\"cdi-spec-dirs\": []"));
        assert!(refused(r#"{"features": {"containerd-snapshotter": true}}"#).contains("keeps images itself"));
        assert!(refused(r#"{"features": {"speed": true}}"#).contains("no such feature"));
        let json = |text: &str| file(text).log_json().map_err(|error| error.to_string());
        assert_eq!((json("{}"), json(r#"{"log-format": "json"}"#)), (Ok(false), Ok(true)));
        assert!(json(r#"{"log-format": "xml"}"#).expect_err("refused").contains("say text or json"));
    }
}
