//! A proxy on the way to the server, as curl and most programs are told of one: HTTPS_PROXY, HTTP_PROXY (for addresses
//! without TLS), ALL_PROXY, and NO_PROXY.

use std::fmt;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use super::KasAddress;

/// A proxy that is asked to CONNECT to the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens, without user and password.
    pub uri: Uri,
    /// What it wants to see, if its address has a user and a password.
    pub authorization: Option<HeaderValue>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri)
    }
}

/// Why a proxy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the proxy {0} is of no kind that the agent can use; HTTPS_PROXY (or HTTP_PROXY, ALL_PROXY) has to be http://HOST:PORT, \
     or NO_PROXY has to name the server's host"
)]
pub struct ProxyError(Uri);

impl Proxy {
    /// The proxy that the environment names for this address.
    pub(super) fn of_environment(address: &KasAddress) -> Result<Option<Self>, ProxyError> {
        Self::of(&Matcher::from_env(), address)
    }

    fn of(matcher: &Matcher, address: &KasAddress) -> Result<Option<Self>, ProxyError> {
        let scheme = if address.tls { "https" } else { "http" };
        let server = format!("{scheme}://{}/", address.authority()).parse::<Uri>();
        let Some(found) = server.ok().and_then(|server| matcher.intercept(&server)) else {
            return Ok(None);
        };
        let uri = found.uri().clone();
        if uri.scheme_str() != Some("http") {
            return Err(ProxyError(uri));
        }
        let authorization = found.basic_auth().cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(Some(Self { uri, authorization }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(matcher: &Matcher, address: &str) -> Result<Option<Proxy>, ProxyError> {
        let address = address
            .parse()
            .map_err(|error| panic!("{address}: {error}"));
        address.and_then(|address| Proxy::of(matcher, &address))
    }

    #[test]
    fn the_variables_mean_what_they_mean_to_curl() {
        let matcher = Matcher::builder()
            .https("http://user:hush@proxy.example.com:3128")
            .no("kas.internal, 10.0.0.0/8")
            .build();
        let used = proxy(&matcher, "grpcs://kas.example.com:8150")
            .unwrap()
            .unwrap();
        assert_eq!(used.uri.to_string(), "http://proxy.example.com:3128/");
        assert_eq!(used.authorization.clone().unwrap(), "Basic dXNlcjpodXNo");
        let shown = format!("{used:?}");
        assert!(!shown.contains("hush") && !shown.contains("dXNlcjpodXNo"));
        assert!(
            proxy(&matcher, "wss://kas.example.com/x/")
                .unwrap()
                .is_some()
        );
        for direct in [
            "grpcs://kas.internal",
            "wss://a.kas.internal/",
            "grpcs://10.1.2.3:8150",
            // HTTPS_PROXY is for what is encrypted.
            "grpc://kas.example.com",
        ] {
            assert_eq!(proxy(&matcher, direct), Ok(None), "{direct}");
        }
    }

    #[test]
    fn other_kinds_of_proxies_are_named() {
        let matcher = Matcher::builder().all("socks5://u:hush@p:1080").build();
        let error = proxy(&matcher, "grpcs://kas").unwrap_err().to_string();
        assert!(
            error.contains("socks5://p:1080") && error.contains("http://HOST:PORT"),
            "{error}"
        );
        assert!(!error.contains("hush"), "{error}");
    }
}
