//! HTTP over gRPC: the messages of a call, and the order they must have.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, request::Parts};
use prost::Message as _;
use prost_types::Any;
use proto::{
    grpctool::{
        HttpRequest, HttpResponse,
        http_request::{Data, Header, Message, Trailer, UpgradeData},
        http_response::Message as Answer,
    },
    kubernetes_api::rpc::HeaderExtra,
    prototool,
};

use super::{PREFIX, headers, query};
use crate::tunnel::{Call, CallError, Event};

/// The head; `as_user` is whom the agent shall impersonate. Without, it decides itself as whom it calls.
pub(super) fn request_head(
    parts: &Parts,
    upgrade: bool,
    content_length: i64,
    as_user: Option<&HeaderExtra>,
) -> Bytes {
    let path = &parts.uri.path()[PREFIX.len() - 1..];
    let request = prototool::HttpRequest {
        method: parts.method.as_str().to_owned(),
        header: headers::for_agent(&parts.headers, upgrade),
        url_path: path.to_owned(),
        query: query::for_agent(parts.uri.query().unwrap_or_default()),
    };
    encode(Message::Header(Header {
        request: Some(request),
        extra: as_user.map(|extra| Any {
            type_url: proto::KUBERNETES_API_HEADER_EXTRA.to_owned(),
            value: extra.encode_to_vec(),
        }),
        content_length: Some(content_length),
    }))
}

pub(super) fn request_data(data: Bytes) -> Bytes {
    encode(Message::Data(Data { data }))
}

pub(super) fn request_trailer() -> Bytes {
    encode(Message::Trailer(Trailer {}))
}

pub(super) fn upgrade_data(data: Bytes) -> Bytes {
    encode(Message::UpgradeData(UpgradeData { data }))
}

fn encode(message: Message) -> Bytes {
    HttpRequest {
        message: Some(message),
    }
    .encode_to_vec()
    .into()
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error(transparent)]
    Call(CallError),
    /// The agent did not keep to the protocol.
    #[error("agent broke the protocol: {0}")]
    Wire(&'static str),
}

/// The head of an answer, ready for the caller.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// A part of an answer after its head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Data(Bytes),
    UpgradeData(Bytes),
    /// The answer is complete. After a 101 this is where the upgraded bytes begin.
    Trailer,
    End,
}

/// One request and its answer through a call.
#[derive(Debug)]
pub(super) struct Exchange {
    call: Call,
    order: Order,
    asked_upgrade: bool,
}

/// What may come next: `header data* trailer upgrade_data*`, then the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Header,
    Body { upgraded: bool },
    Upgraded,
    Complete,
}

impl Exchange {
    pub(super) fn new(call: Call, asked_upgrade: bool) -> Self {
        Self {
            call,
            order: Order::Header,
            asked_upgrade,
        }
    }

    pub(super) async fn head(&mut self) -> Result<Head, ExchangeError> {
        let answer = match std::future::poll_fn(|cx| self.poll_message(cx)).await? {
            Some(Answer::Header(header)) => header.response,
            Some(Answer::Data(_) | Answer::Trailer(_) | Answer::UpgradeData(_)) => {
                return Err(ExchangeError::Wire("no header at the start"));
            }
            None => return Err(ExchangeError::Wire("no answer")),
        };
        let answer = answer.ok_or(ExchangeError::Wire("header without a response"))?;
        let status = u16::try_from(answer.status_code)
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or(ExchangeError::Wire("status that is none"))?;
        let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
        if status.is_informational() && !(upgraded && self.asked_upgrade) {
            return Err(ExchangeError::Wire("informational status"));
        }
        self.order = Order::Body { upgraded };
        Ok(Head {
            status,
            headers: headers::for_caller(answer.header, upgraded),
        })
    }

    /// The next part, after the head.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, ExchangeError>> {
        let message = std::task::ready!(self.poll_message(cx))?;
        let (part, order) = match (self.order, message) {
            (Order::Body { upgraded: false }, Some(Answer::Data(data))) => {
                (Part::Data(data.data), self.order)
            }
            (Order::Body { upgraded: true }, Some(Answer::Trailer(_))) => {
                (Part::Trailer, Order::Upgraded)
            }
            (Order::Body { upgraded: false }, Some(Answer::Trailer(_))) => {
                (Part::Trailer, Order::Complete)
            }
            (Order::Upgraded, Some(Answer::UpgradeData(data))) => {
                (Part::UpgradeData(data.data), self.order)
            }
            (Order::Upgraded | Order::Complete, None) => (Part::End, Order::Complete),
            (_, None) => return Poll::Ready(Err(ExchangeError::Wire("end before the trailer"))),
            (_, Some(_)) => return Poll::Ready(Err(ExchangeError::Wire("message out of order"))),
        };
        self.order = order;
        Poll::Ready(Ok(part))
    }

    pub(super) async fn part(&mut self) -> Result<Part, ExchangeError> {
        std::future::poll_fn(|cx| self.poll_part(cx)).await
    }

    /// Ends a call whose answer the caller has in full.
    pub(super) fn finish(&mut self) {
        self.call.finish();
    }

    fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Answer>, ExchangeError>> {
        loop {
            match std::task::ready!(self.call.poll_recv(cx)).map_err(ExchangeError::Call)? {
                Event::Header => {}
                Event::End => return Poll::Ready(Ok(None)),
                Event::Message(data) => {
                    // Parts of the message are views into it, not copies.
                    let answer = HttpResponse::decode(data)
                        .map_err(|_| ExchangeError::Wire("message that is none"))?;
                    return Poll::Ready(match answer.message {
                        Some(message) => Ok(Some(message)),
                        None => Err(ExchangeError::Wire("empty message")),
                    });
                }
            }
        }
    }
}
