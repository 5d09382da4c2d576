//! Clients on TCP that end their words before they have their answer (P35).

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};

use crate::{gone::Gone, remote::Caller, server::connection, testing::Fake};

/// P35: an answer that has an end is theirs, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p35_an_answer_with_an_end_is_whole() {
    let fake = Fake::alone().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let asking = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("send");
        stream.shutdown(Shutdown::Write).expect("half closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    });
    let (stream, _) = listener.accept().await.expect("a client");
    let (gone, (_stop, stopping)) = (Gone::of_tcp(&stream), watch::channel(false));
    connection(Box::new(stream), Caller::Unknown, gone, Arc::clone(&fake.api), stopping).await;
    let answer = asking.await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("engine_metric 1\n"), "{answer}");
}
