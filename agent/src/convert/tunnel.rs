//! Frames of the tunnel, and the order they may have.

use bytes::Bytes;
use proto::prototool::{KeyValues, Values};
use proto::reverse_tunnel::info;
use proto::reverse_tunnel::rpc::{self, connect_request, connect_response};

use crate::tunnel::call::{CallError, Metadata};

/// What the server sends on a tunnel connection.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// The call: a method's full path, and its metadata.
    Request { method: String, metadata: Metadata },
    /// A message of the call.
    Message(Bytes),
    /// No more messages will come.
    CloseSend,
}

/// What the agent sends on a tunnel connection.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// The answer's metadata.
    Header(Metadata),
    /// A message of the answer.
    Message(Bytes),
    /// The end of the call.
    End(Result<Metadata, CallError>),
}

/// Reads a frame; `None` if it has no content, which no server may send.
pub(crate) fn incoming(response: rpc::ConnectResponse) -> Option<Incoming> {
    Some(match response.msg? {
        connect_response::Msg::RequestInfo(info) => Incoming::Request {
            method: info.method_name,
            metadata: metadata_from(info.meta),
        },
        connect_response::Msg::Message(message) => Incoming::Message(message.data),
        connect_response::Msg::CloseSend(rpc::CloseSend {}) => Incoming::CloseSend,
    })
}

/// The first frame: what the agent serves.
pub(crate) fn descriptor<'a>(
    services: impl Iterator<Item = (&'a str, &'a [&'static str])>,
) -> rpc::ConnectRequest {
    let services = services
        .map(|(name, methods)| info::Service {
            name: name.to_owned(),
            methods: methods
                .iter()
                .map(|name| info::Method {
                    name: (*name).to_owned(),
                })
                .collect(),
        })
        .collect();
    request(connect_request::Msg::Descriptor(rpc::Descriptor {
        agent_descriptor: Some(info::AgentDescriptor { services }),
    }))
}

/// Puts the frames of an answer into the legal order, whatever the handler did: header, messages, trailer, error; or
/// nothing but an error.
#[derive(Debug, Default)]
pub(crate) struct Order {
    header_sent: bool,
    ended: bool,
}

impl Order {
    /// The frames for the next step of the answer.
    pub(crate) fn frames(&mut self, outgoing: Outgoing) -> Frames {
        let mut frames = Frames::default();
        if self.ended {
            return frames;
        }
        match outgoing {
            Outgoing::Header(metadata) => {
                // A second header cannot be sent; the first stands.
                if !std::mem::replace(&mut self.header_sent, true) {
                    frames.push(header(metadata));
                }
            }
            Outgoing::Message(data) => {
                self.header_first(&mut frames);
                frames.push(request(connect_request::Msg::Message(rpc::Message {
                    data,
                })));
            }
            Outgoing::End(Ok(metadata)) => {
                self.header_first(&mut frames);
                frames.push(trailer(metadata));
                self.ended = true;
            }
            Outgoing::End(Err(error)) => {
                if self.header_sent {
                    frames.push(trailer(Metadata::default()));
                }
                frames.push(request(connect_request::Msg::Error(rpc::Error {
                    status: Some(rpc::RpcStatus {
                        code: error.code.into(),
                        message: error.message,
                        details: Vec::new(),
                    }),
                })));
                self.ended = true;
            }
        }
        frames
    }

    fn header_first(&mut self, frames: &mut Frames) {
        if !std::mem::replace(&mut self.header_sent, true) {
            frames.push(header(Metadata::default()));
        }
    }
}

/// At most two frames follow from one step of a handler: a queue without an allocation.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    first: Option<rpc::ConnectRequest>,
    second: Option<rpc::ConnectRequest>,
}

impl Frames {
    fn push(&mut self, frame: rpc::ConnectRequest) {
        debug_assert!(self.second.is_none(), "no step has more than two frames");
        if self.first.is_none() {
            self.first = Some(frame);
        } else {
            self.second = Some(frame);
        }
    }

