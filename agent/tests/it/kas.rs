//! A scripted agent server: real gRPC, and nothing behind it. Tests take its tunnels and say what it sends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use prost::Message as _;
use proto::agent_configuration::rpc::agent_configuration_server::{
    AgentConfiguration, AgentConfigurationServer,
};
use proto::agent_configuration::rpc::{ConfigurationRequest, ConfigurationResponse};
use proto::agent_registrar::rpc::agent_registrar_server::{AgentRegistrar, AgentRegistrarServer};
use proto::agent_registrar::rpc::{
    RegisterRequest, RegisterResponse, UnregisterRequest, UnregisterResponse,
};
use proto::agentcfg;
use proto::gitlab_access::rpc::HeaderExtra;
use proto::gitlab_access::rpc::gitlab_access_server::{GitlabAccess, GitlabAccessServer};
use proto::grpctool::{HttpRequest, HttpResponse, http_request, http_response};
use proto::prototool::{self, KeyValues, Values};
use proto::remote_development::rpc::remote_development_server::{
    RemoteDevelopment, RemoteDevelopmentServer,
};
use proto::remote_development::rpc::{ReconcileRequest, ReconcileResponse, reconcile_response};
use proto::reverse_tunnel::rpc::reverse_tunnel_server::{ReverseTunnel, ReverseTunnelServer};
use proto::reverse_tunnel::rpc::{
    CloseSend, ConnectRequest, ConnectResponse, RequestInfo, connect_request, connect_response,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::fixture::within;

pub(crate) const MAKE_REQUEST: &str = "/gitlab.agent.kubernetes_api.rpc.KubernetesApi/MakeRequest";

/// What the server has seen, and what it answers. Outlives restarts.
#[derive(Debug)]
pub(crate) struct Script {
    /// The one token it accepts.
    pub(crate) token: Mutex<String>,
    pub(crate) configuration: watch::Sender<ConfigurationResponse>,
    pub(crate) registered: Mutex<Vec<RegisterRequest>>,
    pub(crate) unregistered: Mutex<Vec<UnregisterRequest>>,
    pub(crate) configuration_requests: Mutex<Vec<ConfigurationRequest>>,
    /// Number of calls refused for their token.
    pub(crate) refused: Mutex<usize>,
    tunnels: mpsc::UnboundedSender<Tunnel>,
    /// It knows GitlabAccess.
    speaks_gitlab: AtomicBool,
    asked: mpsc::UnboundedSender<Asked>,
    /// It knows our own reconcile.
    speaks_typed: AtomicBool,
    typed: mpsc::UnboundedSender<ReconcileRequest>,
    /// Says something on the open reconcile stream.
    says: Mutex<Option<mpsc::UnboundedSender<ReconcileResponse>>>,
}

/// A request of a module to GitLab, to be answered.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    body: Vec<u8>,
    answer: mpsc::Sender<Result<HttpResponse, Status>>,
}

impl Asked {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn answer(&self, status: u16, body: &str) {
        let head = http_response::Header {
            response: Some(prototool::HttpResponse {
                status_code: status.into(),
                ..prototool::HttpResponse::default()
            }),
        };
        let chunks = body.as_bytes().chunks(100).map(|data| {
            let data = Bytes::copy_from_slice(data);
            http_response::Message::Data(http_response::Data { data })
        });
        let messages = [http_response::Message::Header(head)]
            .into_iter()
            .chain(chunks)
            .chain([http_response::Message::Trailer(http_response::Trailer {})]);
        for message in messages {
            let message = Some(message);
            // The agent may be gone: the test is over.
            let _ = self.answer.try_send(Ok(HttpResponse { message }));
        }
    }
}

/// GitLab's server gzips every message.
macro_rules! gzipping {
    ($server:expr) => {
        $server
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    };
}

/// A scripted server that listens.
pub(crate) struct Kas {
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Script>,
    waiting: tokio::sync::Mutex<mpsc::UnboundedReceiver<Tunnel>>,
    asking: tokio::sync::Mutex<mpsc::UnboundedReceiver<Asked>>,
    reconciling: tokio::sync::Mutex<mpsc::UnboundedReceiver<ReconcileRequest>>,
    running: CancellationToken,
    identity: Option<Identity>,
}

