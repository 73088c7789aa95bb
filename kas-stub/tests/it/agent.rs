//! A scripted agent: tonic's client over real TCP, with the other side's frames written out. It gzips everything, as
//! GitLab's agent does.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use proto::{
    agent_configuration::rpc::{
        ConfigurationRequest, ConfigurationResponse,
        agent_configuration_client::AgentConfigurationClient,
    },
    agent_registrar::rpc::{RegisterRequest, agent_registrar_client::AgentRegistrarClient},
    entity::AgentMeta,
    gitlab_access::rpc::{HeaderExtra, gitlab_access_client::GitlabAccessClient},
    grpctool::{HttpRequest, HttpResponse, http_request, http_response},
    prototool::{self, KeyValues, Values},
    remote_development::rpc::{
        Begin, ReconcileRequest, reconcile_request,
        remote_development_client::RemoteDevelopmentClient,
    },
    reverse_tunnel::{
        info::{AgentDescriptor, Method, Service},
        rpc::{
            ConnectRequest, ConnectResponse, Descriptor, Error, Header, Message, RpcStatus,
            Trailer, connect_request, connect_response, reverse_tunnel_client::ReverseTunnelClient,
        },
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    codec::CompressionEncoding,
    metadata::MetadataValue,
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::support::LIMIT;

#[derive(Clone)]
pub(crate) struct Token(String);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let bearer = format!("Bearer {}", self.0);
        let value = MetadataValue::try_from(bearer).unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

#[derive(Clone)]
pub(crate) struct ScriptedAgent {
    channel: Channel,
    token: Token,
    accepts_gzip: bool,
}

impl ScriptedAgent {
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self::over(endpoint, token).await
    }

    pub(crate) async fn connect_tls(address: SocketAddr, token: &str, ca_pem: &str) -> Self {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        Self::over(endpoint.tls_config(tls).unwrap(), token).await
    }

    async fn over(endpoint: Endpoint, token: &str) -> Self {
        Self {
            channel: endpoint.connect().await.unwrap(),
            token: Token(token.to_owned()),
            accepts_gzip: true,
        }
    }

    fn service(&self) -> InterceptedService<Channel, Token> {
        InterceptedService::new(self.channel.clone(), self.token.clone())
    }

    pub(crate) async fn configuration(
        &self,
        commit: &str,
    ) -> Result<Streaming<ConfigurationResponse>, Status> {
        let request = ConfigurationRequest {
            commit_id: commit.into(),
            agent_meta: Some(meta()),
            skip_register: true,
        };
        let mut client = AgentConfigurationClient::new(self.service())
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        Ok(client.get_configuration(request).await?.into_inner())
    }

    /// One whose streams take 64 KiB, not gzipped, before they must be read.
    pub(crate) async fn connect_narrow(address: SocketAddr, token: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let narrow = endpoint
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(64 * 1024);
        Self {
            accepts_gzip: false,
            ..Self::over(narrow, token).await
        }
    }

    /// A typed reconcile stream that leads, as long as both halves are kept.
    pub(crate) async fn reconcile(&self) -> impl Sized {
        let (requests, receiver) = mpsc::channel(1);
        let begin = Begin {
            agent_meta: Some(meta()),
            fencing_token: 1,
        };
        let message = Some(reconcile_request::Message::Begin(begin));
        requests.send(ReconcileRequest { message }).await.unwrap();
        let mut client = RemoteDevelopmentClient::new(self.service());
        let answers = client.reconcile(ReceiverStream::new(receiver)).await;
        let mut answers = answers.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some(), "it leads");
        (requests, answers)
    }

    pub(crate) async fn register(&self) -> Result<(), Status> {
        let request = RegisterRequest {
            agent_meta: Some(meta()),
            pod_id: 1,
        };
        let mut client =
            AgentRegistrarClient::new(self.service()).send_compressed(CompressionEncoding::Gzip);
        client.register(request).await.map(|_| ())
    }

    /// A module's request to GitLab as GitLab's agent sends it: gzip, no content length, a trailer, half-closed. Gives
    /// status and body.
    pub(crate) async fn gitlab(
        &self,
        module: &str,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<(i32, Bytes), Status> {
        self.gitlab_messages(gitlab_request(module, method, path, body))
            .await
    }

    /// The same from the messages of the stream.
    pub(crate) async fn gitlab_messages(
        &self,
        messages: Vec<http_request::Message>,
    ) -> Result<(i32, Bytes), Status> {
        let mut answer = self.gitlab_answer(messages).await?;
        let Some(http_response::Message::Header(head)) =
            answer.message().await?.and_then(|it| it.message)
        else {
            panic!("no header first");
        };
        let mut body = Vec::new();
        loop {
            match answer.message().await?.and_then(|it| it.message) {
                Some(http_response::Message::Data(data)) => {
                    assert!(!data.data.is_empty() && data.data.len() <= 32 * 1024);
                    body.extend_from_slice(&data.data);
                }
                Some(http_response::Message::Trailer(_)) => break,
                other => panic!("{other:?} in an answer"),
            }
        }
        assert_eq!(answer.message().await?, None, "nothing after the trailer");
        Ok((head.response.unwrap().status_code, body.into()))
    }

    /// The same; the answer is still to be read.
    pub(crate) async fn gitlab_answer(
        &self,
        messages: Vec<http_request::Message>,
    ) -> Result<Streaming<HttpResponse>, Status> {
        let frames = messages.into_iter().map(|message| HttpRequest {
            message: Some(message),
        });
        let mut client =
            GitlabAccessClient::new(self.service()).send_compressed(CompressionEncoding::Gzip);
        if self.accepts_gzip {
            client = client.accept_compressed(CompressionEncoding::Gzip);
        }
        let answer = client.make_request(tokio_stream::iter(frames.collect::<Vec<_>>()));
        let answer = tokio::time::timeout(LIMIT, answer).await;
        Ok(answer.expect("an answer in time")?.into_inner())
    }

    /// An idle tunnel for the Kubernetes API.
    pub(crate) async fn tunnel(&self) -> Tunnel {
        let (sender, frames) = mpsc::channel(16);
        let method = Method {
            name: "MakeRequest".into(),
        };
        let service = Service {
            name: "gitlab.agent.kubernetes_api.rpc.KubernetesApi".into(),
            methods: vec![method],
        };
        let descriptor = Descriptor {
            agent_descriptor: Some(AgentDescriptor {
                services: vec![service],
            }),
        };
        let mut tunnel = Tunnel {
            sender: Some(sender),
            received: None,
        };
        tunnel
            .send(connect_request::Msg::Descriptor(descriptor))
            .await;
        let mut client = ReverseTunnelClient::new(self.service())
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        let response = client.connect(ReceiverStream::new(frames)).await.unwrap();
        // It is the tunnel's bound when all is gzipped, and would be so for nothing where its content is compressed.
        assert_eq!(response.metadata().get("grpc-encoding"), None);
        tunnel.received = Some(response.into_inner());
        tunnel
    }
}

