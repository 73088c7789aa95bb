//! `GitlabAccess/MakeRequest`: HTTP requests of an agent's modules to GitLab, which this server is to them.
//!
//! Whatever is asked, the answer is HTTP: a module or path that is not here is a 404, and the stream ends well. Only
//! frames out of their order break it. Source: `proto/gitlab/gitlab_access.proto`, `proto/gitlab/grpctool.proto`.

use std::{pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{Method, StatusCode};
use prost::Message as _;
use proto::{
    gitlab_access::rpc::{HeaderExtra, gitlab_access_server::GitlabAccess},
    grpctool::{HttpRequest, HttpResponse, http_request, http_response},
    prototool::{self, KeyValues, Values},
};
use serde_json::json;
use tonic::{Request, Response, Status, Streaming};

use super::{AgentCall, services::caller};
use crate::workspaces::json::{self, Answer, Json, Refusal};

/// How long a request may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer in one message, as in GitLab's.
const CHUNK: usize = 32 * 1024;

/// The service.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) remote_development: Json,
}

#[tonic::async_trait]
impl GitlabAccess for Access {
    type MakeRequestStream = Pin<Box<dyn Stream<Item = Result<HttpResponse, Status>> + Send>>;

    async fn make_request(
        &self,
        mut request: Request<Streaming<HttpRequest>>,
    ) -> Result<Response<Self::MakeRequestStream>, Status> {
        let call = caller(&mut request)?;
        let cut = call.cut.clone();
        let answered = tokio::select! {
            () = cut.cancelled() => return Err(Status::unauthenticated("unauthenticated")),
            answered = self.answer(&call, request.into_inner()) => answered?,
        };
        let sending = match answered {
            Ok((status, body)) => Sending::new(status, body),
            Err(Refusal { status, reason }) => {
                tracing::debug!(agent = %call.agent.name, %status, reason, "request refused");
                let body = json!({ "error": reason }).to_string();
                Sending::new(status, Body::Whole(body.into()))
            }
        };
        let messages = futures::stream::unfold(Some(sending), move |sending| {
            let cut = cut.clone();
            async move {
                let mut sending = sending?;
                let message = tokio::select! {
                    biased;
                    () = cut.cancelled() => {
                        return Some((Err(Status::unauthenticated("unauthenticated")), None));
                    }
                    message = sending.next() => message?,
                };
                let message = Some(message);
                Some((Ok(HttpResponse { message }), Some(sending)))
            }
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

impl Access {
    /// The answer in HTTP; the outer error is one of the stream.
    async fn answer(
        &self,
        call: &AgentCall,
        frames: Streaming<HttpRequest>,
    ) -> Result<Result<(StatusCode, Body), Refusal>, Status> {
        let reading = tokio::time::timeout(READ_TIMEOUT, Reader::begin(frames));
        let (head, mut reader) = reading
            .await
            .map_err(|_| Status::deadline_exceeded("no request came"))??;
        let route = match route(&head) {
            Ok(route) => route,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let remote_development = &self.remote_development;
        match route {
            Route::Prerequisites => {
                let body = remote_development.prerequisites(&call.agent).await;
                Ok(body.map(|body| (StatusCode::OK, Body::Whole(body))))
            }
            Route::Reconcile => {
                // The turn first: so an agent has one body in memory, however many requests it sends.
                let turn = match remote_development.turn(&call.agent).await {
                    Ok(turn) => turn,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                let read = tokio::time::timeout(READ_TIMEOUT, reader.body(json::MAX_BODY)).await;
                let body =
                    match read.map_err(|_| Status::deadline_exceeded("the body did not end"))?? {
                        Ok(body) => body,
                        Err(refusal) => return Ok(Err(refusal)),
                    };
                let answer = remote_development.reconcile(&call.agent, turn, &body).await;
                Ok(answer.map(|it| (StatusCode::CREATED, Body::Answer(Box::new(it)))))
            }
        }
    }
}

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Prerequisites,
    Reconcile,
}

fn route(head: &http_request::Header) -> Result<Route, Refusal> {
    let bad = |reason: &str| Refusal::new(StatusCode::BAD_REQUEST, reason);
    let extra = head.extra.as_ref().filter(|any| {
        // A type URL may name any host.
        let name = any.type_url.rsplit_once('/').map(|(_, name)| name);
        name == proto::GITLAB_ACCESS_HEADER_EXTRA
            .rsplit_once('/')
            .map(|(_, name)| name)
    });
    let extra = extra.ok_or_else(|| bad("header.extra does not name the module"))?;
    let HeaderExtra { module_name } = HeaderExtra::decode(extra.value.as_slice())
        .map_err(|_| bad("header.extra cannot be read"))?;
    let request = head
        .request
        .as_ref()
        .ok_or_else(|| bad("the header holds no request"))?;
    let is_upgrade = |entry: &KeyValues| entry.key.eq_ignore_ascii_case(b"upgrade");
    if request.header.iter().any(is_upgrade) {
        return Err(bad("no connection can be upgraded here"));
    }
    let (method, route) = match (module_name.as_str(), request.url_path.as_str()) {
        ("remote_development", "/prerequisites") => (Method::GET, Route::Prerequisites),
        ("remote_development", "/reconcile") => (Method::POST, Route::Reconcile),
        ("remote_development", _) => {
            let reason = "remote_development serves GET /prerequisites and POST /reconcile";
            return Err(Refusal::new(StatusCode::NOT_FOUND, reason));
        }
        _ => {
            let reason = "this server serves the module remote_development only";
            return Err(Refusal::new(StatusCode::NOT_FOUND, reason));
        }
    };
    if request.method != method.as_str() {
        let reason = format!("only {method} is served there");
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    Ok(route)
}

/// Reads a request in its order: `header data* trailer`.
struct Reader {
    frames: Streaming<HttpRequest>,
    /// The header said that no body will come.
    is_empty: bool,
}

impl Reader {
    async fn begin(
        mut frames: Streaming<HttpRequest>,
    ) -> Result<(http_request::Header, Self), Status> {
        match frames.message().await?.and_then(|it| it.message) {
            Some(http_request::Message::Header(head)) => {
                let is_empty = head.content_length == Some(0);
                Ok((head, Self { frames, is_empty }))
            }
            _ => Err(Status::invalid_argument(
                "the first message must be a header",
            )),
        }
    }

    async fn body(&mut self, limit: usize) -> Result<Result<Vec<u8>, Refusal>, Status> {
        let mut body = Vec::new();
        loop {
            let message = self.frames.message().await?.and_then(|it| it.message);
            match message {
                Some(http_request::Message::Data(http_request::Data { data })) => {
                    if self.is_empty {
                        return Err(Status::invalid_argument("data after a content length of 0"));
                    }
                    if body.len() + data.len() > limit {
                        let reason = format!("the body has more than {limit} bytes");
                        return Ok(Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)));
                    }
                    body.extend_from_slice(&data);
                }
                Some(http_request::Message::Trailer(_)) => return Ok(Ok(body)),
                None => {
                    return Err(Status::invalid_argument(
                        "the request ended without a trailer",
                    ));
                }
                Some(http_request::Message::Header(_) | http_request::Message::UpgradeData(_)) => {
                    return Err(Status::invalid_argument("message out of order"));
                }
            }
        }
    }
}

/// What follows the head of an answer.
enum Body {
    Whole(Bytes),
    Answer(Box<Answer>),
}

/// An answer on its way.
struct Sending {
    head: Option<http_response::Header>,
    /// Made, and still to be cut into messages.
    pending: BytesMut,
    answer: Option<Box<Answer>>,
    has_ended: bool,
}

impl Sending {
    fn new(status: StatusCode, body: Body) -> Self {
        let content_type = KeyValues {
            key: Bytes::from_static(b"Content-Type"),
            value: Some(Values {
                value: vec![Bytes::from_static(b"application/json")],
            }),
        };
        let head = http_response::Header {
            response: Some(prototool::HttpResponse {
                status_code: status.as_u16().into(),
                status: status.to_string(),
                header: vec![content_type],
            }),
        };
        let (pending, answer) = match body {
            Body::Whole(body) => (body.into(), None),
            Body::Answer(answer) => (BytesMut::new(), Some(answer)),
        };
        Self {
            head: Some(head),
            pending,
            answer,
            has_ended: false,
        }
    }

    async fn next(&mut self) -> Option<http_response::Message> {
        if let Some(head) = self.head.take() {
            return Some(http_response::Message::Header(head));
        }
        while self.pending.len() < CHUNK
            && let Some(answer) = &mut self.answer
        {
            match answer.next().await {
                Some(part) => self.pending.extend_from_slice(&part),
                None => {
                    // Asked for when all before was taken: the agent has it, or soon will.
                    if self.pending.is_empty()
                        && let Some(answer) = self.answer.take()
                    {
                        answer.sent();
                    }
                    break;
                }
            }
        }
        if !self.pending.is_empty() {
            let length = self.pending.len().min(CHUNK);
            let data = self.pending.split_to(length).freeze();
            return Some(http_response::Message::Data(http_response::Data { data }));
        }
        match std::mem::replace(&mut self.has_ended, true) {
            false => Some(http_response::Message::Trailer(http_response::Trailer {})),
            true => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(module: &str, method: &str, path: &str) -> http_request::Header {
        let extra = HeaderExtra {
            module_name: module.into(),
        };
        http_request::Header {
            request: Some(prototool::HttpRequest {
                method: method.into(),
                url_path: path.into(),
                ..prototool::HttpRequest::default()
            }),
            extra: Some(prost_types::Any {
                type_url: proto::GITLAB_ACCESS_HEADER_EXTRA.into(),
                value: extra.encode_to_vec(),
            }),
            content_length: None,
        }
    }

    #[test]
    fn only_what_workspaces_need_is_served() {
        let routed = |head: &http_request::Header| route(head).map_err(|it| it.status.as_u16());
        for (module, method, path, expected) in [
            (
                "remote_development",
                "POST",
                "/reconcile",
                Ok(Route::Reconcile),
            ),
            (
                "remote_development",
                "GET",
                "/prerequisites",
                Ok(Route::Prerequisites),
            ),
            ("remote_development", "GET", "/reconcile", Err(405)),
            ("remote_development", "POST", "/reconcile/", Err(404)),
            ("remote_development", "POST", "/../agent_info", Err(404)),
            ("starboard_vulnerability", "PUT", "/", Err(404)),
            ("", "POST", "/reconcile", Err(404)),
        ] {
            let head = head(module, method, path);
            assert_eq!(routed(&head), expected, "{module} {method} {path}");
        }
        let mut nameless = head("remote_development", "POST", "/reconcile");
        nameless.extra = None;
        assert_eq!(routed(&nameless), Err(400));
        let mut upgrade = head("remote_development", "POST", "/reconcile");
        upgrade.request.as_mut().unwrap().header = vec![KeyValues {
            key: Bytes::from_static(b"Upgrade"),
            value: None,
        }];
        assert_eq!(routed(&upgrade), Err(400));
    }
}
