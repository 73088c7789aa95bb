//! An upgraded connection (exec, attach, port-forward): bytes both ways, unread.

use bytes::BytesMut;
use http::{HeaderMap, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{answer, broken, next_frame, upstream};
use crate::convert::http::{RequestFrame, response_trailer, response_upgrade_data};
use crate::tunnel::call::{CallError, Inbound, Outbound};

/// What is read from the cluster at once.
const BUFFER: usize = 32 * 1024;

/// Carries an upgraded connection until the cluster's side ends it. When the caller's side has said all, the cluster hears
/// of it and may still answer.
pub(super) async fn carry(
    mut response: Response<Incoming>,
    inbound: Inbound,
    mut outbound: Outbound,
) -> Result<(), CallError> {
    let upgraded = hyper::upgrade::on(&mut response);
    // `Connection` and `Upgrade` belong to this answer: they say to what the caller's connection changes.
    let mut headers: HeaderMap = std::mem::take(response.headers_mut());
    answer::head(
        response.status(),
        response.version(),
        &mut headers,
        &mut outbound,
    )
    .await?;
    outbound.message(response_trailer()).await?;
    let upgraded = TokioIo::new(upgraded.await.map_err(upstream)?);
    let (mut from_cluster, to_cluster) = tokio::io::split(upgraded);

    let send = send(inbound, to_cluster);
    let receive = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(BUFFER);
            match from_cluster.read_buf(&mut buffer).await {
                // A connection that breaks instead of ending is how many a container's process goes.
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {
                    let data = buffer.split().freeze();
                    outbound.message(response_upgrade_data(data)).await?;
                }
            }
        }
    };
    tokio::select! {
        result = receive => result,
        error = send => Err(error),
    }
}

/// Carries bytes to the cluster. Returns only if the server's side breaks the protocol.
async fn send(mut inbound: Inbound, mut to_cluster: impl AsyncWrite + Unpin) -> CallError {
    loop {
        match next_frame(&mut inbound).await {
            Ok(Some(RequestFrame::UpgradeData(data))) => {
                let written = async {
                    to_cluster.write_all(&data).await?;
                    to_cluster.flush().await
                };
                if written.await.is_err() {
                    // The cluster's side is closed; what it said last is still to be received.
                    return std::future::pending().await;
                }
            }
            Ok(Some(_)) => return broken("a frame that is no upgrade data after the trailer"),
            Ok(None) => {
                let _ = to_cluster.shutdown().await;
                return std::future::pending().await;
            }
            Err(error) => return error,
        }
    }
}