pub(crate) fn configuration(commit: &str, level: agentcfg::LogLevel) -> ConfigurationResponse {
    ConfigurationResponse {
        configuration: Some(agentcfg::AgentConfiguration {
            agent_id: 7,
            project_path: "group/project".to_owned(),
            observability: Some(agentcfg::ObservabilityCf {
                logging: Some(agentcfg::LoggingCf {
                    level: level.into(),
                    grpc_level: None,
                }),
            }),
            ..agentcfg::AgentConfiguration::default()
        }),
        commit_id: commit.to_owned(),
    }
}

impl Kas {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(identity: Option<Identity>) -> Self {
        let (tunnels, waiting) = mpsc::unbounded_channel();
        let (asked, asking) = mpsc::unbounded_channel();
        let (typed, reconciling) = mpsc::unbounded_channel();
        let script = Arc::new(Script {
            token: Mutex::new("good".to_owned()),
            configuration: watch::Sender::new(configuration("c1", agentcfg::LogLevel::Info)),
            registered: Mutex::default(),
            unregistered: Mutex::default(),
            configuration_requests: Mutex::default(),
            refused: Mutex::default(),
            tunnels,
            speaks_gitlab: AtomicBool::new(false),
            asked,
            speaks_typed: AtomicBool::new(false),
            typed,
            says: Mutex::default(),
        });
        let mut kas = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            script,
            waiting: tokio::sync::Mutex::new(waiting),
            asking: tokio::sync::Mutex::new(asking),
            reconciling: tokio::sync::Mutex::new(reconciling),
            running: CancellationToken::new(),
            identity,
        };
        kas.listen().await;
        kas
    }

    async fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let running = self.running.clone();
        let service = Service(Arc::clone(&self.script));
        let mut server = Server::builder();
        if let Some(identity) = &self.identity {
            server = server
                .tls_config(ServerTlsConfig::new().identity(identity.clone()))
                .unwrap();
        }
        let router = server
            .add_service(gzipping!(AgentConfigurationServer::new(service.clone())))
            .add_service(gzipping!(AgentRegistrarServer::new(service.clone())))
            .add_service(gzipping!(ReverseTunnelServer::new(service.clone())))
            .add_service(gzipping!(RemoteDevelopmentServer::new(service.clone())))
            .add_service(gzipping!(GitlabAccessServer::new(service)));
        tokio::spawn(async move {
            tokio::select! {
                result = router.serve_with_incoming(TcpIncoming::from(listener)) => result.unwrap(),
                () = running.cancelled() => {}
            }
        });
    }

    /// Serves GitlabAccess from now on; the test answers.
    pub(crate) fn speak_gitlab(&self) {
        self.script.speaks_gitlab.store(true, Ordering::Relaxed);
    }

    /// The next request to GitLab.
    pub(crate) async fn asked(&self) -> Asked {
        let next = async { self.asking.lock().await.recv().await };
        within("a request to GitLab", next).await.unwrap()
    }

    /// Says something on the open reconcile stream.
    pub(crate) fn say(&self, message: reconcile_response::Message) {
        let says = self.script.says.lock().unwrap();
        let response = ReconcileResponse {
            message: Some(message),
        };
        says.as_ref()
            .expect("a stream is open")
            .send(response)
            .unwrap();
    }

    /// Knows our own reconcile from now on, and says nothing there by itself.
    pub(crate) fn speak_typed(&self) {
        self.script.speaks_typed.store(true, Ordering::Relaxed);
    }

    /// The next message of a reconcile stream.
    pub(crate) async fn reconcile_request(&self) -> ReconcileRequest {
        let next = async { self.reconciling.lock().await.recv().await };
        within("a message of a reconcile stream", next)
            .await
            .unwrap()
    }

    /// Forgets the requests to GitLab that wait.
    pub(crate) async fn forget_asked(&self) {
        let mut asking = self.asking.lock().await;
        while asking.try_recv().is_ok() {}
    }

    /// Forgets the tunnels that wait.
    pub(crate) async fn forget_tunnels(&self) {
        let mut waiting = self.waiting.lock().await;
        while waiting.try_recv().is_ok() {}
    }

    /// An idle tunnel that still lives.
    pub(crate) async fn tunnel(&self) -> Tunnel {
        within("a tunnel", async {
            loop {
                let tunnel = self.waiting.lock().await.recv().await.unwrap();
                if !tunnel.to_agent.is_closed() {
                    return tunnel;
                }
            }
        })
        .await
    }

    /// Calls a method of the agent.
    pub(crate) async fn call(&self, method: &str) -> Tunnel {
        let mut tunnel = self.tunnel().await;
        tunnel.request_info(method).await;
        tunnel
    }

    /// A whole request without a body to the API server.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], Some(&[])).await
    }

    /// A whole request; `body` `None` means that its length is not told.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let mut tunnel = self.call(MAKE_REQUEST).await;
        let length = body.map(|body| body.len() as i64);
        tunnel.head(method, path, headers, length).await;
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            tunnel.data(body).await;
        }
        tunnel.end_of_request().await;
        tunnel.answer().await
    }
}