    /// The next frame.
    pub(crate) fn pop(&mut self) -> Option<rpc::ConnectRequest> {
        let frame = self.first.take();
        self.first = self.second.take();
        frame
    }
}

fn request(msg: connect_request::Msg) -> rpc::ConnectRequest {
    rpc::ConnectRequest { msg: Some(msg) }
}

fn header(metadata: Metadata) -> rpc::ConnectRequest {
    request(connect_request::Msg::Header(rpc::Header {
        meta: metadata_to(metadata),
    }))
}

fn trailer(metadata: Metadata) -> rpc::ConnectRequest {
    request(connect_request::Msg::Trailer(rpc::Trailer {
        meta: metadata_to(metadata),
    }))
}

/// Keys that belong to the server's own connections. A server may send them by mistake, its credentials among them; they
/// are dropped here, before any handler sees them.
fn is_reserved(key: &str) -> bool {
    matches!(
        key,
        "authorization" | "content-type" | "user-agent" | "te" | "host" | "cookie"
    ) || key.starts_with(':')
        || key.starts_with("grpc-")
}

fn metadata_from(entries: Vec<KeyValues>) -> Metadata {
    entries
        .into_iter()
        .filter_map(|entry| {
            let key = std::str::from_utf8(&entry.key).ok()?.to_ascii_lowercase();
            if is_reserved(&key) {
                return None;
            }
            Some((key, entry.value.unwrap_or_default().value))
        })
        .collect()
}

fn metadata_to(metadata: Metadata) -> Vec<KeyValues> {
    metadata
        .into_iter()
        .filter(|(key, _)| !is_reserved(key))
        .map(|(key, value)| KeyValues {
            key: key.into(),
            value: Some(Values { value }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::call::Code;

    /// Names the frames of an answer.
    fn names(steps: Vec<Outgoing>) -> Vec<&'static str> {
        let mut order = Order::default();
        let mut names = Vec::new();
        for step in steps {
            let mut frames = order.frames(step);
            while let Some(frame) = frames.pop() {
                names.push(match frame.msg.unwrap() {
                    connect_request::Msg::Descriptor(_) => "descriptor",
                    connect_request::Msg::Header(_) => "header",
                    connect_request::Msg::Message(_) => "message",
                    connect_request::Msg::Trailer(_) => "trailer",
                    connect_request::Msg::Error(_) => "error",
                });
            }
        }
        names
    }

    fn message() -> Outgoing {
        Outgoing::Message(Bytes::from_static(b"m"))
    }

    fn failure() -> Outgoing {
        Outgoing::End(Err(CallError::new(Code::Internal, "broken")))
    }

    #[test]
    fn frames_come_in_the_legal_order_whatever_a_handler_does() {
        let none = Metadata::default;
        let cases = [
            (vec![Outgoing::End(Ok(none()))], "header trailer"),
            (vec![failure()], "error"),
            (
                vec![message(), message(), Outgoing::End(Ok(none()))],
                "header message message trailer",
            ),
            (vec![message(), failure()], "header message trailer error"),
            (
                vec![
                    Outgoing::Header(none()),
                    Outgoing::Header(none()),
                    failure(),
                    message(),
                ],
                "header trailer error",
            ),
        ];
        for (steps, expected) in cases {
            assert_eq!(names(steps).join(" "), expected);
        }
    }

    #[test]
    fn the_servers_own_metadata_reaches_no_handler() {
        let entry = |key: &str| KeyValues {
            key: key.to_owned().into(),
            value: Some(Values {
                value: vec![Bytes::from_static(b"v")],
            }),
        };
        let metadata = metadata_from(
            [
                "Authorization",
                ":authority",
                "grpc-accept-encoding",
                "content-type",
                "user-agent",
                "x-trace",
            ]
            .map(entry)
            .to_vec(),
        );
        assert_eq!(
            metadata,
            [("x-trace".to_owned(), vec![Bytes::from_static(b"v")])]
        );
    }
}
