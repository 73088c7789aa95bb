//! How the agent is started: [`Args`] are what was written, a [`Config`] is what can be run.
//!
//! Flags and environment variables are named as agentk's where the thing is the same. This is the only place that reads
//! the environment.

mod address;
mod proxy;
mod workspaces;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

pub use address::{AddressError, KasAddress, Transport};
pub use proxy::{Proxy, ProxyError};
pub use workspaces::{Role, Workspaces, WorkspacesArgs, WorkspacesError};

/// The agent's version, as it is told to the server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Dials a GitLab-compatible agent server, takes its configuration from there, and carries calls into this cluster.
#[derive(Parser)]
#[command(
    name = "agent",
    version,
    after_help = "A proxy on the way to the server is taken from HTTPS_PROXY (HTTP_PROXY for grpc:// and ws://), ALL_PROXY and \
                  NO_PROXY.\n`agent doctor` looks for what keeps an agent from working, and says what to do: see agent doctor --help."
)]
pub struct Args {
    /// Where the agent server listens: grpcs://HOST[:PORT] (TLS, port 443) or, through proxies that let only HTTP/1.1 pass,
    /// wss://HOST[:PORT]/PATH (a WebSocket). grpc:// and ws:// are the same without TLS (port 80).
    ///
    /// The agent opens every connection; the server never connects back. The path of a WebSocket must be exact, a slash at
    /// its end included: redirects are not followed.
    #[arg(long, value_name = "URL")]
    pub kas_address: String,

    /// File with the agent's token. Read again at each new connection, so that a rotated token is taken up by itself.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,

    /// The agent's token itself. Only as an environment variable: a command line can be read by others.
    #[arg(long, env = "AGENTK_TOKEN", hide_env_values = true, hide = true)]
    pub token: Option<String>,

    /// File with more certificate authorities (PEM) that may sign the server's certificate, beside the system's. Read again
    /// at each new connection.
    #[arg(long, alias = "ca-cert-file", value_name = "FILE")]
    pub kas_ca_cert_file: Option<PathBuf>,

    /// Do not check the server's certificate. Whoever stands between then reads the token: for experiments only.
    #[arg(long)]
    pub kas_insecure_skip_tls_verify: bool,

    /// The name expected in the server's certificate, if it is not the host of --kas-address.
    #[arg(long, value_name = "NAME")]
    pub kas_tls_server_name: Option<String>,

    /// A header for every call to the server, as "Name: value". May be repeated; for a proxy on the way that wants one.
    /// With ws:// and wss:// it goes with the handshake of the WebSocket.
    #[arg(long, value_name = "HEADER")]
    pub kas_header: Vec<String>,

    /// Network of the observability listener. Only tcp.
    #[arg(long, value_name = "NETWORK", default_value = "tcp")]
    pub observability_listen_network: String,

    /// Where /liveness, /readiness and /metrics are served. ":PORT" means every address of the Pod.
    #[arg(long, value_name = "ADDRESS", default_value = ":8080")]
    pub observability_listen_address: String,

    /// Kubeconfig file of the cluster. Default: the Pod's own service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Default: its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Namespace of this Pod (downward API: metadata.namespace).
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub pod_namespace: String,

    /// Name of this Pod (downward API: metadata.name).
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: String,

    /// Service account of this Pod (downward API: spec.serviceAccountName). Shown, nothing more.
    #[arg(long, env = "SERVICE_ACCOUNT_NAME", value_name = "NAME")]
    pub service_account_name: Option<String>,

    /// Calls of people through the tunnel run with the rights of this service account (in the Pod's namespace) and no
    /// others. Without it they run with the agent's own rights, as GitLab's agent does.
    #[arg(long, env = "USER_ACCESS_SERVICE_ACCOUNT", value_name = "NAME")]
    pub user_access_service_account: Option<String>,

    /// What workspaces may be made of, and where.
    #[command(flatten)]
    pub workspaces: WorkspacesArgs,

    /// How many calls from the server this Pod carries at a time, those that it waits for included (2 to 2000).
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 500,
        value_parser = clap::value_parser!(u16).range(2..=2000)
    )]
    pub max_tunnels: u16,

    /// How many seconds calls may still take after the agent was asked to stop. Less than the Pod's
    /// terminationGracePeriodSeconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    pub drain_timeout_seconds: u64,

    /// Form of the log on stderr: json (one object per line) or text.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is among them; what counts is printed as `Config`.
        f.debug_struct("Args").finish_non_exhaustive()
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// A secret that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where the agent's token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, read again at each new connection.
    File(PathBuf),
    /// Given at the start.
    Given(Secret),
}