impl Drop for Kas {
    fn drop(&mut self) {
        self.running.cancel();
    }
}

#[derive(Clone)]
struct Service(Arc<Script>);

impl Service {
    fn authorize<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let expected = format!("Bearer {}", self.0.token.lock().unwrap());
        let given = request.metadata().get("authorization");
        if given.is_some_and(|given| given == expected.as_str()) {
            return Ok(());
        }
        *self.0.refused.lock().unwrap() += 1;
        Err(Status::unauthenticated("unauthenticated"))
    }
}

#[tonic::async_trait]
impl AgentConfiguration for Service {
    type GetConfigurationStream = BoxStream<'static, Result<ConfigurationResponse, Status>>;

    async fn get_configuration(
        &self,
        request: Request<ConfigurationRequest>,
    ) -> Result<Response<Self::GetConfigurationStream>, Status> {
        self.authorize(&request)?;
        let request = request.into_inner();
        let mut last = request.commit_id.clone();
        self.0.configuration_requests.lock().unwrap().push(request);
        let changes = tokio_stream::wrappers::WatchStream::new(self.0.configuration.subscribe());
        let responses = changes.filter_map(move |response| {
            let changed = response.commit_id != last;
            last.clone_from(&response.commit_id);
            std::future::ready(changed.then_some(Ok(response)))
        });
        Ok(Response::new(responses.boxed()))
    }
}

#[tonic::async_trait]
impl AgentRegistrar for Service {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.authorize(&request)?;
        self.0.registered.lock().unwrap().push(request.into_inner());
        Ok(Response::new(RegisterResponse {}))
    }

    async fn unregister(
        &self,
        request: Request<UnregisterRequest>,
    ) -> Result<Response<UnregisterResponse>, Status> {
        self.authorize(&request)?;
        self.0
            .unregistered
            .lock()
            .unwrap()
            .push(request.into_inner());
        Ok(Response::new(UnregisterResponse {}))
    }
}

#[tonic::async_trait]
impl ReverseTunnel for Service {
    type ConnectStream = BoxStream<'static, Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        self.authorize(&request)?;
        let mut from_agent = request.into_inner();
        let descriptor = from_agent.message().await?;
        let Some(ConnectRequest {
            msg: Some(connect_request::Msg::Descriptor(descriptor)),
        }) = descriptor
        else {
            return Err(Status::invalid_argument("no descriptor"));
        };
        let (to_agent, mut frames) = mpsc::channel(1);
        let services = descriptor
            .agent_descriptor
            .unwrap()
            .services
            .into_iter()
            .flat_map(|service| {
                let name = service.name;
                service
                    .methods
                    .into_iter()
                    .map(move |method| format!("/{name}/{}", method.name))
            })
            .collect();
        self.0
            .tunnels
            .send(Tunnel {
                to_agent,
                from_agent,
                services,
            })
            .map_err(|_| Status::unavailable("the test is over"))?;
        // As GitLab's server: the response headers come with the first frame.
        let first = frames.recv().await;
        let first = futures::stream::iter(first);
        let rest = tokio_stream::wrappers::ReceiverStream::new(frames);
        Ok(Response::new(first.chain(rest).boxed()))
    }
}

#[tonic::async_trait]
impl RemoteDevelopment for Service {
    type ReconcileStream = BoxStream<'static, Result<ReconcileResponse, Status>>;

