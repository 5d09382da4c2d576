//! What can be said of a container that is asked for before anything of it is made.

use std::path::Path;

use types::MountKind;

use super::{
    ContainerError,
    attach::kind_of,
    spec::{AskedMount, MountForm, NetworkRequest, SingleSpec},
};
use crate::engine::{
    network::{NetworkError, interface_of},
    stop_signal::parse_signal,
};

/// All that needs neither the host nor the image.
pub(super) fn spec(spec: &SingleSpec) -> Result<(), ContainerError> {
    words(spec)?;
    labels(spec)?;
    places(&spec.network)
}

/// Names that the kernel knows. Docker's words, from moby `daemon/container.go`.
fn words(spec: &SingleSpec) -> Result<(), ContainerError> {
    if parse_signal(&spec.stop_signal).is_err() {
        return Err(ContainerError::invalid(format!("Invalid signal: {}", spec.stop_signal)));
    }
    for (field, names) in [("CapAdd", &spec.capability_add), ("CapDrop", &spec.capability_drop)] {
        if let Some(name) = names.iter().find(|name| !runtime::oci::is_capability(name)) {
            return Err(ContainerError::invalid(format!(
                "invalid {field}: unknown capability: {name:?}; capabilities(7) lists them"
            )));
        }
    }
    Ok(())
}

/// What can be said of places before there are any.
fn places(network: &NetworkRequest) -> Result<(), ContainerError> {
    let NetworkRequest::Places(places) = network else { return Ok(()) };
    let of_network = |error: NetworkError| ContainerError::new(kind_of(error.kind), error.message);
    places.iter().try_for_each(|place| interface_of(&place.options).map(drop).map_err(of_network))
}

/// A driver that nobody has is no matter as long as no volume is made with it. Docker's words, from moby
/// `volume/drivers/extpoint.go`.
pub(super) fn volume_driver<'a>(
    driver: &str,
    mut asked: impl Iterator<Item = &'a AskedMount>,
) -> Result<(), ContainerError> {
    let is_made_with_it = |AskedMount { mount, form }: &AskedMount| {
        matches!((&mount.kind, form), (MountKind::Volume { .. }, MountForm::Bind(_) | MountForm::Volume))
    };
    if matches!(driver, "" | "local") {
        return Ok(());
    }
    match asked.find(|asked| is_made_with_it(asked)) {
        Some(asked) => Err(ContainerError::invalid(format!(
            "error looking up volume plugin {driver}: plugin \"{driver}\" not found, which the volume at {} is to be made \
             with; volumes here have the driver local: leave --volume-driver out",
            asked.mount.target
        ))),
        None => Ok(()),
    }
}

/// Labels mean nothing where no SELinux is, as with Docker; where it is, they would not hold.
fn labels(spec: &SingleSpec) -> Result<(), ContainerError> {
    let is_label = |text: &&String| {
        let value = text.strip_prefix("label").and_then(|rest| rest.strip_prefix(['=', ':']));
        value.is_some_and(|value| value != "disable")
    };
    match spec.security.iter().find(is_label) {
        Some(text) if Path::new("/sys/fs/selinux/enforce").exists() => Err(ContainerError::invalid(format!(
            "HostConfig.SecurityOpt: {text}: containers get no labels of SELinux here; use label=disable"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use types::Mount;

    use super::*;

    /// E-20: a volume driver that nobody has is refused where a volume would be made with it, and only there.
    #[test]
    fn e_20_an_unknown_volume_driver() {
        let volume = || MountKind::Volume {
            name: "data".to_owned(),
            no_copy: false,
            labels: types::Labels::new(),
            driver_options: types::Labels::new(),
            subpath: String::new(),
        };
        let asked = |form| {
            let mount = Mount { target: "/data".to_owned(), read_only: false, kind: volume() };
            AskedMount { mount, form }
        };
        let check = |driver: &str, form| volume_driver(driver, [asked(form)].iter()).map_err(|error| error.message);
        let refused = check("foo", MountForm::Volume).expect_err("nobody has it");
        assert!(refused.starts_with("error looking up volume plugin foo: plugin \"foo\" not found"), "{refused}");
        assert!(check("foo", MountForm::Bind("data:/data".to_owned())).is_err());
        assert_eq!(check("foo", MountForm::Mount), Ok(()), "it names its own");
        assert_eq!([check("local", MountForm::Volume), check("", MountForm::Volume)], [Ok(()), Ok(())]);
        assert!(volume_driver("foo", [].iter()).is_ok(), "none is made");
    }

    /// E-17
    #[test]
    fn e_17_settings_of_a_place_are_looked_at_first() {
        let place = |text: &str| {
            let options = [("com.docker.network.endpoint.sysctls".to_owned(), text.to_owned())].into();
            let place = super::super::spec::PlaceRequest { options, ..Default::default() };
            SingleSpec { network: NetworkRequest::Places(vec![place]), ..SingleSpec::default() }
        };
        assert!(spec(&place("net.ipv4.conf.IFNAME.forwarding=1")).is_ok());
        let refused = spec(&place("net.ipv4.ip_forward=1")).expect_err("of no interface");
        assert!(refused.message.contains("unrecognised network interface sysctl"), "{}", refused.message);
    }
}