/// TLS towards the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KasTls {
    /// More certificate authorities, PEM.
    pub ca_cert_file: Option<PathBuf>,
    /// Nothing is checked.
    pub insecure_skip_verify: bool,
    /// The name expected in the certificate, if not the address's host.
    pub server_name: Option<String>,
}

/// HTTP/2 pings, also on an idle connection: half-open ones are noticed, and proxies, which commonly forget what was idle
/// for 60 s, see something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// The server was silent for so long: it is asked.
    pub interval: Duration,
    /// It has not answered for so long: it is gone.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// GitLab's server ends connections that ping more often than every 20 s; the rest is room for a network that delays
    /// one ping more than the next.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(25),
            timeout: Duration::from_secs(10),
        }
    }
}

/// How the cluster's API server is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterAccess {
    /// A kubeconfig; `None`: the Pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig.
    pub context: Option<String>,
}

/// Which Pod this agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: Option<String>,
}

/// A header for every call to the server. Values may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KasHeader {
    /// Lower case.
    pub name: String,
    /// As given.
    pub value: String,
}

impl fmt::Debug for KasHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [redacted]", self.name)
    }
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server.
    pub kas_address: KasAddress,
    /// The agent's token.
    pub token: TokenSource,
    /// TLS towards the server.
    pub kas_tls: KasTls,
    /// A proxy on the way to the server.
    pub kas_proxy: Option<Proxy>,
    /// Headers for every call to the server.
    pub kas_headers: Vec<KasHeader>,
    /// Where liveness, readiness and metrics are served.
    pub observability_address: SocketAddr,
    /// The cluster.
    pub cluster: ClusterAccess,
    /// This Pod.
    pub pod: Pod,
    /// The user name of the service account that people's calls run as.
    pub user_access: Option<String>,
    /// What workspaces may be made of, and where.
    pub workspaces: Workspaces,
    /// How many calls from the server are carried at a time, those that are waited for included.
    pub max_tunnels: usize,
    /// How a server that is silently gone is noticed.
    pub keepalive: Keepalive,
    /// How long calls may still take after the agent was asked to stop.
    pub drain_timeout: Duration,
    /// Form of the log.
    pub log_format: LogFormat,
}