    async fn reconcile(
        &self,
        request: Request<Streaming<ReconcileRequest>>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        self.authorize(&request)?;
        if !self.0.speaks_typed.load(Ordering::Relaxed) {
            return Err(Status::unimplemented("no such service"));
        }
        let script = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        let (says, said) = mpsc::unbounded_channel();
        *script.says.lock().unwrap() = Some(says);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let _ = script.typed.send(request);
            }
            *script.says.lock().unwrap() = None;
        });
        let said = tokio_stream::wrappers::UnboundedReceiverStream::new(said);
        Ok(Response::new(said.map(Ok).boxed()))
    }
}

#[tonic::async_trait]
impl GitlabAccess for Service {
    type MakeRequestStream = BoxStream<'static, Result<HttpResponse, Status>>;

    async fn make_request(
        &self,
        request: Request<Streaming<HttpRequest>>,
    ) -> Result<Response<Self::MakeRequestStream>, Status> {
        self.authorize(&request)?;
        if !self.0.speaks_gitlab.load(Ordering::Relaxed) {
            return Err(Status::unimplemented("no GitLab"));
        }
        let mut frames = request.into_inner();
        let Some(http_request::Message::Header(head)) =
            frames.message().await?.and_then(|it| it.message)
        else {
            return Err(Status::invalid_argument("no header"));
        };
        let extra = head.extra.unwrap();
        assert_eq!(extra.type_url, proto::GITLAB_ACCESS_HEADER_EXTRA);
        let extra = HeaderExtra::decode(extra.value.as_slice()).unwrap();
        assert_eq!(extra.module_name, "remote_development");
        let mut body = Vec::new();
        loop {
            match frames.message().await?.and_then(|it| it.message) {
                Some(http_request::Message::Data(data)) => body.extend_from_slice(&data.data),
                Some(http_request::Message::Trailer(_)) => break,
                other => panic!("{other:?} in a request"),
            }
        }
        let head = head.request.unwrap();
        // As much as any answer here has messages.
        let (answer, messages) = mpsc::channel(10_000);
        let asked = Asked {
            method: head.method,
            path: head.url_path,
            body,
            answer,
        };
        self.0
            .asked
            .send(asked)
            .map_err(|_| Status::unavailable("the test is over"))?;
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        Ok(Response::new(messages.boxed()))
    }
}

/// One `Connect` stream, from the server's side.
#[derive(Debug)]
pub(crate) struct Tunnel {
    to_agent: mpsc::Sender<Result<ConnectResponse, Status>>,
    from_agent: Streaming<ConnectRequest>,
    /// Full paths of the methods in the descriptor.
    pub(crate) services: Vec<String>,
}

impl Tunnel {
    pub(crate) async fn send(&mut self, msg: connect_response::Msg) {
        let frame = ConnectResponse { msg: Some(msg) };
        within("the agent takes a frame", self.to_agent.send(Ok(frame)))
            .await
            .unwrap();
    }

    pub(crate) async fn request_info(&mut self, method: &str) {
        let meta = [("x-trace", "1"), ("authorization", "Bearer server's own")]
            .map(|(key, value)| key_values(key, &[value]))
            .to_vec();
        self.send(connect_response::Msg::RequestInfo(RequestInfo {
            method_name: method.to_owned(),
            meta,
        }))
        .await;
    }

    pub(crate) async fn message(&mut self, data: impl Into<Bytes>) {
        let data = data.into();
        self.send(connect_response::Msg::Message(
            proto::reverse_tunnel::rpc::Message { data },
        ))
        .await;
    }

    pub(crate) async fn close_send(&mut self) {
        self.send(connect_response::Msg::CloseSend(CloseSend {}))
            .await;
    }

    /// Ends the stream as a server does whose caller went away.
    pub(crate) async fn cancel(self) {
        let gone = Status::cancelled("read from incoming stream");
        self.to_agent.send(Err(gone)).await.unwrap();
    }

    pub(crate) async fn http(&mut self, message: http_request::Message) {
        let message = HttpRequest {
            message: Some(message),
        };
        self.message(message.encode_to_vec()).await;
    }

    pub(crate) async fn head(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content_length: Option<i64>,
    ) {
        self.http(header(method, path, headers, content_length))
            .await;
    }

    pub(crate) async fn data(&mut self, data: &[u8]) {
        for part in data.chunks(32 * 1024) {
            let data = Bytes::copy_from_slice(part);
            self.http(http_request::Message::Data(http_request::Data { data }))
                .await;
        }
    }

