//! Against real servers on loopback. `public.example` stands for a public host; everything else is judged for real.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::RootCertStore;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const STRICT: Policy = Policy {
    allow_http: false,
    allow_private: false,
};
/// Far longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);
const PUBLIC: &str = "public.example";

struct PublicExample;

impl Resolve for PublicExample {
    async fn resolve(&self, host: &str, port: u16) -> Result<Pinned, GuardError> {
        if host != PUBLIC {
            return STRICT.resolve(host, port).await;
        }
        let open = Policy {
            allow_http: true,
            allow_private: true,
        };
        open.resolve("127.0.0.1", port).await
    }
}

type Body = BoxBody<Bytes, Infallible>;

/// Answers by path, and the paths that were asked for.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen) = (tls.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        seen.lock().unwrap().push(request.uri().path().to_owned());
                        async move { answer(address.port(), &request).await }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(server.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{PUBLIC}:{}{path}", self.address.port())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(port: u16, request: &Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path();
    let full = |text: &str| full_body(text.as_bytes().to_vec());
    let elsewhere = |to: String| {
        let response = Response::builder().status(302).header("location", to);
        Ok(response.body(full("")).unwrap())
    };
    if let Some(to) = path.strip_prefix("/to/") {
        return elsewhere(to.replace("PORT", &port.to_string()));
    }
    let chunk = |size: usize| Ok(Frame::data(Bytes::from(vec![b'x'; size])));
    let body = match path {
        "/text" => full("text"),
        "/headers" => {
            let names = request.headers().keys();
            let mut names: Vec<_> = names.map(http::HeaderName::as_str).collect();
            names.sort_unstable();
            full(&names.join(" "))
        }
        "/a/relative" => return elsewhere("../text".into()),
        "/circle" => return elsewhere("/circle".into()),
        "/exact" => full_body(vec![b'x'; MAX_BYTES]),
        "/large" => full_body(vec![b'x'; MAX_BYTES + 1]),
        // Without a length in front.
        "/endless" => {
            let chunks = futures::stream::repeat_with(move || chunk(64 * 1024));
            BodyExt::boxed(StreamBody::new(chunks))
        }
        "/stalls" => {
            let first = futures::stream::iter([chunk(3)]);
            BodyExt::boxed(StreamBody::new(first.chain(futures::stream::pending())))
        }
        "/silent" => std::future::pending().await,
        "/zipped" => {
            let response = Response::builder().header("content-encoding", "gzip");
            return Ok(response.body(full("x")).unwrap());
        }
        _ => return Ok(Response::builder().status(404).body(full("")).unwrap()),
    };
    Ok(Response::new(body))
}

fn full_body(bytes: Vec<u8>) -> Body {
    BodyExt::boxed(http_body_util::Full::new(Bytes::from(bytes)))
}

fn fetcher(limit: Duration) -> Fetcher<PublicExample> {
    Fetcher::with(PublicExample, true, limit, Err("none".into()))
}

async fn refused(url: &str) -> String {
    let error = fetcher(LONG).read(url).await.unwrap_err();
    crate::configuration::chain(&error)
}

#[tokio::test]
async fn a_text_is_read_and_redirects_are_followed() {
    let server = Server::start(None).await;
    let port = server.address.port();
    for path in [
        "/text",
        "/a/relative",
        &format!("/to/http://{PUBLIC}:{port}/a/relative"),
    ] {
        let text = fetcher(LONG).read(&server.url(path)).await.unwrap();
        assert_eq!(text, b"text", "{path}");
    }
    // Nothing of the server's own goes along.
    let headers = fetcher(LONG).read(&server.url("/headers")).await.unwrap();
    assert_eq!(headers, b"accept accept-encoding host user-agent");
    let exact = fetcher(LONG).read(&server.url("/exact")).await.unwrap();
    assert_eq!(exact.len(), MAX_BYTES);
}