/// What is wrong with the arguments.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--kas-address`.
    #[error("--kas-address")]
    KasAddress(#[source] AddressError),
    /// A variable of the environment that names a proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Neither a token nor a token file.
    #[error(
        "no agent token: give --token-file FILE or the environment variable AGENTK_TOKEN; a token is made on the server by `kas-stub agent token create NAME`"
    )]
    NoToken,
    /// A TLS flag with a plain address.
    #[error("{flag} has no meaning for {address}, which is not encrypted; use grpcs:// or wss://")]
    TlsFlagWithoutTls {
        /// The flag.
        flag: &'static str,
        /// The address.
        address: KasAddress,
    },
    /// `--kas-header`.
    #[error("--kas-header: {reason}; expected \"Name: value\"")]
    KasHeader {
        /// Without the value.
        reason: String,
    },
    /// `--observability-listen-network`.
    #[error("--observability-listen-network {0:?} is not supported; expected tcp")]
    Network(String),
    /// `--observability-listen-address`.
    #[error(
        "--observability-listen-address {0:?} is no address; expected [IP]:PORT, for example :8080"
    )]
    ListenAddress(String),
    /// What workspaces may be made of.
    #[error(transparent)]
    Workspaces(#[from] WorkspacesError),
    /// A required name is empty.
    #[error("{0} is empty; set it from the downward API")]
    Empty(&'static str),
}

impl TryFrom<Args> for Config {
    type Error = Error;

    fn try_from(args: Args) -> Result<Self, Error> {
        let Args {
            kas_address,
            token_file,
            token,
            kas_ca_cert_file,
            kas_insecure_skip_tls_verify,
            kas_tls_server_name,
            kas_header,
            observability_listen_network,
            observability_listen_address,
            kubeconfig,
            context,
            pod_namespace,
            pod_name,
            service_account_name,
            user_access_service_account,
            workspaces,
            max_tunnels,
            drain_timeout_seconds,
            log_format,
        } = args;

        let kas_address: KasAddress = kas_address.parse().map_err(Error::KasAddress)?;
        let token = match (token_file, token) {
            (Some(file), _) => TokenSource::File(file),
            (None, Some(token)) if !token.trim().is_empty() => {
                TokenSource::Given(Secret::new(token.trim()))
            }
            (None, _) => return Err(Error::NoToken),
        };
        if !kas_address.tls {
            let flags = [
                (kas_ca_cert_file.is_some(), "--kas-ca-cert-file"),
                (
                    kas_insecure_skip_tls_verify,
                    "--kas-insecure-skip-tls-verify",
                ),
                (kas_tls_server_name.is_some(), "--kas-tls-server-name"),
            ];
            // A CA file is harmless and the chart always mounts one; the others were meant to do something.
            if let Some((_, flag)) = flags[1..].iter().find(|(given, _)| *given) {
                return Err(Error::TlsFlagWithoutTls {
                    flag,
                    address: kas_address,
                });
            }
        }
        if observability_listen_network != "tcp" {
            return Err(Error::Network(observability_listen_network));
        }
        for (name, value) in [("POD_NAMESPACE", &pod_namespace), ("POD_NAME", &pod_name)] {
            if value.is_empty() {
                return Err(Error::Empty(name));
            }
        }
        let workspaces = workspaces.check(&pod_namespace, service_account_name.as_deref())?;
        let user_access = user_access_service_account
            .filter(|name| !name.is_empty())
            .map(|name| format!("system:serviceaccount:{pod_namespace}:{name}"));
        Ok(Self {
            kas_headers: kas_header
                .iter()
                .map(|header| parse_header(header, kas_address.is_websocket()))
                .collect::<Result<_, _>>()?,
            observability_address: parse_listen_address(&observability_listen_address)?,
            kas_address,
            kas_proxy: None,
            token,
            kas_tls: KasTls {
                ca_cert_file: kas_ca_cert_file,
                insecure_skip_verify: kas_insecure_skip_tls_verify,
                server_name: kas_tls_server_name,
            },
            cluster: ClusterAccess {
                kubeconfig,
                context,
            },
            pod: Pod {
                namespace: pod_namespace,
                name: pod_name,
                service_account: service_account_name,
            },
            user_access,
            workspaces,
            max_tunnels: max_tunnels.into(),
            keepalive: Keepalive::default(),
            drain_timeout: Duration::from_secs(drain_timeout_seconds),
            log_format,
        })
    }
}

impl Config {
    /// The same, with the proxy that the environment names for the server's address.
    ///
    /// # Errors
    ///
    /// If that is of a kind that the agent cannot use.
    pub fn with_proxy_of_environment(mut self) -> Result<Self, Error> {
        self.kas_proxy = Proxy::of_environment(&self.kas_address)?;
        Ok(self)
    }
}

fn parse_listen_address(address: &str) -> Result<SocketAddr, Error> {
    let full = match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => address.to_owned(),
    };
    full.parse()
        .map_err(|_| Error::ListenAddress(address.to_owned()))
}

/// Names that gRPC itself needs, or that carry the token.
const OWN_HEADERS: [&str; 5] = ["authorization", "content-type", "te", "host", "user-agent"];
/// Names that the handshake of a WebSocket needs. The token is not among its headers, so that a proxy may be given an
/// `authorization` of its own.
const OWN_HANDSHAKE_HEADERS: [&str; 4] = ["connection", "upgrade", "host", "user-agent"];

fn parse_header(header: &str, websocket: bool) -> Result<KasHeader, Error> {
    let wrong = |reason: String| Error::KasHeader { reason };
    let (name, value) = header
        .split_once(':')
        .ok_or_else(|| wrong("no colon".to_owned()))?;
    let name = name.trim().to_ascii_lowercase();
    let value = value.trim().to_owned();
    if name.is_empty() || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(wrong(format!("{name:?} is no header name")));
    }
    let own = if websocket {
        OWN_HANDSHAKE_HEADERS.contains(&name.as_str()) || name.starts_with("sec-websocket-")
    } else {
        OWN_HEADERS.contains(&name.as_str()) || name.starts_with("grpc-")
    };
    if own {
        return Err(wrong(format!("{name} is set by the agent itself")));
    }
    if http::HeaderValue::from_str(&value).is_err() {
        return Err(wrong(format!(
            "the value of {name} has a character that no header may have"
        )));
    }
    Ok(KasHeader { name, value })
}

#[cfg(test)]
mod tests;
