//! What the owner of the plan does about networks of this host: makes and removes them, and gives addresses in
//! them. Each request here is applied and answered by itself: they are rare.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use overlay::{
    EndpointId, EndpointResult, LocalDriver, LocalNetworkPlan, LocalPort, MacAddress, NetworkPlan, capabilities,
};
use tokio::sync::oneshot;
use types::{Network, NetworkDriver, NetworkId, NetworkSpec, PortConfig, with_causes};

use super::{
    LocalWanted, Owner, Publish, addresses,
    containers::{ContainerPlace, PlaceIn},
    definition::{Definition, Subnets, whole},
    file,
    local::{HostFacts, LocalNetworks, NetworkError, NetworkErrorKind as Kind, check_beside, subnets_of},
    predefined::host_bridge_name,
    view,
};
use crate::clock::now;

type Reply<T> = oneshot::Sender<Result<T, NetworkError>>;
/// How the ports are published now; None: as before.
pub(super) type Published = Option<Vec<PortConfig>>;

/// What is asked about networks of this host.
#[derive(Debug)]
pub(super) enum Request {
    Create {
        spec: Box<NetworkSpec>,
        id: NetworkId,
        reply: Reply<NetworkId>,
    },
    Remove {
        id: NetworkId,
        reply: Reply<()>,
    },
    Connect {
        id: EndpointId,
        place: Box<ContainerPlace>,
        /// What the cluster gave for it, where it is the cluster that gives addresses.
        given: Option<Vec<IpAddr>>,
        publish: Option<Publish>,
        reply: Reply<Published>,
    },
    Disconnect {
        id: EndpointId,
        network: PlaceIn,
        /// Names of its own for others that came with the place.
        unlink: Vec<String>,
        publish: Option<Publish>,
        reply: Reply<Published>,
    },
    Rename {
        id: EndpointId,
        old: String,
        new: String,
        reply: Reply<()>,
    },
    /// None when it has none of its own.
    Namespace {
        id: EndpointId,
        reply: Reply<Option<PathBuf>>,
    },
}

impl Owner {
    pub(super) async fn serve_local(&mut self, request: Request) {
        // Whoever asked may have gone away; what was done stands.
        match request {
            Request::Create { spec, id, reply } => drop(reply.send(self.create(*spec, id).await)),
            Request::Remove { id, reply } => drop(reply.send(self.remove(id).await)),
            Request::Connect { id, place, given, publish, reply } => {
                drop(reply.send(self.connect(&id, *place, given, publish).await));
            }
            Request::Disconnect { id, network, unlink, publish, reply } => {
                drop(reply.send(self.disconnect(&id, network, &unlink, publish).await));
            }
            Request::Rename { id, old, new, reply } => drop(reply.send(self.rename(&id, &old, &new).await)),
            Request::Namespace { id, reply } => drop(reply.send(self.namespace(&id).await)),
        }
    }

    async fn namespace(&self, id: &EndpointId) -> Result<Option<PathBuf>, NetworkError> {
        if !self.plan.endpoints.contains_key(id) {
            return Ok(None);
        }
        let applied = self.client.apply(&self.plan).await.map_err(|error| failed(with_causes(&error)))?;
        match applied.endpoints.get(id) {
            Some(EndpointResult::Ready { namespace }) => Ok(Some(namespace.clone())),
            Some(EndpointResult::Failed { error }) => Err(failed(error)),
            None => Ok(None),
        }
    }

    /// What the others see, now.
    pub(super) fn show(&self) {
        let now = view::view(&self.plan, &self.networks);
        self.shown.send_if_modified(|known| {
            let differs = **known != now;
            if differs {
                *known = Arc::new(now);
            }
            differs
        });
        let now = view::present(&self.plan);
        self.present.send_if_modified(|known| {
            let differs = **known != now;
            if differs {
                *known = Arc::new(now);
            }
            differs
        });
    }

    async fn create(&mut self, spec: NetworkSpec, id: NetworkId) -> Result<NetworkId, NetworkError> {
        if let Some(other) = self.of_cluster(|network| network.spec.name == spec.name) {
            let message = format!("network with name {} already exists in the cluster ({})", spec.name, other.id);
            return Err(NetworkError::new(Kind::Conflict, message));
        }
        let facts = self.facts(Some(spec.driver)).await.map_err(failed)?;
        let mut next = self.networks.clone();
        next.create(&spec, id, now(), &facts)?;
        self.adopt(next).await?;
        let applied = self.client.apply(&self.plan).await.map_err(|error| with_causes(&error));
        let problem = match applied {
            Ok(applied) => applied.overlays.get(&id).cloned(),
            Err(error) => Some(error),
        };
        let Some(problem) = problem else { return Ok(id) };
        let mut back = self.networks.clone();
        back.remove(id)?;
        self.adopt(back).await?;
        if let Err(error) = self.client.apply(&self.plan).await {
            tracing::warn!(error = with_causes(&error), "a network that could not be made was not tidied up");
        }
        Err(failed(problem))
    }

