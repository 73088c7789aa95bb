//! The certificate that handshakes are answered with, and how a new one takes the place of an old one while the server runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Error, Result};
use crate::{configuration::chain, metrics::Metrics};

/// A chain, a key, or a bundle of authorities.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) authority: Option<PathBuf>,
}

/// What the files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Option<String>,
}

/// Answers handshakes with what the files held when they were last right.
#[derive(Debug)]
pub(crate) struct Served {
    files: Files,
    present: RwLock<Present>,
}

#[derive(Clone, Debug)]
struct Present {
    content: Arc<Content>,
    certified: Arc<CertifiedKey>,
    /// When the certificate ends, in seconds since 1970.
    expires: i64,
}

impl Served {
    pub(super) fn load(files: Files) -> Result<Self> {
        let present = present(&files, read_all(&files)?)?;
        Ok(Self {
            files,
            present: RwLock::new(present),
        })
    }

    /// What clients are to trust, in PEM form: the authority, or the given chain.
    pub(crate) fn trusted_pem(&self) -> Arc<str> {
        let content = self.present().content;
        match &content.authority {
            Some(authority) => authority.as_str().into(),
            None => String::from_utf8_lossy(&content.certificate).into(),
        }
    }

    /// Whether clients have to be told whom to trust.
    pub(crate) fn has_private_authority(&self) -> bool {
        self.files.authority.is_some()
    }

    /// Looks at the files; whether they held something new that is served from now on.
    fn reload(&self) -> Result<bool> {
        let content = read_all(&self.files)?;
        if content == *self.present().content {
            return Ok(false);
        }
        let new = present(&self.files, content)?;
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }

    fn present(&self) -> Present {
        let present = self.present.read();
        present.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.present().certified)
    }
}

/// Looks at the files again and again until the server stops. A pair that cannot be used changes nothing but the log and
/// the metrics.
pub(crate) async fn keep_fresh(
    served: Arc<Served>,
    interval: Duration,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
) {
    metrics.certificate_expires(served.present().expires);
    let mut complained = String::new();
    while stopping
        .run_until_cancelled(tokio::time::sleep(interval))
        .await
        .is_some()
    {
        let files = Arc::clone(&served);
        // A folder on a slow disk must not hold up anybody else.
        let reloaded = tokio::task::spawn_blocking(move || files.reload()).await;
        match reloaded {
            Ok(Ok(false)) if complained.is_empty() => {}
            Ok(Ok(new)) => {
                complained.clear();
                metrics.certificate_bad(false);
                metrics.certificate_expires(served.present().expires);
                if new {
                    tracing::info!("a new certificate is served from now on");
                }
            }
            Ok(Err(error)) => {
                metrics.certificate_bad(true);
                let error = chain(&error);
                if error != complained {
                    tracing::warn!(
                        error,
                        "the new certificate cannot be used; the one before is served on"
                    );
                    complained = error;
                }
            }
            Err(error) => tracing::error!(%error, "looking at the certificate failed"),
        }
    }
}

fn present(files: &Files, content: Content) -> Result<Present> {
    let pem = |path: &Path, expected| {
        let path = path.to_owned();
        move |source| Error::Pem {
            path,
            expected,
            source,
        }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&content.certificate)
        .collect::<std::result::Result<_, _>>()
        .map_err(pem(&files.certificate, "certificate"))?;
    let Some(first) = chain.first() else {
        return Err(pem(&files.certificate, "certificate")(
            rustls::pki_types::pem::Error::NoItemsFound,
        ));
    };
    let (_, parsed) = X509Certificate::from_der(first).map_err(|error| Error::Certificate {
        path: files.certificate.clone(),
        reason: error.to_string(),
    })?;
    let expires = parsed.validity().not_after.timestamp();
    let key =
        PrivateKeyDer::from_pem_slice(&content.key).map_err(pem(&files.key, "private key"))?;
    let unusable = |source| Error::Use {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let provider = CryptoProvider::get_default().ok_or_else(|| {
        unusable(rustls::Error::General(
            "no cryptography is installed".into(),
        ))
    })?;
    // Refuses a key that is not the certificate's.
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(unusable)?;
    if let (Some(path), Some(authority)) = (&files.authority, &content.authority) {
        CertificateDer::from_pem_slice(authority.as_bytes()).map_err(pem(path, "certificate"))?;
    }
    Ok(Present {
        content: Arc::new(content),
        certified: Arc::new(certified),
        expires,
    })
}

fn read_all(files: &Files) -> Result<Content> {
    let authority = files.authority.as_deref().map(|path| {
        String::from_utf8(read(path)?).map_err(|_| Error::Certificate {
            path: path.to_owned(),
            reason: "it is no text".into(),
        })
    });
    Ok(Content {
        certificate: read(&files.certificate)?,
        key: read(&files.key)?,
        authority: authority.transpose()?,
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let size = fs::metadata(path)?.len();
        if size > MAX_BYTES {
            return Err(io::Error::other(format!(
                "it has {size} bytes, and at most {MAX_BYTES} are read"
            )));
        }
        fs::read(path)
    };
    read().map_err(super::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(names).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_does_not_fit_leaves_the_old_one() {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            authority: None,
        };
        let (certificate, key) = pair(&["one"]);
        fs::write(&files.certificate, &certificate).unwrap();
        fs::write(&files.key, &key).unwrap();
        let served = Served::load(files.clone()).unwrap();
        assert!(!served.reload().unwrap());

        let (other, other_key) = pair(&["two"]);
        fs::write(&files.certificate, &other).unwrap();
        let error = chain(&served.reload().unwrap_err());
        assert!(
            error.contains("tls.crt cannot be used with the key in") && error.contains("tls.key"),
            "{error}"
        );
        assert_eq!(&*served.trusted_pem(), certificate);
        fs::write(&files.key, "no key").unwrap();
        let error = chain(&served.reload().unwrap_err());
        assert!(error.contains("tls.key holds no private key"), "{error}");
        fs::write(&files.key, other_key).unwrap();
        assert!(served.reload().unwrap());
        assert_eq!(&*served.trusted_pem(), other);
        fs::remove_file(&files.certificate).unwrap();
        assert!(served.reload().is_err());
        assert_eq!(&*served.trusted_pem(), other);
    }
}
