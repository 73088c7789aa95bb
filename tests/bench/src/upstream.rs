//! The in-memory upstream: what a call costs when the API server costs nothing. A stand-in, so that the tunnel's own
//! share can be seen; the real API server is far slower than either.

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Bytes of the small answer: a typical single object, as in the recorded baseline of the real pair.
const SMALL_BYTES: usize = 886;
/// One frame of the large body.
const CHUNK_BYTES: usize = 64 * 1024;

/// Serves until it is killed; prints its address as the first line.
pub(crate) async fn serve(certificate: &Path) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    std::fs::write(certificate, made.cert.pem())
        .with_context(|| format!("writing {}", certificate.display()))?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("the key made cannot be read: {error}"))?;
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(&listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            // A client that goes away is no event here.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the parent process reads the address from here"
)]
fn announce(listener: &TcpListener) -> anyhow::Result<()> {
    println!("{}", listener.local_addr()?);
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Blob>>, Infallible> {
    let path = request.uri().path();
    let response = if path == "/bench/small" {
        json(small())
    } else if path == "/version" {
        json(Bytes::from_static(
            br#"{"major":"1","minor":"34","gitVersion":"v1.34.0","platform":"linux/amd64"}"#,
        ))
    } else if let Some(mib) = path
        .strip_prefix("/bench/blob/")
        .and_then(|mib| mib.parse::<u64>().ok())
    {
        Response::new(Either::Right(Blob::new(mib * 1024 * 1024)))
    } else if path == "/bench/watch" {
        Response::new(Either::Right(Blob::watch()))
    } else {
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    };
    Ok(response)
}

fn json(body: Bytes) -> Response<Either<Full<Bytes>, Blob>> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn small() -> Bytes {
    const HEAD: &str =
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"small"},"data":{"text":""#;
    const TAIL: &str = r#""}}"#;
    let filling = "x".repeat(SMALL_BYTES - HEAD.len() - TAIL.len());
    Bytes::from([HEAD, filling.as_str(), TAIL].concat())
}

/// A body of bytes that do not compress, made of one shared block.
#[derive(Debug)]
struct Blob {
    block: Bytes,
    left: u64,
    /// Whether it ends.
    ends: bool,
}

impl Blob {
    fn new(bytes: u64) -> Self {
        // A fixed multiplicative sequence: no run, no repetition within the block.
        let block = (0..CHUNK_BYTES as u64)
            .map(|n| (n.wrapping_mul(6_364_136_223_846_793_005) >> 33) as u8)
            .collect();
        Self {
            block,
            left: bytes,
            ends: true,
        }
    }

    /// A little, and then nothing more: a watch of what does not change.
    fn watch() -> Self {
        Self {
            block: small(),
            left: SMALL_BYTES as u64,
            ends: false,
        }
    }
}

impl Body for Blob {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.left.min(self.block.len() as u64);
        match (size, self.ends) {
            (0, true) => return Poll::Ready(None),
            (0, false) => return Poll::Pending,
            _ => {}
        }
        self.left -= size;
        Poll::Ready(Some(Ok(Frame::data(self.block.slice(..size as usize)))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.ends {
            SizeHint::with_exact(self.left)
        } else {
            SizeHint::default()
        }
    }
}
