//! The connection to the server: how it is made ([`Connector`]), what every call carries ([`Client`]), and the calls that
//! the agent itself makes (`configuration`, `registration`). Calls from the server come through [`crate::tunnel`].

mod configuration;
mod credentials;
mod dial;
mod explain;
pub(crate) mod health;
mod registration;

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use proto::agent_configuration::rpc::agent_configuration_client::AgentConfigurationClient;
use proto::agent_configuration::rpc::{ConfigurationRequest, ConfigurationResponse};
use proto::agent_registrar::rpc::agent_registrar_client::AgentRegistrarClient;
use proto::agent_registrar::rpc::{RegisterRequest, UnregisterRequest};
use proto::gitlab_access::rpc::gitlab_access_client::GitlabAccessClient;
use proto::grpctool::{HttpRequest, HttpResponse};
use proto::remote_development::rpc::remote_development_client::RemoteDevelopmentClient;
use proto::remote_development::rpc::{ReconcileRequest, ReconcileResponse};
use proto::reverse_tunnel::rpc::reverse_tunnel_client::ReverseTunnelClient;
use proto::reverse_tunnel::rpc::{ConnectRequest, ConnectResponse};
use tonic::codec::CompressionEncoding;
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};
use tower::util::MapRequest;

use crate::config::{Config, KasHeader};
use explain::GrpcOnly;

pub(crate) use configuration::{Follow, follow_configuration};
pub(crate) use credentials::Credentials;
pub(crate) use registration::{Presence, keep_registered};

/// Name look-up, TCP, TLS and the handshake of a WebSocket together. A far server needs a second; in an outage a lost packet must not cost more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the server may send ahead on one stream. HTTP/2's 64 KiB would allow 640 KiB/s at 100 ms; this allows 20 MiB/s.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// The same for all streams of a connection together: the most memory that unread requests can take. Well above one
/// stream's, so that a stream whose handler does not read leaves room for the others.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// The most that the headers of one answer may take.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// Why no connection can be made at all. Trouble of the network is no such error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("address {0} makes no URL")]
    Address(String),
    #[error("user agent cannot be sent")]
    UserAgent(#[source] tonic::transport::Error),
    #[error("header {0} cannot be sent")]
    Header(String),
    #[error("TLS")]
    Tls(#[from] dial::TlsError),
    #[error("agent token")]
    Token(#[from] credentials::Error),
}

/// The headers of a WebSocket's handshake beside its own.
fn handshake_headers(given: &[KasHeader]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let agent = crate::user_agent();
    let own = [("user-agent", agent.as_str())];
    let given = given
        .iter()
        .map(|header| (header.name.as_str(), header.value.as_str()));
    for (name, value) in own.into_iter().chain(given) {
        let wrong = || Error::Header(name.to_owned());
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_str(name).map_err(|_| wrong())?, value);
    }
    Ok(headers)
}

/// Makes network connections to the server.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    endpoint: Endpoint,
    dialer: dial::Dialer,
    credentials: Arc<Credentials>,
}

impl Connector {
    pub(crate) fn try_new(config: &Config, credentials: Arc<Credentials>) -> Result<Self, Error> {
        let authority = config.kas_address.authority();
        let uri = |scheme: &str| -> Result<Uri, Error> {
            format!("{scheme}://{authority}")
                .parse()
                .map_err(|_| Error::Address(authority.clone()))
        };
        let websocket = config.kas_address.is_websocket();
        // What travels inside a WebSocket is plaintext for gRPC.
        let scheme = if config.kas_address.tls && !websocket {
            "https"
        } else {
            "http"
        };
        // TLS is the dialer's work; were this URL https, tonic would want to do it again.
        let endpoint = Endpoint::from(uri("http")?)
            .origin(uri(scheme)?)
            .user_agent(crate::user_agent())
            .map_err(Error::UserAgent)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(config.keepalive.interval)
            .keep_alive_timeout(config.keepalive.timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADER_LIST);
        Ok(Self {
            endpoint,
            dialer: dial::Dialer::try_new(
                &config.kas_address,
                &config.kas_tls,
                handshake_headers(&config.kas_headers)?,
                config.kas_proxy.clone(),
            )?,
            credentials,
        })
    }

