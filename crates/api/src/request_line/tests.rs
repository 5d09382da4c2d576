//! Lines are mended and all else arrives as it was sent, however it is cut up.

use std::convert::Infallible;

use axum::http::StatusCode;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex},
    task::yield_now,
};

use super::*;

fn check(pieces: &[&str], wanted: &str) {
    let mut place = Place::Start;
    let mut got = Vec::new();
    for piece in pieces {
        got.extend(mend(&mut place, piece.as_bytes()).unwrap_or_else(|| piece.as_bytes().to_vec()));
    }
    assert_eq!(String::from_utf8_lossy(&got), wanted);
}

#[test]
fn e_42_only_the_target_of_a_line_is_mended() {
    check(
        &["GET /x?f={\"a\":[\"<b>`#\"]} HTTP/1.1\r\nX: \"<\r\n"],
        "GET /x?f={%22a%22:[%22%3Cb%3E%60%23%22]} HTTP/1.1\r\nX: \"<\r\n",
    );
    check(&["GE", "T", " ", "/x?\"", "\"\" ", "HTTP/1.1\r\nX: \"\r\n"], "GET /x?%22%22%22 HTTP/1.1\r\nX: \"\r\n");
    for other in
        ["{\"a\":\"/\"}", "\r\nGET /\"", " GET /\"", "GET x\"", "GET\r\n /\"", "X-A: /\"b\"", "GET /a\n\"<>", ""]
    {
        check(&[other], other);
    }
}

/// As the API is served; each answer is what arrived. Who asks for another protocol gets an echo.
fn serve(stream: DuplexStream) {
    let turns = Turns::new();
    let wire = Mended::new(Box::new(stream), turns.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = turns.begin(request);
        async move {
            let mut answer = Response::new(Body::empty());
            if request.headers().contains_key(UPGRADE) {
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let stream = TokioIo::new(upgraded.await.expect("an upgrade"));
                    let (mut reads, mut writes) = tokio::io::split(stream);
                    tokio::io::copy(&mut reads, &mut writes).await.ok();
                });
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                return Ok::<_, Infallible>(answer);
            }
            let uri = request.uri().to_string();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("a body");
            *answer.body_mut() = Body::from(format!("{uri}\n{}", String::from_utf8_lossy(&body)));
            Ok(answer)
        }
    });
    tokio::spawn(async move {
        http1::Builder::new().half_close(true).serve_connection(TokioIo::new(wire), service).with_upgrades().await.ok();
    });
}

struct Client(BufReader<DuplexStream>);

impl Client {
    fn connect() -> Self {
        let (client, server) = duplex(1 << 20);
        serve(server);
        Self(BufReader::new(client))
    }

    /// Each piece is read before the next is sent.
    async fn say(&mut self, pieces: &[&str]) {
        for piece in pieces {
            self.0.write_all(piece.as_bytes()).await.expect("taken");
            for _ in 0..10 {
                yield_now().await;
            }
        }
    }

    /// The body of the next answer.
    async fn hear(&mut self) -> String {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).await.expect("a line") > 0, "the connection is closed");
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.expect("a body");
        String::from_utf8(body).expect("text")
    }

    async fn check(&mut self, pieces: &[&str], wanted: &str) {
        self.say(pieces).await;
        assert_eq!(self.hear().await, wanted, "{pieces:?}");
    }
}

#[tokio::test]
async fn e_42_many_requests_on_one_connection() {
    let mut client = Client::connect();
    for _ in 0..2 {
        client.check(&["GET /a?\"1\" HTTP/1.1\r\nHost: d\r\n\r\n"], "/a?%221%22\n").await;
        client.check(&["G", "ET /a?\"", "1\" HT", "TP/1.1\r\n", "Host: d\r\n\r\n"], "/a?%221%22\n").await;
        let post = "POST /b?\"2\" HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
        client.check(&[post, "GET /\"<>x"], "/b?%222%22\nGET /\"<>x").await;
        client.check(&[&post[..20], &post[20..], "G", "ET /\"<>", "x"], "/b?%222%22\nGET /\"<>x").await;
        client.check(&[&format!("{post}GET /\"<>x")], "/b?%222%22\nGET /\"<>x").await;
        let chunked = "POST /c?\"3\" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let pieces = [chunked, "7\r\n", "GET /\"x", "\r\n3\r\nP /\r\n", "0\r\n\r\n"];
        client.check(&pieces, "/c?%223%22\nGET /\"xP /").await;
    }
}

/// Who does not wait for answers has the lines taken as they are; bodies are bodies all the same.
#[tokio::test]
async fn e_42_bodies_of_requests_in_a_row_are_as_they_were_sent() {
    let mut client = Client::connect();
    let heads = "GET /a HTTP/1.1\r\nHost: d\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 7\r\n";
    for (first, second) in [(format!("{heads}\r\n"), "GET /\"x"), (format!("{heads}\r"), "\nGET /\"x")] {
        client.say(&[&first, second]).await;
        assert_eq!(client.hear().await, "/a\n");
        assert_eq!(client.hear().await, "/b\nGET /\"x");
    }
}

/// Of what has more than the server reads at once nothing is lost, and nothing behind the line is touched.
#[tokio::test]
async fn e_42_long_lines_and_what_comes_with_them() {
    let mut client = Client::connect();
    let (query, body) = ("\"".repeat(7000), "GET /\"".repeat(5000));
    let request = format!("POST /b?{query} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let wanted = format!("/b?{}\n{body}", "%22".repeat(7000));
    for _ in 0..2 {
        client.say(&[&request]).await;
        assert!(client.hear().await == wanted);
    }
}

#[tokio::test]
async fn e_42_what_is_no_http_any_more_is_not_touched() {
    let mut client = Client::connect();
    client.say(&["POST /b?\"2\" HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"]).await;
    assert_eq!(client.hear().await, "");
    client.say(&["GET /\"<>", "GET /\""]).await;
    let mut echo = [0; 14];
    client.0.read_exact(&mut echo).await.expect("an echo");
    assert_eq!(&echo, b"GET /\"<>GET /\"");

    // a connection that is taken from under the server
    let (mut client, server) = duplex(1024);
    let mut wire = Mended::new(Box::new(server), Turns::new()).verbatim();
    client.write_all(b"GET /\"<>").await.expect("taken");
    let mut got = [0; 8];
    wire.read_exact(&mut got).await.expect("heard");
    assert_eq!(&got, b"GET /\"<>");
}
