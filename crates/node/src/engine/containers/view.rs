//! Containers as the API shows them, single ones and those of tasks alike (parity E-23, E-28).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use overlay::MacAddress;
use runtime::{ContainerState, Status};
use types::{Subnet, Timestamp};

use super::{
    ContainerError, Engine, Meant, Phase, PointKind, Record, Single,
    health::HealthView,
    of_runtime,
    spec::{NetworkRequest, PlaceRequest, SingleSpec},
    store::{Merged, MountPoint, State},
};
use crate::engine::{
    container::record_of_labels,
    container_id::task_of_container,
    log_driver::{self, About},
    network::{host_network_id, predefined_network_id},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStatusView {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
}

impl ContainerStatusView {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

/// Everything there is to say.
#[derive(Debug, Clone)]
pub struct ContainerView {
    pub id: String,
    pub name: String,
    /// What links of others call it, `web/db`.
    pub link_names: Vec<String>,
    pub created_at: Timestamp,
    /// `sha256:…`; empty if it is not known any more.
    pub image: String,
    pub spec: SingleSpec,
    pub merged: Merged,
    pub points: Vec<MountPoint>,
    pub status: ContainerStatusView,
    pub state: State,
    pub health: Option<HealthView>,
    pub has_health_check: bool,
    pub places: Vec<PlaceView>,
    pub log_path: PathBuf,
    pub etc_directory: PathBuf,
    pub rootfs: PathBuf,
    pub is_task: bool,
    /// Whether the host, on which its ports are published, has it.
    pub host_has_ipv6: bool,
    /// What has no IPv6 is reached over it all the same.
    pub host_relays: bool,
}

impl ContainerView {
    /// What `logs --details` says beside each line.
    pub fn log_details(&self) -> BTreeMap<String, String> {
        let Some(log) = &self.spec.log else { return BTreeMap::new() };
        let about = About {
            id: &self.id,
            name: &self.name,
            image: &self.spec.image,
            hostname: "",
            labels: &self.merged.labels,
            env: &self.merged.env,
        };
        log_driver::details(log, &about)
    }
}

/// One network that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlaceView {
    pub network: String,
    /// Empty where the network is gone.
    pub network_id: String,
    /// As they were asked for.
    pub asked: PlaceRequest,
    /// While it runs: address and length of the prefix.
    pub address: Option<(IpAddr, u8)>,
    pub gateway: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub address6: Option<(IpAddr, u8)>,
    pub gateway6: Option<Ipv6Addr>,
    pub mac: String,
}

impl PlaceView {
    /// In one of the networks that every host has.
    fn predefined(network: &str) -> Self {
        Self { network: network.to_owned(), network_id: predefined_network_id(network), ..Self::default() }
    }
}

impl Engine {
    /// All containers, the newest first, as they are at this moment.
    ///
    /// # Errors
    /// When the runtime's directory cannot be read.
    pub async fn container_views(&self) -> Result<Vec<ContainerView>, ContainerError> {
        let states = self.inner.runtime.list().await.map_err(|e| of_runtime(&e))?;
        let mut states: BTreeMap<String, ContainerState> =
            states.into_iter().map(|state| (state.id.clone(), state)).collect();
        let singles = self.inner.containers.list();
        let mut views: Vec<ContainerView> =
            singles.iter().map(|single| self.view_single(single, states.remove(&single.id).as_ref())).collect();
        let tasks = states.values().filter(|state| task_of_container(&state.id).is_some());
        views.extend(tasks.map(|state| self.view_task(state)));
        let mut by_links = self.names_by_links();
        for view in &mut views {
            view.link_names = by_links.remove(&view.id).unwrap_or_default();
        }
        views.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(views)
    }

    /// The names of single containers, by id.
    pub fn container_names(&self) -> BTreeMap<String, String> {
        self.inner.containers.list().iter().map(|single| (single.id.clone(), single.record().name)).collect()
    }

    /// One container, after a start that is under way.
    ///
    /// # Errors
    /// When there is none.
    pub async fn container_view(&self, text: &str) -> Result<ContainerView, ContainerError> {
        match self.at_rest(text).await? {
            Meant::Single(single) => {
                let state = self.inner.runtime.state(&single.id).await.ok();
                Ok(self.view_single(&single, state.as_ref()))
            }
            Meant::Task(state) => Ok(self.view_task(&state)),
        }
    }

    /// Bytes that it has written of its own, and those of its image.
    ///
    /// # Errors
    /// When its root filesystem cannot be measured.
    pub async fn container_sizes(&self, id: &str, image: &str) -> Result<(u64, u64), ContainerError> {
        let own = match self.inner.images.snapshot_usage(id).await {
            Ok(bytes) => bytes,
            // A task's that ended has none any more.
            Err(image::Error::NoSuchSnapshot(_)) => 0,
            Err(error) => return Err(ContainerError::failed(types::with_causes(&error))),
        };
        let of_image = self.inner.images.inspect(image).map_or(0, |detail| detail.summary.size);
        Ok((own, of_image))
    }

    fn view_single(&self, single: &Single, state: Option<&ContainerState>) -> ContainerView {
        let record = single.record();
        let is_paused = state.is_some_and(|state| state.status == Status::Paused);
        let status = match record.state.phase {
            Phase::Created => ContainerStatusView::Created,
            Phase::Running if is_paused => ContainerStatusView::Paused,
            Phase::Running => ContainerStatusView::Running,
            Phase::Restarting => ContainerStatusView::Restarting,
            Phase::Exited => ContainerStatusView::Exited,
        };
        let log_path = self.log_path(&record);
        let mut record = self.with_linked_names(record);
        self.info().settings.defaults.fill_ulimits(&mut record.spec.ulimits);
        ContainerView { health: single.health(), ..self.view(record, status, log_path, false) }
    }

    /// Its links by the names that the others have now; without those that are gone.
    fn with_linked_names(&self, mut record: Record) -> Record {
        if record.spec.is_on_bridge() && !record.spec.links.is_empty() {
            let known = |id: &String| self.inner.containers.get(id).map(|single| single.lock().name.clone());
            let links = record.spec.links.iter();
            record.spec.links = links.filter_map(|(other, alias)| Some((known(other)?, alias.clone()))).collect();
        }
        record
    }

    fn view_task(&self, state: &ContainerState) -> ContainerView {
        let mut record = record_of_labels(&state.id, &state.labels);
        record.created_at = Timestamp::from_unix_ns(state.created_at_ns);
        let image = self.inner.images.snapshot_image_of(&state.id);
        record.image = image.map(|image| image.to_string()).unwrap_or_default();
        record.state.started_at = Timestamp::from_unix_ns(state.started_at_ns);
        record.state.pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let status = match &state.status {
            Status::Created => ContainerStatusView::Created,
            Status::Running => ContainerStatusView::Running,
            Status::Paused => ContainerStatusView::Paused,
            Status::Stopped(exit) => {
                record.state.exit_code = exit.code;
                record.state.oom_killed = exit.oom_killed;
                record.state.finished_at = Timestamp::from_unix_ns(exit.finished_at_ns);
                record.state.ports.clear();
                ContainerStatusView::Exited
            }
        };
        let health = self.task_health(&state.id);
        let has_health_check = health.is_some();
        let view = self.view(record, status, state.log_path.clone(), true);
        ContainerView { health, has_health_check, ..view }
    }

    fn view(&self, record: Record, status: ContainerStatusView, log_path: PathBuf, is_task: bool) -> ContainerView {
        ContainerView {
            places: self.places(&record, is_task && record.state.pid > 0),
            etc_directory: self.etc_directory(&record.id),
            rootfs: self.inner.images.root().join("snapshots").join(&record.id),
            id: record.id,
            name: record.name,
            link_names: Vec::new(),
            created_at: record.created_at,
            image: record.image,
            spec: record.spec,
            merged: record.merged,
            points: record.points,
            status,
            state: record.state,
            health: None,
            has_health_check: record.health.is_some(),
            log_path,
            is_task,
            host_has_ipv6: host_has_ipv6(),
            host_relays: self.config().network.relay,
        }
    }

    /// Of a task that runs, its assignment says the addresses that it has in networks of the cluster; of a single
    /// container its node was told them.
    fn places(&self, record: &Record, is_running_task: bool) -> Vec<PlaceView> {
        let asked = match &record.spec.network {
            NetworkRequest::Host => return vec![PlaceView::predefined("host")],
            NetworkRequest::None => return vec![PlaceView::predefined("none")],
            NetworkRequest::Container(_) => return Vec::new(),
            NetworkRequest::Places(places) => places,
        };
        let locals = self.inner.network.locals();
        let given = self.inner.network.cluster_places();
        let place = |asked: &PlaceRequest| {
            let is_bridge = matches!(asked.network.as_str(), "" | "bridge" | "default");
            let network = if is_bridge { None } else { self.network_meant(&asked.network).ok() };
            let id = network.as_ref().map(|network| network.id);
            let is_known = is_bridge || network.is_some();
            let local = locals.iter().find(|view| is_known && view.network.as_ref().map(|n| n.id) == id);
            let endpoint = local.and_then(|view| view.endpoints.iter().find(|e| e.container == record.id));
            let of_cluster = |is_ipv4: bool| {
                let network = network.as_ref().filter(|_| endpoint.is_none())?;
                if is_running_task {
                    let own = if is_ipv4 { asked.address.map(IpAddr::V4) } else { asked.address6.map(IpAddr::V6) };
                    return in_subnet(&network.subnets, own?);
                }
                let given = given.iter().find(|given| given.network == network.id && given.container == record.id)?;
                let address = given.addresses.iter().find(|address| address.is_ipv4() == is_ipv4).copied()?;
                in_subnet(&network.subnets, address)
            };
            let (of_cluster, of_cluster6) = (of_cluster(true), of_cluster(false));
            let has_own_mac = network.as_ref().is_none_or(|n| n.spec.driver != types::NetworkDriver::Ipvlan);
            PlaceView {
                network: match &network {
                    Some(network) => network.spec.name.to_string(),
                    None if is_bridge => "bridge".to_owned(),
                    None => asked.network.clone(),
                },
                network_id: match &network {
                    Some(network) if local.is_some() => host_network_id(network.id),
                    Some(network) => network.id.to_string(),
                    None if is_bridge => predefined_network_id("bridge"),
                    None => String::new(),
                },
                asked: asked.clone(),
                address: endpoint.and_then(|e| e.address).map(|a| (a.address(), a.prefix())).or(of_cluster),
                gateway: endpoint.and_then(|e| e.address).and(local).and_then(|view| view.gateway),
                address6: endpoint.and_then(|e| e.address6).map(|a| (a.address(), a.prefix())).or(of_cluster6),
                gateway6: endpoint.and_then(|e| e.address6).and(local).and_then(|view| view.gateway6),
                mac: match (endpoint, of_cluster) {
                    (Some(endpoint), _) => endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                    (None, Some((IpAddr::V4(address), _))) if has_own_mac => MacAddress::for_ipv4(address).to_string(),
                    (None, _) => asked.mac.clone(),
                },
            }
        };
        asked.iter().map(place).collect()
    }
}

/// The address with the length of its subnet's prefix.
fn in_subnet(subnets: &[Subnet], address: IpAddr) -> Option<(IpAddr, u8)> {
    let subnet = subnets.iter().find(|subnet| subnet.range.contains(address))?;
    Some((address, subnet.range.prefix()))
}

/// A kernel either has it or not, as long as it runs.
fn host_has_ipv6() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| Path::new("/proc/net/if_inet6").exists())
}

impl MountPoint {
    /// The volume's name.
    pub fn volume(&self) -> Option<&String> {
        match &self.kind {
            PointKind::Volume { name, .. } => Some(name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-75: an address is shown with the prefix of the subnet that it is of, in either family.
    #[test]
    fn s_75_addresses_have_their_subnets_prefixes() {
        let subnet = |text: &str| {
            let range: types::Cidr = text.parse().expect(text);
            Subnet { range, gateway: range.address(), ip_range: None, reserved: Vec::new() }
        };
        let subnets = [subnet("10.0.1.0/24"), subnet("10.0.2.0/26"), subnet("fd00:1::/64")];
        let shown = |address: &str| in_subnet(&subnets, address.parse().expect(address)).map(|(_, prefix)| prefix);
        let all = ["10.0.1.3", "10.0.2.3", "fd00:1::3", "10.0.3.1"];
        assert_eq!(all.map(shown), [Some(24), Some(26), Some(64), None]);
    }
}
