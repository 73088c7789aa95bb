//! Who gets in to a host of a workspace.
//!
//! ```text
//!  host ──no cookie──▶ platform /open-workspace ──code──▶ host /.kas-stub/sign-in ──cookie──▶ host /.kas-stub/arrived ──▶ host
//! ```
//!
//! A browser has one cookie for each host, and the platform's own never leaves the platform. The cookie names the session
//! that it was made from, under a MAC with the host, so that it ends with that session and works nowhere else; nothing of
//! it is kept here, and a restarted server still knows it. `arrived` looks whether the cookie came back before anything is
//! redirected again: there is no loop to fall into.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, Request, header};
use ring::hmac;

use super::hosts;
use crate::{
    api::COOKIE as PLATFORM_COOKIE,
    directory::SESSION_LENGTH,
    secret::{Digest, Secret, fill_random},
};

/// The browser refuses a cookie with this prefix that was set for other hosts too.
const SECURE_COOKIE: &str = "__Host-kas_stub_workspace";
/// Without TLS there is no such prefix.
const PLAIN_COOKIE: &str = "kas_stub_workspace";
/// A personal token, for programs.
pub(super) const TOKEN_HEADER: &str = "x-kas-stub-token";
/// How long a code may take from one redirect to the next.
const CODE_LENGTH: Duration = Duration::from_secs(60);
/// Codes that are open at a time; the oldest goes when one more is made.
const MAX_CODES: usize = 256;
const KEY_BYTES: usize = 32;

/// Cookies for the hosts of workspaces.
pub(super) struct HostCookies {
    key: hmac::Key,
    secure: bool,
}

impl std::fmt::Debug for HostCookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostCookies").finish_non_exhaustive()
    }
}

impl HostCookies {
    /// With the key in this file, which is made when there is none. `secure`: people come over TLS.
    pub(super) fn open(file: &Path, secure: bool) -> std::io::Result<Self> {
        let mut bytes = fs::read(file).unwrap_or_default();
        if bytes.len() != KEY_BYTES {
            bytes = vec![0; KEY_BYTES];
            fill_random(&mut bytes);
            let mut options = fs::OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let mut made = options.open(file)?;
            made.write_all(&bytes)?;
            made.sync_all()?;
        }
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
            secure,
        })
    }

    /// What is set for a host, for as long as the session lives.
    pub(super) fn set(&self, host: &str, session: &Digest) -> String {
        let tag = hmac::sign(&self.key, &message(host, session));
        let mac = URL_SAFE_NO_PAD.encode(tag);
        let (name, secure) = match self.secure {
            true => (SECURE_COOKIE, "; Secure"),
            false => (PLAIN_COOKIE, ""),
        };
        format!(
            "{name}={}.{mac}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
            session.to_text(),
            SESSION_LENGTH.as_secs()
        )
    }

    /// The session that a request's cookie for this host was made from; it may be over.
    pub(super) fn session(&self, host: &str, headers: &HeaderMap) -> Option<Digest> {
        let name = if self.secure {
            SECURE_COOKIE
        } else {
            PLAIN_COOKIE
        };
        cookies(headers)
            .filter_map(|(found, value)| (found == name).then_some(value))
            .find_map(|value| {
                let (session, mac) = value.split_once('.')?;
                let session = Digest::from_text(session)?;
                let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
                hmac::verify(&self.key, &message(host, &session), &mac).ok()?;
                Some(session)
            })
    }
}

fn message(host: &str, session: &Digest) -> Vec<u8> {
    format!("host cookie\n{host}\n{}", session.to_text()).into_bytes()
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

/// Whether a cookie is between the browser and us alone.
pub(super) fn is_ours(name: &str) -> bool {
    [PLATFORM_COOKIE, SECURE_COOKIE, PLAIN_COOKIE].contains(&name)
}

/// What a code stands for.
#[derive(Debug)]
struct Pending {
    host: String,
    session: Digest,
    path: String,
    expires: Instant,
}

/// Single-use codes on their way from the platform to a host. In memory: after a restart the browser is sent again.
#[derive(Debug, Default)]
pub(super) struct Codes(Mutex<HashMap<Digest, Pending>>);

impl Codes {
    /// A code for one host, made by one session.
    pub(super) fn create(&self, host: &str, session: Digest, path: &str, now: Instant) -> Secret {
        let code = Secret::generate("");
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, it| it.expires > now);
        if codes.len() >= MAX_CODES {
            let oldest = codes.iter().min_by_key(|(_, it)| it.expires);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                codes.remove(&oldest);
            }
        }
        let path = if hosts::is_local_path(path) {
            path
        } else {
            "/"
        };
        let pending = Pending {
            host: host.to_owned(),
            session,
            path: path.to_owned(),
            expires: now + CODE_LENGTH,
        };
        codes.insert(code.digest(), pending);
        code
    }

    /// Uses a code up: the session, and where to go.
    pub(super) fn take(&self, host: &str, code: &str, now: Instant) -> Option<(Digest, String)> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = codes.remove(&Digest::of(code))?;
        (found.expires > now && found.host == host).then_some((found.session, found.path))
    }
}

