//! Places of single containers in the cluster's networks: asked of the managers at a container's start or when it is
//! connected, and given back when it no longer has the place (parity N-12).
//!
//! Which places this host holds is part of the value and comes back with its assignments; whatever of it no endpoint
//! here has is given back, whether a container ended, a step was broken off or the daemon was killed in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use overlay::EndpointId;
use proto::v1::{WriteCall, cluster_client::ClusterClient};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Code, Status, transport::Channel};
use types::{AttachRequest, ContainerAttachment, Meta, NetworkId, NodeId, OverlayContainer, WriteReply, WriteRequest};

use super::{
    ClusterNetwork,
    local::{NetworkError, NetworkErrorKind as Kind},
    owned::failed,
};

/// For a session with some manager to begin; an agent that lost one finds the next within two seconds.
const SESSION_PATIENCE: Duration = Duration::from_secs(10);
/// For one write, the manager's own patience with its leader included.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// From the managers' answer to the assignments that show the place, with the names of the others in the network.
const TOLD_PATIENCE: Duration = Duration::from_secs(5);
/// After the start of the daemon, before places that no container took up again are given back: containers that
/// are started with it shall find their old addresses (P30).
const TAKE_UP: Duration = Duration::from_secs(30);
/// Before a place that could not be given back is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// The network's id and the container's.
pub(crate) type Place = (NetworkId, String);

/// The way to a manager, while there is a session.
#[derive(Debug, Clone)]
pub(crate) struct Uplink {
    pub node: NodeId,
    pub channel: Channel,
}

/// What endpoints of this host are there, as the owner of the plan has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Present {
    /// Containers, with the names they are known by in their first network.
    pub containers: BTreeMap<String, String>,
    /// Their places in networks, those of tasks included.
    pub places: BTreeSet<Place>,
}

#[derive(Debug)]
pub(in crate::engine) struct Guests {
    uplink: watch::Sender<Option<Uplink>>,
    cluster: watch::Receiver<Option<ClusterNetwork>>,
    present: watch::Receiver<Arc<Present>>,
    underway: watch::Sender<Underway>,
    started: Instant,
}

/// What is being done about places; one thing at a time about each.
#[derive(Debug, Default)]
struct Underway {
    /// Being taken or given back.
    held: BTreeSet<Place>,
    /// Given back, though the assignments may still show them.
    returned: BTreeSet<Place>,
}

#[derive(Debug)]
struct Hold<'a> {
    guests: &'a Guests,
    place: Place,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.guests.underway.send_modify(|underway| _ = underway.held.remove(&self.place));
    }
}

/// A place that is being taken: as long as this lives nobody gives it back.
#[derive(Debug)]
pub(in crate::engine) struct Coming<'a> {
    _hold: Hold<'a>,
    /// One of each subnet.
    pub addresses: Vec<IpAddr>,
}

impl Guests {
    pub(super) fn new(
        cluster: watch::Receiver<Option<ClusterNetwork>>,
        present: watch::Receiver<Arc<Present>>,
    ) -> Self {
        let (uplink, underway) = (watch::Sender::new(None), watch::Sender::default());
        Self { uplink, cluster, present, underway, started: Instant::now() }
    }

    pub(super) fn set_uplink(&self, uplink: Option<Uplink>) {
        self.uplink.send_replace(uplink);
    }

    /// The name by which a container is known on this host.
    pub(super) fn name_of(&self, container: &str) -> Option<String> {
        let told = self.told().into_iter().find(|((_, id), _)| id == container).map(|(_, guest)| guest.name);
        told.or_else(|| self.present.borrow().containers.get(container).cloned())
    }

    pub(super) fn is_there(&self, container: &str) -> bool {
        self.present.borrow().containers.contains_key(container)
    }

    pub(super) fn has(&self, place: &Place) -> bool {
        self.present.borrow().places.contains(place)
    }

    /// Whether the managers hold this place for a single container of this host.
    pub(super) fn holds(&self, place: &Place) -> bool {
        self.cluster.borrow().as_ref().is_some_and(|cluster| cluster.guests.contains_key(place))
    }

    /// What the managers hold for a container of this host.
    pub(super) fn of_container(&self, container: &str) -> Vec<NetworkId> {
        self.told().into_keys().filter(|(_, id)| id == container).map(|(network, _)| network).collect()
    }