pub(crate) fn meta() -> AgentMeta {
    AgentMeta {
        version: "v0".into(),
        pod_namespace: "ns".into(),
        pod_name: "pod".into(),
        ..AgentMeta::default()
    }
}

pub(crate) struct Tunnel {
    sender: Option<mpsc::Sender<ConnectRequest>>,
    received: Option<Streaming<ConnectResponse>>,
}

impl Tunnel {
    async fn send(&self, msg: connect_request::Msg) {
        let frame = ConnectRequest { msg: Some(msg) };
        // The server may have ended the stream; a test sees that in what it receives.
        let _ = self.sender.as_ref().unwrap().send(frame).await;
    }

    /// The next frame of the server's; `None` when it ended the stream with OK.
    pub(crate) async fn frame(&mut self) -> Result<Option<connect_response::Msg>, Status> {
        let received = self.received.as_mut().unwrap();
        let frame = tokio::time::timeout(LIMIT, received.message()).await;
        Ok(frame
            .expect("a frame in time")?
            .map(|frame| frame.msg.unwrap()))
    }

    /// The code that the server ends the stream with.
    pub(crate) async fn ended(&mut self) -> tonic::Code {
        loop {
            match self.frame().await {
                Ok(Some(_)) => {}
                Ok(None) => return tonic::Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }

    /// The next part of the request.
    pub(crate) async fn part(&mut self) -> http_request::Message {
        match self.frame().await.unwrap() {
            Some(connect_response::Msg::Message(message)) => {
                HttpRequest::decode(message.data).unwrap().message.unwrap()
            }
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// Reads a request up to its trailer: head and body.
    pub(crate) async fn request(&mut self) -> (http_request::Header, Vec<u8>) {
        match self.frame().await.unwrap() {
            Some(connect_response::Msg::RequestInfo(info)) => {
                let method = "/gitlab.agent.kubernetes_api.rpc.KubernetesApi/MakeRequest";
                assert_eq!((info.method_name.as_str(), info.meta), (method, Vec::new()));
            }
            other => panic!("{other:?} instead of a request"),
        }
        let http_request::Message::Header(head) = self.part().await else {
            panic!("no header first");
        };
        let mut body = Vec::new();
        loop {
            match self.part().await {
                http_request::Message::Data(data) => body.extend_from_slice(&data.data),
                http_request::Message::Trailer(_) => return (head, body),
                other => panic!("{other:?} in a request"),
            }
        }
    }

    pub(crate) async fn expect_close_send(&mut self) {
        let frame = self.frame().await.unwrap();
        assert!(
            matches!(frame, Some(connect_response::Msg::CloseSend(_))),
            "{frame:?}"
        );
    }

    /// The beginning of an answer.
    pub(crate) async fn answer_head(&self, status: i32, headers: &[(&str, &str)]) {
        self.send(connect_request::Msg::Header(Header::default()))
            .await;
        let response = prototool::HttpResponse {
            status_code: status,
            status: status.to_string(),
            header: headers
                .iter()
                .map(|(name, value)| key_values(name, value))
                .collect(),
        };
        let header = http_response::Header {
            response: Some(response),
        };
        self.answer(http_response::Message::Header(header)).await;
    }

    pub(crate) async fn answer_data(&self, data: impl Into<Bytes>) {
        let data = http_response::Data { data: data.into() };
        self.answer(http_response::Message::Data(data)).await;
    }

    pub(crate) async fn answer_trailer(&self) {
        self.answer(http_response::Message::Trailer(http_response::Trailer {}))
            .await;
    }

    pub(crate) async fn answer_upgrade_data(&self, data: impl Into<Bytes>) {
        let data = http_response::UpgradeData { data: data.into() };
        self.answer(http_response::Message::UpgradeData(data)).await;
    }

    async fn answer(&self, message: http_response::Message) {
        let answer = HttpResponse {
            message: Some(message),
        };
        let data = answer.encode_to_vec().into();
        self.send(connect_request::Msg::Message(Message { data }))
            .await;
    }

    /// The end of an inner call that went well; what the server ends the stream with.
    pub(crate) async fn finish(mut self) -> tonic::Code {
        self.send(connect_request::Msg::Trailer(Trailer::default()))
            .await;
        self.sender = None;
        self.ended().await
    }

    /// Refuses, as a draining agent does.
    pub(crate) async fn refuse(&mut self) {
        let status = RpcStatus {
            code: tonic::Code::Unavailable as i32,
            message: "agent is draining".into(),
            details: Vec::new(),
        };
        self.send(connect_request::Msg::Error(Error {
            status: Some(status),
        }))
        .await;
        self.sender = None;
    }

    /// A whole answer.
    pub(crate) async fn answer_all(mut self, status: i32, body: &'static str) -> tonic::Code {
        self.request().await;
        let length = body.len().to_string();
        self.answer_head(status, &[("Content-Length", &length)])
            .await;
        self.answer_data(body).await;
        self.answer_trailer().await;
        self.finish().await
    }
}

fn key_values(name: &str, value: &str) -> KeyValues {
    KeyValues {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Some(Values {
            value: vec![Bytes::copy_from_slice(value.as_bytes())],
        }),
    }
}

/// A header of a request; several values in one text.
pub(crate) fn header(head: &http_request::Header, name: &str) -> Option<String> {
    let headers = &head.request.as_ref().unwrap().header;
    let found = headers.iter().find(|entry| entry.key == name.as_bytes())?;
    let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
    let values: Vec<_> = found
        .value
        .as_ref()
        .unwrap()
        .value
        .iter()
        .map(text)
        .collect();
    Some(values.join(", "))
}

/// The next configuration.
pub(crate) async fn next_configuration(
    stream: &mut Streaming<ConfigurationResponse>,
) -> Result<Option<ConfigurationResponse>, Status> {
    let next = tokio::time::timeout(LIMIT, stream.message()).await;
    next.expect("a configuration in time")
}

/// That nothing comes for a moment.
pub(crate) async fn nothing_comes(stream: &mut Streaming<ConfigurationResponse>) {
    let next = tokio::time::timeout(Duration::from_millis(200), stream.message()).await;
    assert!(next.is_err(), "{next:?}");
}

/// The messages of a module's request to GitLab.
pub(crate) fn gitlab_request(
    module: &str,
    method: &str,
    path: &str,
    body: &[u8],
) -> Vec<http_request::Message> {
    let extra = HeaderExtra {
        module_name: module.into(),
    };
    let head = http_request::Header {
        request: Some(prototool::HttpRequest {
            method: method.into(),
            header: vec![key_values("Content-Type", "application/json")],
            url_path: path.into(),
            query: Vec::new(),
        }),
        extra: Some(prost_types::Any {
            type_url: proto::GITLAB_ACCESS_HEADER_EXTRA.into(),
            value: extra.encode_to_vec(),
        }),
        content_length: None,
    };
    let mut messages = vec![http_request::Message::Header(head)];
    messages.extend(body.chunks(32 * 1024).map(|data| {
        http_request::Message::Data(http_request::Data {
            data: Bytes::copy_from_slice(data),
        })
    }));
    messages.push(http_request::Message::Trailer(http_request::Trailer {}));
    messages
}
