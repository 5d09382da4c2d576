//! A single container's places in networks, its ports and its files in /etc, made anew with each start.

use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf, sync::Arc};

use overlay::{EndpointDns, EndpointId};
use types::{Network as NetworkObject, NetworkId, PortConfig};

use super::{
    ContainerError, ContainerErrorKind, Engine, Meant, Record, of_runtime,
    spec::{NamespaceRequest, NetworkRequest, PlaceRequest, SingleSpec},
    stopping,
};
use crate::engine::{
    container_id::task_of_container,
    files::{EtcFiles, HostFiles, read_host_resolv_conf},
    host_ports::refusal,
    network::{
        AttachError, Attached, Coming, ContainerPlace, NetworkError, NetworkErrorKind, PlaceIn, Wanted,
        check_addresses, host_network_id, interface_of,
    },
};

/// Where a container is in the network.
#[derive(Debug, Clone, Default)]
pub(super) struct Joined {
    /// `None` is the host's own.
    pub netns: Option<PathBuf>,
    /// In its networks, IPv4 before IPv6 in each.
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<PortConfig>,
    /// Of the container whose network it shares: that one's files are its own.
    pub shares_with: Option<String>,
    /// It is in a network that has names.
    pub has_names: bool,
}

impl Engine {
    /// Gives a container its network.
    pub(super) async fn join(&self, record: &Record) -> Result<Joined, ContainerError> {
        let places = match &record.spec.network {
            NetworkRequest::Host => return Ok(Joined::default()),
            NetworkRequest::Container(other) => return self.join_other(other).await,
            NetworkRequest::None => Vec::new(),
            NetworkRequest::Places(places) => places.clone(),
        };
        let mut wanted = Wanted {
            hostname: record.merged.hostname.clone(),
            dns: EndpointDns { nameservers: record.spec.dns.nameservers.clone(), ..EndpointDns::default() },
            ..Wanted::default()
        };
        wanted.dns.links = self.link_names(record).await;
        let publish = self.publish(record, &places).await?;
        let (mut coming, mut overlays) = (Vec::new(), Vec::new());
        for place in places {
            if let Some((given, overlay)) = self.add_place(&mut wanted, place, record).await? {
                coming.push(given);
                overlays.extend(overlay);
            }
        }
        wanted.bridge |= wanted.locals.is_empty() && self.inner.network.leaves_by_bridge(&overlays);
        let has_names = !wanted.locals.is_empty() || !wanted.overlays.is_empty();
        (wanted.bridge_for_ports, wanted.publish) = (!publish.ports.is_empty(), publish);
        let attached = self.attach_all(record, wanted).await?;
        drop(coming);
        let Attached { addresses, namespace, ports, .. } = attached;
        Ok(Joined { netns: Some(namespace), addresses, ports, shares_with: None, has_names })
    }

    /// Refuses what a place cannot have, before there is a container. A network may come later, as with Docker.
    pub(super) fn check_asked_places(&self, spec: &SingleSpec) -> Result<(), ContainerError> {
        let NetworkRequest::Places(places) = &spec.network else { return Ok(()) };
        for request in places {
            if request.is_on_bridge() {
                let place = ContainerPlace::new(PlaceIn::Bridge, request.clone());
                place.check_bridge().map_err(|error| ContainerError::new(kind_of(error.kind), error.message))?;
            } else if let Ok(network) = self.network_meant(&request.network) {
                check_addresses(&network, request).map_err(|error| {
                    let message = format!("invalid config for network {}: {error}", request.network);
                    ContainerError::new(kind_of(error.kind), message)
                })?;
            }
        }
        Ok(())
    }

    /// Notes one place; of one that the cluster gives it tells what was given, with the overlay it is in.
    async fn add_place(
        &self,
        wanted: &mut Wanted,
        request: PlaceRequest,
        record: &Record,
    ) -> Result<Option<(Coming<'_>, Option<NetworkId>)>, ContainerError> {
        let of_network = |error: NetworkError| ContainerError::new(kind_of(error.kind), error.message);
        let (network, _) = self.place_in(&request.network)?;
        let place = ContainerPlace { hosts: record.host_names(), ..ContainerPlace::new(network, request) };
        let special = interface_of(&place.asked.options).map_err(of_network)?;
        wanted.interfaces.insert(place.network.interface(), special);
        if place.network == PlaceIn::Bridge {
            place.check_bridge().map_err(of_network)?;
            (wanted.bridge, wanted.bridge_mac) = (true, place.mac().map_err(of_network)?);
            (wanted.bridge_priority, wanted.bridge_link_local) = (place.asked.priority, place.asked.link_local);
            return Ok(None);
        }
        if let PlaceIn::Network(of) = place.network
            && self.inner.network.gives_addresses(of)
        {
            let asked = self.ask_for(wanted, &record.id, &record.name, of, place).await;
            let (given, is_overlay) = asked.map_err(of_network)?;
            return Ok(Some((given, is_overlay.then_some(of))));
        }
        wanted.locals.extend(place.wanted(&record.name, &record.id).map_err(of_network)?);
        Ok(None)
    }