    /// Asks the managers for a place. One that they hold already is taken up without them, so that a container comes
    /// back under its old addresses with none in reach (P30).
    pub(super) async fn attach(&self, wanted: AttachRequest) -> Result<Coming<'_>, NetworkError> {
        let place = (wanted.network, wanted.container.clone());
        let hold = self.hold(&place).await?;
        let known = self.told().remove(&place).filter(|_| !self.underway.borrow().returned.contains(&place));
        let fits = |known: &OverlayContainer| {
            known.name == wanted.name
                && known.aliases == wanted.aliases
                && wanted.addresses.iter().all(|address| known.addresses.contains(address))
        };
        if let Some(known) = known.filter(fits) {
            return Ok(Coming { _hold: hold, addresses: known.addresses });
        }
        // Before it is asked for: if the answer is lost the place is given back once more.
        self.underway.send_modify(|underway| _ = underway.returned.remove(&place));
        let make = |node| WriteRequest::Attach(Box::new(AttachRequest { node, ..wanted.clone() }));
        let addresses = match self.write(make).await? {
            WriteReply::Attached(addresses) => addresses,
            other => return Err(failed(format!("the managers answered with something else: {other:?}"))),
        };
        let mut cluster = self.cluster.clone();
        let is_told = |now: &ClusterNetwork| now.guests.get(&place).is_some_and(|guest| guest.addresses == addresses);
        let told = timeout(TOLD_PATIENCE, cluster.wait_for(|now| now.as_ref().is_some_and(is_told))).await.is_ok();
        if !told && !self.knows(wanted.network) {
            // What the managers hold is given back, for no endpoint has it.
            let seconds = TOLD_PATIENCE.as_secs();
            return Err(failed(format!("the managers gave a place, and in {seconds} s told nothing of the network")));
        }
        Ok(Coming { _hold: hold, addresses })
    }

    /// Gives a place back; none is fine, and one that an endpoint has stays.
    pub(super) async fn detach(&self, place: &Place) -> Result<(), NetworkError> {
        let _hold = self.hold(place).await?;
        if self.has(place) {
            return Ok(());
        }
        let (network, container) = place.clone();
        self.write(|node| WriteRequest::Detach { node, network, container }).await?;
        self.underway.send_modify(|underway| _ = underway.returned.insert(place.clone()));
        Ok(())
    }

    /// Waits until nobody else does anything about this place.
    async fn hold(&self, place: &Place) -> Result<Hold<'_>, NetworkError> {
        let mut changes = self.underway.subscribe();
        let free = async {
            while !self.underway.send_if_modified(|underway| underway.held.insert(place.clone())) {
                // Its sender is this one's own.
                let _ = changes.changed().await;
            }
        };
        let waited = timeout(WRITE_PATIENCE, free).await;
        let busy = |_| NetworkError::new(Kind::Conflict, format!("container {} is being connected already", place.1));
        waited.map(|()| Hold { guests: self, place: place.clone() }).map_err(busy)
    }

    /// Gives back what no endpoint of this host has. Runs as long as the engine.
    pub(super) async fn give_back(self: Arc<Self>) {
        let (mut cluster, mut present, mut uplink) =
            (self.cluster.clone(), self.present.clone(), self.uplink.subscribe());
        let take_up = self.started + TAKE_UP;
        let mut seen = BTreeSet::new();
        loop {
            seen.extend(present.borrow_and_update().places.iter().cloned());
            cluster.mark_unchanged();
            let is_linked = uplink.borrow_and_update().is_some();
            let is_late = Instant::now() >= take_up;
            self.forget_returned();
            let spare = self.spare(|place| is_late || seen.contains(place));
            let mut retry = None;
            for place in spare.iter().filter(|_| is_linked) {
                if let Err(error) = self.detach(place).await {
                    retry = Some(Instant::now() + RETRY_PAUSE);
                    tracing::debug!(%error, container = place.1, "a place in a network could not be given back yet");
                }
            }
            seen.retain(|place| self.has(place) || self.holds(place));
            let again = retry.into_iter().chain((!is_late).then_some(take_up)).min();
            tokio::select! {
                changed = cluster.changed() => if changed.is_err() { return },
                changed = present.changed() => if changed.is_err() { return },
                changed = uplink.changed() => if changed.is_err() { return },
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
        }
    }

    /// Places that the managers hold for this host and no endpoint has.
    fn spare(&self, is_due: impl Fn(&Place) -> bool) -> Vec<Place> {
        let cluster = self.cluster.borrow();
        // What was kept on disk may be long over.
        let Some(cluster) = cluster.as_ref().filter(|cluster| !cluster.is_kept) else { return Vec::new() };
        let (present, underway) = (self.present.borrow(), self.underway.borrow());
        let is_busy = |place: &Place| underway.held.contains(place) || underway.returned.contains(place);
        let is_spare = |place: &&Place| !present.places.contains(*place) && !is_busy(place) && is_due(place);
        cluster.guests.keys().filter(is_spare).cloned().collect()
    }

    /// All that the managers hold for this host.
    pub(super) fn all(&self) -> Vec<ContainerAttachment> {
        let shown = |((network, container), guest): (Place, OverlayContainer)| {
            let OverlayContainer { node, name, aliases, addresses } = guest;
            ContainerAttachment { meta: Meta::default(), network, container, node, name, aliases, addresses }
        };
        self.told().into_iter().map(shown).collect()
    }

    fn told(&self) -> BTreeMap<Place, OverlayContainer> {
        self.cluster.borrow().as_ref().map(|cluster| cluster.guests.clone()).unwrap_or_default()
    }

    fn knows(&self, network: NetworkId) -> bool {
        self.cluster.borrow().as_ref().is_some_and(|cluster| cluster.networks.contains_key(&network))
    }

    /// Once the assignments show no longer what was given back.
    fn forget_returned(&self) {
        let told = self.told();
        self.underway.send_if_modified(|underway| {
            let before = underway.returned.len();
            underway.returned.retain(|place| told.contains_key(place));
            before != underway.returned.len()
        });
    }

    async fn write(&self, make: impl FnOnce(NodeId) -> WriteRequest) -> Result<WriteReply, NetworkError> {
        let mut link = self.uplink.subscribe();
        let found = timeout(SESSION_PATIENCE, link.wait_for(Option::is_some)).await;
        let uplink = found.ok().and_then(Result::ok).and_then(|found| found.clone());
        let Some(Uplink { node, channel }) = uplink else {
            return Err(failed(
                "this host has no session with a manager, and addresses in networks of the cluster are the managers' to \
                 give: see `rswarm doctor`, and try again when one can be reached",
            ));
        };
        let call = WriteCall { write_request: proto::encode(&make(node)), ..WriteCall::default() };
        let answer = timeout(WRITE_PATIENCE, ClusterClient::new(channel).write(call)).await;
        let answer =
            answer.map_err(|_| failed(format!("no answer from a manager in {} s", WRITE_PATIENCE.as_secs())))?;
        let reply = answer.map_err(|status| of_status(&status))?.into_inner().write_reply;
        proto::decode(&reply).map_err(|error| failed(format!("the manager's answer is not understood: {error}")))
    }
}