#[tokio::test]
async fn what_is_not_public_is_not_asked_also_after_a_redirect() {
    let server = Server::start(None).await;
    for (host, kind) in [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        // Other ways to write it.
        ("2130706433", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("169.254.169.254", "link-local"),
        ("10.1.2.3", "private"),
        ("[fd00::1]", "private"),
        ("0.0.0.0", "reserved"),
    ] {
        let port = server.address.port();
        let direct = format!("http://{host}:{port}/text");
        let told = refused(&direct).await;
        assert!(
            told.contains(kind) && told.contains("--git-allow-private"),
            "{told}"
        );
        let told = refused(&server.url(&format!("/to/{direct}"))).await;
        assert!(
            told.starts_with("it redirects to http://") && told.contains(kind),
            "{told}"
        );
    }
    let asked = server.asked();
    assert!(
        asked.iter().all(|path| path.starts_with("/to/")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn what_is_too_large_or_has_no_end_is_refused() {
    let server = Server::start(None).await;
    for path in ["/large", "/endless"] {
        assert_eq!(refused(&server.url(path)).await, "it is larger than 3 MiB");
    }
    let told = refused(&server.url("/circle")).await;
    assert_eq!(told, "it redirects more than 5 times");
    assert_eq!(
        server.asked().iter().filter(|it| *it == "/circle").count(),
        6
    );
}

#[tokio::test]
async fn what_is_too_slow_is_given_up() {
    let server = Server::start(None).await;
    let limit = Duration::from_millis(200);
    for path in ["/silent", "/stalls"] {
        let error = fetcher(limit).read(&server.url(path)).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut(_)), "{path}: {error}");
    }
}

#[tokio::test]
async fn odd_answers_are_told() {
    let server = Server::start(None).await;
    for (path, expected) in [
        (
            "/to/file:///etc/passwd",
            "it redirects to file:///etc/passwd: it is no address of the form https://HOST/PATH",
        ),
        ("/absent", "the answer is 404 Not Found"),
        (
            "/zipped",
            "the answer is compressed, which was not asked for",
        ),
    ] {
        assert_eq!(refused(&server.url(path)).await, expected);
    }
}

#[tokio::test]
async fn only_plain_addresses_are_read() {
    let strict = Fetcher::with(PublicExample, false, LONG, Err("none".into()));
    for (url, expected) in [
        ("http://public.example/a", "only https:// addresses"),
        ("https://u:p@public.example/a", "a user or password"),
        ("file:///etc/passwd", "no address of the form"),
        ("ftp://public.example/a", "no address of the form"),
        ("public.example", "no address of the form"),
        ("https:///a", "no address of the form"),
    ] {
        let told = strict.read(url).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{url}: {told}");
    }
}

#[tokio::test]
async fn https_is_checked_and_never_left() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([PUBLIC.to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()),
        )
        .unwrap();
    let server = Server::start(Some(TlsAcceptor::from(Arc::new(config)))).await;
    let url = |path: &str| server.url(path).replacen("http:", "https:", 1);
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let trusting = crate::authorities::client_config(roots).unwrap();
    let strict = Fetcher::with(PublicExample, false, LONG, Ok(trusting));
    assert_eq!(strict.read(&url("/text")).await.unwrap(), b"text");
    let down = strict
        .read(&url(&format!("/to/{}", server.url("/text"))))
        .await;
    let told = crate::configuration::chain(&down.unwrap_err());
    assert!(told.contains("only https:// addresses"), "{told}");

    let other = generate_simple_self_signed([PUBLIC.to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(other.cert.der().clone()).unwrap();
    let distrusting = crate::authorities::client_config(roots).unwrap();
    let strict = Fetcher::with(PublicExample, false, LONG, Ok(distrusting));
    let told = crate::configuration::chain(&strict.read(&url("/text")).await.unwrap_err());
    assert!(told.contains("certificate"), "{told}");
}
