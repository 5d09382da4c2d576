//! Images from the other nodes of the cluster: whom a manager names is asked, who has it gives it.
//!
//! Called while a task is prepared. What comes is verified by the store; who may ask for what is decided by managers
//! and checked by the node that is asked (`agent/image_server`), never here.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use identity::NodeIdentity;
use image::{BlobReader, BlobSource, Digest, Offer, PullOptions, PulledImage};
use proto::v1::{
    FetchCall, HoldersCall, MayFetchCall, OfferCall, image_directory_client::ImageDirectoryClient,
    images_client::ImagesClient,
};
use tokio::{sync::watch, time::timeout};
use tokio_util::io::StreamReader;
use tonic::{Code, Request, Status, transport::Channel};
use types::{ImageReference, NodeId, with_causes};

use super::Engine;

/// TCP port on which every node gives images to the others; the one that Swarm has open between nodes anyway.
pub(crate) const IMAGE_PORT: u16 = 7946;
/// Nodes that are asked at once. Each question costs both sides a handshake, about a millisecond.
const ASKED_AT_ONCE: usize = 8;
/// For a node to say what it has, the connection included.
const OFFER_PATIENCE: Duration = Duration::from_secs(5);
/// For a manager to say whom to ask; longer than an election.
const MANAGER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two pieces of a blob.
const SILENCE: Duration = Duration::from_secs(15);
/// Nodes that one image is fetched from at most: the others are there for when one fails.
const MAX_SOURCES: usize = 4;
/// Reasons in an error's text.
const MAX_REASONS: usize = 3;

/// This node's way to its manager and its name towards other nodes.
#[derive(Debug, Clone)]
pub(crate) struct ImageLink {
    pub identity: NodeIdentity,
    pub channel: Channel,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    link: watch::Sender<Option<ImageLink>>,
}

/// A node that may have an image.
#[derive(Clone)]
struct Holder {
    address: IpAddr,
    client: ImagesClient<Channel>,
}

/// What one node answered.
struct Answer {
    holder: Holder,
    /// `None`: it does not have it.
    offer: Result<Option<Offer>, String>,
}

/// Why no node gave an image.
#[derive(Debug)]
pub(super) struct NotGiven {
    /// For people; empty where there is no other node.
    pub why: String,
    /// It did not fit on this node's disk.
    pub is_disk_full: bool,
}

impl From<String> for NotGiven {
    fn from(why: String) -> Self {
        Self { why, is_disk_full: false }
    }
}

impl Engine {
    /// For as long as a manager is reached.
    pub(crate) fn set_image_link(&self, link: Option<ImageLink>) {
        self.inner.peers.link.send_replace(link);
    }

    /// Whether a manager says that another node may have an image.
    ///
    /// # Errors
    /// When no manager can be asked: then nothing is given.
    pub(crate) async fn may_fetch(&self, node: NodeId, image: &ImageReference) -> Result<bool, Status> {
        let link = self.inner.peers.link.borrow().clone();
        let link = link.ok_or_else(|| Status::unavailable("this node reaches no manager to ask whether it may"))?;
        let call = MayFetchCall { node: node.to_string(), image: image.to_string() };
        let asking = ImageDirectoryClient::new(link.channel);
        let answer = timeout(MANAGER_PATIENCE, async move { { asking }.may_fetch(call).await }).await;
        Ok(answer.map_err(|_| Status::unavailable("no manager answered whether it may"))??.into_inner().allowed)
    }

