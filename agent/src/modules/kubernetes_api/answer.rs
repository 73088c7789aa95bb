//! The API server's answer, as it comes.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;

use super::request::{remove_hop_by_hop, via};
use super::upstream;
use crate::convert::http::{response_data, response_header, response_trailer};
use crate::tunnel::call::{CallError, Gone, Outbound};

/// The largest part of a body that goes as one message. Small enough that streams take turns on the connection, large
/// enough that the work for each message does not count.
const MAX_DATA: usize = 64 * 1024;

/// Carries a whole answer. Each part goes on at once: a watch waits for nothing.
pub(super) async fn whole(
    response: Response<Incoming>,
    outbound: &mut Outbound,
) -> Result<(), CallError> {
    let (mut parts, mut body) = response.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    head(parts.status, parts.version, &mut parts.headers, outbound).await?;
    while let Some(frame) = body.frame().await {
        // Frames that are no data are HTTP trailers, which the API server does not send.
        if let Ok(mut data) = frame.map_err(upstream)?.into_data() {
            while !data.is_empty() {
                let part = data.split_to(data.len().min(MAX_DATA));
                outbound.message(response_data(part)).await?;
            }
        }
    }
    outbound.message(response_trailer()).await?;
    Ok(())
}

/// Sends the head of an answer.
pub(super) async fn head(
    status: StatusCode,
    version: Version,
    headers: &mut HeaderMap,
    outbound: &mut Outbound,
) -> Result<(), Gone> {
    let protocol = if version == Version::HTTP_10 {
        "1.0"
    } else {
        "1.1"
    };
    headers.append(header::VIA, via(protocol));
    outbound.message(response_header(status, headers)).await
}

/// Answers in the API server's place, in its form.
pub(super) async fn refuse(
    outbound: &mut Outbound,
    status: StatusCode,
    message: &str,
) -> Result<(), CallError> {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("GitLab Agent: {message}"),
        "reason": status.canonical_reason(),
        "code": status.as_u16(),
    })
    .to_string();
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    outbound.message(response_header(status, &headers)).await?;
    outbound.message(response_data(Bytes::from(body))).await?;
    outbound.message(response_trailer()).await?;
    Ok(())
}
