//! The server's address.

use std::fmt;
use std::str::FromStr;

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KasAddress {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// What gRPC's connection travels in.
    pub transport: Transport,
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What gRPC's HTTP/2 connection travels in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Nothing else.
    Direct,
    /// A WebSocket, for proxies that let nothing but HTTP/1.1 pass.
    WebSocket {
        /// The exact path of the handshake: redirects are not followed.
        path: String,
    },
}

impl KasAddress {
    /// `host:port`, with brackets where an IPv6 address needs them.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.bracketed_host(), self.port)
    }

    /// The value of the header `Host`: as [`Self::authority`], without the scheme's own port, which some proxies compare.
    pub fn host_header(&self) -> String {
        if self.port == default_port(self.tls) {
            self.bracketed_host()
        } else {
            self.authority()
        }
    }

    /// Whether gRPC travels in a WebSocket.
    pub fn is_websocket(&self) -> bool {
        matches!(self.transport, Transport::WebSocket { .. })
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    fn scheme(&self) -> &'static str {
        match (&self.transport, self.tls) {
            (Transport::Direct, false) => "grpc",
            (Transport::Direct, true) => "grpcs",
            (Transport::WebSocket { .. }, false) => "ws",
            (Transport::WebSocket { .. }, true) => "wss",
        }
    }
}

impl fmt::Display for KasAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.transport {
            Transport::Direct => "",
            Transport::WebSocket { path } => path,
        };
        write!(f, "{}://{}{path}", self.scheme(), self.authority())
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// What an address may be.
const EXPECTED: &str =
    "grpcs://HOST[:PORT] or wss://HOST[:PORT]/PATH (grpc:// and ws:// are unencrypted)";

/// Why an address is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Not of the form `scheme://host`.
    #[error("{0:?} has no scheme; expected {EXPECTED}")]
    NoScheme(String),
    /// An address of people.
    #[error("unsupported scheme {scheme:?}; agents connect to {EXPECTED}, so perhaps wss://{rest}")]
    Http {
        /// `http` or `https`.
        scheme: String,
        /// What follows it.
        rest: String,
    },
    /// Anything else.
    #[error("unsupported scheme {0:?}; expected {EXPECTED}")]
    Scheme(String),
    /// A path where there can be none.
    #[error(
        "{scheme}://{rest} has a path, which only ws:// and wss:// have; take it away, or use {with_path}://{rest}"
    )]
    Path {
        /// `grpc` or `grpcs`.
        scheme: &'static str,
        /// What has a path.
        rest: String,
        /// The scheme that may have one.
        with_path: &'static str,
    },
    /// A query, fragment or user: not repeated, it may be secret.
    #[error(
        "the address has more than a host, a port and a path; expected {EXPECTED}. What a proxy wants goes into --kas-header"
    )]
    MoreThanPath,
    /// A path that no request may have.
    #[error("{0:?} is no path of a URL; what is no letter, digit or -._~/ must be written as %XX")]
    NoPath(String),
    /// No host.
    #[error("{0:?} names no host")]
    NoHost(String),
    /// The port is none.
    #[error("{0:?} is no port; expected a number up to 65535")]
    Port(String),
}

impl FromStr for KasAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| AddressError::NoScheme(text.to_owned()))?;
        let (tls, websocket) = match scheme.to_ascii_lowercase().as_str() {
            "grpc" => (false, false),
            "grpcs" => (true, false),
            "ws" => (false, true),
            "wss" => (true, true),
            "http" | "https" if !rest.contains(['?', '#', '@']) => {
                return Err(AddressError::Http {
                    scheme: scheme.to_owned(),
                    rest: rest.to_owned(),
                });
            }
            _ => return Err(AddressError::Scheme(scheme.to_owned())),
        };
        if rest.contains(['?', '#', '@']) {
            return Err(AddressError::MoreThanPath);
        }
        let (authority, path) = match rest.find('/') {
            Some(place) => rest.split_at(place),
            None => (rest, "/"),
        };
        let transport = if websocket {
            if http::uri::PathAndQuery::try_from(path).is_err() {
                return Err(AddressError::NoPath(path.to_owned()));
            }
            let path = path.to_owned();
            Transport::WebSocket { path }
        } else if path == "/" {
            Transport::Direct
        } else {
            return Err(AddressError::Path {
                scheme: if tls { "grpcs" } else { "grpc" },
                rest: rest.to_owned(),
                with_path: if tls { "wss" } else { "ws" },
            });
        };
        let (host, port) = split_port(authority);
        if host.is_empty() {
            return Err(AddressError::NoHost(text.to_owned()));
        }
        let port = match port {
            None => default_port(tls),
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| AddressError::Port(port.to_owned()))?,
        };
        Ok(Self {
            tls,
            transport,
            host: host.to_owned(),
            port,
        })
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some(rest) = authority.strip_prefix('[')
        && let Some((host, after)) = rest.split_once(']')
    {
        return (host, after.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_default_ports() {
        let cases = [
            ("grpc://kas", "grpc://kas:80"),
            ("grpcs://kas.example.com/", "grpcs://kas.example.com:443"),
            ("grpc://127.0.0.1:8150", "grpc://127.0.0.1:8150"),
            ("grpcs://[2001:db8::1]:8150", "grpcs://[2001:db8::1]:8150"),
            ("ws://kas", "ws://kas:80/"),
            ("WSS://kas.example.com", "wss://kas.example.com:443/"),
            (
                "wss://example.com/-/kubernetes-agent/",
                "wss://example.com:443/-/kubernetes-agent/",
            ),
            ("wss://[::1]:8150/x", "wss://[::1]:8150/x"),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<KasAddress>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_wrong_address_says_what_would_be_right() {
        let cases = [
            ("kas.example.com", "expected grpcs://HOST[:PORT] or wss://"),
            (
                "https://kas.example.com/x/",
                "perhaps wss://kas.example.com/x/",
            ),
            (
                "ssh://kas.example.com",
                "expected grpcs://HOST[:PORT] or wss://",
            ),
            ("grpcs://kas/path", "use wss://kas/path"),
            ("wss://kas/path?a=b", "more than a host, a port and a path"),
            (
                "wss://user:hush@kas/",
                "more than a host, a port and a path",
            ),
            ("wss://kas/a b", "is no path of a URL"),
            ("grpc://:8150", "no host"),
            ("grpc://kas:99999", "up to 65535"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<KasAddress>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn the_host_header_is_what_a_browser_would_send() {
        for (text, expected) in [
            ("wss://kas.example.com/x", "kas.example.com"),
            ("wss://kas.example.com:80", "kas.example.com:80"),
            ("ws://[::1]", "[::1]"),
        ] {
            let address: KasAddress = text.parse().unwrap();
            assert_eq!(address.host_header(), expected);
        }
    }
}
