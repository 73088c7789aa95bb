//! HTTP messages as they travel inside gRPC messages.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use prost::Message as _;
use proto::grpctool::{self, http_request, http_response};
use proto::kubernetes_api::rpc as kubernetes_api;
use proto::prototool::{self, KeyValues, Values};

/// A name and its values.
pub(crate) type Entries = Vec<(Bytes, Vec<Bytes>)>;

/// One message of a request.
#[derive(Debug)]
pub(crate) enum RequestFrame {
    Header(RequestHead),
    Data(Bytes),
    Trailer,
    UpgradeData(Bytes),
}

/// The head of a request.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Entries,
    pub(crate) headers: Entries,
    /// `None`: not known.
    pub(crate) content_length: Option<u64>,
    pub(crate) impersonation: Option<Impersonation>,
}

/// Whom the server wants the request to run as.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Impersonation {
    pub(crate) username: String,
    pub(crate) groups: Vec<String>,
    pub(crate) uid: String,
    pub(crate) extra: Vec<(String, Vec<String>)>,
}

/// Why a message is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("message cannot be decoded")]
    Decode(#[from] prost::DecodeError),
    #[error("message without content")]
    Empty,
    #[error("header without a request")]
    NoRequest,
    #[error("header.extra has the unknown type {0:?}")]
    ExtraType(String),
}

/// Reads a message of a request to the API server.
pub(crate) fn request_frame(message: Bytes) -> Result<RequestFrame, Error> {
    let message = grpctool::HttpRequest::decode(message)?
        .message
        .ok_or(Error::Empty)?;
    Ok(match message {
        http_request::Message::Header(header) => RequestFrame::Header(request_head(header)?),
        http_request::Message::Data(data) => RequestFrame::Data(data.data),
        http_request::Message::Trailer(http_request::Trailer {}) => RequestFrame::Trailer,
        http_request::Message::UpgradeData(data) => RequestFrame::UpgradeData(data.data),
    })
}

fn request_head(header: http_request::Header) -> Result<RequestHead, Error> {
    let http_request::Header {
        request,
        extra,
        content_length,
    } = header;
    let prototool::HttpRequest {
        method,
        header,
        url_path,
        query,
    } = request.ok_or(Error::NoRequest)?;
    let impersonation = match extra {
        None => None,
        Some(any) if any.type_url == proto::KUBERNETES_API_HEADER_EXTRA => {
            impersonation(kubernetes_api::HeaderExtra::decode(any.value.as_slice())?)
        }
        Some(any) => return Err(Error::ExtraType(any.type_url)),
    };
    Ok(RequestHead {
        method,
        path: url_path,
        query: entries(query),
        headers: entries(header),
        content_length: content_length.and_then(|length| u64::try_from(length).ok()),
        impersonation,
    })
}

fn impersonation(extra: kubernetes_api::HeaderExtra) -> Option<Impersonation> {
    let kubernetes_api::ImpersonationConfig {
        username,
        groups,
        uid,
        extra,
    } = extra.imp_config?;
    let impersonation = Impersonation {
        username,
        groups,
        uid,
        extra: extra
            .into_iter()
            .map(|entry| (entry.key, entry.val))
            .collect(),
    };
    // GitLab sends an empty one where it means none.
    (impersonation != Impersonation::default()).then_some(impersonation)
}

fn entries(entries: Vec<KeyValues>) -> Entries {
    entries
        .into_iter()
        .map(|entry| (entry.key, entry.value.unwrap_or_default().value))
        .collect()
}

/// Writes the head of an answer.
pub(crate) fn response_header(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let header = headers
        .keys()
        .map(|name| KeyValues {
            key: canonical(name.as_str()),
            value: Some(Values {
                value: headers
                    .get_all(name)
                    .iter()
                    .map(|value| Bytes::copy_from_slice(value.as_bytes()))
                    .collect(),
            }),
        })
        .collect();
    let response = prototool::HttpResponse {
        status_code: i32::from(status.as_u16()),
        status: format!(
            "{} {}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        ),
        header,
    };
    response_message(http_response::Message::Header(http_response::Header {
        response: Some(response),
    }))
}

/// Writes a part of an answer's body.
pub(crate) fn response_data(data: Bytes) -> Bytes {
    response_message(http_response::Message::Data(http_response::Data { data }))
}

/// Writes the end of an answer's body.
pub(crate) fn response_trailer() -> Bytes {
    response_message(http_response::Message::Trailer(http_response::Trailer {}))
}

/// Writes bytes of an upgraded connection.
pub(crate) fn response_upgrade_data(data: Bytes) -> Bytes {
    response_message(http_response::Message::UpgradeData(
        http_response::UpgradeData { data },
    ))
}

fn response_message(message: http_response::Message) -> Bytes {
    grpctool::HttpResponse {
        message: Some(message),
    }
    .encode_to_vec()
    .into()
}

/// `Content-Type` for `content-type`: the peer looks headers up in Go's form of their names.
fn canonical(name: &str) -> Bytes {
    let mut start = true;
    name.bytes()
        .map(|byte| {
            let byte = if start {
                byte.to_ascii_uppercase()
            } else {
                byte
            };
            start = byte == b'-';
            byte
        })
        .collect::<Vec<u8>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_written_as_go_does() {
        assert_eq!(
            canonical("x-stream-protocol-version"),
            "X-Stream-Protocol-Version"
        );
        assert_eq!(canonical("via"), "Via");
    }

    #[test]
    fn an_empty_impersonation_is_none() {
        let none = kubernetes_api::HeaderExtra {
            imp_config: Some(kubernetes_api::ImpersonationConfig::default()),
        };
        assert_eq!(impersonation(none), None);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(request_frame(Bytes::from_static(b"\xff\xff")).is_err());
        assert!(matches!(request_frame(Bytes::new()), Err(Error::Empty)));
    }
}