    /// The network that is meant, and whether it is internal.
    pub(super) fn place_in(&self, name: &str) -> Result<(PlaceIn, bool), ContainerError> {
        if matches!(name, "" | "bridge" | "default") {
            return Ok((PlaceIn::Bridge, false));
        }
        let network = self.network_meant(name)?;
        if network.spec.config_only {
            return Err(ContainerError::invalid(format!("network {name} is a configuration: nothing can join it")));
        }
        Ok((PlaceIn::Network(network.id), network.spec.internal))
    }

    /// The network of this name, this id or, if there is one only, this beginning of an id. Of one of this host alone
    /// there may be records that name it by the id it was shown with before.
    pub(super) fn network_meant(&self, text: &str) -> Result<Arc<NetworkObject>, ContainerError> {
        let locals = self.inner.network.locals();
        let of_host = locals.iter().filter_map(|view| view.network.clone());
        let of_host = of_host.map(|network| (host_network_id(network.id), network));
        let of_cluster = self.inner.network.all_of_cluster().into_iter();
        let of_cluster = of_cluster.map(|network| (network.id.to_string(), network));
        let networks: Vec<(String, Arc<NetworkObject>)> = of_host.chain(of_cluster).collect();
        let is_it = |(id, network): &&(String, Arc<NetworkObject>)| {
            network.spec.name.as_str() == text || id == text || network.id.to_string() == text
        };
        if let Some((_, network)) = networks.iter().find(is_it) {
            return Ok(Arc::clone(network));
        }
        let begins = |id: &str| !text.is_empty() && id.starts_with(text);
        let mut meant: Vec<_> = networks.iter().filter(|(id, _)| begins(id)).collect();
        if meant.is_empty() {
            meant = networks.iter().filter(|(_, network)| begins(&network.id.to_string())).collect();
        }
        match meant.as_slice() {
            [(_, network)] => Ok(Arc::clone(network)),
            [] => Err(ContainerError::new(ContainerErrorKind::NotFound, format!("network {text} not found"))),
            several => Err(ContainerError::invalid(format!(
                "network {text} is ambiguous ({} matches found on ID prefix): give its name",
                several.len()
            ))),
        }
    }

    async fn join_other(&self, other: &str) -> Result<Joined, ContainerError> {
        let (id, is_running) = match self.meant(other).await? {
            Meant::Single(single) => (single.id.clone(), single.is_running()),
            Meant::Task(state) => (state.id.clone(), state.pid.is_some()),
        };
        if !is_running {
            return Err(ContainerError::conflict(format!(
                "cannot join network of a non running container: {id}; start it first"
            )));
        }
        let netns = self.namespace_of(&id).await.map_err(|e| ContainerError::failed(e.message))?;
        let has_names = self.etc_directory(&id).join("resolv.conf").is_file();
        Ok(Joined { netns, shares_with: Some(id), has_names, ..Joined::default() })
    }

    async fn attach_all(&self, record: &Record, wanted: Wanted) -> Result<Attached, ContainerError> {
        let id: EndpointId =
            record.id.parse().map_err(|_| ContainerError::failed("the container's id is no endpoint id"))?;
        let asked = wanted.publish.ports.clone();
        let attached = self.inner.network.attach(id, wanted).await;
        attached.map_err(|error| {
            let why = match error {
                AttachError::Failed(why) => why,
                AttachError::Held(conflict) => format!(
                    "driver failed programming external connectivity on endpoint {} ({}): {}",
                    record.name,
                    record.id,
                    refusal(&conflict, &asked)
                ),
            };
            ContainerError::failed(format!("failed to set up container networking: {why}"))
        })
    }

    /// Where a container's files of /etc are, a task's too.
    pub(super) fn etc_directory(&self, id: &str) -> PathBuf {
        let name = task_of_container(id).map_or_else(|| id.to_owned(), |task| task.to_string());
        self.config().run_dir.join("etc").join(name)
    }