fn of_status(status: &Status) -> NetworkError {
    let kind = match status.code() {
        Code::NotFound => Kind::NotFound,
        Code::InvalidArgument => Kind::Invalid,
        Code::FailedPrecondition => Kind::Forbidden,
        Code::AlreadyExists | Code::Aborted => Kind::Conflict,
        _ => Kind::Failed,
    };
    NetworkError::new(kind, status.message())
}

/// The same of an endpoint's id: a task's endpoint bears the task's, a single container's the container's.
pub(super) fn place(network: NetworkId, id: &EndpointId) -> Place {
    (network, super::view::container(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId::from_random(7);

    fn at(container: &str) -> Place {
        (NETWORK, container.to_owned())
    }

    /// N-12, P30: what no endpoint has is given back, but nothing on the word of the disk, nothing that is being
    /// taken, and what was there before this daemon only when its containers had time to start.
    #[tokio::test]
    async fn n12_what_nobody_has_is_given_back() {
        let guest = |last: u8| OverlayContainer {
            node: NodeId::from_random(1),
            name: "c".to_owned(),
            aliases: Vec::new(),
            addresses: vec![[10, 0, 0, last].into()],
        };
        let told = [(at("has"), guest(2)), (at("had"), guest(3)), (at("comes"), guest(4))];
        let mut cluster = ClusterNetwork { guests: told.into(), is_kept: true, ..ClusterNetwork::default() };
        let (say, said) = watch::channel(Some(cluster.clone()));
        let present = Present { places: [at("has")].into(), ..Present::default() };
        let (_show, shown) = watch::channel(Arc::new(present));
        let guests = Guests::new(said, shown);
        let coming = AttachRequest {
            node: NodeId::from_random(0),
            network: NETWORK,
            container: "comes".to_owned(),
            name: "c".to_owned(),
            aliases: Vec::new(),
            addresses: Vec::new(),
        };
        let taken = guests.attach(coming).await.expect("held already: no manager is asked");
        assert_eq!(taken.addresses, [IpAddr::from([10, 0, 0, 4])]);
        assert!(guests.spare(|_| true).is_empty(), "from the disk");
        cluster.is_kept = false;
        say.send_replace(Some(cluster));
        assert_eq!(guests.spare(|_| true), [at("had")]);
        assert!(guests.spare(|_| false).is_empty(), "not due");
        drop(taken);
        assert_eq!(guests.spare(|_| true), [at("comes"), at("had")]);
        guests.detach(&at("has")).await.expect("an endpoint has it: nobody is asked");
    }
}