/// Whether a browser shows the answer as a page; only then a redirect or a page of ours is of use.
pub(super) fn is_document<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD)
        && !headers.contains_key(header::UPGRADE);
    is_reading
        && match text("sec-fetch-mode") {
            Some(mode) => mode == "navigate",
            // No browser of these years; a program, perhaps, that takes anything.
            None => text("accept").is_none_or(|it| it.contains("text/html") || it.contains("*/*")),
        }
}

/// Whether a request comes from another site's page, or another workspace's, that uses the cookie of who looks at it.
/// A page of the same workspace may, on whichever of its ports it is.
pub(super) fn is_foreign<B>(
    request: &Request<B>,
    host: &hosts::WorkspaceHost,
    domain: &str,
) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return false;
    };
    // What has no origin gets no cookie of ours either: the browser takes it for another site.
    let is_own = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let of = authority.and_then(|it| hosts::parse(it, domain));
        origin == "null" || of.is_some_and(|it| it.workspace == host.workspace)
    };
    !origin.to_str().is_ok_and(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "8080-one.workspaces.localhost";

    fn sent(cookies: &HostCookies, set: &str) -> HeaderMap {
        assert!(!set.contains("Domain"), "{set}");
        let pair = set.split(';').next().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; {pair}").parse().unwrap());
        assert!(cookies.session(HOST, &HeaderMap::new()).is_none());
        headers
    }

    #[test]
    fn a_cookie_works_for_its_host_and_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let cookies = HostCookies::open(&file, true).unwrap();
        let session = Digest::of("session");
        let set = cookies.set(HOST, &session);
        assert!(set.starts_with("__Host-") && set.contains("; Secure") && set.contains("HttpOnly"));
        let headers = sent(&cookies, &set);
        assert_eq!(cookies.session(HOST, &headers), Some(session));
        assert_eq!(
            cookies.session("8081-one.workspaces.localhost", &headers),
            None
        );
        let restarted = HostCookies::open(&file, true).unwrap();
        assert_eq!(restarted.session(HOST, &headers), Some(session));
        let other = HostCookies::open(&folder.path().join("other"), true).unwrap();
        assert_eq!(other.session(HOST, &headers), None);
        let other_session = set.replace(&session.to_text(), &Digest::of("x").to_text());
        assert_eq!(cookies.session(HOST, &sent(&cookies, &other_session)), None);
    }

    #[test]
    fn a_code_works_once_for_its_host_and_not_for_long() {
        let codes = Codes::default();
        let now = Instant::now();
        let session = Digest::of("session");
        let make = |path: &str| codes.create(HOST, session, path, now);
        let code = make("/a?b");
        let used = codes.take(HOST, code.expose(), now);
        assert_eq!(used, Some((session, "/a?b".into())));
        assert_eq!(codes.take(HOST, code.expose(), now), None);
        assert_eq!(codes.take("other", make("/").expose(), now), None);
        assert_eq!(
            codes.take(HOST, make("/").expose(), now + CODE_LENGTH),
            None
        );
        let (_, path) = codes.take(HOST, make("//elsewhere").expose(), now).unwrap();
        assert_eq!(path, "/");
        let first = make("/");
        for _ in 0..MAX_CODES {
            codes.create(HOST, session, "/", now + Duration::from_secs(1));
        }
        assert_eq!(codes.take(HOST, first.expose(), now), None);
    }

    #[test]
    fn only_pages_are_redirected() {
        let request = |method: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(method);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            is_document(&request.body(()).unwrap())
        };
        for headers in [
            &[][..],
            &[("accept", "*/*")],
            &[
                ("accept", "text/html,*/*;q=0.8"),
                ("sec-fetch-mode", "navigate"),
            ],
        ] {
            assert!(request("GET", headers), "{headers:?}");
            assert!(!request("POST", headers), "{headers:?}");
        }
        for headers in [
            &[("accept", "application/json")][..],
            &[("accept", "text/html"), ("sec-fetch-mode", "cors")],
            &[("sec-fetch-mode", "websocket")],
            &[("upgrade", "websocket")],
        ] {
            assert!(!request("GET", headers), "{headers:?}");
        }
    }

    #[test]
    fn pages_of_other_workspaces_are_foreign() {
        let domain = "workspaces.localhost";
        let host = hosts::parse(HOST, domain).unwrap();
        let foreign = |origin: &str| {
            let request = Request::builder().header("origin", origin).body(());
            is_foreign(&request.unwrap(), &host, domain)
        };
        for own in [
            "https://8080-one.workspaces.localhost:8154",
            "https://3000-one.workspaces.localhost",
            "null",
        ] {
            assert!(!foreign(own), "{own}");
        }
        for other in [
            "https://8080-two.workspaces.localhost",
            "https://localhost:8154",
            "https://example.com",
            "x",
        ] {
            assert!(foreign(other), "{other}");
        }
        assert!(!is_foreign(&Request::new(()), &host, domain));
    }
}
