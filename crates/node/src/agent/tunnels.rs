//! Lets managers in that want to ask about containers of this node's tasks, and nobody else.
//!
//! Called by `image_server`, which has the port and shakes hands. What is asked is the API's to judge; here it is only
//! who asks. A refusal is an answer in HTTP, so that the other side can show it.

use std::time::Duration;

use identity::{Subject, TlsStream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use types::{ManagerPeer, NodeRole};

use crate::engine::{Engine, tunnels::Tunnel};

/// For a refusal to be read.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// A connection whose holder has shown its certificate.
pub(super) async fn receive(engine: &Engine, managers: &[ManagerPeer], stream: TlsStream, peer: Subject) {
    let Some(stream) = admitted(managers, stream, &peer).await else { return };
    let Some(place) = engine.tunnel_place() else {
        tracing::warn!(node.id = %peer.node, "too many connections of managers");
        let reason = "this node answers as many managers' requests as it can; end some, such as followed logs";
        return refuse(stream, "503 Service Unavailable", reason).await;
    };
    engine.let_in(Tunnel { stream, manager: peer.node, place }).await;
}

/// The connection, if its holder may ask; else that one is told.
async fn admitted(managers: &[ManagerPeer], stream: TlsStream, peer: &Subject) -> Option<TlsStream> {
    let Err(reason) = may_ask(peer, managers) else { return Some(stream) };
    tracing::warn!(node.id = %peer.node, role = %peer.role, reason, "a node may not ask about containers here");
    refuse(stream, "403 Forbidden", &reason).await;
    None
}

/// A manager by its certificate and, because that outlives a demotion, by what this node was told last.
fn may_ask(peer: &Subject, managers: &[ManagerPeer]) -> Result<(), String> {
    if peer.role != NodeRole::Manager {
        return Err(format!("node {} is a worker, and only managers may ask a node about its containers", peer.node));
    }
    if managers.iter().any(|manager| manager.node == peer.node) {
        return Ok(());
    }
    Err(format!(
        "node {} is not among the managers that this node knows; if it has just become one, try again in a moment",
        peer.node
    ))
}

async fn refuse(mut stream: TlsStream, status: &str, reason: &str) {
    let body = serde_json::json!({ "message": reason }).to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let telling = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // what was asked is read away: a connection that is closed with bytes unread takes the answer with it
        let mut asked = [0; 4096];
        while stream.read(&mut asked).await? > 0 {}
        std::io::Result::Ok(())
    };
    // who does not wait for the answer has none
    let _ = timeout(REFUSAL_PATIENCE, telling).await;
}

#[cfg(test)]
mod tests {
    use identity::{CertificateAuthority, KeyPair, NodeIdentity};
    use tokio::net::TcpListener;
    use types::{ClusterId, NodeId};

    use super::*;
    use crate::clock;

    /// Real certificates on a real connection: the worker is heard, told no, and gets no further.
    #[tokio::test]
    async fn p_21_a_worker_that_asks_about_containers_gets_an_answer_and_no_connection() {
        let authority = CertificateAuthority::generate(clock::now()).expect("an authority");
        let node = |number, role| {
            let key = KeyPair::generate().expect("a key");
            let subject = Subject { node: NodeId::from_random(number), role, cluster: ClusterId::from_random(9) };
            let chain = authority.sign(key.csr_pem(), &subject, clock::now(), Duration::from_secs(3600));
            NodeIdentity::from_pem(key.pem(), &chain.expect("signed")).expect("an identity")
        };
        let server = node(1, NodeRole::Worker);
        let managers = [ManagerPeer { node: NodeId::from_random(3), address: "192.0.2.1:2377".to_owned() }];
        for (number, role, wanted) in [(2, NodeRole::Worker, false), (3, NodeRole::Manager, true)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
            let at = listener.local_addr().expect("bound").to_string();
            let serving = async {
                let tcp = listener.accept().await.expect("a client").0;
                let accepted = server.accept_node(tcp).await.expect("a certificate of the cluster");
                let peer = accepted.peer.expect("it has one");
                admitted(&managers, accepted.stream, &peer).await.is_some()
            };
            let asking = async {
                let mut stream =
                    node(number, role).connect_engine(at, server.node()).await.expect("the handshake is for all nodes");
                stream.write_all(b"GET /containers/json HTTP/1.1\r\n\r\n").await.expect("sent");
                let mut answer = String::new();
                // a connection that is let in ends here without an answer
                let _ = stream.read_to_string(&mut answer).await;
                answer
            };
            let (is_in, answer) = tokio::join!(serving, asking);
            assert_eq!(is_in, wanted, "{role}");
            assert_eq!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n") && answer.contains("only managers"), !wanted);
        }
    }

    #[test]
    fn p_21_only_a_manager_that_still_is_one_may_ask_about_containers() {
        let subject =
            |number, role| Subject { node: NodeId::from_random(number), role, cluster: ClusterId::from_random(9) };
        let known = [ManagerPeer { node: NodeId::from_random(1), address: "192.0.2.1:2377".to_owned() }];
        assert_eq!(may_ask(&subject(1, NodeRole::Manager), &known), Ok(()));
        let worker = may_ask(&subject(2, NodeRole::Worker), &known).expect_err("a worker");
        assert!(worker.contains("only managers may ask"), "{worker}");
        let former = may_ask(&subject(2, NodeRole::Manager), &known).expect_err("demoted, with its old certificate");
        assert!(former.contains("is not among the managers"), "{former}");
        let renamed = may_ask(&subject(1, NodeRole::Worker), &known).expect_err("its certificate is a worker's");
        assert!(renamed.contains("is a worker"), "{renamed}");
    }
}
