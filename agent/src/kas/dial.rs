//! A network connection to the server: TCP, TLS perhaps, and a WebSocket perhaps.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::ServiceExt as _;

use super::explain;
use crate::config::{KasAddress, KasTls, Proxy, Transport};

/// A bundle of all public authorities has 200 KiB.
const MAX_CA_BYTES: u64 = 4 * 1024 * 1024;

/// Why no TLS connection can be made to any server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("certificate authorities in {path} cannot be read")]
    OpenCa {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("certificate authorities in {path} cannot be read")]
    ReadCa {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{0} holds no certificate (PEM, BEGIN CERTIFICATE)")]
    NoCa(PathBuf),
    #[error("certificate authority in {path} is not valid")]
    Ca {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error(
        "there are no certificate authorities to trust: the system has none; give --kas-ca-cert-file"
    )]
    NoRoots,
    #[error("{0:?} is no name that a certificate can have")]
    Name(String),
    #[error("TLS is not possible")]
    Protocol(#[source] rustls::Error),
}

/// Connects to one address.
#[derive(Clone)]
pub(crate) struct Dialer {
    address: Arc<KasAddress>,
    /// Tries a name's addresses of the other family soon after the first, so that one that nobody answers at costs little.
    tcp: HttpConnector,
    proxy: Option<Proxy>,
    tls: Option<Arc<Tls>>,
    /// What the handshake of a WebSocket asks for.
    websocket: Option<Arc<wstunnel::Target>>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Dialer {
    pub(crate) fn try_new(
        address: &KasAddress,
        tls: &KasTls,
        headers: http::HeaderMap,
        proxy: Option<Proxy>,
    ) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        // Small frames must not wait for the acknowledgement of earlier ones.
        tcp.set_nodelay(true);
        Ok(Self {
            tcp,
            proxy,
            tls: if address.tls {
                Some(Arc::new(Tls::try_new(address, tls)?))
            } else {
                None
            },
            websocket: match &address.transport {
                Transport::Direct => None,
                Transport::WebSocket { path } => Some(Arc::new(wstunnel::Target {
                    authority: address.host_header(),
                    path: path.clone(),
                    headers,
                })),
            },
            address: Arc::new(address.clone()),
        })
    }

    /// TCP, to the server itself or to what a proxy connects to it.
    pub(crate) async fn reach(&self) -> io::Result<TcpStream> {
        let server = http::Uri::builder()
            .scheme("http")
            .authority(self.address.authority())
            .path_and_query("/")
            .build()
            .map_err(io::Error::other)?;
        let tcp = self.tcp.clone();
        let stream = match &self.proxy {
            None => tcp.oneshot(server).await.map_err(io::Error::other)?,
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri.clone(), tcp);
                if let Some(authorization) = &proxy.authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                let connected = tunnel.oneshot(server).await;
                connected.map_err(|error| explain::proxy(&error, proxy))?
            }
        };
        Ok(stream.into_inner())
    }

    /// TLS, if the address is one of a TLS server.
    pub(crate) async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        Ok(match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let stream = tls.connector().connect(tls.name.clone(), stream).await;
                Stream::Tls(Box::new(stream.map_err(explain::tls)?))
            }
        })
    }

    async fn dial(self) -> io::Result<TokioIo<Connection>> {
        let stream = self.secure(self.reach().await?).await?;
        let connection = match self.websocket {
            None => Connection::Direct {
                stream,
                greeted: false,
            },
            Some(target) => match wstunnel::connect(stream, &target).await {
                Ok(tunnel) => Connection::WebSocket(Box::new(tunnel)),
                Err(error) => return Err(explain::websocket(error, &self.address)),
            },
        };
        Ok(TokioIo::new(connection))
    }
}

/// TLS towards the server, with authorities that may be replaced while the agent runs.
struct Tls {
    settings: KasTls,
    name: ServerName<'static>,
    protocol: &'static [u8],
    loaded: Mutex<Loaded>,
}

struct Loaded {
    connector: TlsConnector,
    /// What the file of authorities held.
    pem: Vec<u8>,
    /// It cannot be used any more, and that was said.
    complained: bool,
}

