//! The server's certificate: given, or from a CA of its own that is made on the first start.

mod served;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use served::Files;
pub(crate) use served::{Served, keep_fresh};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} holds no {expected} in PEM form", path.display())]
    Pem {
        path: PathBuf,
        expected: &'static str,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
    #[error("the certificate in {} cannot be used with the key in {}", certificate.display(), key.display())]
    Use {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("the certificate in {} cannot be read: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
    #[error("the name {0} in a certificate")]
    Name(String),
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// Where certificate and key come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Files of the operator's.
    Given {
        certificate: PathBuf,
        key: PathBuf,
        /// What clients have to be told to trust, if it is not what everybody trusts.
        authority: Option<PathBuf>,
    },
    /// The own CA, in this folder, with these names in the server's certificate.
    Own {
        folder: PathBuf,
        names: BTreeSet<String>,
    },
}

/// The server's side of TLS, for the two listeners.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) agents: Arc<ServerConfig>,
    pub(crate) people: Arc<ServerConfig>,
    pub(crate) served: Arc<Served>,
}

impl Tls {
    pub(crate) fn load(source: Source) -> Result<Self> {
        let files = match source {
            Source::Given {
                certificate,
                key,
                authority,
            } => Files {
                certificate,
                key,
                authority,
            },
            Source::Own { folder, names } => {
                ensure_own(&folder, &names)?;
                Files {
                    certificate: folder.join("server.crt"),
                    key: folder.join("server.key"),
                    authority: Some(folder.join("ca.crt")),
                }
            }
        };
        let served = Arc::new(Served::load(files)?);
        // HTTP/1.1 for agents that come in a WebSocket.
        let alpn = ["h2", "http/1.1"];
        Ok(Self {
            agents: server_config(&served, &alpn),
            people: server_config(&served, &alpn),
            served,
        })
    }
}

fn server_config(served: &Arc<Served>, alpn: &[&str]) -> Arc<ServerConfig> {
    let resolver = Arc::clone(served);
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// All certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = |source| Error::Pem {
        path: path.to_owned(),
        expected: "certificate",
        source,
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(pem)?
        .collect::<std::result::Result<_, _>>()
        .map_err(pem)?;
    if certificates.is_empty() {
        return Err(pem(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Makes what is missing: the CA once, the server's certificate whenever its names change.
fn ensure_own(folder: &Path, names: &BTreeSet<String>) -> Result<()> {
    fs::create_dir_all(folder).map_err(file(folder))?;
    let (ca_certificate, ca_key) = (folder.join("ca.crt"), folder.join("ca.key"));
    if !ca_certificate.exists() {
        make_ca(&ca_certificate, &ca_key)?;
    }
    // Which names the certificate has stands beside it, so that nothing has to take certificates apart.
    let names_file = folder.join("server.names");
    let wanted = names
        .iter()
        .map(|name| format!("{name}\n"))
        .collect::<String>();
    let same = fs::read_to_string(&names_file).is_ok_and(|had| had == wanted);
    if same && folder.join("server.crt").exists() && folder.join("server.key").exists() {
        return Ok(());
    }
    make_server(folder, &ca_key, names)?;
    write(&names_file, &wanted, 0o644)
}

fn make_ca(certificate: &Path, key: &Path) -> Result<()> {
    let pair = KeyPair::generate().map_err(Error::Make)?;
    let params = ca_params(&pair);
    let made = params.self_signed(&pair).map_err(Error::Make)?;
    // The key first: a CA certificate without its key would be kept for good.
    write(key, &pair.serialize_pem(), 0o600)?;
    write(certificate, &made.pem(), 0o644)
}

/// What the CA's certificate says; the same for the same key, so that a server's certificate can name its issuer without
/// reading the CA's.
fn ca_params(pair: &KeyPair) -> CertificateParams {
    let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key_raw());
    let short: String = digest.as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("kas-stub CA {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params);
    params
}

fn make_server(folder: &Path, ca_key: &Path, names: &BTreeSet<String>) -> Result<()> {
    let ca_pair = KeyPair::from_pem(&read(ca_key)?).map_err(Error::Make)?;
    let issuer = Issuer::new(ca_params(&ca_pair), ca_pair);
    let pair = KeyPair::generate().map_err(Error::Make)?;
    let names: Vec<String> = names.iter().cloned().collect();
    let shown = names.join(", ");
    let mut params = CertificateParams::new(names).map_err(|_| Error::Name(shown))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "kas-stub");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_validity(&mut params);
    let made = params.signed_by(&pair, &issuer).map_err(Error::Make)?;
    write(&folder.join("server.key"), &pair.serialize_pem(), 0o600)?;
    write(&folder.join("server.crt"), &made.pem(), 0o644)
}

/// From last year, for clocks that are behind, to ten years on.
fn set_validity(params: &mut CertificateParams) {
    let year = i32::from(jiff::Zoned::now().year());
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + 10, 1, 1);
}

/// The names that a server's certificate needs.
pub(crate) fn server_names(
    addresses: impl IntoIterator<Item = IpAddr>,
    hosts: impl IntoIterator<Item = String>,
) -> BTreeSet<String> {
    let fixed = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let addresses = addresses
        .into_iter()
        .filter(|address| !address.is_unspecified())
        .map(|address| address.to_string());
    fixed.into_iter().chain(addresses).chain(hosts).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(file(path))
}

/// Writes all or nothing, with these permissions from the first moment.
fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    let new = path.with_extension("new");
    let written = fs::remove_file(&new)
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .and_then(|()| {
            let mut options = fs::OpenOptions::new();
            let mut new_file = options.write(true).create_new(true).mode(mode).open(&new)?;
            new_file.write_all(content.as_bytes())?;
            new_file.sync_all()?;
            fs::rename(&new, path)
        });
    written.map_err(file(path))
}

fn file(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn own(folder: &Path, names: &[&str]) -> Tls {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        Tls::load(Source::Own {
            folder: folder.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
        .unwrap()
    }

    #[test]
    fn the_ca_is_made_once_and_the_certificate_follows_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let first = own(folder, &["localhost"]);
        let certificate = read(&folder.join("server.crt")).unwrap();
        let same = own(folder, &["localhost"]);
        assert_eq!(first.served.trusted_pem(), same.served.trusted_pem());
        assert_eq!(certificate, read(&folder.join("server.crt")).unwrap());
        let other = own(folder, &["localhost", "10.0.0.1"]);
        assert_eq!(first.served.trusted_pem(), other.served.trusted_pem());
        assert_ne!(certificate, read(&folder.join("server.crt")).unwrap());
        for key in ["ca.key", "server.key"] {
            let mode = fs::metadata(folder.join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn a_client_that_trusts_the_ca_accepts_the_server_under_its_names_only() {
        let folder = tempfile::tempdir().unwrap();
        own(folder.path(), &["localhost", "10.0.0.1"]);
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(&folder.path().join("ca.crt")).unwrap() {
            roots.add(certificate).unwrap();
        }
        let verifier = rustls::client::WebPkiServerVerifier::builder(Arc::new(roots))
            .build()
            .unwrap();
        let chain = certificates(&folder.path().join("server.crt")).unwrap();
        for (name, accepted) in [("localhost", true), ("10.0.0.1", true), ("other", false)] {
            use rustls::client::danger::ServerCertVerifier as _;
            let verified = verifier.verify_server_cert(
                &chain[0],
                &[],
                &name.try_into().unwrap(),
                &[],
                rustls::pki_types::UnixTime::now(),
            );
            assert_eq!(verified.is_ok(), accepted, "{name}: {verified:?}");
        }
    }

    #[test]
    fn unspecified_listen_addresses_are_no_names() {
        let names = server_names(
            ["0.0.0.0".parse().unwrap(), "10.0.0.1".parse().unwrap()],
            ["kas.example.com".to_owned()],
        );
        let expected = [
            "10.0.0.1",
            "127.0.0.1",
            "::1",
            "kas.example.com",
            "localhost",
        ];
        assert!(names.iter().eq(&expected), "{names:?}");
    }
}
