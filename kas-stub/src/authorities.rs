//! Whom the server trusts when it reads projects and what devfiles refer to: the system's authorities, and more by setting.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};

/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// Authorities for connections that the server opens.
#[derive(Clone, Debug)]
pub(crate) struct Authorities {
    /// For our own connections; else why there are none.
    pub(crate) tls: Result<Arc<ClientConfig>, String>,
    /// All of them in one file, for git; `None`: git knows the system's by itself.
    pub(crate) bundle: Option<PathBuf>,
}

/// Reads the system's authorities and those of `more`; with the latter, all of them are written to `bundle`.
///
/// # Errors
/// When `more` cannot be read or holds no certificate, or the bundle cannot be written.
pub(crate) fn load(more: Option<&Path>, bundle: &Path) -> anyhow::Result<Authorities> {
    let found = rustls_native_certs::load_native_certs();
    let mut certificates = found.certs;
    let written = match more {
        None => None,
        Some(path) => {
            certificates.extend(crate::tls::certificates(path)?);
            let text: String = certificates.iter().map(pem).collect();
            fs::write(bundle, text).with_context(|| format!("write {}", bundle.display()))?;
            Some(bundle.to_owned())
        }
    };
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates);
    let tls = if usable == 0 {
        let first = found.errors.first();
        Err(first.map_or_else(|| "the system has none".into(), ToString::to_string))
    } else {
        client_config(roots)
    };
    Ok(Authorities {
        tls,
        bundle: written,
    })
}

/// TLS with the given certificates.
pub(crate) fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(certificate);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificates;

    #[test]
    fn the_bundle_has_the_given_authorities_beside_the_systems() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let made = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        fs::write(path("more"), made.cert.pem()).unwrap();
        let loaded = load(Some(&path("more")), &path("bundle")).unwrap();
        assert!(loaded.tls.is_ok());
        let all = certificates(&loaded.bundle.unwrap()).unwrap();
        assert_eq!(all.last(), Some(made.cert.der()));
        let system = rustls_native_certs::load_native_certs().certs;
        assert_eq!(all.len(), system.len() + 1);

        assert_eq!(load(None, &path("none")).unwrap().bundle, None);
        assert!(!path("none").exists());
        fs::write(path("more"), "nothing").unwrap();
        assert!(load(Some(&path("more")), &path("bundle")).is_err());
    }
}
