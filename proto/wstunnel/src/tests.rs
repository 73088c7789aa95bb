#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use futures::SinkExt as _;
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex,
};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

fn target(path: &str) -> Target {
    Target {
        authority: "kas.example.com".to_owned(),
        path: path.to_owned(),
        headers: HeaderMap::from_iter([(
            http::HeaderName::from_static("x-proxy"),
            http::HeaderValue::from_static("secret"),
        )]),
    }
}

/// Reads a request's head by hand and answers with `answer`.
async fn http_server(
    mut stream: DuplexStream,
    answer: impl FnOnce(&str) -> String,
) -> DuplexStream {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let answer = answer(std::str::from_utf8(&head).unwrap());
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream
}

/// What [`accept`] answers, as text.
fn accepted(head: &str) -> String {
    let mut request = Request::builder();
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let response = accept(&request.body(()).unwrap()).unwrap();
    let mut text = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (name, value) in response.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    text + "\r\n"
}

async fn pair() -> (Tunnel<DuplexStream>, Tunnel<DuplexStream>) {
    let (near, far) = duplex(4096);
    let target = target("/");
    let (client, far) = tokio::join!(connect(near, &target), http_server(far, accepted));
    (client.unwrap(), Tunnel::server(far).await)
}

async fn copies(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin)) {
    let sent: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let mut got = vec![0; sent.len()];
    let write = async {
        from.write_all(&sent).await.unwrap();
        from.flush().await.unwrap();
    };
    let (read, ()) = tokio::join!(to.read_exact(&mut got), write);
    read.unwrap();
    assert!(got == sent, "bytes have changed on their way");
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_end_is_seen() {
    let (mut client, mut server) = pair().await;
    copies(&mut client, &mut server).await;
    copies(&mut server, &mut client).await;
    let mut rest = [0; 8];
    let (closed, read) = tokio::join!(client.shutdown(), server.read(&mut rest));
    closed.unwrap();
    assert_eq!(read.unwrap(), 0);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_request_is_as_gitlabs_agent_sends_it() {
    let (near, far) = duplex(4096);
    let mut head = String::new();
    let far = http_server(far, |text| {
        text.clone_into(&mut head);
        accepted(text)
    });
    let target = target("/-/kubernetes-agent/");
    let (client, _far) = tokio::join!(connect(near, &target), far);
    client.unwrap();
    let head = head.to_ascii_lowercase();
    assert!(
        head.starts_with("get /-/kubernetes-agent/ http/1.1\r\nhost: kas.example.com\r\n"),
        "{head}"
    );
    for line in ["sec-websocket-protocol: ws-tunnel", "x-proxy: secret"] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} in {head}");
    }
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
}

#[tokio::test]
async fn a_wrong_answer_says_what_it_was() {
    let cases = [
        (
            "HTTP/1.1 301 Moved\r\nLocation: https://a/b/\r\n\r\n",
            "301 Moved Permanently, a redirect to \"https://a/b/\"",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "502 Bad Gateway instead of 101",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "200 OK instead of 101",
        ),
        (
            "\0\0\u{12}\u{4}\0\0\0\0\0",
            "no WebSocket is answered there",
        ),
    ];
    for (answer, expected) in cases {
        let (near, far) = duplex(4096);
        let target = target("/");
        let far = http_server(far, |_| answer.to_owned());
        let (client, _far) = tokio::join!(connect(near, &target), far);
        let error = client.unwrap_err().to_string();
        assert!(error.contains(expected), "{answer:?}: {error}");
    }
    let (near, far) = duplex(4096);
    let far = http_server(far, |head| {
        accepted(head)
            .lines()
            .filter(|line| !line.contains(SUBPROTOCOL))
            .map(|line| format!("{line}\r\n"))
            .collect()
    });
    let target = target("/");
    let (client, _far) = tokio::join!(connect(near, &target), far);
    assert!(
        matches!(client, Err(ConnectError::Subprotocol)),
        "{client:?}"
    );
}

#[tokio::test]
async fn pings_are_answered_and_text_is_refused() {
    let (near, far) = duplex(4096);
    let mut server = Tunnel::server(far).await;
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    client
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    client.send(Message::Binary("bytes".into())).await.unwrap();
    let mut got = [0; 5];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"bytes");
    let pong = futures::StreamExt::next(&mut client)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));
    client.send(Message::Text("words".into())).await.unwrap();
    let error = server.read(&mut got).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_tunnel() {
    let (near, far) = duplex(64 * 1024);
    let mut server = Tunnel::server(far).await;
    // A frame's head alone: it says how long the message would be.
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&(MAX_MESSAGE as u64 + 1).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    let mut near = near;
    near.write_all(&head).await.unwrap();
    let error = server.read(&mut [0; 8]).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_and_no_end() {
    let (near, far) = duplex(4096);
    let mut server = Tunnel::server(far).await;
    drop(near);
    let error = server.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn only_a_whole_handshake_is_accepted() {
    let handshake = |without: &str| {
        let mut request = Request::builder();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "other, ws-tunnel"),
        ] {
            if name != without {
                request = request.header(name, value);
            }
        }
        accept(&request.body(()).unwrap()).map(Response::into_parts)
    };
    let (answer, ()) = handshake("").unwrap();
    assert_eq!(answer.status, StatusCode::SWITCHING_PROTOCOLS);
    // The example of RFC 6455.
    assert_eq!(
        answer.headers["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert_eq!(answer.headers["sec-websocket-protocol"], SUBPROTOCOL);
    for (without, refusal) in [
        ("connection", Refusal::NoWebSocket),
        ("upgrade", Refusal::NoWebSocket),
        ("sec-websocket-version", Refusal::Version),
        ("sec-websocket-key", Refusal::Key),
        ("sec-websocket-protocol", Refusal::Subprotocol),
    ] {
        assert_eq!(handshake(without).unwrap_err(), refusal, "{without}");
    }
}
