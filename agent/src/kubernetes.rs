//! The cluster's API server, as an HTTP service.
//!
//! Requests go over HTTP/1.1: each that is under way has a connection of its own, so that a reader who stops reading stops
//! nobody else (streams of one HTTP/2 connection share a window), and connections can be upgraded.

use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use crate::config::ClusterAccess;
use crate::tunnel::call::CallError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Finds a dead API server under a silent watch.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// A request that nobody acknowledges: the API server's machine is gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// The API server closes idle connections after 90 s; being earlier avoids using one that is about to go.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections kept for the next requests. A burst opens more and drops them.
const POOL_MAX_IDLE: usize = 32;
/// What hyper reads at once at most: the size of the frames that go on, and the memory of a slow reader.
const READ_BUFFER: usize = 64 * 1024;
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_VERSION_BYTES: usize = 64 * 1024;

/// A request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, CallError>;

/// Why the API server cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Outside a cluster, without a kubeconfig.
    #[error("the Pod's service account cannot be read; outside a cluster, give --kubeconfig FILE")]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig.
    #[error("kubeconfig {path}")]
    Kubeconfig {
        /// Its path, or what stands for it.
        path: String,
        /// What is wrong.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// TLS or credentials.
    #[error("credentials for the API server")]
    Credentials(#[source] kube::Error),
    /// The URL.
    #[error("the API server's URL {0} has no host")]
    Url(Uri),
    /// A kubeconfig that impersonates.
    #[error(
        "the kubeconfig impersonates a user; give the agent credentials of its own, and --user-access-service-account for calls of people"
    )]
    Impersonates,
}

/// The API server. Clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct ApiServer {
    service: BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>,
    scheme: Scheme,
    authority: Authority,
}

impl ApiServer {
    pub(crate) async fn try_new(access: &ClusterAccess) -> Result<Self, Error> {
        Self::from_config(&kube_config(access).await?)
    }

    fn from_config(config: &kube::Config) -> Result<Self, Error> {
        if config.auth_info.impersonate.is_some() {
            return Err(Error::Impersonates);
        }
        let parts = config.cluster_url.clone().into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(Error::Url(config.cluster_url.clone()));
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_keepalive(Some(TCP_KEEPALIVE));
        http.set_keepalive_interval(Some(TCP_KEEPALIVE));
        http.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let connector = config
            .rustls_https_connector_with_connector(http)
            .map_err(Error::Credentials)?;
        let client: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE)
            .http1_max_buf_size(READ_BUFFER)
            .build(connector);
        let service = ServiceBuilder::new()
            .option_layer(config.auth_layer().map_err(Error::Credentials)?)
            .map_err(BoxError::from)
            .service(client);
        Ok(Self {
            service: BoxCloneSyncService::new(service),
            scheme,
            authority,
        })
    }

    /// Sends a request. Its URL's path and query count; the host is always the API server's.
    ///
    /// Dropping the future, or the answer's body, ends the request.
    pub(crate) async fn request(
        &self,
        target: PathAndQuery,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, BoxError> {
        *request.uri_mut() = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()?;
        self.service.clone().oneshot(request).await
    }

    /// Asks for the cluster's version.
    pub(crate) async fn version(&self) -> Result<KubernetesVersion, BoxError> {
        self.version_and_date().await.map(|(version, _)| version)
    }

    /// Asks for the cluster's version, and hears what time it has.
    pub(crate) async fn version_and_date(
        &self,
    ) -> Result<(KubernetesVersion, Option<String>), BoxError> {
        let ask = async {
            let mut request = Request::new(empty());
            request
                .headers_mut()
                .insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            let target = PathAndQuery::from_static("/version");
            let response = self.request(target, request).await?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("the API server answered {status}").into());
            }
            let date = response.headers().get(header::DATE);
            let date = date.and_then(|it| it.to_str().ok()).map(str::to_owned);
            let body = Limited::new(response.into_body(), MAX_VERSION_BYTES)
                .collect()
                .await?
                .to_bytes();
            let version: Value = serde_json::from_slice(&body)?;
            let field = |name: &str| version[name].as_str().unwrap_or_default().to_owned();
            let version = KubernetesVersion {
                major: field("major"),
                minor: field("minor"),
                git_version: field("gitVersion"),
                platform: field("platform"),
            };
            Ok((version, date))
        };
        tokio::time::timeout(VERSION_TIMEOUT, ask).await?
    }
}

/// The time of an HTTP header.
pub(crate) fn date(header: Option<&str>) -> Option<jiff::Timestamp> {
    let date = jiff::fmt::rfc2822::parse(header?).ok()?;
    Some(date.timestamp())
}

/// No body at all.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The cluster's version, as the API server tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KubernetesVersion {
    pub(crate) major: String,
    pub(crate) minor: String,
    pub(crate) git_version: String,
    pub(crate) platform: String,
}

/// Which cluster it is: the hash that [`proto::CLUSTER_METADATA`] describes; `None` without CA certificates.
pub(crate) async fn cluster_id(access: &ClusterAccess) -> Result<Option<String>, Error> {
    let certificates = kube_config(access).await?.root_cert.unwrap_or_default();
    if certificates.is_empty() {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    for certificate in certificates {
        hash.update(certificate);
    }
    let hex = |text: String, byte: &u8| text + &format!("{byte:02x}");
    Ok(Some(hash.finalize().iter().fold(String::new(), hex)))
}

/// How the API server is reached.
pub(crate) async fn kube_config(access: &ClusterAccess) -> Result<kube::Config, Error> {
    let ClusterAccess {
        kubeconfig,
        context,
    } = access;
    if kubeconfig.is_none() && context.is_none() {
        return kube::Config::incluster().map_err(Error::InCluster);
    }
    let path = kubeconfig
        .as_ref()
        .map_or_else(|| "(default)".to_owned(), |path| path.display().to_string());
    let wrong = |source| Error::Kubeconfig {
        path: path.clone(),
        source,
    };
    let options = kube::config::KubeConfigOptions {
        context: context.clone(),
        ..Default::default()
    };
    match kubeconfig {
        None => kube::Config::from_kubeconfig(&options).await.map_err(wrong),
        Some(file) => {
            let file = kube::config::Kubeconfig::read_from(file).map_err(wrong)?;
            kube::Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(wrong)
        }
    }
}
