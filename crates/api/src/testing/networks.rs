//! Networks in memory, with the numbers a planner would give them: enough to see them through the API.

use std::sync::{Arc, Mutex};

use tonic::Status;
use types::{
    Cidr, Network, NetworkId, NetworkView, ReadReply, ReadRequest, Subnet, SubnetUsage, WriteReply, WriteRequest,
};

#[derive(Clone, Default)]
pub(super) struct Networks(Arc<Mutex<Vec<Network>>>);

impl Networks {
    /// `None`: the question is about something else.
    pub(super) fn read(&self, request: &ReadRequest) -> Option<Result<ReadReply, Status>> {
        let networks = self.0.lock().expect("no test panics while it holds the networks");
        let view = |network: &Network| NetworkView {
            network: network.clone(),
            usage: network.subnets.iter().map(|_| SubnetUsage { used: 3, total: 254 }).collect(),
            services: Vec::new(),
            tasks: Vec::new(),
        };
        match request {
            ReadRequest::Networks(_) => Some(Ok(ReadReply::Networks(networks.iter().map(view).collect()))),
            ReadRequest::Network(wanted) => {
                let fits = |network: &&Network| {
                    network.spec.name.as_str() == wanted || network.id.to_string().starts_with(wanted.as_str())
                };
                let missing = || Status::not_found(format!("network {wanted} not found"));
                let found = networks.iter().find(fits).map(|network| ReadReply::Network(Box::new(view(network))));
                Some(found.ok_or_else(missing))
            }
            _ => None,
        }
    }

    pub(super) fn write(&self, request: &WriteRequest, id: u128) -> Option<Result<WriteReply, Status>> {
        let mut networks = self.0.lock().expect("no test panics while it holds the networks");
        match request {
            WriteRequest::CreateNetwork(spec) => {
                if networks.iter().any(|network| network.spec.name == spec.name) {
                    return Some(Err(Status::already_exists(format!("network {} already exists", spec.name))));
                }
                let number = u8::try_from(networks.len() + 1).expect("few networks");
                let range = Cidr::new([10, 0, number, 0].into(), 24).expect("short prefix");
                let asked = spec.subnets.first();
                let subnet = Subnet {
                    range: asked.map_or(range, |asked| asked.subnet),
                    gateway: asked.and_then(|asked| asked.gateway).unwrap_or([10, 0, number, 1].into()),
                    ip_range: asked.and_then(|asked| asked.ip_range),
                    reserved: Vec::new(),
                };
                let network = Network {
                    id: NetworkId::from_random(id),
                    meta: types::Meta::default(),
                    spec: Arc::new((**spec).clone()),
                    vni: 4096 + u32::from(number),
                    subnets: vec![subnet],
                };
                let id = network.id;
                networks.push(network);
                Some(Ok(WriteReply::CreatedNetwork(id)))
            }
            WriteRequest::RemoveNetwork(id) => {
                let in_use = |network: &Network| network.id == *id && network.spec.name.as_str() == "busy";
                if networks.iter().any(in_use) {
                    return Some(Err(Status::failed_precondition("network busy is in use by service web")));
                }
                networks.retain(|network| network.id != *id);
                Some(Ok(WriteReply::Done))
            }
            _ => None,
        }
    }
}
