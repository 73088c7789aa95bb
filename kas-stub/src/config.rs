//! What `kas-stub serve` can be told. Read once; nothing else looks at the environment.

mod editors;
pub(crate) mod file;
mod people;
mod workspaces;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

pub use crate::{clock::Clock, listener::Keepalive};
pub use editors::EditorSettings;
pub use people::OidcSettings;
pub use workspaces::WorkspaceDefaults;

/// Settings of one server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeConfig {
    /// Folder of everything the server keeps: database, certificates, Git caches, the administrator's socket.
    #[arg(long, env = "KAS_STUB_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Where agents connect (gRPC, as it is or in a WebSocket; TLS and plaintext on one port).
    #[arg(
        long,
        env = "KAS_STUB_AGENT_LISTEN_ADDRESS",
        default_value = "127.0.0.1:8150"
    )]
    pub agent_listen_address: SocketAddr,

    /// Where people connect (web page, API, kubectl; HTTPS and HTTP on one port).
    #[arg(
        long,
        env = "KAS_STUB_PEOPLE_LISTEN_ADDRESS",
        default_value = "127.0.0.1:8154"
    )]
    pub people_listen_address: SocketAddr,

    /// Where /metrics, /liveness and /readiness are served (plain HTTP).
    #[arg(
        long,
        env = "KAS_STUB_OBSERVABILITY_LISTEN_ADDRESS",
        default_value = "127.0.0.1:8151"
    )]
    pub observability_listen_address: SocketAddr,

    /// How long an agent's connection may carry new calls, in seconds (1 to 2592000). Older ones are replaced by new ones, so
    /// that agents spread over servers that were added; calls that run on them go on.
    #[arg(
        long = "agent-connection-age",
        env = "KAS_STUB_AGENT_CONNECTION_AGE",
        value_name = "SECONDS",
        default_value_t = DEFAULT_CONNECTION_AGE,
        value_parser = clap::value_parser!(u64).range(1..=2_592_000)
    )]
    pub agent_connection_age_s: u64,

    /// The address under which people reach this server; links and kubeconfigs carry it
    /// [default: https:// and the address listened on].
    #[arg(long, env = "KAS_STUB_EXTERNAL_URL", value_name = "URL")]
    pub external_url: Option<HttpUrl>,

    /// The address that agents are told to connect to: grpcs:// or grpc://, or wss:// or ws:// with a path where a proxy
    /// in front takes only HTTP/1.1
    /// [default: grpcs:// and the address listened on].
    #[arg(long, env = "KAS_STUB_AGENT_URL", value_name = "URL")]
    pub agent_url: Option<AgentUrl>,

    /// Further names for the server's own certificate (repeatable).
    #[arg(
        long,
        env = "KAS_STUB_TLS_SAN",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub tls_san: Vec<String>,

    /// A certificate chain (PEM) to use instead of the server's own CA, for both ports. It and its key are read again when
    /// they change.
    #[arg(long, env = "KAS_STUB_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,

    /// The private key (PEM) of --tls-cert-file.
    #[arg(long, env = "KAS_STUB_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,

    /// The authority (PEM) of --tls-cert-file, if it is not one that everybody trusts: agents and people are told to.
    #[arg(long, env = "KAS_STUB_TLS_CA_FILE", value_name = "FILE")]
    pub tls_ca_file: Option<PathBuf>,

    /// Accept connections without TLS also where the listener is not on loopback.
    #[arg(long, env = "KAS_STUB_ALLOW_PLAINTEXT")]
    pub allow_plaintext: bool,

    /// Let projects, and what devfiles refer to, be read over http:// too.
    #[arg(long, env = "KAS_STUB_GIT_ALLOW_HTTP")]
    pub git_allow_http: bool,

    /// Let projects, and what devfiles refer to, be read from loopback, link-local and private addresses too.
    #[arg(long, env = "KAS_STUB_GIT_ALLOW_PRIVATE")]
    pub git_allow_private: bool,

    /// More authorities (PEM) that may sign the certificates of Git servers and devfile registries, beside the system's.
    #[arg(long, env = "KAS_STUB_GIT_CA_FILE", value_name = "FILE")]
    pub git_ca_file: Option<PathBuf>,

    /// The domain below which every port of a workspace has a host, as PORT-WORKSPACE.DOMAIN. All its names must lead to
    /// the address that people connect to (browsers resolve *.localhost so by themselves).
    #[arg(
        long,
        env = "KAS_STUB_WORKSPACES_DOMAIN",
        value_name = "DOMAIN",
        default_value = DEFAULT_WORKSPACES_DOMAIN
    )]
    pub workspaces_domain: Domain,

    #[command(flatten)]
    pub workspaces: WorkspaceDefaults,

    #[command(flatten)]
    pub editors: EditorSettings,

    #[command(flatten)]
    pub oidc: OidcSettings,

    /// Form of the log on stderr.
    #[arg(long, env = "KAS_STUB_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a filter such as info,kas_stub::tunnel=trace.
    #[arg(long, env = "KAS_STUB_LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// For tests only: a file with the seconds that the clock for workspaces' lives is ahead, read again and again.
    #[arg(long, hide = true, value_name = "FILE")]
    pub clock_ahead_file: Option<PathBuf>,

    /// The clock for workspaces' lives; tests move it.
    #[arg(skip)]
    pub clock: Clock,

    /// Times that tests shorten.
    #[arg(skip)]
    pub timing: Timing,
}

