//! Reads a text from an address that a stranger wrote into a devfile.
//!
//! Such an address must not reach what only the server can reach: each host, also that of a redirect, goes through the
//! [`guard`](crate::git::guard), and the connection is made to the judged address and no other. Time, size and the number
//! of redirects are limited; nothing of the server's own (cookies, credentials, proxies) goes along.

pub(crate) mod connect;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use crate::{
    authorities::Authorities,
    git::guard::{self, GuardError, Pinned, Policy},
};

/// The largest text, as a devfile's own (bytes).
pub(crate) const MAX_BYTES: usize = devfile::limits::MAX_DOCUMENT_BYTES;
/// Redirects that are followed for one text.
pub(crate) const MAX_REDIRECTS: usize = 5;
/// Longest address.
const MAX_ADDRESS: usize = 2048;
/// What a server may send before the text itself.
const MAX_HEAD: usize = 32 * 1024;
/// Texts read at a time, for everybody.
const MAX_CONCURRENT: usize = 16;
const USER_AGENT: &str = concat!("kas-stub/", env!("CARGO_PKG_VERSION"));
const ACCEPT: &str = "application/yaml, application/x-yaml, text/yaml, text/plain, */*;q=0.5";

/// How hosts become addresses that may be connected to.
pub(crate) trait Resolve: Send + Sync {
    /// Resolves and judges.
    ///
    /// # Errors
    /// When there is no address, or one that is not allowed.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<Pinned, GuardError>> + Send;
}

impl Resolve for Policy {
    async fn resolve(&self, host: &str, port: u16) -> Result<Pinned, GuardError> {
        guard::resolve_host(host, port, *self).await
    }
}

