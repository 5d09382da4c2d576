//! Asks an endpoint's resolver for every name that its networks know, and compares the answers.
//!
//! Called by `doctor`, on a thread that is in the endpoint's namespace. What the answers should be is said
//! by the same view that the resolver answers from; that it really does, over the socket, is what is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use types::NetworkId;

use super::{
    PORT, SERVER_ADDRESS,
    forward::{read_message, write_message},
    zone::{View, Zone},
};
use crate::{EndpointId, EndpointPlan, NetworkPlan, doctor::Difference};

/// The resolver answers from memory; a second is forever.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// A resolver that leaves so many questions unanswered is silent: the rest is not asked.
const SILENT_AFTER: usize = 2;
/// Largest UDP answer that is asked for; longer ones come by TCP.
const LARGEST: u16 = 1232;

type Addresses = BTreeSet<IpAddr>;

/// What to ask in one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Questions(Vec<Asked>);

#[derive(Debug, Clone)]
struct Asked {
    network: NetworkId,
    name: String,
    kind: RecordType,
    expected: Addresses,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    answers: Vec<(Asked, Result<Addresses, String>)>,
    /// Questions that no time was left for.
    pub unasked: usize,
}

impl Resolved {
    /// How many questions about names of this network were put.
    pub fn questions(&self, network: NetworkId) -> usize {
        self.answers.iter().filter(|(asked, _)| asked.network == network).count()
    }
}

impl Questions {
    /// Every name of the endpoint's networks, for each family that they have addresses in.
    pub fn of(plan: &NetworkPlan, endpoint: &EndpointPlan) -> Self {
        let places =
            endpoint.overlays.iter().filter_map(|port| Some((port.network, plan.overlays.get(&port.network)?)));
        let places: Vec<_> = places.collect();
        let zones = places.iter().map(|(_, overlay)| Arc::new(Zone::new(overlay))).collect();
        let view = View { zones, ..View::default() };
        let mut questions = Vec::new();
        for (network, overlay) in places {
            let mut kinds = BTreeMap::from([(true, RecordType::A)]);
            if overlay.subnets.iter().any(|subnet| subnet.address().is_ipv6()) {
                kinds.insert(false, RecordType::AAAA);
            }
            for name in overlay.names.keys() {
                let known = view.addresses(name).unwrap_or_default();
                for (is_ipv4, kind) in &kinds {
                    let expected = known.iter().copied().filter(|address| address.is_ipv4() == *is_ipv4).collect();
                    questions.push(Asked { network, name: name.clone(), kind: *kind, expected });
                }
            }
        }
        Self(questions)
    }

    /// Asks them one after the other, in the namespace of the calling thread.
    pub async fn ask(self, deadline: Instant) -> Resolved {
        let mut resolved = Resolved::default();
        let mut silent = 0;
        for asked in self.0 {
            if Instant::now() >= deadline {
                resolved.unasked += 1;
                continue;
            }
            if silent >= SILENT_AFTER {
                continue;
            }
            let answered = match timeout(ANSWER_LIMIT, resolve(&asked.name, asked.kind)).await {
                Ok(answered) => answered.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
            };
            silent = if answered.is_err() { silent + 1 } else { 0 };
            resolved.answers.push((asked, answered));
        }
        resolved
    }
}

/// One question to the resolver, by UDP and, if the answer is too long for that, by TCP.
async fn resolve(name: &str, kind: RecordType) -> io::Result<Addresses> {
    let server = SocketAddr::new(SERVER_ADDRESS.into(), PORT);
    let wire_name = Name::from_labels(name.split('.').map(str::as_bytes)).map_err(io::Error::other)?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(wire_name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST);
    message.edns = Some(edns);
    let question = message.to_vec().map_err(io::Error::other)?;
    let socket = UdpSocket::bind(SocketAddr::new(SERVER_ADDRESS.into(), 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut bytes = vec![0; usize::from(LARGEST)];
    let length = socket.recv(&mut bytes).await?;
    bytes.truncate(length);
    let mut reply = Message::from_vec(&bytes).map_err(io::Error::other)?;
    if reply.metadata.truncation {
        let mut stream = TcpStream::connect(server).await?;
        write_message(&mut stream, &question).await?;
        reply = Message::from_vec(&read_message(&mut stream).await?).map_err(io::Error::other)?;
    }
    match reply.metadata.response_code {
        ResponseCode::NoError => Ok(reply.answers.iter().filter_map(|record| address(&record.data)).collect()),
        code => Err(io::Error::other(format!("the answer {code}"))),
    }
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

/// Where answers and expectations differ. Pure.
pub fn differences(id: &EndpointId, resolved: &Resolved) -> Vec<(NetworkId, Difference)> {
    let list = |addresses: &Addresses| {
        let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        if list.is_empty() { "no address".to_owned() } else { list }
    };
    let differs = |(asked, answered): &(Asked, Result<Addresses, String>)| {
        let found = match answered {
            Ok(found) if *found == asked.expected => return None,
            Ok(found) => list(found),
            Err(why) => why.clone(),
        };
        let what = format!("name {} ({})", asked.name, asked.kind);
        let place = format!("DNS of {id}");
        Some((asked.network, Difference { what, place, expected: list(&asked.expected), found }))
    };
    resolved.answers.iter().filter_map(differs).collect()
}