    /// How network connections are made.
    pub(crate) fn dialer(&self) -> &dial::Dialer {
        &self.dialer
    }

    /// A network connection of its own, which is made at the first call and again after it broke. There is no timeout for
    /// calls: a tunnel's may last for days, and each caller knows its own.
    pub(crate) fn connect(&self) -> Client {
        let dialled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dialled);
        let dialer = MapRequest::new(self.dialer.clone(), move |uri: Uri| {
            count.fetch_add(1, Ordering::Relaxed);
            uri
        });
        Client {
            channel: GrpcOnly(self.endpoint.connect_with_connector_lazy(dialer)),
            credentials: Arc::clone(&self.credentials),
            dialled,
        }
    }
}

/// An open stream of configurations.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Our own server tells it.
    pub(crate) server_version: Option<String>,
    /// The server's clock.
    pub(crate) date: Option<jiff::Timestamp>,
    pub(crate) responses: Streaming<ConfigurationResponse>,
}

/// Calls the server over one network connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: GrpcOnly,
    credentials: Arc<Credentials>,
    dialled: Arc<AtomicU64>,
}

impl Client {
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Opens a tunnel connection.
    pub(crate) async fn connect_tunnel(
        &self,
        frames: impl Stream<Item = ConnectRequest> + Send + 'static,
    ) -> Result<Streaming<ConnectResponse>, Status> {
        let response = ReverseTunnelClient::new(self.channel.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .connect(self.request(frames))
            .await?;
        Ok(response.into_inner())
    }

    /// Opens the stream that workspaces are reconciled on.
    pub(crate) async fn reconcile(
        &self,
        requests: impl Stream<Item = ReconcileRequest> + Send + 'static,
    ) -> Result<Streaming<ReconcileResponse>, Status> {
        // Pages of reports shrink to a fifth. In the tunnel gzip would be the bound, and much there is compressed already.
        let response = RemoteDevelopmentClient::new(self.channel.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
            .reconcile(self.request(requests))
            .await?;
        Ok(response.into_inner())
    }

    /// Sends a request of a module to GitLab.
    pub(crate) async fn gitlab(
        &self,
        request: impl Stream<Item = HttpRequest> + Send + 'static,
    ) -> Result<Streaming<HttpResponse>, Status> {
        let response = GitlabAccessClient::new(self.channel.clone())
            // JSON shrinks to a tenth, and there is one request every few seconds.
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip)
            .make_request(self.request(request))
            .await?;
        Ok(response.into_inner())
    }

    /// How often a connection was dialled: another number means that another server may be there.
    pub(crate) fn dialled(&self) -> u64 {
        self.dialled.load(Ordering::Relaxed)
    }

    pub(crate) async fn get_configuration(
        &self,
        request: ConfigurationRequest,
    ) -> Result<Opened, Status> {
        let response = AgentConfigurationClient::new(self.channel.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .get_configuration(self.request(request))
            .await?;
        let told = |name: &str| {
            let value = response.metadata().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Ok(Opened {
            server_version: told(proto::SERVER_VERSION_METADATA),
            date: crate::kubernetes::date(told("date").as_deref()),
            responses: response.into_inner(),
        })
    }

    async fn register(&self, request: RegisterRequest) -> Result<(), Status> {
        AgentRegistrarClient::new(self.channel.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .register(self.request(request))
            .await
            .map(drop)
    }

    async fn unregister(&self, request: UnregisterRequest) -> Result<(), Status> {
        AgentRegistrarClient::new(self.channel.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .unregister(self.request(request))
            .await
            .map(drop)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.credentials.apply(request.metadata_mut());
        request
    }
}