/// Reads texts from addresses.
#[derive(Debug)]
pub(crate) struct Fetcher<R = Policy> {
    resolve: R,
    allow_http: bool,
    /// For one text, with its redirects and the resolving of hosts.
    limit: Duration,
    tls: Result<Arc<ClientConfig>, String>,
    permits: Semaphore,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is no address of the form https://HOST/PATH")]
    Form,
    #[error("it has a user or password in it, which would be for everybody to read")]
    Credentials,
    #[error("only https:// addresses are read (the server's --git-allow-http permits http://)")]
    Scheme,
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error("it redirects to {to}: {why}")]
    Redirected { to: String, why: Box<Self> },
    #[error("it redirects more than {MAX_REDIRECTS} times")]
    TooManyRedirects,
    #[error("{0} cannot be reached")]
    Connect(String, #[source] std::io::Error),
    #[error("certificates to check https:// by cannot be had: {0}")]
    Roots(String),
    #[error("no answer came")]
    Http(#[source] hyper::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("it is larger than {} MiB", MAX_BYTES / 1024 / 1024)]
    TooLarge,
    #[error("the answer is compressed, which was not asked for")]
    Encoded,
    #[error("it took longer than {0:?}")]
    TimedOut(Duration),
    #[error("this server reads too much at the moment")]
    Busy,
}

/// One step: the text, or where it is instead.
enum Answer {
    Text(Vec<u8>),
    Elsewhere(String),
}

impl Fetcher {
    /// A fetcher that judges by a policy. `limit` is for one text.
    pub(crate) fn new(policy: Policy, limit: Duration, authorities: &Authorities) -> Self {
        Self::with(policy, policy.allow_http, limit, authorities.tls.clone())
    }
}

impl<R: Resolve> Fetcher<R> {
    fn with(
        resolve: R,
        allow_http: bool,
        limit: Duration,
        tls: Result<Arc<ClientConfig>, String>,
    ) -> Self {
        Self {
            resolve,
            allow_http,
            limit,
            tls,
            permits: Semaphore::new(MAX_CONCURRENT),
        }
    }

    /// Reads what is at an address, at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// When it may not or cannot be read.
    pub(crate) async fn read(&self, address: &str) -> Result<Vec<u8>, Error> {
        let read = async {
            let _permit = self.permits.acquire().await.map_err(|_| Error::Busy)?;
            self.follow(address).await
        };
        tokio::time::timeout(self.limit, read)
            .await
            .unwrap_or(Err(Error::TimedOut(self.limit)))
    }

    async fn follow(&self, address: &str) -> Result<Vec<u8>, Error> {
        let mut at = address.to_owned();
        for redirects in 0..=MAX_REDIRECTS {
            let answer = self.ask(&at).await.map_err(|error| match redirects {
                0 => error,
                _ => Error::Redirected {
                    to: at.clone(),
                    why: Box::new(error),
                },
            })?;
            match answer {
                Answer::Text(text) => return Ok(text),
                Answer::Elsewhere(next) => at = next,
            }
        }
        Err(Error::TooManyRedirects)
    }

    /// One request.
    async fn ask(&self, address: &str) -> Result<Answer, Error> {
        let target = self.target(address)?;
        let (host, port) = (target.host, target.port);
        let pinned = self.resolve.resolve(&host, port).await?;
        let connected = connect::tcp(&pinned).await;
        let stream = connected.map_err(|error| Error::Connect(host.clone(), error))?;
        let response = if target.tls {
            let config = self.tls.clone().map_err(Error::Roots)?;
            let connected = connect::tls(config, &host, stream).await;
            let stream = connected.map_err(|error| Error::Connect(host.clone(), error))?;
            connect::send(stream, target.request, MAX_HEAD).await
        } else {
            connect::send(stream, target.request, MAX_HEAD).await
        };
        // The connection lasts as long as this does.
        let (response, _connection) = response.map_err(Error::Http)?;
        if response.status().is_redirection()
            && let Some(location) = location(&response)
        {
            return elsewhere(address, location).map(Answer::Elsewhere);
        }
        text(response).await.map(Answer::Text)
    }

    fn target(&self, address: &str) -> Result<Target, Error> {
        let uri: Uri = address.parse().map_err(|_| Error::Form)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(Error::Form);
        };
        if authority.as_str().contains('@') {
            return Err(Error::Credentials);
        }
        let (tls, port) = match scheme {
            "https" => (true, 443),
            "http" if self.allow_http => (false, 80),
            "http" => return Err(Error::Scheme),
            _ => return Err(Error::Form),
        };
        let host = authority.host();
        if host.is_empty() || address.len() > MAX_ADDRESS {
            return Err(Error::Form);
        }
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| Error::Form)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, host_header)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, ACCEPT)
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Empty::new())
            .map_err(|_| Error::Form)?;
        Ok(Target {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            request,
        })
    }
}

/// Where a request goes.
struct Target {
    tls: bool,
    host: String,
    port: u16,
    request: Request<Empty<Bytes>>,
}

fn location(response: &Response<Incoming>) -> Option<&str> {
    let location = response.headers().get(header::LOCATION)?;
    location.to_str().ok().filter(|it| !it.is_empty())
}

/// Where a redirect of an address leads.
fn elsewhere(address: &str, location: &str) -> Result<String, Error> {
    let has_scheme = location
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.contains(['/', '?', '#']));
    if has_scheme {
        return Ok(location.to_owned());
    }
    devfile::flatten::resolve(address, location).map_err(|_| Error::Form)
}

/// The text of an answer, read no further than the limit.
async fn text(response: Response<Incoming>) -> Result<Vec<u8>, Error> {
    if response.status() != StatusCode::OK {
        return Err(Error::Status(response.status()));
    }
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(Error::Encoded);
    }
    let mut body = response.into_body();
    if body.size_hint().lower() > MAX_BYTES as u64 {
        return Err(Error::TooLarge);
    }
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::Http)?.into_data() else {
            continue;
        };
        if text.len() + data.len() > MAX_BYTES {
            return Err(Error::TooLarge);
        }
        text.extend_from_slice(&data);
    }
    Ok(text)
}