    pub(crate) async fn trailer(&mut self) {
        self.http(http_request::Message::Trailer(http_request::Trailer {}))
            .await;
    }

    pub(crate) async fn end_of_request(&mut self) {
        self.trailer().await;
        self.close_send().await;
    }

    pub(crate) async fn upgrade_data(&mut self, data: &'static [u8]) {
        let data = Bytes::from_static(data);
        self.http(http_request::Message::UpgradeData(
            http_request::UpgradeData { data },
        ))
        .await;
    }

    /// The next frame; `None` at the stream's end.
    pub(crate) async fn frame(&mut self) -> Option<connect_request::Msg> {
        within("a frame of the agent", self.from_agent.message())
            .await
            .unwrap()
            .map(|frame| frame.msg.unwrap())
    }

    /// The next message of the answer, without its header.
    pub(crate) async fn answer_message(&mut self) -> Bytes {
        loop {
            match self.frame().await.unwrap() {
                connect_request::Msg::Header(_) => {}
                connect_request::Msg::Message(message) => return message.data,
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    pub(crate) async fn http_message(&mut self) -> http_response::Message {
        HttpResponse::decode(self.answer_message().await)
            .unwrap()
            .message
            .unwrap()
    }

    /// The status in the answer's head.
    pub(crate) async fn http_head(&mut self) -> i32 {
        match self.http_message().await {
            http_response::Message::Header(header) => header.response.unwrap().status_code,
            other => panic!("expected a head, got {other:?}"),
        }
    }

    /// Code and text of the error that ends the call.
    pub(crate) async fn error(&mut self) -> (i32, String) {
        while let Some(frame) = self.frame().await {
            if let connect_request::Msg::Error(error) = frame {
                let status = error.status.unwrap();
                return (status.code, status.message);
            }
        }
        panic!("the stream ended without an error");
    }

    /// Reads the whole answer and checks the order of its frames.
    pub(crate) async fn answer(mut self) -> Answer {
        let mut answer = Answer::default();
        let mut order = Vec::new();
        while let Some(frame) = self.frame().await {
            match frame {
                connect_request::Msg::Descriptor(_) => panic!("second descriptor"),
                connect_request::Msg::Header(_) => order.push("header"),
                connect_request::Msg::Message(message) => {
                    let message = HttpResponse::decode(message.data).unwrap().message.unwrap();
                    order.push(answer.take(message));
                }
                connect_request::Msg::Trailer(_) => order.push("trailer"),
                connect_request::Msg::Error(error) => {
                    let status = error.status.unwrap();
                    answer.error = Some((status.code, status.message));
                    order.push("error");
                }
            }
        }
        order.dedup();
        answer.order = order.join(" ");
        answer
    }
}

/// What came back through the tunnel.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) error: Option<(i32, String)>,
    pub(crate) order: String,
}

impl Answer {
    fn take(&mut self, message: http_response::Message) -> &'static str {
        match message {
            http_response::Message::Header(header) => {
                let response = header.response.unwrap();
                self.status = response.status_code;
                for entry in response.header {
                    for value in entry.value.unwrap().value {
                        self.headers.push((text(&entry.key), text(&value)));
                    }
                }
                "head"
            }
            http_response::Message::Data(data) => {
                assert!(!data.data.is_empty(), "an empty data frame");
                self.body.extend_from_slice(&data.data);
                "data"
            }
            http_response::Message::Trailer(_) => "end",
            http_response::Message::UpgradeData(_) => "upgrade-data",
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}, {self:?}", text(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn header(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    content_length: Option<i64>,
) -> http_request::Message {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| key_values(key, &[value]))
        .collect();
    http_request::Message::Header(http_request::Header {
        request: Some(prototool::HttpRequest {
            method: method.to_owned(),
            header: headers
                .iter()
                .map(|(key, value)| key_values(key, &[value]))
                .collect(),
            url_path: path.to_owned(),
            query,
        }),
        extra: None,
        content_length,
    })
}

pub(crate) fn key_values(key: &str, values: &[&str]) -> KeyValues {
    KeyValues {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Some(Values {
            value: values
                .iter()
                .map(|value| Bytes::copy_from_slice(value.as_bytes()))
                .collect(),
        }),
    }
}

/// The longest that the agent may take to be back after the server is.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(1);