/// GitLab's server: 2 h.
const DEFAULT_CONNECTION_AGE: u64 = 2 * 60 * 60;

/// Resolves to loopback without any DNS entry, in browsers.
const DEFAULT_WORKSPACES_DOMAIN: &str = "workspaces.localhost";

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For reading.
    Text,
    /// One JSON object a line.
    Json,
}

/// Waits and periods; the defaults are right for production.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How often a project is asked for its newest commit, when no push hook says so earlier.
    pub git_poll_interval: Duration,
    /// How often the files of the certificate are looked at.
    pub tls_poll_interval: Duration,
    /// The longest that one run of git may take.
    pub git_timeout: Duration,
    /// The longest that reading one text that a devfile refers to may take.
    pub fetch_timeout: Duration,
    /// How long a call waits for an agent's tunnel (GitLab's server: 20 s).
    pub find_tunnel: Duration,
    /// How long a stopping server lets running requests go on.
    pub stop_grace: Duration,
    /// How silent agents are noticed.
    pub keepalive: Keepalive,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            git_poll_interval: Duration::from_secs(60),
            // A Secret's volume follows within a minute anyway.
            tls_poll_interval: Duration::from_secs(10),
            git_timeout: Duration::from_secs(30),
            fetch_timeout: Duration::from_secs(15),
            find_tunnel: Duration::from_secs(20),
            stop_grace: Duration::from_secs(5),
            keepalive: Keepalive::default(),
        }
    }
}

impl ServeConfig {
    /// Settings for a server of a test or a demonstration: loopback, free ports, everything else by default.
    pub fn local(data_dir: impl Into<PathBuf>) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            data_dir: data_dir.into(),
            agent_listen_address: any_port,
            people_listen_address: any_port,
            agent_connection_age_s: DEFAULT_CONNECTION_AGE,
            observability_listen_address: any_port,
            external_url: None,
            agent_url: None,
            tls_san: Vec::new(),
            tls_cert_file: None,
            tls_key_file: None,
            tls_ca_file: None,
            allow_plaintext: false,
            git_allow_http: false,
            git_allow_private: false,
            git_ca_file: None,
            workspaces_domain: Domain(DEFAULT_WORKSPACES_DOMAIN.into()),
            workspaces: WorkspaceDefaults::default(),
            editors: EditorSettings::default(),
            oidc: OidcSettings::default(),
            log_format: LogFormat::Text,
            log_level: "info".into(),
            clock_ahead_file: None,
            clock: Clock::default(),
            timing: Timing::default(),
        }
    }
}

/// `http://` or `https://`, a host, a port perhaps; no path, user or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(Origin);

/// `grpc://`, `grpcs://`, `ws://` or `wss://`, a host, a port perhaps; the latter two with a path perhaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentUrl {
    origin: Origin,
    /// With its slash; empty without a WebSocket.
    path: String,
}

/// A DNS name in lowercase, without a dot at its end; an internationalised one in its ASCII form (`xn--…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(String);

/// Longest domain: a host below it has at most 253 characters.
const MAX_DOMAIN: usize = 180;