    async fn remove(&mut self, id: NetworkId) -> Result<(), NetworkError> {
        let name = self.networks.get(id).map(|network| network.spec.name.to_string()).unwrap_or_default();
        let users = self.plan.endpoints.iter().filter(|(_, e)| e.locals.iter().any(|port| port.network == id));
        let users: Vec<String> = users.map(|(_, endpoint)| endpoint.hostname.clone()).collect();
        if !users.is_empty() {
            let message = format!(
                "network {name} has active endpoints ({}): disconnect or remove their containers first",
                users.join(", ")
            );
            return Err(NetworkError::new(Kind::Forbidden, message));
        }
        let mut next = self.networks.clone();
        next.remove(id)?;
        self.adopt(next).await?;
        self.client.apply(&self.plan).await.map(drop).map_err(|error| failed(with_causes(&error)))
    }

    /// On disk first: what could not be written is not there.
    async fn adopt(&mut self, next: LocalNetworks) -> Result<(), NetworkError> {
        let (written, state_dir) = (next.clone(), self.state_dir.clone());
        let saved = tokio::task::spawn_blocking(move || file::save(&state_dir, &written)).await;
        saved.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(with_causes(&error)))?;
        self.networks = next;
        follow(&mut self.plan, &self.networks);
        Ok(())
    }

    /// Applies the plan and says how it went with one endpoint.
    pub(super) async fn apply_for(&self, id: &EndpointId) -> Result<(), NetworkError> {
        let mut applied = self.client.apply(&self.plan).await.map_err(|error| failed(with_causes(&error)))?;
        match applied.endpoints.remove(id) {
            Some(EndpointResult::Failed { error }) => Err(failed(error)),
            Some(EndpointResult::Ready { .. }) | None => Ok(()),
        }
    }

    pub(super) fn of_cluster(&self, wanted: impl Fn(&Network) -> bool) -> Option<Arc<Network>> {
        let cluster = self.cluster.borrow();
        cluster.as_ref()?.networks.values().find(|network| wanted(network)).cloned()
    }

    /// What the host has now. What the kernel lacks is tried for a driver that needs to know.
    async fn facts(&self, driver: Option<NetworkDriver>) -> Result<HostFacts, String> {
        let observed = self.client.observe().await.map_err(|error| with_causes(&error))?;
        let overlays = self.cluster.borrow().as_ref().map_or_else(Vec::new, |cluster| {
            let overlays = cluster.networks.values().filter(|network| network.vni != 0);
            overlays.flat_map(|network| network.subnets.iter().map(|subnet| subnet.range)).collect()
        });
        let is_bridge = |driver: &LocalDriver| matches!(driver, LocalDriver::Bridge(_));
        let bridges = self.plan.locals.values().filter(|local| is_bridge(&local.driver));
        let bridges = bridges.flat_map(|local| local.ranges().into_iter().map(|(subnet, _)| subnet));
        let ours = self.plan.bridge.iter().map(|bridge| bridge.subnet).chain(bridges);
        let taken = observed.host_routes.into_iter().chain(overlays).chain(ours).collect();
        let mut lacking = BTreeMap::new();
        if matches!(driver, Some(NetworkDriver::Macvlan | NetworkDriver::Ipvlan)) {
            let found = capabilities::capabilities().await.map_err(|error| with_causes(&error))?;
            lacking.extend(found.into_iter().filter(|c| !c.present).map(|c| (c.name, c.advice)));
        }
        let (interfaces, pools) = (observed.parents.into_keys().collect(), self.pools.clone());
        Ok(HostFacts { taken, interfaces, pools, lacking })
    }

    /// A place for the endpoint, in a network of this host or in one of the cluster that each host has for itself.
    pub(super) async fn local_port(&mut self, id: &EndpointId, wanted: &LocalWanted) -> Result<LocalPort, String> {
        let network = wanted.network;
        let found = self.networks.get(network).cloned().or_else(|| self.of_cluster(|known| known.id == network));
        let found = found.ok_or_else(|| format!("network {network} not found on this host"))?;
        let name = found.spec.name.to_string();
        if found.spec.config_only {
            return Err(format!("network {name} is a configuration only: no container can join it"));
        }
        let definition = self.networks.definition(&found).map_err(|why| format!("network {name}: {why}"))?;
        let subnets = self.subnets(network, &definition).await?;
        if let (Some(mac), LocalDriver::Ipvlan { parent, .. }) = (wanted.mac, &definition.driver) {
            return Err(format!(
                "network {name}: MAC address {mac}: containers of an ipvlan network have that of {}; leave it out",
                parent.text()
            ));
        }
        if !self.plan.locals.contains_key(&network) {
            for other in self.plan.locals.values() {
                check_beside(&definition.driver, &other.name, &other.driver)
                    .map_err(|why| format!("network {name}: {why}"))?;
            }
            self.plan.locals.insert(network, definition.plan(&name, &subnets)?);
        }
        let (address, address6) =
            addresses::free(&self.plan, id, wanted, &subnets).map_err(|why| format!("network {name}: {why}"))?;
        let first = address.map(IpAddr::V4).or(address6.map(IpAddr::V6));
        let first = first.ok_or_else(|| format!("network {name}: it has neither IPv4 nor IPv6"))?;
        Ok(LocalPort {
            network,
            address,
            address6,
            link_local: wanted.link_local.clone(),
            mac: wanted.mac.unwrap_or_else(|| MacAddress::for_address(first)),
            names: wanted.names.clone(),
        })
    }

    /// Of a network that may stand already.
    async fn subnets(&self, network: NetworkId, definition: &Definition) -> Result<Subnets, String> {
        if let Some(subnets) = definition.subnets() {
            return Ok(subnets);
        }
        match self.plan.locals.get(&network) {
            Some(planned) => {
                let four = planned.ipv4.map(|ipv4| whole(ipv4.subnet, ipv4.gateway));
                let six = planned.ipv6.map(|ipv6| whole(ipv6.subnet, ipv6.gateway));
                Ok(Subnets { four: definition.subnet.clone().or(four), six: definition.subnet6.clone().or(six) })
            }
            None => subnets_of(definition, network, &self.facts(None).await?),
        }
    }
}

