//! Starts what the tests need, and waits for what they want to see.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use agent::app::Agent;
use agent::config::{
    ClusterAccess, Config, KasTls, Keepalive, LogFormat, Pod, Secret, TokenSource, Workspaces,
};
use agent::module::Module;
use agent::telemetry::LogLevels;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::api_server::ApiServer;
use crate::kas::Kas;

/// Far longer than anything takes here; a busy machine must not make tests fail.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for `future`, with a limit.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("waited {LIMIT:?} for {what}"))
}

/// Waits until `condition` holds, with a limit; says how long it took.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    within(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    start.elapsed()
}

/// A certificate for loopback, signed by itself.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    key: rcgen::KeyPair,
    der: rcgen::Certificate,
}

impl Certificate {
    pub(crate) fn new(name: &str) -> Self {
        prepare();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Self {
            pem: cert.pem(),
            key_pem: signing_key.serialize_pem(),
            key: signing_key,
            der: cert,
        }
    }

    pub(crate) fn server_config(&self) -> rustls::ServerConfig {
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(self.key.serialize_der());
        rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.der().clone()], key.into())
            .unwrap()
    }
}

/// A fake API server, and a folder with what leads there.
pub(crate) struct Cluster {
    pub(crate) api_server: ApiServer,
    pub(crate) folder: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let certificate = Certificate::new("127.0.0.1");
        let api_server = ApiServer::start(&certificate).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), &certificate.pem).unwrap();
        let cluster = Self { api_server, folder };
        cluster.lead_to(cluster.api_server.address);
        cluster
    }

    /// Writes the kubeconfig.
    pub(crate) fn lead_to(&self, address: SocketAddr) {
        let folder = self.folder.path();
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: it,
              clusters: [{{name: it, cluster: {{server: 'https://{address}', certificate-authority: '{}'}}}}],
              users: [{{name: it, user: {{token: the-agents-own}}}}],
              contexts: [{{name: it, context: {{cluster: it, user: it}}}}]}}",
            folder.join("ca.crt").display()
        );
        std::fs::write(folder.join("kubeconfig"), kubeconfig).unwrap();
    }

    pub(crate) fn config(&self, kas: SocketAddr) -> Config {
        Config {
            kas_address: format!("grpc://{kas}").parse().unwrap(),
            token: TokenSource::Given(Secret::new("good")),
            kas_tls: KasTls::default(),
            kas_proxy: None,
            kas_headers: Vec::new(),
            observability_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            cluster: ClusterAccess {
                kubeconfig: Some(self.folder.path().join("kubeconfig")),
                context: None,
            },
            pod: Pod {
                namespace: "ns".to_owned(),
                name: "agent-0".to_owned(),
                service_account: None,
            },
            user_access: None,
            workspaces: Workspaces::default(),
            max_tunnels: 500,
            keepalive: Keepalive::default(),
            drain_timeout: Duration::from_secs(10),
            log_format: LogFormat::Text,
        }
    }
}

/// Everything, connected.
pub(crate) struct World {
    pub(crate) kas: Kas,
    pub(crate) cluster: Cluster,
    pub(crate) agent: Agent,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let cluster = Cluster::start().await;
        let kas = Kas::start().await;
        let mut config = cluster.config(kas.address);
        change(&mut config);
        let agent = start_agent(config).await;
        Self {
            kas,
            cluster,
            agent,
        }
    }
}

/// Starts an agent with its own modules.
pub(crate) async fn start_agent(config: Config) -> Agent {
    let modules = agent::modules::all(&config, LogLevels::new(|_| {}))
        .await
        .unwrap();
    start_agent_with(config, modules).await
}

pub(crate) async fn start_agent_with(config: Config, modules: Vec<Box<dyn Module>>) -> Agent {
    agent::app::start(config, modules).await.unwrap()
}

/// Status and body of a page of the observability listener.
pub(crate) async fn page(agent: &Agent, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(agent.observability)
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    within("a page", stream.read_to_string(&mut text))
        .await
        .unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// Waits for a line in the metrics.
pub(crate) async fn metric(agent: &Agent, line: &str) -> Duration {
    eventually(line, async || {
        page(agent, "/metrics")
            .await
            .1
            .lines()
            .any(|found| found == line)
    })
    .await
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What this test's agent logs, at INFO and above. Each test runs on one thread, its agent included.
#[derive(Debug)]
pub(crate) struct Log;

impl Log {
    pub(crate) fn of_this_test() -> Self {
        LINES.take();
        Self
    }

    /// Lines with `text`.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        LINES.with_borrow(|lines| {
            lines
                .iter()
                .filter(|line| line.contains(text))
                .cloned()
                .collect()
        })
    }
}

/// What every test needs first: the crypto provider, and the log. (A log for each test would be simpler, but `tracing` may
/// miss lines while another test starts its own.)
fn prepare() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap();
        tracing_subscriber::registry().with(Log).init();
    });
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > tracing::Level::INFO || !metadata.target().starts_with("agent") {
            return;
        }
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {}={value:?}", field.name()));
            }
        }
        let mut text = Text(metadata.level().to_string());
        event.record(&mut text);
        LINES.with_borrow_mut(|lines| lines.push(text.0));
    }
}
