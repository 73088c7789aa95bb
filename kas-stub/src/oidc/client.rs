//! HTTP to the provider: one request a connection, limited in time and size, without redirects.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::{
    authorities,
    configuration::chain,
    fetch::connect,
    git::guard::{self, Policy},
    tls,
};

/// For one request, with the resolving of its host.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer.
const MAX_ANSWER: usize = 1024 * 1024;
/// What comes before it.
const MAX_HEAD: usize = 32 * 1024;
/// Requests at a time; who comes then waits, within the limit.
const MAX_CONCURRENT: usize = 16;

/// The operator chose the provider: it may be anywhere.
const ANYWHERE: Policy = Policy {
    allow_http: true,
    allow_private: true,
};

/// An address of the provider's: https://, or http:// on loopback.
#[derive(Clone, Debug)]
pub(super) struct Address(Uri);

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected https://HOST/PATH, or http:// on loopback";
        let uri: Uri = text.parse().map_err(|_| expected)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(expected.into());
        };
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = bare == "localhost"
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|it| it.is_loopback());
        let is_safe = scheme == "https" || (scheme == "http" && is_loopback);
        if !is_safe || host.is_empty() || authority.as_str().contains('@') {
            return Err(expected.into());
        }
        Ok(Self(uri))
    }

    pub(super) fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }
}

/// What is sent beside the address. Not for logs: it has secrets.
pub(super) enum Ask<'a> {
    Get,
    /// With a token of the person's.
    GetWith(&'a str),
    /// A form, and the client's name and secret.
    Post {
        form: String,
        client: Option<(&'a str, &'a str)>,
    },
}

#[derive(Debug)]
pub(super) struct Client {
    tls: Result<Arc<ClientConfig>, String>,
    permits: Semaphore,
}

impl Client {
    /// Trusts the certificates in a file, or else those of the system.
    pub(super) fn open(ca_file: Option<&std::path::Path>) -> anyhow::Result<Self> {
        let tls = match ca_file {
            None => authorities::load(None, std::path::Path::new(""))?.tls,
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in tls::certificates(path)? {
                    roots
                        .add(certificate)
                        .with_context(|| format!("a certificate in {}", path.display()))?;
                }
                authorities::client_config(roots)
            }
        };
        Ok(Self {
            tls,
            permits: Semaphore::new(MAX_CONCURRENT),
        })
    }

    /// Sends a request, and gives the answer's status and JSON (null: it was none).
    pub(super) async fn send(
        &self,
        address: &Address,
        ask: Ask<'_>,
    ) -> Result<(StatusCode, Value), String> {
        let send = async {
            let _permit = self.permits.acquire().await.map_err(|it| it.to_string())?;
            self.send_now(address, ask).await
        };
        let sent = tokio::time::timeout(LIMIT, send).await;
        sent.unwrap_or_else(|_| Err(format!("it took longer than {LIMIT:?}")))
    }

    async fn send_now(
        &self,
        address: &Address,
        ask: Ask<'_>,
    ) -> Result<(StatusCode, Value), String> {
        let Address(uri) = address;
        let is_tls = uri.scheme_str() == Some("https");
        let host = address.host();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let request = request(uri, ask).map_err(|error| error.to_string())?;
        let pinned = guard::resolve_host(host, port, ANYWHERE).await;
        let pinned = pinned.map_err(|error| chain(&error))?;
        let unreachable = |error: std::io::Error| format!("{host} cannot be reached: {error}");
        let stream = connect::tcp(&pinned).await.map_err(unreachable)?;
        let sent = if is_tls {
            let stream = connect::tls(self.tls.clone()?, host, stream).await;
            connect::send(stream.map_err(unreachable)?, request, MAX_HEAD).await
        } else {
            connect::send(stream, request, MAX_HEAD).await
        };
        // The connection lasts as long as this does.
        let (response, _connection) = sent.map_err(|error| chain(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
        let body = body.await.map_err(|error| format!("its answer: {error}"))?;
        let json = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        Ok((status, json))
    }
}

fn request(uri: &Uri, ask: Ask<'_>) -> http::Result<Request<Full<Bytes>>> {
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    let host = uri.authority().map_or("", |it| it.as_str());
    let (method, authorization, form) = match ask {
        Ask::Get => (Method::GET, None, None),
        Ask::GetWith(token) => (Method::GET, Some(format!("Bearer {token}")), None),
        Ask::Post { form, client } => {
            // Each as in a form, says RFC 6749.
            let basic = client.map(|(id, secret)| {
                let pair = format!("{}:{}", encode(id), encode(secret));
                format!("Basic {}", STANDARD.encode(pair))
            });
            (Method::POST, basic, Some(form))
        }
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, "identity");
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::try_from(authorization)?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    if form.is_some() {
        let form_type = "application/x-www-form-urlencoded";
        request = request.header(header::CONTENT_TYPE, form_type);
    }
    request.body(Full::new(Bytes::from(form.unwrap_or_default())))
}

/// A text as a part of a form or a query.
pub(super) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Pairs as a form or a query.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    pairs.join("&")
}
