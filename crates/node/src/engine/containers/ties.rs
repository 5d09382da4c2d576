//! What a container has of others while it runs, its volumes and its networks, as events tell of it (parity E-42): in dockerd's
//! order, `mount` and `connect` before its start, `disconnect` and `unmount` before its end. Called by whoever tells of a start or
//! an end (`told`), or of a place that a running container got or lost.

use types::NetworkDriver;

use super::{
    Engine, MountPoint, Record,
    spec::{NetworkRequest, PlaceRequest},
};
use crate::engine::{
    container_id::task_of_container,
    events::{Event, EventKind},
    network::PlaceIn,
    networks::predefined_event,
    volumes,
};

impl Engine {
    pub(in crate::engine) fn tell_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.inner.events.publish(event));
    }

    /// What a container takes to run.
    pub(super) fn taken(&self, record: &Record) -> Vec<Event> {
        let mounts = record.points.iter().filter_map(|point| mount(record, point));
        mounts.chain(self.places_told("connect", record)).collect()
    }

    /// What it gives back at its end. To be asked before it does: of a network of the cluster that nobody here is in any more
    /// this host may know nothing.
    pub(super) fn given_back(&self, record: &Record) -> Vec<Event> {
        let unmounts = record.points.iter().filter_map(|point| of_volume("unmount", record, point));
        self.places_told("disconnect", record).into_iter().chain(unmounts).collect()
    }

    /// A place that a container has got, or is about to lose.
    pub(in crate::engine) fn place_event(&self, action: &str, container: &str, place: PlaceIn) -> Option<Event> {
        self.network_event(action, place).map(|event| event.with("container", container))
    }

    fn places_told(&self, action: &str, record: &Record) -> Vec<Event> {
        let only = |name, driver| vec![predefined_event(action, name, driver).with("container", &record.id)];
        match &record.spec.network {
            // it is that one's
            NetworkRequest::Container(_) => Vec::new(),
            NetworkRequest::Host => only("host", NetworkDriver::Host),
            NetworkRequest::None => only("none", NetworkDriver::Null),
            NetworkRequest::Places(asked) => {
                let places = self.places_of(record, asked).into_iter();
                places.filter_map(|place| self.place_event(action, &record.id, place)).collect()
            }
        }
    }

    /// Of a task's container also those that it was connected to by hand, which only the managers note.
    fn places_of(&self, record: &Record, asked: &[PlaceRequest]) -> Vec<PlaceIn> {
        let own = asked.iter().filter_map(|place| self.place_in(&place.network).ok());
        let mut places: Vec<PlaceIn> = own.map(|(place, _)| place).collect();
        if task_of_container(&record.id).is_some() {
            let held = self.inner.network.cluster_places().into_iter();
            places.extend(held.filter(|held| held.container == record.id).map(|held| PlaceIn::Network(held.network)));
        }
        places
    }
}

fn mount(record: &Record, point: &MountPoint) -> Option<Event> {
    let event = of_volume("mount", record, point)?.with("destination", &point.target);
    Some(event.with("read/write", (!point.read_only).to_string()).with("propagation", ""))
}

/// `None` of what is no volume.
fn of_volume(action: &str, record: &Record, point: &MountPoint) -> Option<Event> {
    let event = Event::new(EventKind::Volume, action, point.volume()?);
    Some(event.with("driver", volumes::DRIVER).with("container", &record.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{container::record_of_labels, containers::PointKind};

    /// E-42: of each volume it is told where it is mounted and how, and that it is unmounted; of other mounts nothing is.
    #[test]
    fn e_42_volumes_are_told() {
        let record = record_of_labels("c1", &types::Labels::new());
        let point = |kind| MountPoint { kind, target: "/data".into(), read_only: true, mode: "ro".into() };
        let (name, source) = ("db".to_owned(), "/volumes/db/_data".into());
        let volume = point(PointKind::Volume { name, source, is_anonymous: false, subpath: String::new() });
        let told =
            [mount(&record, &volume), of_volume("unmount", &record, &volume)].map(|event| event.expect("a volume"));
        let said = |event: &Event| {
            let attributes: Vec<_> = event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{} {} {}: {}", event.kind, event.action, event.actor, attributes.join(" "))
        };
        assert_eq!(
            told.each_ref().map(said),
            [
                "volume mount db: container=c1 destination=/data driver=local propagation= read/write=false",
                "volume unmount db: container=c1 driver=local"
            ]
        );
        let tmpfs = PointKind::Tmpfs { size_bytes: 0, mode: 0o1777, options: Vec::new(), is_listed: true };
        assert_eq!(mount(&record, &point(tmpfs)), None);
    }
}