impl Tls {
    fn try_new(address: &KasAddress, settings: &KasTls) -> Result<Self, TlsError> {
        let name = settings.server_name.as_ref().unwrap_or(&address.host);
        // A WebSocket begins as HTTP/1.1.
        let protocol: &[u8] = if address.is_websocket() {
            b"http/1.1"
        } else {
            b"h2"
        };
        let pem = read_ca(settings)?;
        Ok(Self {
            name: ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name.clone()))?,
            loaded: Mutex::new(Loaded {
                connector: connector(settings, protocol, &pem)?,
                pem,
                complained: false,
            }),
            settings: settings.clone(),
            protocol,
        })
    }

    /// With the authorities as their file has them now; as they were while it cannot be used.
    fn connector(&self) -> TlsConnector {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = read_ca(&self.settings).and_then(|pem| {
            if pem == loaded.pem {
                return Ok(None);
            }
            let connector = connector(&self.settings, self.protocol, &pem)?;
            Ok(Some((connector, pem)))
        });
        match fresh {
            Ok(fresh) => {
                loaded.complained = false;
                if let Some((connector, pem)) = fresh {
                    tracing::info!("the certificate authorities for the server were replaced");
                    loaded.connector = connector;
                    loaded.pem = pem;
                }
            }
            Err(error) if !loaded.complained => {
                loaded.complained = true;
                let error = super::health::chain(&error);
                tracing::warn!(
                    error,
                    "the certificate authorities for the server stay as they were"
                );
            }
            Err(_) => {}
        }
        loaded.connector.clone()
    }
}

impl tower::Service<http::Uri> for Dialer {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Connection>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

fn connector(settings: &KasTls, protocol: &[u8], ca_pem: &[u8]) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocol)?;
    let mut config = if settings.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnything(provider)))
            .with_no_client_auth()
    } else {
        builder
            .with_root_certificates(roots(settings.ca_cert_file.as_deref(), ca_pem)?)
            .with_no_client_auth()
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The file of authorities; empty if none was named.
fn read_ca(settings: &KasTls) -> Result<Vec<u8>, TlsError> {
    let Some(path) = &settings.ca_cert_file else {
        return Ok(Vec::new());
    };
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_CA_BYTES).read_to_end(&mut pem))
        .map_err(|source| TlsError::OpenCa {
            path: path.clone(),
            source,
        })?;
    Ok(pem)
}

fn roots(path: Option<&Path>, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // An image may have none at all; then the given ones must do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = path {
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|source| TlsError::ReadCa {
                path: path.to_owned(),
                source,
            })?;
            roots.add(certificate).map_err(|source| TlsError::Ca {
                path: path.to_owned(),
                source,
            })?;
            found = true;
        }
        if !found {
            return Err(TlsError::NoCa(path.to_owned()));
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}

/// For `--kas-insecure-skip-tls-verify`. Signatures are still checked, so that a broken peer is noticed.
#[derive(Debug)]
struct TrustAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The network's part of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that exists: HTTP/2's bytes.
#[derive(Debug)]
pub(crate) enum Connection {
    Direct {
        stream: Stream,
        /// Whether the server's first bytes were looked at.
        greeted: bool,
    },
    WebSocket(Box<wstunnel::Tunnel<Stream>>),
}

impl Stream {
    /// The certificate that the server showed, DER.
    pub(crate) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
        }
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! each {
    ($stream:expr, $method:ident ( $($argument:expr),* )) => {
        match $stream {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), poll_write(context, data))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), poll_write_vectored(context, data))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(tunnel) => Pin::new(tunnel.as_mut()).poll_read(context, buffer),
            Self::Direct { stream, greeted } => {
                let before = buffer.filled().len();
                ready!(Pin::new(stream).poll_read(context, buffer))?;
                if !std::mem::replace(greeted, true) {
                    explain::greeting(&buffer.filled()[before..])?;
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Calls the same method of whichever connection it is.
macro_rules! either {
    ($connection:expr, $method:ident ( $($argument:expr),* )) => {
        match $connection {
            Connection::Direct { stream, .. } => Pin::new(stream).$method($($argument),*),
            Connection::WebSocket(tunnel) => Pin::new(tunnel.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), poll_write(context, data))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), poll_write_vectored(context, data))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Direct { stream, .. } => stream.is_write_vectored(),
            Self::WebSocket(tunnel) => tunnel.is_write_vectored(),
        }
    }
}
