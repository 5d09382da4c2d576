//! The port on which nodes answer nodes: gives this node's images to others, over mutual TLS, and only to a node that a
//! manager vouches for. Who speaks of containers instead is handed to `tunnels`.
//!
//! A task of its own beside the agent's loop. It reads the store and changes nothing. A caller without a certificate of
//! the cluster gets no further than the handshake; one without a task that uses the image gets `PERMISSION_DENIED`, and
//! so does everybody while no manager can be asked (`docs/design/010-images-between-nodes.md`).

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use identity::{NodeIdentity, Protocol, Subject, TlsStream};
use image::{Digest, ImageReference};
use proto::v1::{
    FetchCall, FetchPart, OfferAnswer, OfferCall,
    images_server::{Images, ImagesServer},
    node_doctor_server::NodeDoctorServer,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    io::ReaderStream,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};
use tonic::{Request, Response, Status, transport::server::Connected};
use types::{ManagerPeer, NodeId};

use super::{doctor_server::Doctor, tunnels};
use crate::engine::{Engine, peers::IMAGE_PORT};

/// Nodes served at once; the others wait in the kernel's queue, and ask elsewhere when they wait too long.
const MAX_CONNECTIONS: usize = 64;
/// Blobs at once on one connection: a node fetches three.
const MAX_STREAMS: u32 = 16;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// So that the connection of a host that vanished ends.
const PING_PERIOD: Duration = Duration::from_secs(5);
/// After a port that is taken, or no descriptors left.
const LISTEN_PAUSE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A manager's word that a node may have an image counts this long, so that it is asked once for each image.
const GRANT_LASTS: Duration = Duration::from_secs(60);
/// Words kept: far more than nodes pull within that time; beyond it managers are asked again.
const MAX_GRANTS: usize = 4096;
/// Of a blob in one message.
const PART_BYTES: usize = 256 << 10;

/// Runs until `stop`.
pub(super) async fn run(
    engine: Engine,
    identity: NodeIdentity,
    managers: watch::Receiver<Vec<ManagerPeer>>,
    address: IpAddr,
    stop: CancellationToken,
) {
    let listener = tokio::select! {
        listener = listen(address) => listener,
        () = stop.cancelled() => return,
    };
    let (accepted, connections) = mpsc::channel(MAX_CONNECTIONS);
    let door = Door { engine: engine.clone(), identity, managers };
    let doctor = NodeDoctorServer::new(Doctor::new(engine.clone()));
    let service = ImagesServer::new(Service { engine, grants: Grants::default() });
    let serving = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_PERIOD))
        .http2_keepalive_timeout(Some(PING_PERIOD))
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(service.max_encoding_message_size(proto::MAX_MESSAGE_BYTES))
        .add_service(doctor.max_encoding_message_size(proto::MAX_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(
            ReceiverStream::new(connections).map(Ok::<_, io::Error>),
            stop.clone().cancelled_owned(),
        );
    let ((), served) = tokio::join!(accept(listener, door, accepted, stop.clone()), serving);
    if let Err(error) = served {
        tracing::error!(%error, "other nodes get no images from this one any more");
    }
}

async fn listen(address: IpAddr) -> TcpListener {
    let mut is_told = false;
    loop {
        let error = match bind(address).await {
            Ok(listener) => return listener,
            Err(error) => error,
        };
        if !is_told {
            tracing::warn!(
                %error, port = IMAGE_PORT,
                "other nodes get no images from this one: free the TCP port; it is tried again"
            );
        }
        is_told = true;
        sleep(LISTEN_PAUSE).await;
    }
}

/// An address that others know this host by need not be one of its own.
async fn bind(address: IpAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::new(address, IMAGE_PORT)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let any = match address {
                IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            };
            TcpListener::bind(SocketAddr::new(any, IMAGE_PORT)).await
        }
        result => result,
    }
}

/// What is needed to let somebody in.
#[derive(Clone)]
struct Door {
    engine: Engine,
    identity: NodeIdentity,
    managers: watch::Receiver<Vec<ManagerPeer>>,
}

