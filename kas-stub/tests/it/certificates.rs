//! The certificate that is served, by real handshakes on both ports.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use http::{Method, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{LIMIT, TestServer, collect, no_body};

struct Pair {
    certificate: rcgen::Certificate,
    key: String,
}

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self {
            certificate: made.cert,
            key: made.signing_key.serialize_pem(),
        }
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }
}

/// As a tool replaces a file: at once.
fn put(folder: &Path, name: &str, content: &str) {
    let new = folder.join(format!("{name}.new"));
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

/// Whether a client that trusts this certificate alone is served.
async fn is_served(address: SocketAddr, trusted: CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    connecting.await.is_ok()
}

async fn wait_until_served(address: SocketAddr, pair: &Pair) {
    let waiting = async {
        while !is_served(address, pair.der()).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap();
}

async fn metric(server: &TestServer, name: &str) -> i64 {
    let stream = TcpStream::connect(server.server.observability).await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream.unwrap()))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("/metrics").body(no_body()).unwrap();
    let text = collect(sender.send_request(request).await.unwrap())
        .await
        .text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn new_files_are_served_without_a_restart_and_wrong_ones_are_not() {
    let files = tempfile::tempdir().unwrap();
    let folder = files.path();
    let (first, second) = (Pair::new(), Pair::new());
    put(folder, "tls.crt", &first.certificate.pem());
    put(folder, "tls.key", &first.key);
    put(folder, "ca.crt", &first.certificate.pem());
    let server = TestServer::start_with(|config| {
        config.tls_cert_file = Some(folder.join("tls.crt"));
        config.tls_key_file = Some(folder.join("tls.key"));
        config.tls_ca_file = Some(folder.join("ca.crt"));
        config.timing.tls_poll_interval = Duration::from_millis(20);
    })
    .await;
    let ports = [server.server.agents, server.server.people];
    for port in ports {
        assert!(is_served(port, first.der()).await);
        assert!(!is_served(port, second.der()).await);
    }

    // The new certificate with the old key.
    put(folder, "tls.crt", &second.certificate.pem());
    let waiting = async {
        while metric(&server, "kas_stub_certificate_files_bad").await != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap();
    for port in ports {
        assert!(is_served(port, first.der()).await);
    }
    put(folder, "tls.key", &second.key);
    put(folder, "ca.crt", &second.certificate.pem());
    for port in ports {
        wait_until_served(port, &second).await;
    }
    let waiting = async {
        loop {
            let told = server
                .admin(Method::GET, "/api/v1/server", None)
                .await
                .json();
            if told["ca_certificate"] == second.certificate.pem() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap();
    assert_eq!(metric(&server, "kas_stub_certificate_files_bad").await, 0);
    let expires = metric(&server, "kas_stub_certificate_expires_timestamp_seconds").await;
    assert!(expires > 1_800_000_000, "{expires}");
}

#[tokio::test]
async fn files_that_do_not_belong_together_keep_the_server_from_starting() {
    let files = tempfile::tempdir().unwrap();
    let pair = Pair::new();
    put(files.path(), "tls.crt", &pair.certificate.pem());
    put(files.path(), "tls.key", &Pair::new().key);
    let start = async |certificate: bool, key: bool, ca: bool| {
        let data = files.path().join("data");
        let mut config = kas_stub::config::ServeConfig::local(data);
        let file = |wanted: bool, name: &str| wanted.then(|| files.path().join(name));
        config.tls_cert_file = file(certificate, "tls.crt");
        config.tls_key_file = file(key, "tls.key");
        config.tls_ca_file = file(ca, "tls.crt");
        let error = kas_stub::app::start(config).await.unwrap_err();
        format!("{error:#}")
    };
    for (certificate, key, ca, expected) in [
        (true, true, false, "cannot be used with the key in"),
        (true, false, false, "--tls-cert-file needs --tls-key-file"),
        (false, true, false, "--tls-key-file needs --tls-cert-file"),
        (false, false, true, "--tls-ca-file needs --tls-cert-file"),
    ] {
        let error = start(certificate, key, ca).await;
        assert!(error.contains(expected), "{error}");
    }
}
