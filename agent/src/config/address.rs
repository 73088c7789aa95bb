//! The server's address.

use std::fmt;
use std::str::FromStr;

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KasAddress {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl KasAddress {
    /// `host:port`, with brackets where an IPv6 address needs them.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for KasAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "grpcs" } else { "grpc" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Why an address is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Not of the form `scheme://host`.
    #[error("{0:?} has no scheme; expected grpc://HOST[:PORT] or grpcs://HOST[:PORT]")]
    NoScheme(String),
    /// gRPC inside a WebSocket.
    #[error(
        "{0}:// (gRPC inside a WebSocket) is not supported yet; use grpcs://HOST[:PORT], or grpc:// for an unencrypted connection"
    )]
    WebSocket(String),
    /// Anything else.
    #[error("unsupported scheme {0:?}; expected grpc or grpcs")]
    Scheme(String),
    /// A path, query or user.
    #[error("{0:?} has more than a host and a port")]
    MoreThanHost(String),
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
        let (tls, default_port) = match scheme {
            "grpc" => (false, 80),
            "grpcs" => (true, 443),
            "ws" | "wss" => return Err(AddressError::WebSocket(scheme.to_owned())),
            _ => return Err(AddressError::Scheme(scheme.to_owned())),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(AddressError::MoreThanHost(rest.to_owned()));
        }
        let (host, port) = split_port(rest);
        if host.is_empty() {
            return Err(AddressError::NoHost(text.to_owned()));
        }
        let port = match port {
            None => default_port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| AddressError::Port(port.to_owned()))?,
        };
        Ok(Self {
            tls,
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
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<KasAddress>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_wrong_address_says_what_would_be_right() {
        let cases = [
            ("kas.example.com", "expected grpc://HOST[:PORT] or grpcs://"),
            ("wss://kas.example.com", "not supported yet; use grpcs://"),
            ("https://kas.example.com", "expected grpc or grpcs"),
            ("grpc://kas/path", "more than a host"),
            ("grpc://:8150", "no host"),
            ("grpc://kas:99999", "up to 65535"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<KasAddress>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