/// Shakes hands until `stop`; who has no certificate is dropped.
async fn accept(listener: TcpListener, door: Door, accepted: mpsc::Sender<Connection>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut handshakes = JoinSet::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            listener.accept().await.map(|(tcp, address)| (tcp, address, place))
        };
        let (tcp, address, place) = tokio::select! {
            next = next => match next {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "a connection for an image could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => return,
        };
        let (door, accepted, stop) = (door.clone(), accepted.clone(), stop.clone());
        handshakes.spawn(async move {
            match shake_hands(&door.identity, tcp).await {
                Ok((stream, peer, Protocol::Engine)) => {
                    drop(place); // a session of hours takes no place from the images
                    let managers = door.managers.borrow().clone();
                    tunnels::receive(&door.engine, &managers, stream, peer).await;
                }
                Ok((stream, peer, Protocol::Rpc)) => {
                    let stopping = Box::pin(stop.cancelled_owned());
                    // the server may be gone already
                    let _ = accepted.send(Connection { stream, peer, stopping, _place: place }).await;
                }
                Err(error) => tracing::debug!(%address, %error, "handshake failed"),
            }
        });
        while handshakes.try_join_next().is_some() {}
    }
}

async fn shake_hands(identity: &NodeIdentity, tcp: TcpStream) -> io::Result<(TlsStream, Subject, Protocol)> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
    let accepted = timeout(HANDSHAKE_PATIENCE, identity.accept_node(tcp)).await.map_err(late)??;
    let stranger = || io::Error::new(io::ErrorKind::PermissionDenied, "the caller has no certificate of the cluster");
    Ok((accepted.stream, accepted.peer.ok_or_else(stranger)?, accepted.protocol))
}

/// Another node's connection.
struct Connection {
    stream: TlsStream,
    peer: Subject,
    /// The agent stops: reads end.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Keeps the number of connections bounded.
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Subject;