    /// Writes the files of /etc; those of the container whose network it shares are its own.
    pub(super) async fn write_etc(
        &self,
        record: &Record,
        joined: &Joined,
    ) -> Result<Vec<(PathBuf, &'static str)>, ContainerError> {
        if let Some(directory) = joined.shares_with.as_ref().map(|other| self.etc_directory(other)) {
            let files = [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts"), ("hostname", "/etc/hostname")];
            let there = files.into_iter().map(|(name, target)| (directory.join(name), target));
            return Ok(there.filter(|(path, _)| path.is_file()).collect());
        }
        let mut lines = self.extra_hosts(record)?;
        if !joined.has_names {
            lines.extend(self.link_lines(record).await?);
        }
        let (spec, merged) = (record.spec.clone(), record.merged.clone());
        let (directory, joined) = (self.etc_directory(&record.id), joined.clone());
        let work = move || {
            let hostname = &merged.hostname;
            let mut files = match spec.network {
                NetworkRequest::Host => EtcFiles::of_host(&spec.dns, &lines, hostname, &HostFiles::read()),
                _ => {
                    let names = match spec.domainname.as_str() {
                        "" => hostname.clone(),
                        domain => format!("{hostname}.{domain} {hostname}"),
                    };
                    let host = read_host_resolv_conf();
                    EtcFiles::new(&spec.dns, &lines, &names, &joined.addresses, joined.has_names, &host)
                }
            };
            files.hostname = format!("{hostname}\n");
            files.write(&directory)
        };
        let written = tokio::task::spawn_blocking(work).await.map_err(|_| stopping())?;
        written.map_err(|e| ContainerError::failed(format!("write the container's /etc files: {e}")))
    }

    /// `name:address` as lines of /etc/hosts.
    fn extra_hosts(&self, record: &Record) -> Result<Vec<String>, ContainerError> {
        let mut lines = Vec::new();
        for entry in &record.spec.extra_hosts {
            let (name, address) = entry.split_once([':', '=']).unwrap_or((entry, ""));
            if address == "host-gateway" {
                lines.extend(self.host_gateways()?.into_iter().map(|gateway| format!("{gateway} {name}")));
            } else {
                lines.push(format!("{} {name}", address.trim_matches(['[', ']'])));
            }
        }
        Ok(lines)
    }

    /// What containers call this host by where they say `host-gateway`.
    fn host_gateways(&self) -> Result<Vec<IpAddr>, ContainerError> {
        let said = self.info().settings.defaults.host_gateways.clone();
        if !said.is_empty() {
            return Ok(said);
        }
        let bridge = self.inner.network.locals().first().and_then(|bridge| bridge.gateway);
        let gateway = bridge.ok_or_else(|| ContainerError::failed("this host has no bridge"))?;
        Ok(vec![gateway.into()])
    }

    /// A container's addresses by network; the host's bridge is the empty name.
    pub(super) fn addresses(&self, id: &str) -> BTreeMap<String, IpAddr> {
        let locals = self.inner.network.locals();
        let mut found = BTreeMap::new();
        for view in locals.iter() {
            let name = view.network.as_ref().map(|network| network.spec.name.to_string()).unwrap_or_default();
            if let Some(endpoint) = view.endpoints.iter().find(|endpoint| endpoint.container == id) {
                found.extend(endpoint.address.or(endpoint.address6).map(|address| (name, address.address())));
            }
        }
        found
    }

    /// Takes its network, its shared memory and its files away; none is fine.
    pub(super) async fn part(&self, id: &str) -> Result<(), ContainerError> {
        let endpoint: EndpointId = id.parse().map_err(|_| ContainerError::not_found(id))?;
        let detached = self.inner.network.detach(endpoint).await;
        detached.map_err(|e| ContainerError::failed(format!("detach the container from the network: {e}")))?;
        self.inner.network.detach_single(id).await;
        self.drop_shared_memory(id).await;
        let directory = self.etc_directory(id);
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(directory)).await;
        match removed.map_err(|_| stopping())? {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ContainerError::failed(format!("remove the container's /etc files: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// What of another container's namespaces is joined by path.
    pub(super) async fn namespace_path(&self, other: &str, kind: &str) -> Result<PathBuf, ContainerError> {
        let id = match self.meant(other).await? {
            Meant::Single(single) => {
                if kind == "ipc" && single.record().spec.ipc != NamespaceRequest::Shareable {
                    return Err(ContainerError::conflict(format!(
                        "cannot join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
                         container)",
                        single.id
                    )));
                }
                single.id.clone()
            }
            Meant::Task(state) => state.id.clone(),
        };
        let state = self.inner.runtime.state(&id).await;
        let pid = match state {
            Ok(state) => state.pid,
            Err(runtime::Error::NotFound { .. }) => None,
            Err(error) => return Err(of_runtime(&error)),
        };
        let none = || {
            let name = kind.to_ascii_uppercase();
            ContainerError::failed(format!(
                "failed to join {name} namespace: container {id} is not running; start it first"
            ))
        };
        Ok(PathBuf::from(format!("/proc/{}/ns/{kind}", pid.ok_or_else(none)?)))
    }
}

pub(super) fn kind_of(kind: NetworkErrorKind) -> ContainerErrorKind {
    match kind {
        NetworkErrorKind::NotFound => ContainerErrorKind::NotFound,
        NetworkErrorKind::Invalid => ContainerErrorKind::Invalid,
        NetworkErrorKind::Conflict | NetworkErrorKind::Forbidden => ContainerErrorKind::Conflict,
        NetworkErrorKind::Failed => ContainerErrorKind::Failed,
    }
}