    /// Brings an image from the nodes that have it.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn image_from_peers(
        &self,
        reference: &ImageReference,
        options: &PullOptions,
    ) -> Result<PulledImage, NotGiven> {
        let link = self.inner.peers.link.borrow().clone();
        let link = link.ok_or_else(|| "no manager is reached that could name them".to_owned())?;
        let holders = holders(&link, reference).await?;
        let count = holders.len();
        let answers =
            stream::iter(holders.clone()).map(|holder| ask(holder, reference)).buffer_unordered(ASKED_AT_ONCE);
        let mut failed = Vec::new();
        let mut is_disk_full = false;
        let mut told = |error: &image::Error| {
            is_disk_full |= matches!(error, image::Error::NoSpace { .. });
            with_causes(error)
        };
        // a digest is the same wherever it is; of a tag's images the newest is the one that is meant
        match reference.digest {
            Some(_) => {
                let mut answers = std::pin::pin!(answers);
                while let Some(Answer { holder, offer }) = answers.next().await {
                    let address = holder.address;
                    match offer {
                        Ok(None) => {}
                        Ok(Some(offer)) => {
                            let others = holders.iter().filter(|other| other.address != address).cloned();
                            let sources = std::iter::once(holder).chain(others).take(MAX_SOURCES).collect();
                            match self.take(reference, (offer, sources), options).await {
                                Ok(pulled) => return Ok(pulled),
                                Err(error) => failed.push(format!("{address}: {}", told(&error))),
                            }
                        }
                        Err(why) => failed.push(format!("{address}: {why}")),
                    }
                }
            }
            None => {
                let (offers, silent) = sorted(answers.collect().await);
                failed.extend(silent);
                for (offer, sources) in offers {
                    let first = sources.first().map(|holder| holder.address);
                    match self.take(reference, (offer, sources), options).await {
                        Ok(pulled) => return Ok(pulled),
                        Err(error) => {
                            failed.push(first.map_or_else(String::new, |ip| format!("{ip}: ")) + &told(&error));
                        }
                    }
                }
            }
        }
        Err(NotGiven { why: none_had_it(count, &failed), is_disk_full })
    }

    async fn take(
        &self,
        reference: &ImageReference,
        (offer, holders): (Offer, Vec<Holder>),
        options: &PullOptions,
    ) -> Result<PulledImage, image::Error> {
        let source = Arc::new(Blobs { image: reference.to_string(), holders });
        self.inner.images.pull_from_peers(reference, offer, source, options).await
    }
}

/// Whom to ask, as a manager says.
async fn holders(link: &ImageLink, reference: &ImageReference) -> Result<Vec<Holder>, String> {
    let mut directory = ImageDirectoryClient::new(link.channel.clone());
    let call = HoldersCall { image: reference.to_string() };
    let answer = timeout(MANAGER_PATIENCE, directory.holders(call)).await;
    let answer = answer.map_err(|_| "the manager did not name them in time".to_owned())?;
    let named = answer.map_err(|status| status.message().to_owned())?.into_inner().holders;
    let holder = |named: &proto::v1::ImageHolder| {
        let (node, address) = (named.node.parse::<NodeId>().ok()?, named.address.parse::<IpAddr>().ok()?);
        let identity = link.identity.clone();
        let at = SocketAddr::new(address, IMAGE_PORT).to_string();
        let channel = proto::transport::channel(&at, move |at| identity.clone().connect_node(at, node));
        let client = ImagesClient::new(channel).max_decoding_message_size(proto::MAX_MESSAGE_BYTES);
        Some(Holder { address, client })
    };
    Ok(named.iter().filter_map(holder).collect())
}

async fn ask(mut holder: Holder, reference: &ImageReference) -> Answer {
    let mut call = Request::new(OfferCall { image: reference.to_string() });
    call.set_timeout(OFFER_PATIENCE);
    let offer = match timeout(OFFER_PATIENCE, holder.client.offer(call)).await {
        Err(_) => Err(format!("no answer within {} s", OFFER_PATIENCE.as_secs())),
        Ok(Ok(answer)) => {
            let answer = answer.into_inner();
            Ok(Some(Offer { root: answer.root, documents: answer.documents, created: answer.created }))
        }
        Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
        Ok(Err(status)) => Err(words(&status)),
    };
    Answer { holder, offer }
}

/// What a tag means on the nodes, the newest first, each with the nodes that have it; and what others said.
fn sorted(answers: Vec<Answer>) -> (Vec<(Offer, Vec<Holder>)>, Vec<String>) {
    let (mut offers, mut failed): (Vec<(Offer, Vec<Holder>)>, _) = (Vec::new(), Vec::new());
    for Answer { holder, offer } in answers {
        match offer {
            Ok(None) => {}
            Ok(Some(offer)) => match offers.iter_mut().find(|(known, _)| known.root == offer.root) {
                Some((_, holders)) if holders.len() < MAX_SOURCES => holders.push(holder),
                Some(_) => {}
                None => offers.push((offer, vec![holder])),
            },
            Err(why) => failed.push(format!("{}: {why}", holder.address)),
        }
    }
    // by the digest where the times are the same, so that all nodes choose alike
    offers.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created).then_with(|| a.root.cmp(&b.root)));
    (offers, failed)
}

