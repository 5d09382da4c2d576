//! Links: other containers under names of one's own (parity E-16). In a network with names they are names of the
//! endpoint's resolver, and the other need not be there yet. On the host's bridge, which has none, they are lines of
//! `/etc/hosts` and variables, as Docker has had them from its beginning.

use std::{collections::BTreeMap, fs, io, sync::Arc};

use super::{
    ContainerError, ContainerErrorKind, Engine, Meant, Record, Single,
    spec::{NetworkRequest, SingleSpec},
    stopping,
};

impl Engine {
    /// On the host's bridge a link is to a container, whatever that is called later.
    pub(super) async fn name_links_by_id(&self, spec: &mut SingleSpec) {
        if !spec.is_on_bridge() {
            return;
        }
        for (other, _) in &mut spec.links {
            if let Ok(Meant::Single(single)) = self.meant(other).await {
                other.clone_from(&single.id);
            }
        }
    }

    /// Who is `web/db`: the container that `web` has linked as `db`.
    pub(super) fn linked(&self, text: &str) -> Option<Arc<Single>> {
        let (parent, alias) = text.split_once('/')?;
        let containers = &self.inner.containers;
        let parent = containers.names().get(parent).cloned()?;
        let parent = containers.get(&parent)?.record();
        let links = Some(&parent.spec).filter(|spec| spec.is_on_bridge())?.links.iter();
        let (other, _) = links.rev().find(|(_, known)| known == alias)?;
        containers.get(other)
    }

    /// The names that links give: `web/db` of the container that `web` has linked as `db`, by its id.
    pub(super) fn names_by_links(&self) -> BTreeMap<String, Vec<String>> {
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for single in self.inner.containers.list() {
            let record = single.lock();
            for (other, alias) in record.spec.links.iter().filter(|_| record.spec.is_on_bridge()) {
                names.entry(other.clone()).or_default().push(format!("{}/{alias}", record.name));
            }
        }
        names
    }

    /// What the container calls others, and their names in its networks.
    pub(super) async fn link_names(&self, record: &Record) -> BTreeMap<String, String> {
        let places = match &record.spec.network {
            NetworkRequest::Places(places) => &places[..],
            _ => &[],
        };
        let links = record.spec.links.iter().chain(places.iter().flat_map(|place| &place.links));
        let links: Vec<(String, String)> = links.cloned().collect();
        self.names_of(&links).await
    }

    /// The same of links alone.
    pub(in crate::engine) async fn names_of(&self, links: &[(String, String)]) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for (other, alias) in links {
            let name = match self.meant(other).await {
                Ok(Meant::Single(single)) => single.record().name,
                _ => other.clone(),
            };
            names.insert(alias.to_ascii_lowercase(), name.to_ascii_lowercase());
        }
        names
    }

    /// The linked containers' addresses under their aliases.
    pub(super) async fn link_lines(&self, record: &Record) -> Result<Vec<String>, ContainerError> {
        let mut lines = Vec::new();
        for link in self.running_links(record).await? {
            if let Some(address) = link.address {
                lines.push(format!("{address} {} {} {}", link.alias, &link.other.id[..12], link.other.name));
            }
        }
        Ok(lines)
    }

    /// The variables that tell of the linked containers: their ports, and variables of their own.
    pub(super) async fn link_env(&self, record: &Record) -> Result<Vec<String>, ContainerError> {
        let links = self.running_links(record).await?;
        Ok(links.iter().flat_map(|link| variables(link, &record.name)).collect())
    }

    async fn running_links(&self, record: &Record) -> Result<Vec<Link>, ContainerError> {
        let mut links = Vec::new();
        for (other, alias) in &record.spec.links {
            let single = match self.single(other, "link to").await {
                // its links went with it
                Err(error) if error.kind == ContainerErrorKind::NotFound => continue,
                found => found?,
            };
            let linked = single.record();
            if !single.is_running() {
                return Err(ContainerError::conflict(format!(
                    "cannot link to a non running container: /{} AS /{}/{alias}; start it first",
                    linked.name, record.name
                )));
            }
            let (addresses, mine) = (self.addresses(&linked.id), self.addresses(&record.id));
            let shared = addresses.iter().find(|(network, _)| mine.contains_key(*network));
            let address = shared.or(addresses.iter().next()).map(|(_, address)| *address);
            links.push(Link { alias: alias.clone(), other: linked, address });
        }
        Ok(links)
    }

    /// Takes the link of this alias away; one that runs forgets it at once.
    ///
    /// # Errors
    /// When there is no such container, or it has no such link.
    pub async fn remove_link(&self, text: &str, alias: &str) -> Result<(), ContainerError> {
        let single = self.single(text, "remove a link of").await?;
        let _turn = single.turn.lock().await;
        let is_it = |(_, known): &(String, String)| known == alias;
        if !single.record().spec.links.iter().any(is_it) {
            let message = format!("Cannot get parent /{text} for link /{text}/{alias}: it has no link of this name");
            return Err(ContainerError::new(ContainerErrorKind::NotFound, message));
        }
        single.change(&self.inner.containers.store, |record| record.spec.links.retain(|link| !is_it(link)));
        self.forget_line(&single, alias).await
    }

    async fn forget_line(&self, single: &Single, alias: &str) -> Result<(), ContainerError> {
        let (path, alias) = (self.etc_directory(&single.id).join("hosts"), alias.to_owned());
        let is_other = move |line: &&str| line.split_whitespace().nth(1) != Some(&alias);
        let work = move || match fs::read_to_string(&path) {
            // In place: the container has this very file mounted.
            Ok(text) => {
                fs::write(&path, text.lines().filter(is_other).map(|line| format!("{line}\n")).collect::<String>())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        let written = tokio::task::spawn_blocking(work).await.map_err(|_| stopping())?;
        written.map_err(|error| ContainerError::failed(format!("write the container's /etc/hosts: {error}")))
    }
}

/// A container that runs, under an alias.
#[derive(Debug)]
struct Link {
    alias: String,
    other: Record,
    address: Option<std::net::IpAddr>,
}

/// Docker's names of them (moby `daemon/links/links.go`): `DB_PORT_5432_TCP_ADDR` and the like.
fn variables(link: &Link, own_name: &str) -> Vec<String> {
    let prefix = link.alias.to_ascii_uppercase().replace('-', "_");
    let mut variables = vec![format!("{prefix}_NAME=/{own_name}/{}", link.alias)];
    if let Some(address) = link.address {
        for (at, (port, protocol)) in link.other.merged.exposed.iter().enumerate() {
            let protocol = protocol.to_string();
            let url = format!("{protocol}://{address}:{port}");
            if at == 0 {
                variables.push(format!("{prefix}_PORT={url}"));
            }
            let name = format!("{prefix}_PORT_{port}_{}", protocol.to_ascii_uppercase());
            variables.push(format!("{name}={url}"));
            variables.push(format!("{name}_ADDR={address}"));
            variables.push(format!("{name}_PORT={port}"));
            variables.push(format!("{name}_PROTO={protocol}"));
        }
    }
    let is_told = |variable: &&String| {
        variable.split_once('=').is_some_and(|(name, _)| !matches!(name, "HOME" | "PATH" | "HOSTNAME" | "TERM"))
    };
    variables.extend(link.other.merged.env.iter().filter(is_told).map(|variable| format!("{prefix}_ENV_{variable}")));
    variables
}
