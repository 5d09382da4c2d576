//! Bytes between a client and another node, as they come: nothing is kept but one piece in each direction, and the end
//! of one direction is told without that of the other.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// One read from either side.
const PIECE: usize = 64 << 10;

/// Which side of a direction ended it.
enum Stopped {
    /// All was carried.
    Whole,
    /// The reader is gone.
    Source,
    /// Nobody takes any more.
    Sink,
}

/// Carries both directions until the node has sent all (and, with `both`, the client too), or a side is gone.
pub(super) async fn run<R, W, N>(client_reads: &mut R, client_writes: &mut W, node: N, both: bool)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite,
{
    let (mut node_reads, mut node_writes) = tokio::io::split(node);
    let up = async {
        match carry(client_reads, &mut node_writes).await {
            Stopped::Whole => true,
            // what the node still has to say is heard to its end
            Stopped::Sink => true,
            Stopped::Source => false,
        }
    };
    let down = async { matches!(carry(&mut node_reads, client_writes).await, Stopped::Whole) };
    tokio::pin!(up, down);
    tokio::select! {
        is_whole = &mut down => {
            if both && is_whole {
                up.await;
            }
        }
        goes_on = &mut up => {
            if goes_on {
                down.await;
            }
        }
    }
}

async fn carry(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> Stopped {
    let mut piece = vec![0; PIECE];
    loop {
        let length = match from.read(&mut piece).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(_) => return Stopped::Source,
        };
        let sent: io::Result<()> = async {
            to.write_all(&piece[..length]).await?;
            to.flush().await
        }
        .await;
        if sent.is_err() {
            return Stopped::Sink;
        }
    }
    match to.shutdown().await {
        Ok(()) => Stopped::Whole,
        Err(_) => Stopped::Sink,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{DuplexStream, duplex, split},
        time::timeout,
    };

    use super::*;

    /// A client and a node with a relay between them.
    fn ends(both: bool) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<()>) {
        let ((client, near), (far, node)) = (duplex(1024), duplex(1024));
        let relay = tokio::spawn(async move {
            let (mut reads, mut writes) = split(near);
            run(&mut reads, &mut writes, far, both).await;
        });
        (client, node, relay)
    }

    #[tokio::test]
    async fn p_21_bytes_arrive_as_they_were_sent_and_an_end_of_input_is_told_alone() {
        let (mut client, mut node, relay) = ends(false);
        let sent: Vec<u8> = (0..1_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let (wanted, mut got) = (sent.clone(), Vec::new());
        let sending = tokio::spawn(async move {
            client.write_all(&sent).await.expect("taken");
            client.shutdown().await.expect("closed");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.expect("heard");
            answer
        });
        node.read_to_end(&mut got).await.expect("heard");
        assert!(got == wanted, "{} of {} bytes", got.len(), wanted.len());
        node.write_all(b"after your end").await.expect("taken");
        drop(node);
        assert_eq!(sending.await.expect("no panic"), b"after your end");
        timeout(Duration::from_secs(5), relay).await.expect("the relay ends").expect("no panic");
    }

    #[tokio::test]
    async fn p_21_a_session_ends_with_its_output_and_a_forwarded_connection_with_both_sides() {
        let (_client, node, relay) = ends(false);
        drop(node);
        timeout(Duration::from_secs(5), relay).await.expect("an idle client holds nothing").expect("no panic");

        let (mut client, mut node, relay) = ends(true);
        node.shutdown().await.expect("closed");
        client.write_all(b"still").await.expect("taken");
        client.shutdown().await.expect("closed");
        let mut got = Vec::new();
        node.read_to_end(&mut got).await.expect("heard");
        assert_eq!(got, b"still");
        timeout(Duration::from_secs(5), relay).await.expect("both are done").expect("no panic");
    }
}
