//! Bytes to a port of a workspace, as messages.

use bytes::Bytes;
use prost::Message as _;
use proto::remote_development::rpc as wire;
use wire::dial_request::Message as Request;
use wire::dial_response::Message as Response;

/// What the server wants to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The server's id of the workspace.
    pub(crate) workspace_id: String,
    pub(crate) namespace: String,
    /// The workspace's name.
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DialFrame {
    Target(Target),
    Data(Bytes),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides said all.
    Closed,
    /// The connection to the workspace broke; with what is told to people.
    Broken(String),
}

/// Longest text of an end.
const MAX_TEXT: usize = 500;

/// Reads a message of the request.
///
/// # Errors
///
/// Says what is wrong.
pub(crate) fn dial_frame(message: Bytes) -> Result<DialFrame, String> {
    let request = wire::DialRequest::decode(message).map_err(|error| error.to_string())?;
    match request.message {
        Some(Request::Target(wire::Target {
            workspace_id,
            namespace,
            name,
            port,
        })) => {
            let port = u16::try_from(port).ok().filter(|port| *port != 0);
            Ok(DialFrame::Target(Target {
                workspace_id,
                namespace,
                name,
                port: port.ok_or("the target's port is no port")?,
            }))
        }
        Some(Request::Data(data)) => Ok(DialFrame::Data(data)),
        None => Err("a message without content".into()),
    }
}

pub(crate) fn connected() -> Bytes {
    encode(Response::Connected(wire::Connected {}))
}

pub(crate) fn data(data: Bytes) -> Bytes {
    encode(Response::Data(data))
}

pub(crate) fn closed() -> Bytes {
    encode(Response::Closed(wire::Closed {}))
}

pub(crate) fn end(ended: Ended) -> Bytes {
    let (reason, message) = match ended {
        Ended::Closed => (wire::EndReason::Closed, String::new()),
        Ended::Broken(text) => {
            let text = text.chars().take(MAX_TEXT).collect();
            (wire::EndReason::Broken, text)
        }
    };
    encode(Response::End(wire::End {
        reason: reason.into(),
        message,
    }))
}

fn encode(message: Response) -> Bytes {
    wire::DialResponse {
        message: Some(message),
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(message: Option<Request>) -> Bytes {
        wire::DialRequest { message }.encode_to_vec().into()
    }

    #[test]
    fn a_target_has_a_port() {
        let target = |port| {
            request(Some(Request::Target(wire::Target {
                workspace_id: "id".into(),
                namespace: "ns".into(),
                name: "one".into(),
                port,
            })))
        };
        assert_eq!(
            dial_frame(target(8080)),
            Ok(DialFrame::Target(Target {
                workspace_id: "id".into(),
                namespace: "ns".into(),
                name: "one".into(),
                port: 8080,
            }))
        );
        for port in [0, 65_536] {
            assert!(dial_frame(target(port)).is_err(), "{port}");
        }
        assert!(dial_frame(request(None)).is_err());
        assert!(dial_frame(Bytes::from_static(b"\xff")).is_err());
    }
}