impl Domain {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
        };
        if name.len() > MAX_DOMAIN || !name.split('.').all(is_label) {
            return Err(format!(
                "expected a DNS name of at most {MAX_DOMAIN} characters, such as workspaces.example.com"
            ));
        }
        Ok(Self(name))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl HttpUrl {
    /// Whether people speak TLS to it.
    pub fn is_https(&self) -> bool {
        self.0.scheme == "https"
    }

    /// The host alone, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.0.bare_host()
    }

    /// The port, the scheme's own when none is written.
    pub fn port(&self) -> u16 {
        self.0
            .port
            .unwrap_or(if self.is_https() { 443 } else { 80 })
    }
}

impl AgentUrl {
    /// The host alone, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.origin.bare_host()
    }
}

impl Origin {
    fn parse(text: &str, schemes: [&str; 2]) -> Result<Self, String> {
        let expected = || format!("expected {}://HOST[:PORT]", schemes.join(":// or "));
        let uri: http::Uri = text
            .trim_end_matches('/')
            .parse()
            .map_err(|error| format!("{error}; {}", expected()))?;
        let scheme = uri
            .scheme_str()
            .filter(|scheme| schemes.contains(scheme))
            .ok_or_else(expected)?;
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(expected)?;
        let plain =
            uri.path().trim_matches('/').is_empty() && uri.query().is_none() && !text.contains('@');
        if !plain {
            return Err(format!("{} without user, path or query", expected()));
        }
        Ok(Self {
            scheme: scheme.into(),
            host: host.into(),
            port: uri.port_u16(),
        })
    }

    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Origin::parse(text, ["https", "http"]).map(Self)
    }
}

impl FromStr for AgentUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_websocket = text.starts_with("wss://") || text.starts_with("ws://");
        if !is_websocket {
            let origin = Origin::parse(text, ["grpcs", "grpc"])
                .map_err(|error| format!("{error}, or wss://HOST[:PORT]/PATH"))?;
            return Ok(Self {
                origin,
                path: String::new(),
            });
        }
        // The path is the agent's to ask for exactly: it is kept as it is written.
        let after_scheme = text.find("://").map_or(0, |place| place + 3);
        let path = text[after_scheme..].find('/');
        let (origin, path) = match path {
            Some(place) => text.split_at(after_scheme + place),
            None => (text, "/"),
        };
        let origin = Origin::parse(origin, ["wss", "ws"])?;
        let is_path = http::uri::PathAndQuery::try_from(path)
            .is_ok_and(|parsed| parsed.query().is_none() && !path.contains('#'));
        if !is_path {
            return Err("expected wss://HOST[:PORT]/PATH without a query".to_owned());
        }
        Ok(Self {
            origin,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_dns_names() {
        for (text, expected) in [("Example.COM.", "example.com"), ("localhost", "localhost")] {
            assert_eq!(text.parse::<Domain>().unwrap().as_str(), expected);
        }
        for wrong in ["", ".", "a..b", "-a.b", "a_b", "a:1", "*.a", "ä.example"] {
            assert!(wrong.parse::<Domain>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_are_an_origin_and_nothing_more() {
        let url: HttpUrl = "https://kas.example.com:8154/".parse().unwrap();
        assert_eq!(url.to_string(), "https://kas.example.com:8154");
        assert_eq!("https://[::1]:1".parse::<HttpUrl>().unwrap().host(), "::1");
        for wrong in [
            "kas.example.com",
            "ftp://a",
            "https://a/b",
            "https://u:p@a",
            "https://a?q",
            "https://",
        ] {
            assert!(wrong.parse::<HttpUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn agents_are_led_to_grpc_or_a_websocket_with_its_path() {
        for (text, shown) in [
            ("grpcs://10.89.0.1:8150/", "grpcs://10.89.0.1:8150"),
            ("wss://a.example", "wss://a.example/"),
            (
                "ws://a:1/-/kubernetes-agent/",
                "ws://a:1/-/kubernetes-agent/",
            ),
            ("wss://[::1]:1/x", "wss://[::1]:1/x"),
        ] {
            let url: AgentUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
        }
        for wrong in [
            "https://a",
            "grpcs://a/b",
            "wss://a/?q",
            "wss://u@a/",
            "wss:///x",
        ] {
            let error = wrong.parse::<AgentUrl>().unwrap_err();
            assert!(error.contains("wss://"), "{wrong}: {error}");
        }
    }
}