    fn connect_info(&self) -> Subject {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What managers said lately.
#[derive(Debug, Default)]
struct Grants(Mutex<HashMap<(NodeId, String), Instant>>);

impl Grants {
    fn holds(&self, node: NodeId, image: &str, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, until| *until > now);
        known.contains_key(&(node, image.to_owned()))
    }

    fn add(&self, node: NodeId, image: &str, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_GRANTS {
            known.clear();
        }
        known.insert((node, image.to_owned()), now + GRANT_LASTS);
    }
}

struct Service {
    engine: Engine,
    grants: Grants,
}

impl Service {
    /// The image that is asked for, if the caller may have it.
    async fn allowed<T>(&self, request: &Request<T>, image: &str) -> Result<ImageReference, Status> {
        let without = || Status::unauthenticated("this call needs a certificate of the cluster");
        let caller = *request.extensions().get::<Subject>().ok_or_else(without)?;
        let reference: ImageReference =
            image.parse().map_err(|e: types::ImageReferenceError| Status::invalid_argument(e.to_string()))?;
        let reference = reference.with_default_tag();
        let name = reference.to_string();
        if self.grants.holds(caller.node, &name, Instant::now()) {
            return Ok(reference);
        }
        if !self.engine.may_fetch(caller.node, &reference).await? {
            return Err(Status::permission_denied(format!(
                "node {} has no task that uses image {}",
                caller.node,
                reference.familiar()
            )));
        }
        self.grants.add(caller.node, &name, Instant::now());
        Ok(reference)
    }
}

fn of_store(error: &image::Error) -> Status {
    match error {
        image::Error::NoSuchImage(_) => Status::not_found(error.to_string()),
        image::Error::BadDigest(_) => Status::invalid_argument(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

#[tonic::async_trait]
impl Images for Service {
    async fn offer(&self, request: Request<OfferCall>) -> Result<Response<OfferAnswer>, Status> {
        let reference = self.allowed(&request, &request.get_ref().image).await?;
        let offer = self.engine.images().offer(&reference).await.map_err(|error| of_store(&error))?;
        let missing = || Status::not_found(format!("this node does not have image {}", reference.familiar()));
        let offer = offer.ok_or_else(missing)?;
        Ok(Response::new(OfferAnswer { root: offer.root, documents: offer.documents, created: offer.created }))
    }

    type FetchStream = Pin<Box<dyn Stream<Item = Result<FetchPart, Status>> + Send>>;

    async fn fetch(&self, request: Request<FetchCall>) -> Result<Response<Self::FetchStream>, Status> {
        let reference = self.allowed(&request, &request.get_ref().image).await?;
        let digest: Digest = request.get_ref().digest.parse().map_err(|error| of_store(&error))?;
        let found = self.engine.images().blob_of(&reference, &digest).await;
        let (file, size) = found.map_err(|error| of_store(&error))?;
        tracing::debug!(image = reference.familiar(), blob = %digest, size, "another node fetches a blob");
        let parts = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PART_BYTES);
        let parts = parts.map(|piece| match piece {
            Ok(data) => Ok(FetchPart { data: data.into() }),
            Err(error) => Err(Status::internal(format!("read a blob: {error}"))),
        });
        Ok(Response::new(Box::pin(parts)))
    }
}

#[cfg(test)]
mod tests {
    use identity::{CertificateAuthority, KeyPair, connect_pinned};
    use types::{ClusterId, NodeRole};

    use super::*;
    use crate::clock;

    fn node(authority: &CertificateAuthority, number: u128) -> NodeIdentity {
        let (key, now) = (KeyPair::generate().expect("a key"), clock::now());
        let subject =
            Subject { node: NodeId::from_random(number), role: NodeRole::Manager, cluster: ClusterId::from_random(9) };
        let chain = authority.sign(key.csr_pem(), &subject, now, Duration::from_secs(3600)).expect("signed");
        NodeIdentity::from_pem(key.pem(), &chain).expect("an identity")
    }

    #[tokio::test]
    async fn p_16_who_has_no_certificate_of_the_cluster_gets_no_further_than_the_handshake() {
        let [own, other] = [(); 2].map(|()| CertificateAuthority::generate(clock::now()).expect("an authority"));
        let server = node(&own, 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound").to_string();
        let dial = async |connecting: &mut (dyn Future<Output = bool> + Send + Unpin)| {
            let accepting = async { shake_hands(&server, listener.accept().await?.0).await };
            tokio::join!(accepting, connecting).0
        };
        let at = |identity: NodeIdentity| {
            let (address, node) = (address.clone(), server.node());
            Box::pin(async move { identity.connect_node(address, node).await.is_ok() })
        };
        let (_, subject, protocol) = dial(&mut at(node(&own, 2))).await.expect("a node of the cluster");
        assert_eq!((subject.node, protocol), (NodeId::from_random(2), Protocol::Rpc));
        let (asking, to) = (node(&own, 3), address.clone());
        let mut asked = Box::pin(async move { asking.connect_engine(to, NodeId::from_random(1)).await.is_ok() });
        let (_, subject, protocol) = dial(&mut asked).await.expect("a node that asks about containers");
        assert_eq!((subject.node, protocol), (NodeId::from_random(3), Protocol::Engine));
        assert!(dial(&mut at(node(&other, 2))).await.is_err(), "a node of another cluster");
        let (pin, to) = (own.digest(), address.clone());
        let mut joining = Box::pin(async move { connect_pinned(to, pin).await.is_ok() });
        let error = dial(&mut joining).await.map(drop).expect_err("a host that has not joined");
        assert!(error.to_string().contains("no certificate"), "{error}");
    }

    #[tokio::test]
    async fn p_16_a_managers_word_counts_for_one_node_and_image_and_not_for_ever() {
        let (grants, now) = (Grants::default(), Instant::now());
        let (a, b) = (NodeId::from_random(1), NodeId::from_random(2));
        grants.add(a, "web:1", now);
        assert!(grants.holds(a, "web:1", now));
        assert!(!grants.holds(b, "web:1", now) && !grants.holds(a, "web:2", now));
        assert!(!grants.holds(a, "web:1", now + GRANT_LASTS));
        for n in 0..2 * MAX_GRANTS {
            grants.add(a, &format!("web:{n}"), now);
        }
        assert!(grants.0.lock().expect("whole").len() <= MAX_GRANTS);
    }
}
