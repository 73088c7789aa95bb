//! Which addresses a project, and what devfiles refer to, may be read from.
//!
//! Somebody who may name a project must not reach what only the server can reach. So the host is resolved here, every
//! address is judged, and exactly the judged ones are used: a second look-up could give others.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_URL: usize = 2048;

/// What the server's operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) allow_http: bool,
    pub(crate) allow_private: bool,
}

impl Policy {
    pub(super) fn git_protocols(self) -> &'static str {
        if self.allow_http {
            "https:http"
        } else {
            "https"
        }
    }
}

/// The address of a project that git can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProjectUrl {
    text: String,
    host: String,
    port: u16,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("it is no URL of the form https://HOST/PATH")]
    Form,
    #[error("it has a user or password in it; private projects cannot be read yet")]
    Credentials,
    #[error("projects are read over https:// only (the server's --git-allow-http permits http://)")]
    Scheme,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    #[error("host {host} cannot be resolved")]
    Resolve {
        host: String,
        #[source]
        source: std::io::Error,
    },
    #[error("host {host} cannot be resolved within {RESOLVE_TIMEOUT:?}")]
    ResolveTimedOut { host: String },
    #[error(
        "host {host} has the address {address}, which is {kind}; the server's --git-allow-private permits it"
    )]
    Refused {
        host: String,
        address: IpAddr,
        kind: &'static str,
    },
}

impl ProjectUrl {
    pub(crate) fn parse(text: &str, policy: Policy) -> Result<Self, UrlError> {
        let uri: http::Uri = text.parse().map_err(|_| UrlError::Form)?;
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(UrlError::Form);
        };
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let port = match scheme {
            "https" => 443,
            "http" if policy.allow_http => 80,
            "http" => return Err(UrlError::Scheme),
            _ => return Err(UrlError::Form),
        };
        let path = uri.path().trim_matches('/');
        let fits = printable && text.len() <= MAX_URL && uri.query().is_none();
        if !fits || path.is_empty() || uri.host().is_none_or(str::is_empty) {
            return Err(UrlError::Form);
        }
        Ok(Self {
            text: text.to_owned(),
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(port),
            path: path.strip_suffix(".git").unwrap_or(path).to_owned(),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// `group/project`, as GitLab calls it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for ProjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A host with its judged addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    host: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

impl Pinned {
    /// Where to connect, and nowhere else.
    pub(crate) fn socket_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let address = |ip: &IpAddr| SocketAddr::new(*ip, self.port);
        self.addresses.iter().map(address)
    }

    /// For git's `http.curloptResolve`; nothing for a host that is an address itself.
    pub(super) fn curl_resolve(&self) -> Option<String> {
        if literal(&self.host).is_some() {
            return None;
        }
        let addresses: Vec<_> = self
            .addresses
            .iter()
            .map(|address| match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            })
            .collect();
        Some(format!(
            "{}:{}:{}",
            self.host,
            self.port,
            addresses.join(",")
        ))
    }
}

/// Resolves the project's host and judges every address.
pub(super) async fn resolve(project: &ProjectUrl, policy: Policy) -> Result<Pinned, GuardError> {
    resolve_host(&project.host, project.port, policy).await
}

/// Resolves a host, an IPv6 address with or without brackets, and judges every address.
///
/// # Errors
/// When it cannot be resolved within 10 s, or one of its addresses is not of the public Internet and that is not allowed.
pub(crate) async fn resolve_host(
    host: &str,
    port: u16,
    policy: Policy,
) -> Result<Pinned, GuardError> {
    let host = host.to_owned();
    let addresses = match literal(&host) {
        Some(address) => vec![address],
        None => {
            let lookup = tokio::net::lookup_host((host.as_str(), port));
            let found = tokio::time::timeout(RESOLVE_TIMEOUT, lookup)
                .await
                .map_err(|_| GuardError::ResolveTimedOut { host: host.clone() })?
                .map_err(|source| GuardError::Resolve {
                    host: host.clone(),
                    source,
                })?;
            found.map(|address| address.ip()).collect()
        }
    };
    judge(host, port, addresses, policy)
}

fn judge(
    host: String,
    port: u16,
    addresses: Vec<IpAddr>,
    policy: Policy,
) -> Result<Pinned, GuardError> {
    let refused = addresses
        .iter()
        .filter(|_| !policy.allow_private)
        .find_map(|address| Some((*address, not_public(*address)?)));
    match refused {
        Some((address, kind)) => Err(GuardError::Refused {
            host,
            address,
            kind,
        }),
        None => Ok(Pinned {
            host,
            port,
            addresses,
        }),
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// What kind of address it is, when it is not one of the public Internet.
fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => not_public_v4(address),
        IpAddr::V6(address) => not_public_v6(address),
    }
}

fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    if address.is_loopback() {
        Some("loopback")
    } else if address.is_link_local() {
        Some("link-local")
    } else if address.is_private() || (a == 100 && (64..128).contains(&b)) {
        Some("private")
    } else if a == 0
        || a >= 224
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || address.is_documentation()
    {
        Some("reserved")
    } else {
        None
    }
}

fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    // Forms that carry an IPv4 address: it decides.
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    if address.is_loopback() {
        Some("loopback")
    } else if let Some(mapped) = address.to_ipv4_mapped() {
        not_public_v4(mapped)
    } else if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        not_public_v4(v4(segments[6], segments[7]))
    } else if segments[0] == 0x2002 {
        not_public_v4(v4(segments[1], segments[2]))
    } else if segments[0] & 0xffc0 == 0xfe80 {
        Some("link-local")
    } else if segments[0] & 0xfe00 == 0xfc00 || segments[0] & 0xffc0 == 0xfec0 {
        Some("private")
    } else if segments[0] & 0xe000 != 0x2000 || (segments[0] == 0x2001 && segments[1] < 0x200) {
        // Outside 2000::/3, or Teredo and its like.
        Some("reserved")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Policy = Policy {
        allow_http: false,
        allow_private: false,
    };
    const OPEN: Policy = Policy {
        allow_http: true,
        allow_private: true,
    };

    #[test]
    fn only_public_addresses_are_public() {
        for (address, kind) in [
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("2002:7f00:1::", "loopback"),
            ("169.254.169.254", "link-local"),
            ("fe80::1", "link-local"),
            ("10.89.0.1", "private"),
            ("172.16.0.1", "private"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "private"),
            ("fd00::1", "private"),
            ("0.0.0.0", "reserved"),
            ("224.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("198.18.0.1", "reserved"),
            ("::", "reserved"),
            ("ff02::1", "reserved"),
            ("2001::1", "reserved"),
        ] {
            assert_eq!(
                not_public(address.parse().unwrap()),
                Some(kind),
                "{address}"
            );
        }
        for address in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert_eq!(not_public(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn one_private_address_among_public_ones_refuses_the_host() {
        let addresses = vec!["8.8.8.8".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let refused = judge("h".into(), 443, addresses.clone(), STRICT).unwrap_err();
        assert!(refused.to_string().contains("10.0.0.1"), "{refused}");
        judge("h".into(), 443, addresses, OPEN).unwrap();
    }

    #[test]
    fn the_judged_addresses_are_pinned() {
        let pinned = Pinned {
            host: "git.example.com".into(),
            port: 8443,
            addresses: vec!["8.8.8.8".parse().unwrap(), "2606:4700::1".parse().unwrap()],
        };
        let expected = "git.example.com:8443:8.8.8.8,[2606:4700::1]";
        assert_eq!(pinned.curl_resolve().unwrap(), expected);
    }

    #[test]
    fn project_urls_are_plain_https() {
        let url = ProjectUrl::parse("https://git.example.com/group/project.git", STRICT).unwrap();
        assert_eq!((url.path(), url.port), ("group/project", 443));
        for (text, error) in [
            ("http://a/b", UrlError::Scheme),
            ("https://u:p@a/b", UrlError::Credentials),
            ("file:///etc", UrlError::Form),
            ("ext::sh", UrlError::Form),
            ("--upload-pack=x", UrlError::Form),
            ("git@host:a/b", UrlError::Form),
            ("https://a", UrlError::Form),
            ("https://a/b?c", UrlError::Form),
        ] {
            assert_eq!(ProjectUrl::parse(text, STRICT), Err(error), "{text}");
        }
        assert!(ProjectUrl::parse("http://10.89.0.1:8180/p", OPEN).is_ok());
    }
}
