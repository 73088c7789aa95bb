//! Clients that still send when the answer is there.

use std::future::poll_fn;

use bytes::Bytes;
use futures::poll;
use http::{Request, StatusCode, header};
use tokio::net::TcpStream;

use crate::support::{LIMIT, TestServer};

/// Over HTTP/2: what is refused before its body came is answered, and the body may still come; no reset overtakes the answer.
#[tokio::test]
async fn a_refusal_leaves_the_client_time_to_send_its_body() {
    let server = TestServer::start().await;
    let stream = TcpStream::connect(server.server.people).await.unwrap();
    let (mut client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    for (host, path) in [
        ("8080-one.workspaces.localhost", "/"),
        ("kas", "/k8s-proxy/api"),
    ] {
        let request = Request::post(format!("http://{host}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(())
            .unwrap();
        client = client.ready().await.unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        let response = tokio::time::timeout(LIMIT, response)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{host}{path}");
        let mut answer = response.into_body();
        while let Some(piece) = answer.data().await {
            piece.unwrap();
        }
        // What the server sent before, a reset too, has arrived by the answer to a ping.
        pings.ping(h2::Ping::opaque()).await.unwrap();
        let reset = poll!(poll_fn(|cx| body.poll_reset(cx)));
        assert!(reset.is_pending(), "{host}{path}: {reset:?}");
        body.send_data(Bytes::from_static(b"x"), true).unwrap();
        pings.ping(h2::Ping::opaque()).await.unwrap();
    }
}
