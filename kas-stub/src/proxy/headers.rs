//! Which headers pass, and in which form.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::prototool::{KeyValues, Values};

use crate::connection_headers::{HOP_BY_HOP, connection_names};

/// What the server says of itself in `Via`.
const VIA: &str = concat!("gRPC/1.0 kas-stub/", env!("CARGO_PKG_VERSION"));
/// Credentials and choices that were for the server.
const OURS: [&str; 5] = [
    "authorization",
    "cookie",
    "gitlab-agent-id",
    "x-csrf-token",
    "host",
];

/// The request's headers for the agent, names in the form of Go's HTTP (`Upgrade` is found by it).
pub(super) fn for_agent(headers: &HeaderMap, upgrade: bool) -> Vec<KeyValues> {
    let named: Vec<String> = connection_names(headers).collect();
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        !OURS.contains(&name)
            && !HOP_BY_HOP.contains(&name)
            // The length of a body travels beside the headers.
            && name != "content-length"
            && name != "via"
            && !named.iter().any(|hop| hop == name)
    };
    let mut all: Vec<KeyValues> = headers
        .keys()
        .filter(|name| passes(name))
        .map(|name| key_values(name, headers))
        .collect();
    if upgrade {
        all.push(entry("Connection", [Bytes::from_static(b"upgrade")]));
        all.push(key_values(&header::UPGRADE, headers));
    }
    let via = headers.get_all(header::VIA).iter().map(bytes);
    all.push(entry(
        "Via",
        via.chain([Bytes::from_static(VIA.as_bytes())]),
    ));
    all
}

/// The answer's headers for the caller. What an API server says about cookies and origins is about its own host, not
/// about ours.
pub(super) fn for_caller(answer: Vec<KeyValues>, upgraded: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(answer.len() + 2);
    for KeyValues { key, value } in answer {
        let Ok(name) = HeaderName::from_bytes(&key) else {
            continue;
        };
        let text = name.as_str();
        let is_upgrade = upgraded && name == header::UPGRADE;
        if (HOP_BY_HOP.contains(&text) && !is_upgrade)
            || text == "set-cookie"
            || text.starts_with("access-control-")
        {
            continue;
        }
        for value in value.unwrap_or_default().value {
            if let Ok(value) = HeaderValue::from_maybe_shared(value) {
                headers.append(name.clone(), value);
            }
        }
    }
    if upgraded {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    if upgraded || content_length(&headers).is_none() {
        // Absent, or several, or no number: the body's end is then marked otherwise.
        headers.remove(header::CONTENT_LENGTH);
    }
    headers.append(header::VIA, HeaderValue::from_static(VIA));
    headers
}

/// The one length that the headers state.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        return None;
    };
    let text = length.to_str().ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn key_values(name: &HeaderName, headers: &HeaderMap) -> KeyValues {
    entry(
        &canonical(name.as_str()),
        headers.get_all(name).iter().map(bytes),
    )
}

fn entry(name: &str, values: impl IntoIterator<Item = Bytes>) -> KeyValues {
    KeyValues {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Some(Values {
            value: values.into_iter().collect(),
        }),
    }
}

fn bytes(value: &HeaderValue) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

/// `content-type` as `Content-Type`.
fn canonical(name: &str) -> String {
    let mut at_start = true;
    name.chars()
        .map(|letter| {
            let canonical = if at_start {
                letter.to_ascii_uppercase()
            } else {
                letter
            };
            at_start = letter == '-';
            canonical
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::connection_headers::is_upgrade;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn shown(all: &[KeyValues]) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut lines: Vec<_> = all
            .iter()
            .map(|entry| {
                let values: Vec<_> = entry
                    .value
                    .as_ref()
                    .unwrap()
                    .value
                    .iter()
                    .map(text)
                    .collect();
                format!("{}: {}", text(&entry.key), values.join(" | "))
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn credentials_and_hop_by_hop_headers_stay_here() {
        let request = request(&[
            ("authorization", "Bearer pat:1:secret"),
            ("cookie", "a=b"),
            ("gitlab-agent-id", "1"),
            ("x-csrf-token", "t"),
            ("host", "kas"),
            ("connection", "close, x-per-hop"),
            ("x-per-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("upgrade", "h2c"),
            ("accept", "application/json"),
            ("accept", "text/plain"),
            ("x-stream-protocol-version", "v5"),
            ("via", "1.1 proxy"),
        ]);
        assert!(!is_upgrade(&request));
        assert_eq!(
            shown(&for_agent(request.headers(), false)),
            [
                "Accept: application/json | text/plain",
                &format!("Via: 1.1 proxy | {VIA}"),
                "X-Stream-Protocol-Version: v5",
            ]
        );
    }

    #[test]
    fn an_upgrade_keeps_its_headers_in_go_form() {
        let request = request(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "SPDY/3.1"),
        ]);
        assert!(is_upgrade(&request));
        assert_eq!(
            shown(&for_agent(request.headers(), true)),
            [
                "Connection: upgrade",
                "Upgrade: SPDY/3.1",
                &format!("Via: {VIA}")
            ]
        );
    }

    #[test]
    fn answers_bring_no_cookies_no_origins_and_one_length() {
        let pair =
            |name: &str, value: &'static str| entry(name, [Bytes::from_static(value.as_bytes())]);
        let answer = || {
            vec![
                pair("Content-Type", "application/json"),
                pair("Set-Cookie", "a=b"),
                pair("Access-Control-Allow-Origin", "*"),
                pair("Connection", "close"),
                pair("Upgrade", "SPDY/3.1"),
                pair("Content-Length", "12"),
                pair("bad name", "x"),
            ]
        };
        let headers = for_caller(answer(), false);
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "content-length", "via"]);
        assert_eq!(content_length(&headers), Some(12));

        let upgraded = for_caller(answer(), true);
        assert_eq!(upgraded[header::UPGRADE], "SPDY/3.1");
        assert!(!upgraded.contains_key(header::CONTENT_LENGTH));

        let two = [pair("Content-Length", "1"), pair("Content-Length", "2")];
        assert!(!for_caller(two.into(), false).contains_key(header::CONTENT_LENGTH));
        let signed = for_caller(vec![pair("Content-Length", "+1")], false);
        assert!(!signed.contains_key(header::CONTENT_LENGTH));
    }
}