fn none_had_it(asked: usize, failed: &[String]) -> String {
    if asked == 0 {
        return String::new();
    }
    let rest = match failed.len().saturating_sub(MAX_REASONS) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let reasons = failed.iter().take(MAX_REASONS).cloned().collect::<Vec<_>>().join(", ");
    match (asked, failed.is_empty()) {
        (1, true) => "the one that was asked does not have it".to_owned(),
        (_, true) => format!("none of the {asked} that were asked has it"),
        (_, false) => format!("none of the {asked} that were asked gave it ({reasons}{rest})"),
    }
}

/// A transport that broke says little by itself; its innermost cause does.
fn words(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    while let Some(next) = cause.and_then(std::error::Error::source) {
        cause = Some(next);
    }
    cause.map_or_else(|| status.message().to_owned(), ToString::to_string)
}

/// The blobs of one image, over mutual TLS.
struct Blobs {
    image: String,
    holders: Vec<Holder>,
}

impl BlobSource for Blobs {
    fn holders(&self) -> usize {
        self.holders.len()
    }

    fn open<'a>(
        &'a self,
        holder: usize,
        digest: &'a Digest,
    ) -> Pin<Box<dyn Future<Output = image::Result<BlobReader>> + Send + 'a>> {
        Box::pin(async move {
            let Holder { address, mut client } = self.holders[holder].clone();
            let failed = |reason: String| image::Error::Peer {
                what: format!("blob {}", digest.short()),
                reason: format!("{address}: {reason}"),
            };
            let call = FetchCall { image: self.image.clone(), digest: digest.to_string() };
            let answer = timeout(OFFER_PATIENCE, client.fetch(call)).await;
            let answer =
                answer.map_err(|_| failed("no answer".to_owned()))?.map_err(|status| failed(words(&status)))?;
            let pieces = tokio_stream::StreamExt::timeout(answer.into_inner(), SILENCE)
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nothing came any more"))
                .and_then(|part| async move { part.map_err(|status| io::Error::other(words(&status))) })
                .map_ok(|part| io::Cursor::new(part.data));
            Ok(Box::new(StreamReader::new(Box::pin(pieces))) as BlobReader)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(last: u8, offer: Result<Option<(&str, i64)>, &str>) -> Answer {
        let channel = proto::transport::channel("nowhere", |_| async {
            Err::<tokio::net::TcpStream, _>(io::ErrorKind::Other.into())
        });
        let holder = Holder { address: IpAddr::from([192, 0, 2, last]), client: ImagesClient::new(channel) };
        let offer = offer.map_err(str::to_owned);
        let made = |(root, created): (&str, i64)| Offer { root: root.to_owned(), documents: Vec::new(), created };
        Answer { holder, offer: offer.map(|offer| offer.map(made)) }
    }

    #[tokio::test]
    async fn p_16_of_a_tags_images_the_newest_is_taken_by_all_nodes_alike() {
        let answers = vec![
            answer(1, Ok(Some(("b", 5)))),
            answer(2, Ok(None)),
            answer(3, Ok(Some(("a", 5)))),
            answer(4, Ok(Some(("c", 9)))),
            answer(5, Err("refused")),
            answer(6, Ok(Some(("b", 5)))),
        ];
        let (offers, failed) = sorted(answers);
        let shown = |(offer, holders): &(Offer, Vec<Holder>)| {
            let last: Vec<_> = holders.iter().map(|h| h.address.to_string().replace("192.0.2.", "")).collect();
            format!("{}:{}", offer.root, last.join("+"))
        };
        assert_eq!(offers.iter().map(shown).collect::<Vec<_>>(), ["c:4", "a:3", "b:1+6"]);
        assert_eq!(failed, ["192.0.2.5: refused"]);
    }

    #[test]
    fn who_did_not_give_it_is_said_in_a_bounded_text() {
        assert_eq!(none_had_it(0, &[]), "");
        assert_eq!(none_had_it(1, &[]), "the one that was asked does not have it");
        assert_eq!(none_had_it(7, &[]), "none of the 7 that were asked has it");
        let failed: Vec<String> = (1..=5).map(|n| format!("h{n}: no")).collect();
        let text = none_had_it(7, &failed);
        assert_eq!(text, "none of the 7 that were asked gave it (h1: no, h2: no, h3: no, and 2 more)");
    }
}