/// Bridges stand from when they are made; what else the plan has of local networks goes with its last endpoint.
pub(super) fn follow(plan: &mut NetworkPlan, networks: &LocalNetworks) {
    let used: BTreeSet<NetworkId> =
        plan.endpoints.values().flat_map(|endpoint| endpoint.locals.iter().map(|port| port.network)).collect();
    let is_bridge = |id: &NetworkId| networks.get(*id).is_some_and(|n| n.spec.driver == NetworkDriver::Bridge);
    plan.locals.retain(|id, _| used.contains(id) || is_bridge(id));
    for network in networks.iter().filter(|network| is_bridge(&network.id)) {
        let planned = networks.definition(network).and_then(|definition| {
            let subnets = definition.subnets().ok_or("it has no subnet")?;
            definition.plan(network.spec.name.as_str(), &subnets)
        });
        match planned {
            Ok(mut planned) => {
                name_bridge(&mut planned, plan.locals.get(&network.id), network.id);
                plan.locals.insert(network.id, planned);
            }
            // It was checked when it was made, perhaps by another version.
            Err(why) => tracing::warn!(network = %network.spec.name, why, "a network of this host cannot be made"),
        }
    }
}

/// One that stands under the name that bridges had before keeps it: containers are on it.
fn name_bridge(planned: &mut LocalNetworkPlan, standing: Option<&LocalNetworkPlan>, id: NetworkId) {
    let is_of_before = standing
        .is_some_and(|standing| matches!(&standing.driver, LocalDriver::Bridge(bridge) if bridge.name.is_none()));
    if let LocalDriver::Bridge(bridge) = &mut planned.driver
        && bridge.name.is_none()
        && !is_of_before
    {
        bridge.name = Some(host_bridge_name(id));
    }
}

pub(super) fn failed(message: impl Into<String>) -> NetworkError {
    NetworkError::new(Kind::Failed, message)
}

#[cfg(test)]
mod tests {
    use types::Timestamp;

    use super::*;

    /// E-31: a new network's bridge bears the beginning of the network's id; one that stands from before keeps its name,
    /// and so does one that its user named.
    #[test]
    fn e_31_bridges_are_called_by_their_networks_ids() {
        let mut networks = LocalNetworks::default();
        let mut create = |random: u128, options: types::Labels| {
            let (id, name) = (NetworkId::from_random(random), format!("n{random}").parse().expect("name"));
            let spec = NetworkSpec { driver: NetworkDriver::Bridge, options, ..NetworkSpec::overlay(name) };
            let taken = networks.bridge_subnets().collect();
            let facts = HostFacts { taken, ..HostFacts::default() };
            networks.create(&spec, id, Timestamp::EPOCH, &facts).expect("made")
        };
        let named = [("com.docker.network.bridge.name".to_owned(), "br-mine".to_owned())].into();
        let (new, old, mine) = (create(1, Default::default()), create(2, Default::default()), create(3, named));
        let name = |plan: &NetworkPlan, id: NetworkId| match &plan.locals[&id].driver {
            LocalDriver::Bridge(bridge) => bridge.name.clone(),
            other => panic!("{other:?}"),
        };
        let mut plan = NetworkPlan::default();
        follow(&mut plan, &networks);
        for id in [new, old] {
            assert_eq!(name(&plan, id), Some(host_bridge_name(id)));
        }
        let standing = plan.locals.get_mut(&old).expect("planned");
        standing.driver = LocalDriver::Bridge(overlay::LocalBridge::default());
        for _ in 0..2 {
            follow(&mut plan, &networks);
            assert_eq!((name(&plan, new), name(&plan, old)), (Some(host_bridge_name(new)), None));
            assert_eq!(name(&plan, mine).as_deref(), Some("br-mine"));
        }
    }
}
